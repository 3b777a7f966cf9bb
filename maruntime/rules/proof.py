"""Follow the rules of a template through all cells of all facts, and show where a run could not end.

The rules are followed in order, and a branch is taken only where it matters: a
rule that takes away an ending tool that is still there, or one that sets the
stage while some rule asks for it. What is found is put through `evaluate`
before it is shown. Every search counts its work and gives up with `TooComplex`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maruntime.domain.rule import CALLS_PREFIX, INITIAL_STAGE, Force, Phase, Rule, SetStage, Stage, conditions_of
from maruntime.rules.cells import ELAPSED, Cells, Dimension, Region
from maruntime.rules.evaluate import Facts, Verdict, evaluate, takes_away

_GROWING: tuple[Dimension, ...] = (
    ELAPSED,
    *(("counter", name) for name in ("iteration", "tool_calls", "llm_calls", "tokens")),
)
_OWN_COUNTERS = {"web_search": "searches", "clarification": "clarifications"}


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Facts with which the rules leave no way to end, and the rules that did it."""

    facts: Facts
    removed_by: Mapping[str, str]
    """Each ending tool to the first rule that took it away."""
    forced: Mapping[str, str] = field(default_factory=dict)
    """Forced tool to its rule, where that is the trouble."""

    def to_json(self) -> dict[str, Any]:
        """The counterexample as the admin API shows it."""
        facts = {
            "counters": dict(self.facts.counters),
            "state": self.facts.state.value,
            "stage": self.facts.stage,
            "elapsed_s": self.facts.elapsed.total_seconds(),
            "budget": {resource: float(spent) for resource, spent in self.facts.budget.items()},
        }
        return {"facts": facts, "removed_by": dict(self.removed_by), "forced": dict(self.forced)}


_Choice = tuple[bool | None, Any]


