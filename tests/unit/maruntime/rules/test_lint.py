"""Issue 3, point 6: a template cannot end with nothing to end with, or there are facts that show how."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from maruntime.domain.rule import Force, Phase, Rule, SetStage
from maruntime.domain.run import RunState
from maruntime.rules.evaluate import Facts, Verdict, evaluate
from maruntime.rules.limits import limit_rules
from maruntime.rules.lint import Problem, lint

RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])
TOOLS = ("web_search", "create_report", "final_answer", "answer")
LIMITS = {"two": 2}
ALWAYS = {"type": "always"}
KEEP_SEARCH = {"type": "keep_only", "tools": ["web_search"]}


def rule(name: str, when: dict[str, Any], *then: dict[str, Any], phase: str = "before_search") -> dict[str, Any]:
    return {"name": name, "when": when, "then": list(then), "phase": phase}


def counter(name: str, op: str, value: Any) -> dict[str, Any]:
    return {"type": "counter", "counter": name, "op": op, "value": value}


def force(tool: str) -> dict[str, Any]:
    return {"type": "force", "tool": tool}


def to_stage(stage: str) -> dict[str, Any]:
    return {"type": "set_stage", "stage": stage}


def stage_is(stage: str) -> dict[str, Any]:
    return {"type": "stage", "is": stage}


def linted(*raw: dict[str, Any], tools: tuple[str, ...] = TOOLS, **options: Any) -> list[Problem]:
    return lint(RULES.validate_python(list(raw)), tools, **{"limits": LIMITS, **options})


def found(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.code, problem.path) for problem in problems]


def step(rules: list[Rule], facts: Facts, limits: dict[str, int] = LIMITS, tools: tuple[str, ...] = TOOLS) -> Verdict:
    """Both phases of a step when the tool search leaves nothing out."""
    before = evaluate(rules, facts, tools, Phase.BEFORE_SEARCH, limits)
    after = evaluate(rules, replace(facts, stage=before.stage), before.kept, Phase.AFTER_SEARCH, limits)
    return before.followed_by(after)


# --- what it says


def test_the_shipped_limits_alone_are_no_dead_end() -> None:
    limits = {"max_iterations": 10, "max_searches": 4, "max_clarifications": 3, "max_seconds": 600}
    tools = ("reasoning", "web_search", "clarification", "create_report", "final_answer")

    assert lint([], tools, limits=limits, shipped=limit_rules(limits, tools)) == []
    assert lint(limit_rules(limits, tools), tools, limits=limits) == []


def test_a_dead_end_is_shown_with_facts_and_with_the_rules_behind_it() -> None:
    """Issue 3, done when: the linter refuses a dead-end template with a counterexample."""
    (problem,) = linted(
        rule("search_on", counter("searches", "ge", 3), KEEP_SEARCH, phase="after_search"),
        rule("no_answer", ALWAYS, {"type": "remove", "tools": ["answer"]}),
    )

    assert problem.to_json() == {
        "code": "dead_end",
        "path": "rules",
        "message": "No tool that ends the run is left "
        "(taken away: 'final_answer' by 'search_on', 'answer' by 'no_answer').",
        "severity": "error",
        "counterexample": {
            "facts": {
                "counters": {"searches": 3},
                "state": "RUNNING",
                "stage": "start",
                "elapsed_s": 0.0,
                "budget": {},
            },
            "removed_by": {"final_answer": "search_on", "answer": "no_answer"},
            "forced": {},
        },
    }


def test_a_template_without_an_ending_tool_is_a_dead_end_from_the_start() -> None:
    assert found(linted(tools=("web_search",))) == [("dead_end", "rules")]
    assert linted(tools=("web_search",), terminal_tools=()) == []
    assert linted(tools=("web_search",), terminal_tools=("web_search",)) == []


def test_two_harmless_keep_onlys_meet_in_a_dead_end() -> None:
    limits = {"max_iterations": 10}
    rules = RULES.validate_python([rule("research", counter("searches", "lt", 3), KEEP_SEARCH)])

    codes = [it.code for it in lint(rules, TOOLS, limits=limits, shipped=limit_rules(limits, TOOLS))]

    assert codes == ["dead_end"]


def test_rules_that_exclude_each_other_are_no_dead_end() -> None:
    problems = linted(
        rule("early", counter("iteration", "lt", 5), {"type": "remove", "tools": ["final_answer"]}),
        rule("late", counter("iteration", "ge", 5), {"type": "remove", "tools": ["answer"]}),
    )

    assert problems == []


def test_a_dead_end_in_a_stage_that_no_rule_reaches_is_none() -> None:
    in_b = rule("in_b", stage_is("b"), KEEP_SEARCH)
    move = rule("move", {"type": "all", "conditions": [counter("iteration", "lt", 0), ALWAYS]}, to_stage("b"))

    assert found(linted(in_b, move)) == [("never_fires", "rules[0]"), ("never_fires", "rules[1]")]


def test_a_transition_can_lead_into_a_dead_end() -> None:
    problems = linted(
        rule("asked", {"type": "state", "is": "WAITING"}, to_stage("b"), phase="transition"),
        rule("in_b", stage_is("b"), KEEP_SEARCH),
    )

    assert found(problems) == [("dead_end", "rules")]
    assert problems[0].counterexample is not None
    assert problems[0].counterexample.facts.stage == "b"


def test_a_rule_about_a_state_in_which_no_tools_are_chosen_never_fires() -> None:
    assert found(linted(rule("a", {"type": "state", "is": "WAITING"}, KEEP_SEARCH))) == [("never_fires", "rules[0]")]


def test_wrong_names_are_found_at_their_place() -> None:
    late = {"type": "elapsed", "op": "ge", "seconds": {"limit": "x"}}
    problems = linted(
        rule("a", counter("dreams", "ge", 1), {"type": "remove", "tools": ["web_search", "teleport"]}),
        rule("a", {"type": "not", "condition": counter("calls:teleport", "ge", {"limit": "nine"})}, force("teleport")),
        rule(
            "max",
            {"type": "any", "conditions": [late]},
            force("answer"),
        ),
        rule("b", {"type": "stage", "in": ["start", "nowhere"]}, {"type": "require_approval", "tools": ["*", "t"]}),
        shipped=RULES.validate_python([rule("max", ALWAYS, force("answer"))]),
    )

    assert found(problems) == [
        ("unknown_counter", "rules[0].when.counter"),
        ("unknown_tool", "rules[0].then[0].tools[1]"),
        ("duplicate_name", "rules[1].name"),
        ("unknown_tool", "rules[1].when.condition.counter"),
        ("unknown_limit", "rules[1].when.condition.value.limit"),
        ("unknown_tool", "rules[1].then[0].tool"),
        ("duplicate_name", "rules[2].name"),
        ("unknown_limit", "rules[2].when.conditions[0].seconds.limit"),
        ("unknown_stage", "rules[3].when.in[1]"),
        ("unknown_tool", "rules[3].then[0].tools[1]"),
    ]


def test_a_limit_that_only_a_shipped_rule_names_has_to_be_there_too() -> None:
    shipped = limit_rules({"max_searches": 3}, TOOLS)

    assert found(linted(shipped=shipped)) == [("unknown_limit", "rules")]


def test_a_force_that_is_always_taken_back_is_found() -> None:
    problems = linted(
        rule("wish", counter("iteration", "eq", 1), force("web_search")),
        rule("ban", counter("iteration", "le", {"limit": "two"}), {"type": "remove", "tools": ["web_search"]}),
    )

    assert found(problems) == [("force_never_offered", "rules[0].then[0].tool")]


def test_a_tool_that_is_forced_for_ever_keeps_the_run_from_its_end() -> None:
    (problem,) = linted(rule("again", ALWAYS, force("web_search")))

    assert problem.code == "endless_force"
    assert problem.counterexample is not None
    assert problem.counterexample.forced == {"web_search": "again"}


def test_a_stage_that_no_rule_asks_for_hides_nothing() -> None:
    problems = linted(rule("move", ALWAYS, to_stage("b")), rule("again", ALWAYS, force("web_search")))

    assert [problem.code for problem in problems] == ["endless_force"]


@pytest.mark.parametrize(
    "when",
    [
        counter("iteration", "eq", 1),
        counter("searches", "lt", 3),
        counter("calls:web_search", "lt", 1),
        {"type": "elapsed", "op": "lt", "seconds": 60},
    ],
)
def test_a_tool_that_is_forced_for_a_while_does_not(when: dict[str, Any]) -> None:
    assert linted(rule("first", when, force("web_search"))) == []


def test_two_stages_that_hand_the_run_to_each_other_for_ever_are_found() -> None:
    # The rules behind a `set_stage` see the new stage at once, so that a way through stages stands last stage first.
    circle = [
        rule("c_to_start", stage_is("c"), force("web_search"), to_stage("start")),
        rule("b_to_c", stage_is("b"), force("create_report"), to_stage("c")),
        rule("start_to_b", stage_is("start"), force("web_search"), to_stage("b")),
    ]
    leave = rule("leave", counter("calls:web_search", "ge", 9), force("answer"))

    assert [problem.code for problem in linted(*circle)] == ["endless_force"]
    assert linted(*circle, leave) == []


def test_the_iteration_limit_ends_every_force() -> None:
    limits = {"max_iterations": 10}
    rules = RULES.validate_python([rule("again", ALWAYS, force("create_report"))])

    assert lint(rules, TOOLS, limits=limits, shipped=limit_rules(limits, TOOLS)) == []


def test_a_budget_ends_a_force_only_if_it_is_set() -> None:
    rules = RULES.validate_python([rule("again", ALWAYS, force("create_report"))])

    assert [it.code for it in lint(rules, TOOLS, limits={}, shipped=limit_rules({}, TOOLS))] == ["endless_force"]


def test_many_rules_over_many_counters_are_no_product_of_cells() -> None:
    """Twenty counters with forty numbers each have more cells than there are atoms in the sea."""
    raw = [
        rule(f"r{i}_{n}", counter(f"calls:t{i}", "ge", n), {"type": "remove", "tools": [f"t{i}"]})
        for i in range(20)
        for n in range(1, 11)
    ]
    tools = (*(f"t{i}" for i in range(20)), "final_answer")
    started = time.perf_counter()

    assert linted(*raw, rule("first", counter("iteration", "eq", 1), force("t1")), tools=tools) == []
    dead = linted(*raw, rule("end", counter("calls:t3", "eq", 5), {"type": "remove", "tools": ["*"]}), tools=tools)

    assert found(dead) == [("dead_end", "rules")]
    assert time.perf_counter() - started < 5


def test_what_cannot_be_proven_in_bounds_is_refused_and_not_passed_over() -> None:
    pairs = [
        {"type": "any", "conditions": [counter(f"calls:t{i}", "ge", 1), counter(f"calls:u{i}", "ge", 1)]}
        for i in range(30)
    ]
    none = [counter(f"calls:{kind}29", "eq", 0) for kind in "tu"]
    tools = (*(f"{kind}{i}" for kind in "tu" for i in range(30)), "final_answer")
    hard = rule(
        "hard", {"type": "all", "conditions": [*pairs, {"type": "any", "conditions": none}, *none]}, force("t1")
    )

    assert [problem.code for problem in linted(hard, tools=tools, max_work=2000)] == ["too_complex"]


# --- against brute force

NUMBERS = st.integers(0, 3) | st.just({"limit": "two"})
ORDER = st.sampled_from(["lt", "le", "ge", "gt"])
STAGES = st.sampled_from(["start", "b", "c"])
ATOMS = st.one_of(
    st.builds(
        counter,
        st.sampled_from(["iteration", "searches", "calls:create_report"]),
        st.sampled_from(["lt", "le", "eq", "ne", "ge", "gt"]),
        NUMBERS,
    ),
    st.builds(stage_is, STAGES),
    st.builds(lambda op, s: {"type": "elapsed", "op": op, "seconds": s}, ORDER, st.sampled_from([0, 0.5, 1])),
    st.builds(
        lambda op, f: {"type": "budget", "resource": "tokens", "op": op, "fraction": f},
        ORDER,
        st.sampled_from([0.5, 1]),
    ),
    st.builds(lambda s: {"type": "state", "is": s}, st.sampled_from(["RUNNING", "WAITING"])),
    st.just(ALWAYS),
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"type": "all", "conditions": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"type": "any", "conditions": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"type": "not", "condition": part}, inner),
    ),
    max_leaves=4,
)
SOME_TOOLS = st.lists(st.sampled_from(TOOLS), min_size=1, max_size=3, unique=True)
ACTIONS = st.one_of(
    st.builds(lambda tools: {"type": "remove", "tools": tools}, SOME_TOOLS),
    st.builds(lambda tools: {"type": "keep_only", "tools": tools}, SOME_TOOLS),
    st.builds(to_stage, STAGES),
    st.builds(force, st.sampled_from(TOOLS)),
)


@st.composite
def rule_sets(draw: st.DrawFn) -> list[Rule]:
    raw = []
    for i in range(draw(st.integers(1, 5))):
        phase = draw(st.sampled_from(["before_search", "after_search", "transition"]))
        kind = st.builds(to_stage, STAGES) if phase == "transition" else ACTIONS
        raw.append(rule(f"r{i}", draw(CONDITIONS), *draw(st.lists(kind, min_size=1, max_size=2)), phase=phase))
    return RULES.validate_python(raw)


def grid(rules: list[Rule]) -> Iterator[Facts]:
    """Every combination of values around every number that the rules above can name."""
    said = repr(rules)
    names = [name for name in ("iteration", "searches", "calls:create_report") if f"'{name}'" in said]
    elapsed = [0, 250, 500, 750, 1000, 2000] if "Elapsed(" in said else [0]
    spent = [Fraction(n, 4) for n in (0, 2, 3, 4, 5)] if "Budget(" in said else [Fraction(0)]
    for counts in itertools.product(range(5), repeat=len(names)):
        for milliseconds, part in itertools.product(elapsed, spent):
            yield Facts(
                dict(zip(names, counts, strict=True)),
                elapsed=timedelta(milliseconds=milliseconds),
                budget={"tokens": part},
            )


class BruteForce:
    """The truth about a rule set, by trying everything."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules
        self.fired: set[str] = set()
        self.dead_ends: list[Facts] = []
        self.offered: set[tuple[str, str]] = set()
        cells = list(grid(rules))
        todo, self.stages = ["start"], {"start"}
        while todo:
            stage = todo.pop()
            for facts in cells:
                for after in self._look(replace(facts, stage=stage)):
                    if after not in self.stages:
                        self.stages.add(after)
                        todo.append(after)
        self.is_endless = any(
            self.goes_on_for_ever(replace(facts, stage=stage)) for stage in self.stages for facts in cells
        )

    def _look(self, facts: Facts) -> Iterator[str]:
        verdict = step(self.rules, facts)
        if not {"final_answer", "answer"} & set(verdict.kept):
            self.dead_ends.append(facts)
        fired = self._fired(facts, (Phase.BEFORE_SEARCH, Phase.AFTER_SEARCH))
        self.fired |= fired
        for rule in self.rules:
            if rule.name in fired:
                wanted = (action.tool for action in rule.then if isinstance(action, Force))
                self.offered |= {(rule.name, tool) for tool in wanted if tool in verdict.kept}
        yield verdict.stage
        for state in RunState:
            moved = replace(facts, state=state)
            self.fired |= self._fired(moved, (Phase.TRANSITION,))
            yield evaluate(self.rules, moved, TOOLS, Phase.TRANSITION, LIMITS).stage

    def _fired(self, facts: Facts, phases: tuple[Phase, ...]) -> set[str]:
        """The rules that fire, found by watching the stage of a copy that only marks its firing."""
        fired, stage = set(), facts.stage
        for phase in phases:
            for rule in self.rules:
                mark = rule.model_copy(update={"then": (SetStage(stage="marked"),)})
                at = replace(facts, stage=stage)
                if evaluate([mark], at, TOOLS, phase, LIMITS).stage == "marked":
                    fired.add(rule.name)
                    stage = evaluate([rule], at, TOOLS, phase, LIMITS).stage
        return fired

    def goes_on_for_ever(self, facts: Facts) -> bool:
        """Whether a tool that ends nothing is forced thirty times on end; every number is behind it by then."""
        for _ in range(30):
            verdict = step(self.rules, facts)
            if verdict.forced is None or verdict.forced.tool in ("final_answer", "answer"):
                return False
            counters = dict(facts.counters)
            moved = {"web_search": ["searches"], "create_report": ["calls:create_report"]}[verdict.forced.tool]
            for name in ("iteration", *moved):
                counters[name] = counters.get(name, 0) + 1
            facts = replace(
                facts, counters=counters, stage=verdict.stage, elapsed=facts.elapsed + timedelta(milliseconds=125)
            )
        return True


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(rule_sets())
def test_the_linter_agrees_with_trying_everything(rules: list[Rule]) -> None:
    assume(sum(1 for _ in grid(rules)) <= 150)
    truth = BruteForce(rules)

    every = lint(rules, TOOLS, limits=LIMITS)
    problems = {problem.code: problem for problem in every}
    at = {(problem.code, problem.path) for problem in every}

    for code in problems:
        event(code)
    assert "too_complex" not in problems
    assert ("dead_end" in problems) == bool(truth.dead_ends)
    assert ("endless_force" in problems) == truth.is_endless
    never = {f"rules[{i}]" for i, rule in enumerate(rules) if rule.name not in truth.fired}
    assert {path for code, path in at if code == "never_fires"} == never
    lost = {
        f"rules[{i}].then[{j}].tool"
        for i, rule in enumerate(rules)
        for j, action in enumerate(rule.then)
        if isinstance(action, Force) and rule.name in truth.fired and (rule.name, action.tool) not in truth.offered
    }
    assert {path for code, path in at if code == "force_never_offered"} == lost
    if "dead_end" in problems:
        shown = problems["dead_end"].counterexample
        assert shown is not None
        assert shown.facts.stage in truth.stages
        verdict = step(rules, shown.facts)
        assert not {"final_answer", "answer"} & set(verdict.kept)
        assert shown.removed_by == {tool: verdict.dropped[tool] for tool in ("final_answer", "answer")}
    if "endless_force" in problems:
        shown = problems["endless_force"].counterexample
        assert shown is not None
        forced = step(rules, shown.facts).forced
        assert forced is not None
        assert shown.forced == {forced.tool: forced.rule}
        assert truth.goes_on_for_ever(shown.facts)
