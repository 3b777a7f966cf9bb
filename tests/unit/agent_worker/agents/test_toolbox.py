from agent_worker.agents.progress import Counters
from agent_worker.agents.toolbox import Offer, offer
from maruntime.domain.template import ExecutionLimits
from tests.unit.agent_worker.builders import CLARIFICATION, FINAL, LOOK, REASONING, REPORT

ALL = (REASONING, CLARIFICATION, LOOK, REPORT, FINAL)
LIMITS = ExecutionLimits(max_iterations=3, max_clarifications=1)


def test_everything_is_offered_in_the_templates_order():
    assert offer(ALL, Counters(), 1, LIMITS) == Offer(ALL, {})


def test_the_last_iteration_leaves_what_ends_the_work():
    assert offer(ALL, Counters(), 2, LIMITS).tools == ALL
    assert offer(ALL, Counters(), 3, LIMITS) == Offer(
        (REASONING, REPORT, FINAL), {"clarification": "max_iterations", "look": "max_iterations"}
    )


def test_beyond_the_last_iteration_only_the_answer_is_left():
    found = offer(ALL, Counters(), 4, LIMITS)

    assert found.tools == (FINAL,)
    assert set(found.dropped.values()) == {"over_max_iterations"}


def test_enough_clarifications_are_enough():
    assert CLARIFICATION in offer(ALL, Counters(clarifications=0), 1, LIMITS).tools
    assert offer(ALL, Counters(clarifications=1), 1, LIMITS).dropped == {"clarification": "max_clarifications"}


def test_a_template_may_forbid_clarifications():
    limits = ExecutionLimits(max_clarifications=0)

    assert CLARIFICATION not in offer(ALL, Counters(), 1, limits).tools


def test_counters_survive_a_newer_workers_names():
    said = {"clarifications": 2, "unheard_of": 1}

    assert Counters.from_json(said) == Counters(clarifications=2)
    assert Counters.from_json(Counters(1, 2, 3, "c").to_json()) == Counters(1, 2, 3, "c")
