"""Readers get every durable event once and in order, whatever reaches them (durability.md §5)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maruntime.domain.event import RunEvent, TextDelta
from maruntime.domain.run import RunRef
from maruntime.errors import ReplicaStopping, StoreUnavailable
from maruntime.testing.builders import a_delta
from orchestrator.dispatch import event_bus
from orchestrator.dispatch.event_bus import EventBus, Reader
from tests.unit.orchestrator.dispatch.store import ListJournal

RUN = RunRef("run_1", 1)


@pytest.fixture
def journal() -> ListJournal:
    return ListJournal()


@pytest.fixture
def bus(journal: ListJournal) -> EventBus:
    return EventBus(journal)


async def take(words: AsyncIterator[Any], count: int) -> list[Any]:
    async with asyncio.timeout(5):
        return [await anext(words) for _ in range(count)]


async def nothing_more(reader: Reader) -> bool:
    async with asyncio.timeout(5):
        return await anext(reader.words(0.01)) is None


async def test_events_and_deltas_come_in_the_order_they_were_told(journal: ListJournal, bus: EventBus) -> None:
    with bus.subscribed(RUN.run_id, 0) as reader:
        told = [journal.add(RUN), a_delta(RUN, "Hi"), journal.add(RUN)]
        bus.publish(told)

        assert await take(reader.words(5), 3) == told
    assert journal.reads == 0


async def test_a_gap_is_read_from_the_store(journal: ListJournal, bus: EventBus) -> None:
    events = [journal.add(RUN, n=n) for n in range(5)]
    with bus.subscribed(RUN.run_id, 0) as reader:
        bus.publish([events[0], events[4]])

        assert await take(reader.words(5), 5) == events
    assert journal.reads == 1


async def test_a_duplicate_is_dropped(journal: ListJournal, bus: EventBus) -> None:
    first, second = journal.add(RUN), journal.add(RUN)
    with bus.subscribed(RUN.run_id, 0) as reader:
        bus.publish([first, first, second, first, second])

        assert await take(reader.words(5), 2) == [first, second]
        assert await nothing_more(reader)


async def test_a_reader_that_joins_late_starts_after_its_place(journal: ListJournal, bus: EventBus) -> None:
    events = [journal.add(RUN) for _ in range(4)]
    with bus.subscribed(RUN.run_id, 2) as reader:
        bus.publish([events[1], events[3]])

        assert await take(reader.words(5), 2) == events[2:]


async def test_events_of_other_replicas_are_found_by_looking(journal: ListJournal, bus: EventBus) -> None:
    with bus.subscribed(RUN.run_id, 0) as reader:
        events = [journal.add(RUN) for _ in range(3)]

        await bus.look()

        assert await take(reader.words(5), 3) == events
        await bus.look()
        assert await nothing_more(reader)


async def test_more_events_than_a_page_are_found_by_looking_again(journal: ListJournal, bus: EventBus) -> None:
    with bus.subscribed(RUN.run_id, 0) as reader:
        events = [journal.add(RUN) for _ in range(700)]
        words = reader.words(5)

        await bus.look()
        first = await take(words, 500)
        await bus.look()

        assert first + await take(words, 200) == events


async def test_looking_without_readers_asks_nothing(journal: ListJournal, bus: EventBus) -> None:
    journal.is_away = True

    await bus.look()


async def test_looking_says_that_the_store_is_away(journal: ListJournal, bus: EventBus) -> None:
    journal.is_away = True
    with bus.subscribed(RUN.run_id, 0), pytest.raises(StoreUnavailable):
        await bus.look()


async def test_a_gap_while_the_store_is_away_is_filled_when_it_is_back(journal: ListJournal, bus: EventBus) -> None:
    events = [journal.add(RUN) for _ in range(3)]
    with bus.subscribed(RUN.run_id, 0) as reader:
        words = reader.words(0.01)
        journal.is_away = True
        bus.publish([events[2]])
        assert await take(words, 1) == [None]

        journal.is_away = False
        await bus.look()

        assert await take(words, 3) == events


async def test_a_slow_reader_holds_a_bounded_queue_and_still_gets_every_event(
    journal: ListJournal, bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_bus, "_QUEUE", 4)
    with bus.subscribed(RUN.run_id, 0) as reader:
        events = [journal.add(RUN) for _ in range(50)]
        bus.publish(events)
        bus.publish([a_delta(RUN, "lost")] * 50)
        words = reader.words(0.01)

        got = await take(words, 4)
        await bus.look()

        assert got + await take(words, 46) == events
        assert await take(words, 1) == [None]


async def test_a_reader_is_told_that_its_replica_goes_away(journal: ListJournal, bus: EventBus) -> None:
    with bus.subscribed(RUN.run_id, 0) as reader:
        waiting = asyncio.create_task(anext(reader.words(5)))
        await asyncio.sleep(0)

        bus.stop()

        async with asyncio.timeout(5):
            with pytest.raises(ReplicaStopping):
                await waiting


async def test_a_reader_with_a_full_queue_is_told_too(
    journal: ListJournal, bus: EventBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_bus, "_QUEUE", 2)
    with bus.subscribed(RUN.run_id, 0) as reader:
        bus.publish([journal.add(RUN) for _ in range(9)])

        bus.stop()

        with pytest.raises(ReplicaStopping):
            await take(reader.words(5), 1)


async def test_silence_is_told_as_nothing(bus: EventBus) -> None:
    with bus.subscribed(RUN.run_id, 0) as reader:
        assert await take(reader.words(0.001), 2) == [None, None]


async def test_readers_get_their_own_run_only_and_are_forgotten(journal: ListJournal, bus: EventBus) -> None:
    other = RunRef("run_2", 1)
    with bus.subscribed(RUN.run_id, 0) as one, bus.subscribed(other.run_id, 0) as two:
        first, second = journal.add(RUN), journal.add(other)
        bus.publish([first, second])
        assert bus.reader_count == 2

        assert await take(one.words(5), 1) == [first]
        assert await take(two.words(5), 1) == [second]

    assert bus.reader_count == 0
    bus.publish([first])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 12) | st.just("look") | st.just("delta"), max_size=40))
def test_any_mixture_of_words_gives_every_event_once_and_in_order(story: list[Any]) -> None:
    async def read() -> list[RunEvent]:
        journal = ListJournal()
        events = [journal.add(RUN, n=n) for n in range(12)]
        bus = EventBus(journal)
        with bus.subscribed(RUN.run_id, 0) as reader:
            for word in story:
                if word == "look":
                    await bus.look()
                else:
                    bus.publish([a_delta(RUN, "x") if word == "delta" else events[word - 1]])
            await bus.look()
            got: list[RunEvent] = []
            async with asyncio.timeout(5):
                async for word in reader.words(5):
                    if not isinstance(word, TextDelta):
                        got.append(word)
                    if len(got) == 12:
                        return got
        raise AssertionError("a reader does not end by itself")

    assert [event.seq for event in asyncio.run(read())] == list(range(1, 13))
