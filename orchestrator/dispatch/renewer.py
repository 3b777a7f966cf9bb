"""Extend leases as the instances' heartbeats come in, many in one statement.

Renewal follows the heartbeat, never this replica's belief: a stopped worker
behind a live connection loses its lease.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from maruntime.domain.run import RunRef
from maruntime.errors import LinkLost, StoreUnavailable
from orchestrator.journal.journal import Journal

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Renewal:
    """A heartbeat with a run; `told` learns whether the renewal is stored."""

    run: RunRef
    attachment: str
    told: Callable[[bool], None]


class Renewer:
    """Gathers heartbeats and stores them together."""

    def __init__(self, journal: Journal, *, every: timedelta) -> None:
        self._journal = journal
        self._every = every.total_seconds()
        self._waiting: dict[RunRef, Renewal] = {}
        self._wake = asyncio.Event()

    def add(self, renewal: Renewal) -> None:
        """Store this heartbeat with the next statement."""
        self._waiting[renewal.run] = renewal
        self._wake.set()

    async def run(self) -> None:
        """Store heartbeats for as long as the process lives."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.flush()
            await asyncio.sleep(self._every)

    async def flush(self) -> None:
        """Store what has gathered; a store that is away leaves the leases as they are."""
        batch, self._waiting = list(self._waiting.values()), {}
        if not batch:
            return
        try:
            renewed = await self._journal.renew([(renewal.run, renewal.attachment) for renewal in batch])
        except StoreUnavailable:
            log.warning("renewal_failed", runs=len(batch))
            return
        except Exception:
            log.exception("renewal_failed", runs=len(batch))
            return
        for renewal in batch:
            with suppress(LinkLost):  # its stream ended meanwhile: there is nobody to tell
                renewal.told(renewal.run in renewed)
