"""R11: what rules mean."""

from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest

from maruntime.domain.rule import Phase, Rule
from maruntime.domain.run import RunState
from maruntime.errors import Invalid
from maruntime.rules.evaluate import Facts, Forced, Verdict, evaluate
from maruntime.rules.limits import limit_rules

TOOLS = ("reasoning", "web_search", "clarification", "create_report", "final_answer")
ALWAYS = {"type": "always"}


def rule(name: str, when: dict[str, Any], *then: dict[str, Any], phase: str = "before_search") -> Rule:
    return Rule.model_validate({"name": name, "when": when, "then": list(then), "phase": phase})


def removes(*tools: str) -> dict[str, Any]:
    return {"type": "remove", "tools": list(tools)}


def keeps(*tools: str) -> dict[str, Any]:
    return {"type": "keep_only", "tools": list(tools)}


def forces(tool: str) -> dict[str, Any]:
    return {"type": "force", "tool": tool}


def stage(name: str) -> dict[str, Any]:
    return {"type": "set_stage", "stage": name}


def verdict_of(*rules: Rule, facts: Facts | None = None, **limits: int) -> Verdict:
    return evaluate(rules, facts or Facts(), TOOLS, Phase.BEFORE_SEARCH, limits)


def holds(when: dict[str, Any], facts: Facts, **limits: int) -> bool:
    return verdict_of(rule("a", when, stage("yes")), facts=facts, **limits).stage == "yes"


def counter(op: str, value: Any, name: str = "searches") -> dict[str, Any]:
    return {"type": "counter", "counter": name, "op": op, "value": value}


def test_without_rules_everything_is_kept() -> None:
    assert verdict_of() == Verdict(kept=TOOLS, dropped={}, stage="start")


def test_the_order_is_kept_and_the_first_rule_is_named() -> None:
    verdict = verdict_of(
        rule("first", ALWAYS, removes("web_search")),
        rule("second", ALWAYS, keeps("final_answer", "web_search", "reasoning")),
    )

    assert verdict.kept == ("reasoning", "final_answer")
    assert verdict.dropped == {"web_search": "first", "clarification": "second", "create_report": "second"}


def test_keep_only_intersects_and_brings_nothing_back() -> None:
    verdict = verdict_of(
        rule("a", ALWAYS, keeps("web_search", "reasoning")), rule("b", ALWAYS, keeps("reasoning", "final_answer"))
    )

    assert verdict.kept == ("reasoning",)


def test_a_star_removes_everything() -> None:
    assert verdict_of(rule("a", ALWAYS, removes("*"))).kept == ()


def test_a_rule_of_another_phase_does_nothing() -> None:
    assert verdict_of(rule("a", ALWAYS, removes("*"), phase="after_search")).kept == TOOLS


def test_the_rules_behind_see_the_stage_at_once_and_the_ones_before_do_not() -> None:
    in_writing = {"type": "stage", "is": "writing"}
    verdict = verdict_of(
        rule("before", in_writing, removes("web_search")),
        rule("move", ALWAYS, stage("writing")),
        rule("behind", in_writing, removes("clarification")),
    )

    assert verdict.stage == "writing"
    assert verdict.dropped == {"clarification": "behind"}


def test_a_forced_tool_is_named_with_its_rule() -> None:
    assert verdict_of(rule("a", ALWAYS, forces("web_search"))).forced == Forced("web_search", "a")


def test_the_last_force_wins() -> None:
    verdict = verdict_of(rule("a", ALWAYS, forces("web_search")), rule("b", ALWAYS, forces("reasoning")))

    assert verdict.forced == Forced("reasoning", "b")


@pytest.mark.parametrize("is_removed_first", [True, False])
def test_a_force_never_brings_a_tool_back(is_removed_first: bool) -> None:
    rules = [rule("gone", ALWAYS, removes("web_search")), rule("wish", ALWAYS, forces("web_search"))]

    assert verdict_of(*(rules if is_removed_first else reversed(rules))).forced is None


def test_a_force_that_cannot_be_leaves_room_for_the_one_before() -> None:
    verdict = verdict_of(
        rule("a", ALWAYS, forces("reasoning")), rule("b", ALWAYS, forces("web_search"), removes("web_search"))
    )

    assert verdict.forced == Forced("reasoning", "a")


def test_a_forced_tool_that_the_template_does_not_have_is_ignored() -> None:
    assert verdict_of(rule("a", ALWAYS, forces("nothing"))).forced is None


def test_approvals_are_for_tools_that_are_kept() -> None:
    verdict = verdict_of(
        rule("a", ALWAYS, {"type": "require_approval", "tools": ["*"]}), rule("b", ALWAYS, keeps("web_search"))
    )

    assert verdict.approvals == {"web_search": "a"}


