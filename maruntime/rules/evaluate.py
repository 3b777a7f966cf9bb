"""Apply rules to the tools of a step. The `RulesEngine` of the roadmap.

Pure: the same rules, facts and tools give the same verdict. Rules apply in
order, each one looks at the facts of the step and at the stage that the rules
before it have set:

* a tool that one rule took away is not brought back by another; the verdict
  names the first rule that took it;
* the last `set_stage` wins, and the rules behind it see the new stage;
* a `force` counts only when its tool is still there after *all* rules, so that
  a limit is stronger than a wish; of several that count the last one wins.

Numbers are compared exactly: counters as integers, time in microseconds, parts
of a budget as fractions. A float is read as the decimal that it prints.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from maruntime.domain.rule import (
    ALL_TOOLS,
    INITIAL_STAGE,
    AllOf,
    Always,
    AnyOf,
    Budget,
    Condition,
    Counter,
    Elapsed,
    Force,
    KeepOnly,
    LimitRef,
    Not,
    Phase,
    Remove,
    RequireApproval,
    Rule,
    SetStage,
    Stage,
    State,
)
from maruntime.domain.run import RunState
from maruntime.errors import Invalid

COMPARE: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {name: getattr(operator, name) for name in ("lt", "le", "eq", "ne", "ge", "gt")}
)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Facts:
    """What rules can see of a run. What is not given is 0."""

    counters: Mapping[str, int] = field(default_factory=dict)
    state: RunState = RunState.RUNNING
    stage: str = INITIAL_STAGE
    elapsed: timedelta = timedelta()
    budget: Mapping[str, Fraction | float] = field(default_factory=dict)
    """The spent part of each resource; `Fraction(used, limit)` is exact."""


@dataclass(frozen=True, slots=True)
class Forced:
    """The tool that the model has to call, and the rule that says so."""

    tool: str
    rule: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules of one phase leave, with the rule behind each change."""

    kept: tuple[str, ...]
    """In the order in which the tools were given."""
    dropped: Mapping[str, str]
    """Tool to the first rule that took it away."""
    stage: str
    forced: Forced | None = None
    approvals: Mapping[str, str] = field(default_factory=dict)
    """Kept tool to the first rule that wants a person's approval for its calls."""

    def followed_by(self, later: "Verdict") -> "Verdict":
        """This verdict and the one of the next phase of the same step, as one."""
        earlier = self.forced if self.forced is not None and self.forced.tool in later.kept else None
        approvals = {**later.approvals, **self.approvals}
        return Verdict(
            kept=later.kept,
            dropped={**later.dropped, **self.dropped},
            stage=later.stage,
            forced=later.forced or earlier,
            approvals={tool: rule for tool, rule in approvals.items() if tool in later.kept},
        )


def evaluate(
    rules: Sequence[Rule], facts: Facts, tools: Sequence[str], phase: Phase, limits: Mapping[str, int]
) -> Verdict:
    """Apply the rules of a phase, in order.

    Raises:
        Invalid: a rule names a limit that is not in `limits`; `lint` finds it when the template is saved.
    """
    stage = facts.stage
    dropped: dict[str, str] = {}
    approvals: dict[str, str] = {}
    forces: list[Forced] = []
    for rule in rules:
        if rule.phase is not phase or not holds(rule.when, facts, stage, limits):
            continue
        for action in rule.then:
            match action:
                case Remove() | KeepOnly():
                    for tool in tools:
                        if takes_away(action, tool):
                            dropped.setdefault(tool, rule.name)
                case SetStage():
                    stage = action.stage
                case Force():
                    forces.append(Forced(action.tool, rule.name))
                case RequireApproval():
                    for tool in tools:
                        if tool in action.tools or ALL_TOOLS in action.tools:
                            approvals.setdefault(tool, rule.name)
    kept = tuple(tool for tool in tools if tool not in dropped)
    return Verdict(
        kept=kept,
        dropped=dropped,
        stage=stage,
        forced=next((forced for forced in reversed(forces) if forced.tool in kept), None),
        approvals={tool: rule for tool, rule in approvals.items() if tool in kept},
    )


def takes_away(action: object, tool: str) -> bool:
    """Whether the action takes the tool away."""
    match action:
        case Remove():
            return tool in action.tools or ALL_TOOLS in action.tools
        case KeepOnly():
            return tool not in action.tools
        case _:
            return False


def holds(condition: Condition, facts: Facts, stage: str, limits: Mapping[str, int]) -> bool:
    """Whether the condition holds while the run is in the stage."""
    match condition:
        case Counter():
            used = facts.counters.get(condition.counter, 0)
            return COMPARE[condition.op](used, threshold(condition, limits))
        case Elapsed():
            return COMPARE[condition.op](facts.elapsed // _MICROSECOND, threshold(condition, limits))
        case Budget():
            spent = exactly(facts.budget.get(condition.resource, 0))
            return COMPARE[condition.op](spent, threshold(condition, limits))
        case State():
            return facts.state in condition.values
        case Stage():
            return stage in condition.values
        case AllOf():
            return all(holds(part, facts, stage, limits) for part in condition.conditions)
        case AnyOf():
            return any(holds(part, facts, stage, limits) for part in condition.conditions)
        case Not():
            return not holds(condition.condition, facts, stage, limits)
        case Always():
            return True


def threshold(condition: Counter | Elapsed | Budget, limits: Mapping[str, int]) -> int | Fraction:
    """What the condition compares with: a count, microseconds, or a part of a budget."""
    match condition:
        case Counter():
            return _resolved(condition.value, limits) if isinstance(condition.value, LimitRef) else condition.value
        case Elapsed():
            said = condition.seconds
            seconds = _resolved(said, limits) if isinstance(said, LimitRef) else exactly(said)
            return int(seconds * 1_000_000)
        case Budget():
            return exactly(condition.fraction)


def exactly(number: Fraction | float) -> Fraction:
    """The number as the decimal that it prints: 0.1 is one tenth."""
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _resolved(reference: LimitRef, limits: Mapping[str, int]) -> int:
    try:
        return limits[reference.limit]
    except KeyError:
        raise Invalid(f"There is no limit {reference.limit!r}.", param=reference.limit) from None
