"""Which slot a run gets (durability.md §7)."""

import itertools

import pytest

from maruntime.domain.instance import InstanceState, can_become
from maruntime.domain.run import RunRef
from maruntime.testing.builders import a_template
from maruntime.testing.clock import FakeClock
from orchestrator.pool.slots import IllegalTransition, Slot, Slots
from tests.unit.orchestrator.pool.links import a_slot

A, B = a_template("a"), a_template("b")
RUN = RunRef("run_1", 1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def slots(clock: FakeClock, changes: list[str]) -> Slots:
    return Slots("replica-1", clock, changes.append)


def chosen(slots: Slots, version: str, endpoint: str = "main") -> str | None:
    """The instance that a run of the version would get, as the claim chooses it."""
    offer = slots.offer()
    if offer is None or endpoint not in offer.any_version:
        return None
    return offer.pinned.get((endpoint, version), offer.any_version[endpoint])[0]


def serve(slots: Slots, slot: Slot, clock: FakeClock) -> None:
    slots.claim(slot, RUN)
    clock.advance(1)
    for state in (InstanceState.RUNNING, InstanceState.RESETTING, InstanceState.IDLE):
        slots.move(slot, state)


def test_without_a_free_slot_nothing_is_offered(slots: Slots) -> None:
    assert slots.offer() is None
    slot = a_slot()
    slots.add(slot)
    slots.claim(slot, RUN)

    assert slots.offer() is None


def test_the_pinned_slot_that_was_used_last_is_chosen_first(slots: Slots, clock: FakeClock) -> None:
    for number in range(3):
        slots.add(a_slot(f"w1/{number}", pinned_to=A.id))
    for number in (2, 1):
        serve(slots, slots.get(f"w1/{number}"), clock)

    assert chosen(slots, A.id) == "w1/1"


def test_a_pinned_slot_goes_before_a_blank_one(slots: Slots) -> None:
    slots.add(a_slot("w1/0"))
    slots.add(a_slot("w1/1", pinned_to=A.id))
    slots.add(a_slot("w1/2"))

    assert chosen(slots, A.id) == "w1/1"


def test_a_blank_slot_goes_before_pinning_another_one_anew(slots: Slots, clock: FakeClock) -> None:
    slots.add(a_slot("w1/0", pinned_to=A.id))
    slots.add(a_slot("w1/1"))
    clock.advance(1)
    serve(slots, slots.get("w1/1"), clock)  # still blank, and used later than the pinned one

    assert chosen(slots, B.id) == "w1/1"


def test_without_a_blank_slot_the_least_recently_used_one_is_pinned_anew(slots: Slots, clock: FakeClock) -> None:
    for number in range(3):
        slots.add(a_slot(f"w1/{number}", pinned_to=A.id))
    for number in (1, 0, 2):
        serve(slots, slots.get(f"w1/{number}"), clock)

    assert chosen(slots, B.id) == "w1/1"


def test_idle_slots_of_one_template_never_starve_another(slots: Slots, clock: FakeClock) -> None:
    for number in range(4):
        slots.add(a_slot(f"w1/{number}", pinned_to=A.id))

    got = []
    while (instance := chosen(slots, B.id)) is not None:
        slot = slots.get(instance)
        slots.claim(slot, RUN)
        got.append(instance)

    assert sorted(got) == [f"w1/{number}" for number in range(4)]


def test_a_slot_is_offered_for_its_own_endpoints_only(slots: Slots) -> None:
    slots.add(a_slot("w1/0", endpoints=("main", "small"), pinned_to=A.id))
    slots.add(a_slot("w1/1", endpoints=("large",)))

    assert chosen(slots, A.id, "small") == "w1/0"
    assert chosen(slots, A.id, "large") == "w1/1"
    assert chosen(slots, A.id, "elsewhere") is None


def test_a_draining_slot_is_not_offered(slots: Slots) -> None:
    slot = a_slot()
    slots.add(slot)

    slots.move(slot, InstanceState.DRAINING)

    assert slots.offer() is None


def test_the_offer_names_the_stream_of_the_slot(slots: Slots) -> None:
    slots.add(a_slot("w1/0", attachment="a7"))

    offer = slots.offer()

    assert offer is not None
    assert offer.any_version == {"main": ("w1/0", "a7")}


def test_a_slot_that_is_idle_again_has_no_run_and_is_the_most_recent(slots: Slots, clock: FakeClock) -> None:
    slot = a_slot()
    slots.add(slot)
    clock.advance(5)

    serve(slots, slot, clock)

    assert (slot.run, slot.state, slot.used_at) == (None, InstanceState.IDLE, clock.monotonic())


def test_pinning_begins_the_count_of_runs_anew(slots: Slots) -> None:
    slot = a_slot(pinned_to=A.id)
    slot.runs_served = 9
    slots.add(slot)
    slots.claim(slot, RUN)

    slots.pin(slot, B)

    assert (slot.template_name, slot.template_version_id, slot.runs_served) == ("b", B.id, 0)
    assert (slot.state, slot.run) == (InstanceState.CLAIMED, RUN)
    assert slot.link.said == [("pin", B.id)]


@pytest.mark.parametrize(("now", "then"), list(itertools.product(InstanceState, InstanceState)))
def test_a_slot_moves_as_the_table_says_and_no_other_way(
    slots: Slots, changes: list[str], now: InstanceState, then: InstanceState
) -> None:
    slot = a_slot()
    slots.add(slot)
    slot.state = now
    changes.clear()

    if can_become(now, then):
        slots.move(slot, then)
        assert (slot.state, changes) == (then, ["w1/0"])
    else:
        with pytest.raises(IllegalTransition):
            slots.move(slot, then)
        assert (slot.state, changes) == (now, [])


def test_a_newer_stream_takes_the_place_of_an_older_one(slots: Slots) -> None:
    old, new = a_slot(attachment="a1"), a_slot(attachment="a2")
    slots.add(old)

    slots.add(new)
    slots.remove(old)

    assert list(slots) == [new]
    assert slots.get("w1/0") is new
    assert new.state is InstanceState.IDLE


def test_a_slot_whose_stream_ended_is_lost(slots: Slots, changes: list[str]) -> None:
    slot = a_slot()
    slots.add(slot)

    slots.remove(slot)

    assert (len(slots), slots.get("w1/0"), slot.state) == (0, None, InstanceState.LOST)
    assert changes == ["w1/0", "w1/0"]


def test_a_record_says_what_the_slot_is_at(slots: Slots) -> None:
    slot = a_slot(pinned_to=A.id)
    slots.add(slot)
    slots.claim(slot, RUN)

    record = slots.record(slot)

    assert (record.replica, record.state, record.run_id) == ("replica-1", InstanceState.CLAIMED, "run_1")
    assert (record.worker_id, record.template_version_id) == ("w1", A.id)
