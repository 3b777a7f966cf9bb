"""Which tools a step is offered, and why the others are not.

The template's list and policy first, then its rules, then the rules that carry
out its limits. Every tool that is left out has a reason, which is stored with
the step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

from agent_worker.agents.progress import Counters
from maruntime.clock import Clock
from maruntime.domain.rule import Phase, Resource
from maruntime.domain.run import RunState
from maruntime.domain.template import TemplateBody
from maruntime.domain.tool import ToolDescriptor
from maruntime.rules.evaluate import Facts, Verdict, evaluate
from maruntime.rules.limits import limit_rules

FINAL_ANSWER = "final_answer"
CLARIFICATION = "clarification"
REASONING = "reasoning"
_DENIED = "policy: denied by the template"


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of a step, in the template's order, and the reason for each one that was dropped."""

    tools: tuple[ToolDescriptor, ...]
    dropped: dict[str, str]
    forced: str | None = None

    def explained(self) -> dict[str, Any]:
        """What is stored with the step, for whoever asks why the model saw a tool or did not."""
        kept = {tool.name: tool.version_id for tool in self.tools}
        return {"offered": kept, "dropped": self.dropped, "forced": self.forced}


class Toolbox:
    """The tools of one run."""

    def __init__(self, body: TemplateBody, tools: Sequence[ToolDescriptor], elapsed: timedelta, clock: Clock) -> None:
        self._body = body
        self._tools = {tool.name: tool for tool in tools}
        self._clock = clock
        self._began_at = clock.monotonic() - elapsed.total_seconds()
        self._limits: dict[str, int] = body.limits.model_dump(exclude_none=True)
        self._rules = (*body.rules, *limit_rules(self._limits, self._tools.keys()))

    def offer(self, counters: Counters, iteration: int) -> Offer:
        """Choose the tools of a step; moves the counters' stage when a rule says so."""
        denied = {name: _DENIED for name in self._tools if name in self._body.tool_policy.deny}
        names = [name for name in self._tools if name not in denied]
        verdict = self._judged(names, counters, iteration, Phase.BEFORE_SEARCH)
        counters.stage = verdict.stage
        verdict = verdict.followed_by(self._judged(verdict.kept, counters, iteration, Phase.AFTER_SEARCH))
        counters.stage = verdict.stage
        dropped = denied | {name: f"rule: {rule}" for name, rule in verdict.dropped.items()}
        kept = verdict.kept
        if verdict.forced is not None:
            reason = f"rule: {verdict.forced.rule} forces {verdict.forced.tool}"
            wanted = {verdict.forced.tool, REASONING}
            dropped |= {name: reason for name in kept if name not in wanted}
            kept = tuple(name for name in kept if name in wanted)
        forced = verdict.forced.tool if verdict.forced else None
        return Offer(tuple(self._tools[name] for name in kept), dropped, forced)

    def moved(self, counters: Counters, iteration: int, state: RunState) -> None:
        """Let the rules set the stage at a transition of the run."""
        facts = self._facts(counters, iteration, state)
        verdict = evaluate(self._rules, facts, (), Phase.TRANSITION, self._limits)
        counters.stage = verdict.stage

    def _judged(self, names: Sequence[str], counters: Counters, iteration: int, phase: Phase) -> Verdict:
        return evaluate(self._rules, self._facts(counters, iteration, RunState.RUNNING), names, phase, self._limits)

    def _facts(self, counters: Counters, iteration: int, state: RunState) -> Facts:
        elapsed = timedelta(seconds=self._clock.monotonic() - self._began_at)
        spent = {
            Resource.TOKENS: (counters.tokens, self._body.limits.max_tokens),
            Resource.LLM_CALLS: (counters.llm_calls, self._body.limits.max_llm_calls),
            Resource.TOOL_CALLS: (counters.tool_calls, self._body.limits.max_tool_calls),
            Resource.WALL_TIME: (int(elapsed.total_seconds()), self._body.limits.max_seconds),
        }
        return Facts(
            counters=counters.as_facts(iteration),
            state=state,
            stage=counters.stage,
            elapsed=elapsed,
            budget={resource: Fraction(used, limit) for resource, (used, limit) in spent.items() if limit},
        )