class Proof:
    """The rules of a template, followed symbolically."""

    def __init__(
        self,
        rules: tuple[Rule, ...],
        tools: Sequence[str],
        terminal: frozenset[str],
        limits: Mapping[str, int],
        cells: Cells,
    ) -> None:
        self.rules = rules
        self.tools = tuple(tools)
        self.terminal = terminal
        self._limits = limits
        self._cells = cells
        numbered = list(enumerate(rules))
        self._step = [
            (i, rule)
            for phase in (Phase.BEFORE_SEARCH, Phase.AFTER_SEARCH)
            for i, rule in numbered
            if rule.phase is phase
        ]
        self._transition = [(i, rule) for i, rule in numbered if rule.phase is Phase.TRANSITION]
        self._forced = {it.tool for rule in rules for it in rule.then if isinstance(it, Force)} & set(tools)
        self._stages_matter = any(isinstance(it, Stage) for rule in rules for _, it in conditions_of(rule))
        self.can_fire: set[int] = set()
        self._stages = self._reachable_stages()

    def dead_end(self) -> Counterexample | None:
        """Facts with which no ending tool is left."""
        ending = frozenset(tool for tool in self.tools if tool in self.terminal)
        takes = {i: frozenset(tool for tool in ending if _takes(rule, tool)) for i, rule in self._step}

        def choices(at: int, left: frozenset[str]) -> Iterator[_Choice]:
            if left - frozenset().union(*(takes[i] for i, _ in self._step[at:])):
                return
            i, rule = self._step[at]
            taken = left & takes[i]
            if taken:
                yield True, left - taken
                yield self._without(rule), left
            else:
                yield from ((truth, left) for truth in self._either_way(rule))

        for stage in self._stages:
            for _, region, left in self._walk(self._step, stage, {}, choices, ending, stop=lambda left: not left):
                if not left:
                    facts = self._cells.facts(region, stage)
                    verdict = self._verdict(facts)
                    return Counterexample(facts, {tool: verdict.dropped[tool] for tool in self.tools if tool in ending})
        return None

    def can_offer(self, number: int, tool: str) -> bool:
        """Whether a rule can fire while nothing takes the tool away that it forces."""

        def choices(at: int, nothing: None) -> Iterator[_Choice]:
            i, rule = self._step[at]
            if _takes(rule, tool):
                if i != number:
                    yield False, nothing
            elif i == number:
                yield True, nothing
            else:
                yield from ((truth, nothing) for truth in self._either_way(rule))

        walks = (self._walk(self._step, stage, {}, choices, None) for stage in self._stages)
        return any(next(walk, None) is not None for walk in walks)

    def endless_force(self) -> Counterexample | None:
        """Facts from which a tool that does not end the run is forced at every step.

        A run that goes on for ever leaves every growing quantity beyond every
        number of the rules, with everything else as it was; so only such facts
        are looked at, and a way through the stages that comes back to its start.
        A budget does not count as growing: one that is not set is never spent.
        """
        if not self._forced - self.terminal:
            return None
        late = self._cells.top({}, _GROWING)
        if late is None:
            return None
        for stage in self._stages:
            region = self._circle(stage, stage, late, frozenset())
            if region is not None:
                facts = self._cells.facts(region, stage)
                forced = self._verdict(facts).forced
                assert forced is not None
                return Counterexample(facts, {}, {forced.tool: forced.rule})
        return None

    def _circle(self, start: str, stage: str, region: Region, seen: frozenset[str]) -> Region | None:
        """The part of a region from which forced steps lead from a stage back to the start."""

        def choices(at: int, nothing: None) -> Iterator[_Choice]:
            rule = self._step[at][1]
            matters = any(isinstance(it, Force) or takes_away(it, tool) for it in rule.then for tool in self._forced)
            yield from ((truth, nothing) for truth in ((True, False) if matters else self._either_way(rule)))

        for after, part, _ in self._walk(self._step, stage, region, choices, None):
            forced = self._verdict(self._cells.facts(part, stage)).forced
            if forced is None or forced.tool in self.terminal:
                continue
            later = self._cells.top(part, _moved_by(forced.tool))
            if later is None:
                continue
            if after == start:
                return later
            if after not in seen and after != stage:
                found = self._circle(start, after, later, seen | {stage})
                if found is not None:
                    return found
        return None

    def _reachable_stages(self) -> list[str]:
        """The stages in which a step can begin; on the way, `can_fire` is found."""
        reached, todo = [INITIAL_STAGE], [INITIAL_STAGE]
        while todo:
            stage = todo.pop()
            for rules in (self._step, self._transition):
                for after in self._stages_after(rules, stage):
                    if after not in reached:
                        reached.append(after)
                        todo.append(after)
        return reached

    def _stages_after(self, rules: list[tuple[int, Rule]], stage: str) -> Iterator[str]:
        free = rules is self._transition

        def visit(at: int, stage: str, region: Region) -> Iterator[str]:
            self._cells.work()
            if at == len(rules):
                yield stage
                return
            i, rule = rules[at]
            target = _stage_set(rule)
            firing = self._cells.assume(rule, stage, region, holds=True, state_is_free=free)
            if target is None or not self._stages_matter:
                if i not in self.can_fire and next(firing, None) is not None:
                    self.can_fire.add(i)
                yield from visit(at + 1, stage, region)
                return
            for part in firing:
                self.can_fire.add(i)
                yield from visit(at + 1, target, part)
            for part in self._cells.assume(rule, stage, region, holds=False, state_is_free=free):
                yield from visit(at + 1, stage, part)

        return visit(0, stage, {})

    def _walk(
        self,
        rules: list[tuple[int, Rule]],
        stage: str,
        region: Region,
        choices: Any,
        note: Any,
        stop: Any = lambda _: False,
        at: int = 0,
    ) -> Iterator[tuple[str, Region, Any]]:
        """Follow the rules of a step; `choices` says for each one whether it fires, does not, or does not matter."""
        self._cells.work()
        if at == len(rules) or stop(note):
            yield stage, region, note
            return
        rule = rules[at][1]
        for truth, noted in choices(at, note):
            if truth is None:
                yield from self._walk(rules, stage, region, choices, noted, stop, at + 1)
                continue
            after = (_stage_set(rule) or stage) if truth and self._stages_matter else stage
            for part in self._cells.assume(rule, stage, region, holds=truth, state_is_free=False):
                yield from self._walk(rules, after, part, choices, noted, stop, at + 1)

    def _either_way(self, rule: Rule) -> tuple[bool | None, ...]:
        return (True, False) if self._without(rule) is False else (None,)

    def _without(self, rule: Rule) -> bool | None:
        """What not firing means: excluded where the stage hangs on it, else of no matter."""
        return False if self._stages_matter and _stage_set(rule) is not None else None

    def _verdict(self, facts: Facts) -> Verdict:
        before = evaluate(self.rules, facts, self.tools, Phase.BEFORE_SEARCH, self._limits)
        later = Facts(facts.counters, facts.state, before.stage, facts.elapsed, facts.budget)
        after = evaluate(self.rules, later, before.kept, Phase.AFTER_SEARCH, self._limits)
        return before.followed_by(after)


def _takes(rule: Rule, tool: str) -> bool:
    return any(takes_away(action, tool) for action in rule.then)


def _stage_set(rule: Rule) -> str | None:
    return next((action.stage for action in reversed(rule.then) if isinstance(action, SetStage)), None)


def _moved_by(tool: str) -> Iterator[Dimension]:
    """The counters that a call of the tool moves and other calls do not."""
    yield ("counter", f"{CALLS_PREFIX}{tool}")
    if tool in _OWN_COUNTERS:
        yield ("counter", _OWN_COUNTERS[tool])