def test_two_phases_of_a_step_become_one_verdict() -> None:
    before = Verdict(("a", "b", "c"), {"x": "one"}, "s", Forced("a", "one"), {"a": "one", "b": "one"})
    after = Verdict(("b", "c"), {"a": "two", "x": "two"}, "t", None, {"c": "two"})

    joined = before.followed_by(after)

    assert joined == Verdict(("b", "c"), {"a": "two", "x": "one"}, "t", None, {"b": "one", "c": "two"})
    assert before.followed_by(Verdict(("a",), {}, "t")).forced == Forced("a", "one")
    assert before.followed_by(Verdict(("a", "b"), {}, "t", Forced("b", "two"))).forced == Forced("b", "two")


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("lt", [True, False, False]),
        ("le", [True, True, False]),
        ("eq", [False, True, False]),
        ("ne", [True, False, True]),
        ("ge", [False, True, True]),
        ("gt", [False, False, True]),
    ],
)
def test_a_counter_is_compared_with_a_number_or_a_limit(op: str, expected: list[bool]) -> None:
    many = [Facts({"searches": count}) for count in (3, 4, 5)]

    assert [holds(counter(op, 4), facts) for facts in many] == expected
    assert [holds(counter(op, {"limit": "max_searches"}), facts, max_searches=4) for facts in many] == expected


def test_a_counter_that_nobody_moved_is_zero() -> None:
    assert holds(counter("eq", 0, "calls:web_search"), Facts())


def test_a_limit_that_is_not_there_is_an_error() -> None:
    with pytest.raises(Invalid):
        holds(counter("ge", {"limit": "max_dreams"}), Facts())


def test_states_and_stages_are_compared() -> None:
    waiting = Facts(state=RunState.WAITING, stage="writing")

    assert holds({"type": "state", "is": "WAITING"}, waiting)
    assert not holds({"type": "state", "in": ["RUNNING", "QUEUED"]}, waiting)
    assert holds({"type": "stage", "in": ["start", "writing"]}, waiting)


def test_conditions_are_combined() -> None:
    yes, no = ALWAYS, {"type": "not", "condition": ALWAYS}

    assert holds({"type": "any", "conditions": [no, yes]}, Facts())
    assert not holds({"type": "all", "conditions": [no, yes]}, Facts())
    assert holds({"type": "not", "condition": no}, Facts())


@pytest.mark.parametrize("spent", [Fraction(3, 10), 0.3])
def test_a_part_of_a_budget_is_exact(spent: Fraction | float) -> None:
    """0.1 + 0.2 is not 0.3 for floats; a rule must not fire a step late for it."""
    assert holds({"type": "budget", "resource": "tokens", "op": "ge", "fraction": 0.3}, Facts(budget={"tokens": spent}))
    assert not holds(
        {"type": "budget", "resource": "tokens", "op": "gt", "fraction": 0.3}, Facts(budget={"tokens": spent})
    )


def test_time_is_exact_to_the_microsecond() -> None:
    when = {"type": "elapsed", "op": "ge", "seconds": 0.3}

    assert holds(when, Facts(elapsed=timedelta(milliseconds=300)))
    assert not holds(when, Facts(elapsed=timedelta(microseconds=299_999)))
    limited = {"type": "elapsed", "op": "ge", "seconds": {"limit": "max_seconds"}}
    assert holds(limited, Facts(elapsed=timedelta(seconds=60)), max_seconds=60)


LIMITS = {"max_iterations": 10, "max_searches": 4, "max_clarifications": 3, "max_seconds": 600}
END = ("reasoning", "create_report", "final_answer")


def kept_with(facts: Facts) -> tuple[str, ...]:
    return evaluate(limit_rules(LIMITS, TOOLS), facts, TOOLS, Phase.BEFORE_SEARCH, LIMITS).kept


@pytest.mark.parametrize(
    ("facts", "kept"),
    [
        (Facts({"iteration": 9, "searches": 3, "clarifications": 2}), TOOLS),
        (Facts({"iteration": 10}), END),
        (Facts({"iteration": 11}), ("final_answer",)),
        (Facts({"searches": 4}), ("reasoning", "clarification", "create_report", "final_answer")),
        (Facts({"clarifications": 3}), ("reasoning", "web_search", "create_report", "final_answer")),
        (Facts({"searches": 9, "clarifications": 9}), END),
        (Facts(budget={"tokens": Fraction(1)}), ("final_answer",)),
        (Facts(budget={"wall_time": Fraction(99, 100)}), TOOLS),
        (Facts(elapsed=timedelta(minutes=10)), ("final_answer",)),
    ],
)
def test_the_limits_of_the_predecessor_are_rules(facts: Facts, kept: tuple[str, ...]) -> None:
    """Issue 3, parity: the report and the answer at the end, no search and no question beyond their limits."""
    assert kept_with(facts) == kept


def test_a_dialog_agent_keeps_its_own_last_tool() -> None:
    tools = ("reasoning", "clarification", "create_report", "answer")
    rules = limit_rules(LIMITS, tools)

    verdict = evaluate(rules, Facts({"iteration": 10}), tools, Phase.BEFORE_SEARCH, LIMITS)

    assert verdict.kept == ("reasoning", "create_report", "answer")


def test_the_reason_for_a_dropped_tool_is_the_name_of_its_limit() -> None:
    verdict = evaluate(limit_rules(LIMITS), Facts({"iteration": 10, "searches": 4}), TOOLS, Phase.BEFORE_SEARCH, LIMITS)

    assert verdict.dropped == {"web_search": "max_iterations", "clarification": "max_iterations"}


def test_a_limit_that_is_not_given_or_not_needed_has_no_rule() -> None:
    assert {rule.name for rule in limit_rules({}, TOOLS)} == {
        "budget_tokens",
        "budget_llm_calls",
        "budget_tool_calls",
        "budget_wall_time",
    }
    assert "max_searches" not in {rule.name for rule in limit_rules(LIMITS, ["final_answer"])}
    assert limit_rules(LIMITS, []) == ()
