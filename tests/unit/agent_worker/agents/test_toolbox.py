from datetime import timedelta
from fractions import Fraction

import pytest

from agent_worker.agents.progress import Counters
from agent_worker.agents.toolbox import Toolbox
from maruntime.domain.rule import Rule
from maruntime.domain.run import RunState, Usage
from maruntime.domain.template import AgentKind, ExecutionLimits, TemplateBody, ToolPolicy
from maruntime.testing.clock import FakeClock
from tests.unit.agent_worker.builders import CLARIFICATION, FINAL, LOOK, REASONING, REPORT

ALL = (REASONING, CLARIFICATION, LOOK, REPORT, FINAL)


def a_toolbox(*rules, clock=None, elapsed=timedelta(), policy=None, **limits):
    body = TemplateBody(
        kind=AgentKind.SGR_TOOL_CALLING,
        description="An agent",
        tools=tuple(tool.name for tool in ALL),
        limits=ExecutionLimits(**{"max_iterations": 3, "max_clarifications": 1, **limits}),
        rules=tuple(Rule.model_validate(rule) for rule in rules),
        tool_policy=policy or ToolPolicy(),
    )
    return Toolbox(body, ALL, elapsed, clock or FakeClock())


def at_iteration(number, *actions, name="a_rule", phase="before_search"):
    when = {"type": "counter", "counter": "iteration", "op": "ge", "value": number}
    return {"name": name, "when": when, "then": list(actions), "phase": phase}


def test_everything_is_offered_in_the_templates_order():
    found = a_toolbox().offer(Counters(), 1)

    assert found.tools == ALL
    assert found.explained() == {
        "offered": {tool.name: tool.version_id for tool in ALL},
        "dropped": {},
        "forced": None,
    }


def test_the_last_iteration_leaves_what_ends_the_work():
    """Parity: at max_iterations only the report and the final answer remain."""
    found = a_toolbox().offer(Counters(), 3)

    assert found.tools == (REASONING, REPORT, FINAL)
    assert found.dropped == {"clarification": "rule: max_iterations", "look": "rule: max_iterations"}


def test_beyond_the_last_iteration_only_the_answer_is_left():
    assert a_toolbox().offer(Counters(), 4).tools == (FINAL,)


def test_enough_clarifications_are_enough():
    assert CLARIFICATION in a_toolbox().offer(Counters(clarifications=0), 1).tools
    dropped = a_toolbox().offer(Counters(clarifications=1), 1).dropped
    assert dropped == {"clarification": "rule: max_clarifications"}


def test_a_denied_tool_says_so():
    found = a_toolbox(policy=ToolPolicy(deny=("look",))).offer(Counters(), 1)

    assert LOOK not in found.tools
    assert found.dropped == {"look": "policy: denied by the template"}


def test_a_rule_of_the_template_removes_a_tool_by_how_often_it_was_called():
    when = {"type": "counter", "counter": "calls:look", "op": "ge", "value": 2}
    toolbox = a_toolbox({"name": "enough_looks", "when": when, "then": [{"type": "remove", "tools": ["look"]}]})
    counters = Counters()
    counters.count_calls("look")

    assert LOOK in toolbox.offer(counters, 1).tools
    counters.count_calls("look")
    assert toolbox.offer(counters, 2).dropped == {"look": "rule: enough_looks"}


def test_a_forced_tool_is_the_only_one_beside_the_reasoning():
    toolbox = a_toolbox(at_iteration(2, {"type": "force", "tool": "create_report"}, name="report_now"))

    assert toolbox.offer(Counters(), 1).forced is None
    found = toolbox.offer(Counters(), 2)
    assert found.tools == (REASONING, REPORT)
    assert found.forced == "create_report"
    assert found.dropped["look"] == "rule: report_now forces create_report"


def test_a_rule_sets_the_stage_which_lasts():
    counters = Counters()
    toolbox = a_toolbox(at_iteration(2, {"type": "set_stage", "stage": "writing"}))

    toolbox.offer(counters, 1)
    assert counters.stage == "start"
    toolbox.offer(counters, 2)
    assert Counters.from_json(counters.to_json()).stage == "writing"


def test_a_transition_sets_the_stage():
    when = {"type": "state", "in": ["WAITING"]}
    rule = {
        "name": "asked",
        "when": when,
        "then": [{"type": "set_stage", "stage": "asked"}],
        "phase": "transition",
    }
    counters = Counters()

    a_toolbox(rule).moved(counters, 1, RunState.RUNNING)
    assert counters.stage == "start"
    a_toolbox(rule).moved(counters, 1, RunState.WAITING)
    assert counters.stage == "asked"


@pytest.mark.parametrize(
    ("limits", "counters"),
    [
        ({"max_tokens": 100}, Counters(tokens=100)),
        ({"max_llm_calls": 2}, Counters(llm_calls=2)),
        ({"max_tool_calls": 2}, Counters(tool_calls=2)),
    ],
)
def test_a_spent_budget_leaves_the_answer(limits, counters):
    assert a_toolbox(**limits).offer(Counters(), 1).tools == ALL
    assert a_toolbox(**limits).offer(counters, 1).tools == (FINAL,)


def test_time_counts_from_when_the_run_was_accepted():
    clock = FakeClock()
    toolbox = a_toolbox(clock=clock, elapsed=timedelta(seconds=50), max_seconds=60)

    assert toolbox.offer(Counters(), 1).tools == ALL
    clock.advance(10)
    assert toolbox.offer(Counters(), 1).tools == (FINAL,)


def test_calls_and_usage_are_counted():
    counters = Counters()
    counters.count_calls("web_search", "look")
    counters.count_usage(Usage(5, 2, 1), 2)

    assert (counters.searches, counters.tool_calls, counters.llm_calls, counters.tokens) == (1, 2, 2, 7)
    assert counters.as_facts(4)["calls:web_search"] == 1
    assert Fraction(counters.tokens, 7) == 1


def test_counters_survive_a_newer_workers_names():
    said = {"clarifications": 2, "unheard_of": 1}

    assert Counters.from_json(said) == Counters(clarifications=2)
    assert Counters.from_json(Counters(clarifications=1, complaint="c").to_json()) == Counters(
        clarifications=1, complaint="c"
    )
