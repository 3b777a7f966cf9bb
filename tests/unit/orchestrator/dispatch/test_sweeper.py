"""Taking back what was lost; after an outage not before a lease has passed (durability.md §6)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from maruntime.domain.event import EventType
from maruntime.domain.run import RunRef
from maruntime.errors import StoreUnavailable
from maruntime.testing.builders import a_run_event
from maruntime.testing.clock import FakeClock
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.dispatch.sweeper import Sweeper
from tests.unit.orchestrator.dispatch.store import ListJournal

RUN = RunRef("run_1", 2)
LEASE = 15


class WokenDispatcher:
    """Counts how often it was woken."""

    def __init__(self) -> None:
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


class WatchedJournal(ListJournal):
    """Says when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    def _answer(self) -> None:
        self.asked.set()
        super()._answer()


@pytest.fixture
def journal() -> WatchedJournal:
    return WatchedJournal()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def dispatcher() -> WokenDispatcher:
    return WokenDispatcher()


@pytest.fixture
def bus(journal: WatchedJournal) -> EventBus:
    return EventBus(journal)


@pytest.fixture
def sweeper(journal: WatchedJournal, bus: EventBus, dispatcher: WokenDispatcher, clock: FakeClock) -> Sweeper:
    """A sweeper that has been there for a lease."""
    sweeper = Sweeper(journal, bus, dispatcher, clock, every=timedelta(milliseconds=1), lease=timedelta(seconds=LEASE))
    clock.advance(LEASE)
    return sweeper


@asynccontextmanager
async def running(sweeper: Sweeper) -> AsyncIterator[None]:
    task = asyncio.create_task(sweeper.run())
    try:
        async with asyncio.timeout(5):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def rounds(journal: WatchedJournal, count: int = 3) -> None:
    for _ in range(count):
        journal.asked.clear()
        await journal.asked.wait()


async def test_what_was_swept_is_told_and_a_run_that_is_queued_again_is_looked_for(
    journal: WatchedJournal, bus: EventBus, sweeper: Sweeper, dispatcher: WokenDispatcher
) -> None:
    journal.lost = (a_run_event(1, EventType.RUN_REQUEUED, run=RUN),)
    with bus.subscribed(RUN.run_id, 0) as reader:
        await sweeper.sweep()

        async with asyncio.timeout(5):
            assert await anext(reader.words(5)) == journal.lost[0]
    assert dispatcher.wakes == 1


async def test_a_run_that_has_ended_wakes_nobody(
    journal: WatchedJournal, sweeper: Sweeper, dispatcher: WokenDispatcher
) -> None:
    journal.late = (a_run_event(1, EventType.RUN_EXPIRED, run=RUN),)

    await sweeper.sweep()

    assert dispatcher.wakes == 0


async def test_a_store_that_is_away_is_said_so(journal: WatchedJournal, sweeper: Sweeper) -> None:
    journal.is_away = True

    with pytest.raises(StoreUnavailable):
        await sweeper.sweep()


async def test_after_an_outage_no_lease_is_judged_before_one_lease_has_passed(
    journal: WatchedJournal, sweeper: Sweeper, clock: FakeClock
) -> None:
    async with running(sweeper):
        journal.is_away = True
        await rounds(journal)
        before = journal.lease_sweeps
        journal.is_away = False
        await rounds(journal)
        clock.advance(LEASE - 0.01)
        await rounds(journal)
        assert journal.lease_sweeps == before

        clock.advance(0.02)
        await rounds(journal)
        assert journal.lease_sweeps > before


async def test_after_its_own_start_a_sweeper_waits_one_lease_too(
    journal: WatchedJournal, bus: EventBus, dispatcher: WokenDispatcher, clock: FakeClock
) -> None:
    fresh = Sweeper(journal, bus, dispatcher, clock, every=timedelta(seconds=1), lease=timedelta(seconds=LEASE))
    journal.late = (a_run_event(1, EventType.RUN_EXPIRED, run=RUN),)
    with bus.subscribed(RUN.run_id, 0) as reader:
        await fresh.sweep()

        assert await anext(reader.words(5)) == journal.late[0]
    assert journal.lease_sweeps == 0
    clock.advance(LEASE)
    await fresh.sweep()
    assert journal.lease_sweeps == 1


async def test_a_second_outage_starts_the_wait_anew(
    journal: WatchedJournal, sweeper: Sweeper, clock: FakeClock
) -> None:
    async with running(sweeper):
        for _ in range(2):
            journal.is_away = True
            await rounds(journal)
            before = journal.lease_sweeps
            journal.is_away = False
            await rounds(journal)
            clock.advance(LEASE - 1)

        await rounds(journal)

        assert journal.lease_sweeps == before


async def test_a_defect_does_not_end_the_sweeping(journal: WatchedJournal, sweeper: Sweeper) -> None:
    async with running(sweeper):
        journal.late = (None,)  # type: ignore[assignment] - what no store gives
        await rounds(journal)
        journal.late = ()
        before = journal.lease_sweeps
        await rounds(journal, 5)

        assert journal.lease_sweeps > before
