"""Find what is wrong with the rules of a template before a run does.

The proof: for every value of every counter, for every part of time and budget
spent and for every stage that the rules can reach, a tool that ends the run is
left, and no forced tool keeps the model from it for ever. Where that is not so
the problem carries facts that lead there; they were put through `evaluate`.

The method: `cells` makes finitely many cases of all values, and `proof` follows
the rules through them. The work is bounded. Beyond the bound the answer is the
error `too_complex`, never silence.

What is assumed: counters are independent of each other and can have any value
from 0 on in every reachable stage (more than a real run can reach, so a
refused template may be harmless, an accepted one is not a dead end); tools are
chosen only while the run is RUNNING; the tool search leaves out neither an
ending tool nor a forced one.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from maruntime.domain.rule import (
    ALL_TOOLS,
    CALLS_PREFIX,
    COUNTERS,
    INITIAL_STAGE,
    Counter,
    Elapsed,
    Force,
    KeepOnly,
    LimitRef,
    Remove,
    RequireApproval,
    Rule,
    SetStage,
    Stage,
    conditions_of,
)
from maruntime.rules.cells import Cells, TooComplex
from maruntime.rules.limits import TERMINAL_TOOLS
from maruntime.rules.proof import Counterexample, Proof

MAX_WORK = 100_000
"""Steps of the search before the rules count as too complex: about half a second."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. An error refuses the template, a warning does not."""

    code: str
    path: str
    """JSON path, such as `rules[0].then[1].tools[0]`."""
    message: str
    severity: Severity = "error"
    counterexample: Counterexample | None = None

    def to_json(self) -> dict[str, Any]:
        """The problem as the admin API shows it."""
        said: dict[str, Any] = {
            "code": self.code,
            "path": self.path,
            "message": self.message,
            "severity": self.severity,
        }
        if self.counterexample is not None:
            said["counterexample"] = self.counterexample.to_json()
        return said


def lint(
    rules: Sequence[Rule],
    tools: Sequence[str],
    *,
    limits: Mapping[str, int],
    terminal_tools: Collection[str] = TERMINAL_TOOLS,
    shipped: Sequence[Rule] = (),
    root: str = "rules",
    max_work: int = MAX_WORK,
) -> list[Problem]:
    """Check the rules of a template together with the shipped ones that stand behind them.

    `tools` are all tools of the template. `terminal_tools` may be empty for an
    agent that ends with plain text: then nothing is proven about its end.
    """
    problems = [*_naming_problems(rules, tools, limits, shipped, root)]
    if any(problem.code == "unknown_limit" for problem in problems):
        return problems
    together = (*rules, *shipped)
    try:
        proof = Proof(together, tools, frozenset(terminal_tools), limits, Cells(together, limits, max_work))
        problems.extend(_flow_problems(proof, len(rules), root))
    except (TooComplex, RecursionError):
        problems.append(
            Problem("too_complex", root, "The rules are too many or too entangled to prove that a run can end.")
        )
    return problems


def _naming_problems(
    rules: Sequence[Rule], tools: Sequence[str], limits: Mapping[str, int], shipped: Sequence[Rule], root: str
) -> Iterator[Problem]:
    names = {rule.name: "a shipped rule" for rule in shipped}
    stages = {INITIAL_STAGE} | {it.stage for rule in (*rules, *shipped) for it in rule.then if isinstance(it, SetStage)}
    for i, rule in enumerate(rules):
        at = f"{root}[{i}]"
        if rule.name in names:
            yield Problem("duplicate_name", f"{at}.name", f"{rule.name!r} is also the name of {names[rule.name]}.")
        names.setdefault(rule.name, at)
        for path, condition in conditions_of(rule):
            yield from _condition_problems(condition, f"{at}.{path}", tools, limits, stages)
        for j, action in enumerate(rule.then):
            for path, tool in _tools_named(action):
                if tool != ALL_TOOLS and tool not in tools:
                    yield Problem("unknown_tool", f"{at}.then[{j}].{path}", f"The template has no tool {tool!r}.")
    for rule in shipped:
        for _, condition in conditions_of(rule):
            bound = condition.value if isinstance(condition, Counter) else getattr(condition, "seconds", None)
            yield from _limit_problems(bound, root, limits)


def _condition_problems(
    condition: object, at: str, tools: Sequence[str], limits: Mapping[str, int], stages: Collection[str]
) -> Iterator[Problem]:
    match condition:
        case Counter():
            name = condition.counter
            if name.startswith(CALLS_PREFIX):
                if name.removeprefix(CALLS_PREFIX) not in tools:
                    yield Problem("unknown_tool", f"{at}.counter", f"The template has no tool of {name!r}.")
            elif name not in COUNTERS:
                yield Problem("unknown_counter", f"{at}.counter", f"There is no counter {name!r}.")
            yield from _limit_problems(condition.value, f"{at}.value.limit", limits)
        case Elapsed():
            yield from _limit_problems(condition.seconds, f"{at}.seconds.limit", limits)
        case Stage():
            named = [("is", condition.is_)] if condition.is_ is not None else []
            named += [(f"in[{i}]", stage) for i, stage in enumerate(condition.in_ or ())]
            for path, stage in named:
                if stage not in stages:
                    yield Problem("unknown_stage", f"{at}.{path}", f"No rule sets the stage {stage!r}.", "warning")
        case _:
            pass


def _limit_problems(bound: object, at: str, limits: Mapping[str, int]) -> Iterator[Problem]:
    if isinstance(bound, LimitRef) and bound.limit not in limits:
        yield Problem("unknown_limit", at, f"The template has no limit {bound.limit!r}.")


def _tools_named(action: object) -> list[tuple[str, str]]:
    match action:
        case Remove() | KeepOnly() | RequireApproval():
            return [(f"tools[{i}]", tool) for i, tool in enumerate(action.tools)]
        case Force():
            return [("tool", action.tool)]
        case _:
            return []


def _flow_problems(proof: Proof, own: int, root: str) -> Iterator[Problem]:
    """What following the rules brings to light; `own` is how many of them are the template's."""
    for i in range(own):
        if i not in proof.can_fire:
            yield Problem("never_fires", f"{root}[{i}]", "The condition can never hold.", "warning")
            continue
        rule = proof.rules[i]
        for j, action in enumerate(rule.then):
            if isinstance(action, Force) and action.tool in proof.tools and not proof.can_offer(i, action.tool):
                yield Problem(
                    "force_never_offered",
                    f"{root}[{i}].then[{j}].tool",
                    f"Whenever {action.tool!r} is forced, another rule has taken it away.",
                )
    if not proof.terminal:
        return
    dead_end = proof.dead_end()
    if dead_end is not None:
        gone = ", ".join(f"{tool!r} by {rule!r}" for tool, rule in dead_end.removed_by.items())
        what = f"taken away: {gone}" if gone else "the template has none"
        yield Problem("dead_end", root, f"No tool that ends the run is left ({what}).", counterexample=dead_end)
    endless = proof.endless_force()
    if endless is not None:
        (tool, rule), *_ = endless.forced.items()
        message = f"{tool!r} is forced by {rule!r} at every step from here on, so that the run never ends."
        yield Problem("endless_force", root, message, counterexample=endless)
