"""Queued runs find free slots of this replica (durability.md §2, §7)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from maruntime.domain.instance import InstanceState
from maruntime.testing.clock import FakeClock
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.catalog.tools import ToolCatalog
from orchestrator.dispatch.closing import Closing
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.dispatch.snapshots import Snapshots
from orchestrator.journal.journal import Claim, SlotOffer
from orchestrator.pool.slots import Slots
from tests.integration.orchestrator.ledger import ALICE, Ledger, a_turn
from tests.unit.orchestrator.pool.links import RecordedLink, a_slot


class KeptHints:
    """Keeps the hints that would go to other replicas."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def publish(self, run_id: str) -> None:
        self.sent.append(run_id)


@pytest.fixture
def slots() -> Slots:
    return Slots("replica-1", FakeClock(), lambda instance_id: None)


@pytest.fixture
def hints() -> KeptHints:
    return KeptHints()


@pytest.fixture
def bus(ledger: Ledger) -> EventBus:
    return EventBus(ledger.journal)


@pytest.fixture
def dispatcher(
    ledger: Ledger, slots: Slots, hints: KeptHints, bus: EventBus, templates: TemplateCatalog, tools: ToolCatalog
) -> Dispatcher:
    snapshots = Snapshots(ledger.journal, templates, tools)
    return Dispatcher(ledger.journal, slots, snapshots, bus, hints, poll=timedelta(milliseconds=50))


@asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncIterator[None]:
    task = asyncio.create_task(dispatcher.run())
    try:
        async with asyncio.timeout(5):
            yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def heard(link: RecordedLink, word: str) -> tuple:
    while not any(said[0] == word for said in link.said):
        link.told.clear()
        await link.told.wait()
    return next(said for said in link.said if said[0] == word)


async def test_a_queued_run_is_put_on_a_free_slot(ledger: Ledger, slots: Slots, dispatcher: Dispatcher) -> None:
    link = RecordedLink()
    slots.add(a_slot("w1/0", attachment="a1", link=link, pinned_to=ledger.template.id))
    async with running(dispatcher):
        turn = await ledger.queued()
        dispatcher.run_accepted(turn.run_id, "main")

        _, run = await heard(link, "start")

    slot = slots.get("w1/0")
    assert (run.run_id, run.epoch, link.said) == (turn.run_id, 1, [("start", run)])
    assert slot is not None
    assert (slot.state, slot.run) == (InstanceState.CLAIMED, run)
    row = await ledger.run(turn.run_id)
    assert (row["owner"], row["attachment"]) == ("w1/0", "a1")


async def test_a_slot_is_pinned_before_it_gets_a_run_of_another_version(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher
) -> None:
    link = RecordedLink()
    slots.add(a_slot(link=link, pinned_to="tplv_another"))
    async with running(dispatcher):
        await ledger.queued()
        dispatcher.wake()
        await heard(link, "start")

    assert [said[0] for said in link.said] == ["pin", "start"]
    assert link.said[0] == ("pin", ledger.template.id)
    slot = slots.get("w1/0")
    assert slot is not None
    assert (slot.template_version_id, slot.template_name) == (ledger.template.id, "assistant")


async def test_a_run_accepted_elsewhere_is_found_without_a_hint(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher
) -> None:
    link = RecordedLink()
    slots.add(a_slot(link=link))
    async with running(dispatcher):
        turn = await ledger.queued()

        assert (await heard(link, "start"))[1].run_id == turn.run_id


async def test_one_slot_gets_one_run_and_the_rest_wait(ledger: Ledger, slots: Slots, dispatcher: Dispatcher) -> None:
    link = RecordedLink()
    slots.add(a_slot(link=link))
    first = await ledger.queued()
    await ledger.queued()
    async with running(dispatcher):
        assert (await heard(link, "start"))[1].run_id == first.run_id

    assert await ledger.pool.fetchval("select count(*) from runs where state = 'QUEUED'") == 1


class VanishingJournal:
    """The journal, with something that happens between the offer and the claim."""

    def __init__(self, ledger: Ledger, meanwhile) -> None:
        self._journal = ledger.journal
        self._meanwhile = meanwhile
        self.released = asyncio.Event()

    def __getattr__(self, name: str):
        return getattr(self._journal, name)

    async def claim(self, offer: SlotOffer) -> Claim | None:
        claim = await self._journal.claim(offer)
        if claim is not None:
            self._meanwhile()
        return claim

    async def release(self, *args, **more):
        events = await self._journal.release(*args, **more)
        self.released.set()
        return events


def over(dispatcher: Dispatcher, journal: VanishingJournal) -> Dispatcher:
    dispatcher._journal = journal  # type: ignore[assignment]
    return dispatcher


