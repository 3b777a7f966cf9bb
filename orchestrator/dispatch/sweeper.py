"""Take back what lost its lease and expire what waited too long, once a second.

After the store was away every lease looks old, because nobody could renew: the
sweeper then waits one lease before it takes anything over. So it does after its
own start: workers that lost every orchestrator come back with what they hold.
"""

import asyncio
import random
from datetime import timedelta

import structlog

from maruntime.clock import Clock
from maruntime.domain.event import EventType
from maruntime.errors import StoreUnavailable
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.journal.journal import Journal
from orchestrator.metrics import RUNS_SWEPT

_JITTER = 0.2

log = structlog.get_logger()


class Sweeper:
    """One per replica; they take turns by `skip locked`."""

    def __init__(
        self,
        journal: Journal,
        bus: EventBus,
        dispatcher: Dispatcher,
        clock: Clock,
        *,
        every: timedelta,
        lease: timedelta,
    ) -> None:
        self._journal = journal
        self._bus = bus
        self._dispatcher = dispatcher
        self._clock = clock
        self._every = every.total_seconds()
        self._lease = lease.total_seconds()
        self._store_was_away = False
        self._leases_trusted_from = clock.monotonic() + self._lease

    async def run(self) -> None:
        """Sweep for as long as the process lives."""
        while True:
            await asyncio.sleep(self._every * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - only jitter
            try:
                await self.sweep()
            except StoreUnavailable:
                self._store_was_away = True
                log.warning("sweep_failed", reason="store_unavailable")
            except Exception:
                log.exception("sweep_failed")

    async def sweep(self) -> None:
        """Look once.

        Raises:
            StoreUnavailable: Postgres is away.
        """
        events = await self._journal.sweep_deadlines()
        if self._store_was_away:
            self._store_was_away = False
            self._leases_trusted_from = self._clock.monotonic() + self._lease
        if self._clock.monotonic() >= self._leases_trusted_from:
            events += await self._journal.sweep_leases()
        for event in events:
            RUNS_SWEPT.labels(outcome=event.type.value).inc()
            log.warning("run_swept", run_id=event.run_id, epoch=event.epoch, outcome=event.type.value)
        self._bus.publish(events)
        if any(event.type is EventType.RUN_REQUEUED for event in events):
            self._dispatcher.wake()
