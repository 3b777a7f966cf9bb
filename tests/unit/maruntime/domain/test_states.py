"""The tables of states: what may follow what."""

import pytest

from maruntime.domain.event import EventType
from maruntime.domain.instance import INSTANCE_TRANSITIONS, InstanceState, can_become
from maruntime.domain.run import ACTIVE_STATES, RUN_TRANSITIONS, RunState


def test_every_state_of_a_run_stands_in_the_table() -> None:
    assert set(RUN_TRANSITIONS) == set(RunState)


def test_a_run_is_active_exactly_as_long_as_it_has_not_ended() -> None:
    assert {state for state in RunState if not state.is_terminal} == set(ACTIVE_STATES)


@pytest.mark.parametrize("state", ACTIVE_STATES)
def test_every_active_run_can_be_cancelled(state: RunState) -> None:
    assert RunState.CANCELLED in RUN_TRANSITIONS[state]


def test_a_run_is_started_from_the_queue_only() -> None:
    assert [state for state, then in RUN_TRANSITIONS.items() if RunState.RUNNING in then] == [RunState.QUEUED]


def test_every_state_of_a_run_can_be_reached_and_every_active_one_can_end() -> None:
    def reached(start: RunState) -> set[RunState]:
        seen, todo = {start}, [start]
        while todo:
            todo += (new := RUN_TRANSITIONS[todo.pop()] - seen)
            seen |= new
        return seen

    assert reached(RunState.QUEUED) == set(RunState)
    assert all(any(state.is_terminal for state in reached(start)) for start in ACTIVE_STATES)


def test_every_state_of_an_instance_stands_in_the_table() -> None:
    assert set(INSTANCE_TRANSITIONS) == set(InstanceState)


@pytest.mark.parametrize("then", [InstanceState.DRAINING, InstanceState.GONE, InstanceState.LOST])
def test_whatever_lives_can_drain_go_or_be_lost(then: InstanceState) -> None:
    alive = set(InstanceState) - {InstanceState.GONE, InstanceState.LOST}

    assert {now for now in InstanceState if can_become(now, then)} == alive


@pytest.mark.parametrize("now", [InstanceState.GONE, InstanceState.LOST])
def test_nothing_comes_back_from_the_dead(now: InstanceState) -> None:
    assert not any(can_become(now, then) for then in InstanceState)


def test_a_draining_instance_gets_no_run_again() -> None:
    assert {then for then in InstanceState if can_become(InstanceState.DRAINING, then)} == {
        InstanceState.DRAINING,
        InstanceState.GONE,
        InstanceState.LOST,
    }


def test_a_run_that_was_worked_on_is_reset_before_the_next_one() -> None:
    assert not can_become(InstanceState.RUNNING, InstanceState.IDLE)
    assert not can_become(InstanceState.RESETTING, InstanceState.CLAIMED)


def test_a_turn_ends_with_the_events_that_end_or_park_the_run() -> None:
    ends = {event.value for event in EventType if event.ends_turn}

    assert ends == {"RunWaiting", "RunCompleted", "RunFailed", "RunCancelled", "RunExpired", "RunDead"}
