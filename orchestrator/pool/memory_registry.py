"""The registry within this process: for tests, and for a replica that runs without Redis."""

import secrets
from collections.abc import Collection

from maruntime.clock import Clock
from maruntime.domain.instance import InstanceRecord


class MemoryRegistry:
    """Records in a dictionary."""

    def __init__(self, clock: Clock, *, ttl: float = 30.0) -> None:
        self._clock = clock
        self._ttl = ttl
        self.wipe()

    def wipe(self) -> None:
        """Lose everything, as a wiped Redis does."""
        self._generation: str | None = None
        self._records: dict[str, tuple[float, InstanceRecord]] = {}

    async def generation(self) -> str:
        """The mark of this life of the registry."""
        if self._generation is None:
            self._generation = secrets.token_hex(8)
        return self._generation

    async def write(self, put: Collection[InstanceRecord], removed: Collection[str]) -> None:
        """Store records and forget others."""
        until = self._clock.monotonic() + self._ttl
        for record in put:
            self._records[record.instance_id] = (until, record)
        for instance_id in removed:
            self._records.pop(instance_id, None)

    async def all(self) -> list[InstanceRecord]:
        """Every record that has not run out, by instance id."""
        now = self._clock.monotonic()
        self._records = {key: kept for key, kept in self._records.items() if kept[0] > now}
        return [self._records[key][1] for key in sorted(self._records)]
