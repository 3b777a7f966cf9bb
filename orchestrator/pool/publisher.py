"""Keep the registry's records of this replica's slots true.

Changes are written together, a few times per second; all records are written
again well before they expire, and at once when the registry turns out to have
been wiped. A registry that cannot be reached costs nothing but the show.
"""

import asyncio

import structlog

from maruntime.clock import Clock
from maruntime.errors import Unavailable
from orchestrator.pool.registry import SlotRegistry
from orchestrator.pool.slots import Slots

_GATHER = 0.05
_CHECK = 1.0
_REFRESH_AFTER = 10.0

log = structlog.get_logger()


class RegistryPublisher:
    """Writes records as slots change."""

    def __init__(self, registry: SlotRegistry, clock: Clock) -> None:
        self._registry = registry
        self._clock = clock
        self._full_at = float("-inf")
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
        while True:
            try:
                async with asyncio.timeout(_CHECK):
                    await self._wake.wait()
                await asyncio.sleep(_GATHER)
            except TimeoutError:
                pass  # the generation is looked at although nothing changed
            try:
                await self.flush(slots)
            except Unavailable as exc:
                if self.is_reachable:
                    log.warning("registry_lost", reason=exc.message)
                self.is_reachable = False
                self._generation = None
                await asyncio.sleep(_CHECK)
            except Exception:
                log.exception("registry_write_failed")
                await asyncio.sleep(_CHECK)

    async def flush(self, slots: Slots) -> None:
        """Write what changed; everything when the registry was wiped, and now and then before records run out.

        Raises:
            Unavailable: the registry cannot be reached.
        """
        async with self._writing:
            generation = await self._registry.generation()
            now = self._clock.monotonic()
            everything = generation != self._generation or now - self._full_at >= _REFRESH_AFTER
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
            self._full_at = now if everything else self._full_at
            self.is_reachable = True
