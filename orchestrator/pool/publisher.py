"""Keep the registry's records of this replica's slots true.

Changes are written together, a few times per second; all records are written
again well before they expire, and at once when the registry turns out to have
been wiped. A registry that cannot be reached costs nothing but the show.
"""

import asyncio

import structlog

from maruntime.errors import Unavailable
from orchestrator.pool.registry import SlotRegistry
from orchestrator.pool.slots import Slots

_GATHER = 0.05
_CHECK = 1.0
_REFRESH_EVERY = 10

log = structlog.get_logger()


class RegistryPublisher:
    """Writes records as slots change."""

    def __init__(self, registry: SlotRegistry) -> None:
        self._registry = registry
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._generation: str | None = None
        self._writing = asyncio.Lock()
        self.is_reachable = True

    def note(self, instance_id: str) -> None:
        """Remember that a slot changed."""
        self._changed.add(instance_id)
        self._wake.set()

    async def run(self, slots: Slots) -> None:
        """Write for as long as the process lives."""
        rounds = 0
        while True:
            try:
                async with asyncio.timeout(_CHECK):
                    await self._wake.wait()
                await asyncio.sleep(_GATHER)
            except TimeoutError:
                rounds += 1
            try:
                await self.flush(slots, everything=rounds >= _REFRESH_EVERY)
                rounds = 0 if rounds >= _REFRESH_EVERY else rounds
            except Unavailable as exc:
                if self.is_reachable:
                    log.warning("registry_lost", reason=exc.message)
                self.is_reachable = False
                self._generation = None
            except Exception:
                log.exception("registry_write_failed")

    async def flush(self, slots: Slots, *, everything: bool = False) -> None:
        """Write what changed; everything when the registry was wiped.

        Raises:
            Unavailable: the registry cannot be reached.
        """
        async with self._writing:
            generation = await self._registry.generation()
            if generation != self._generation:
                everything = True
            self._wake.clear()
            changed, self._changed = self._changed, set()
            here = {slot.instance_id: slot for slot in slots}
            put = here.keys() if everything else changed & here.keys()
            try:
                await self._registry.write([slots.record(here[key]) for key in put], changed - here.keys())
            except Unavailable:
                self._changed |= changed
                raise
            if not self.is_reachable:
                log.info("registry_regained", instances=len(here))
            self._generation = generation
            self.is_reachable = True