async def test_a_run_goes_back_when_its_slot_vanished_between_offer_and_claim(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher
) -> None:
    slot = a_slot()
    slots.add(slot)
    journal = VanishingJournal(ledger, lambda: slots.remove(slot))
    turn = await ledger.queued()
    async with running(over(dispatcher, journal)):
        await journal.released.wait()

    row = await ledger.run(turn.run_id)
    assert (row["state"], row["owner"], row["epoch"]) == ("QUEUED", None, 2)


async def test_a_run_claimed_for_an_older_stream_of_the_slot_is_not_sent_down_the_new_one(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher
) -> None:
    """Its renewals would be fenced: the lease belongs to the attachment."""
    link = RecordedLink()
    slots.add(a_slot(attachment="a1", link=RecordedLink()))

    def attach_again() -> None:
        if slots.get("w1/0").attachment == "a1":
            slots.add(a_slot(attachment="a2", link=link))

    await ledger.queued()
    async with running(over(dispatcher, VanishingJournal(ledger, attach_again))):
        _, run = await heard(link, "start")

    assert (await ledger.run(run.run_id))["attachment"] == "a2"
    assert run.epoch == 3


async def test_a_slot_that_takes_no_more_words_is_not_offered_again(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher
) -> None:
    """Otherwise it would use up all attempts of the run at once."""
    deaf, good = RecordedLink(), RecordedLink()
    deaf.is_lost = True
    slots.add(a_slot("w1/0", link=deaf, pinned_to=ledger.template.id))
    turn = await ledger.queued()
    async with running(dispatcher):
        while slots.get("w1/0").state is not InstanceState.DRAINING:
            await asyncio.sleep(0)
        slots.add(a_slot("w2/0", link=good))

        assert (await heard(good, "start"))[1].run_id == turn.run_id

    assert (await ledger.run(turn.run_id))["attempts"] == 1


async def test_a_run_that_ended_between_claim_and_start_leaves_its_slot_free(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher
) -> None:
    link = RecordedLink()
    slots.add(a_slot(link=link))
    cancelled = await ledger.queued()

    class Closed(VanishingJournal):
        async def snapshot(self, run):
            if run.run_id == cancelled.run_id:
                await ledger.journal.close_session(ALICE, cancelled.session_id)
            return await ledger.journal.snapshot(run)

    async with running(over(dispatcher, Closed(ledger, lambda: None))):
        dispatcher._snapshots._journal = dispatcher._journal
        dispatcher.wake()
        while (await ledger.run(cancelled.run_id))["state"] != "CANCELLED":
            await asyncio.sleep(0)
        second = await ledger.queued()
        dispatcher.wake()

        assert (await heard(link, "start"))[1].run_id == second.run_id


async def test_a_run_that_can_never_be_started_is_given_up(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher
) -> None:
    class Poisoned(VanishingJournal):
        async def snapshot(self, run):
            raise ValueError("a row that nobody can read")

    slots.add(a_slot())
    turn = await ledger.queued()
    async with running(over(dispatcher, Poisoned(ledger, lambda: None))):
        dispatcher._snapshots._journal = dispatcher._journal
        while (await ledger.run(turn.run_id))["state"] != "DEAD":
            await asyncio.sleep(0.01)

    slot = slots.get("w1/0")
    assert slot is not None
    assert slot.state is InstanceState.IDLE


async def test_others_are_told_of_a_run_when_no_slot_is_free_here(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher, hints: KeptHints
) -> None:
    dispatcher.run_accepted("run_1", "main")
    slots.add(a_slot())
    dispatcher.run_accepted("run_2", "main")
    dispatcher.run_accepted("run_3", "elsewhere")
    dispatcher.run_requeued("run_4")

    assert hints.sent == ["run_1", "run_3", "run_4"]


async def test_a_stopping_replica_claims_nothing(ledger: Ledger, slots: Slots, dispatcher: Dispatcher) -> None:
    slots.add(a_slot())
    dispatcher.stop()
    turn = await ledger.queued()
    async with running(dispatcher):
        dispatcher.wake()
        assert await dispatcher._place_one(asyncio.TaskGroup()) is False

    assert (await ledger.run(turn.run_id))["state"] == "QUEUED"


async def test_closing_a_session_tells_its_readers_and_its_owner(
    ledger: Ledger, slots: Slots, dispatcher: Dispatcher, bus: EventBus
) -> None:
    link = RecordedLink()
    slots.add(a_slot(link=link))
    async with running(dispatcher):
        turn = await ledger.journal.accept_session(ALICE, ledger.template, a_turn())
        _, run = await heard(link, "start")
        with bus.subscribed(turn.run_id, 1) as reader:
            await Closing(ledger.journal, slots, bus).close(ALICE, turn.session_id)

            assert (await anext(reader.words(5))).type.value == "RunCancelled"

    assert link.said[-1] == ("cancel", run, "session_closed")
