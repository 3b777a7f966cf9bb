"""Which tools a step is offered, and why the others are not."""

from collections.abc import Iterable
from dataclasses import dataclass

from agent_worker.agents.progress import Counters
from maruntime.domain.template import ExecutionLimits
from maruntime.domain.tool import ToolDescriptor

FINAL_ANSWER = "final_answer"
CLARIFICATION = "clarification"
_AT_THE_END = frozenset({FINAL_ANSWER, "create_report", "reasoning"})


@dataclass(frozen=True, slots=True)
class Offer:
    """The tools of a step, in the template's order, and the reason for each one that was dropped."""

    tools: tuple[ToolDescriptor, ...]
    dropped: dict[str, str]


def offer(tools: Iterable[ToolDescriptor], counters: Counters, iteration: int, limits: ExecutionLimits) -> Offer:
    """Choose the tools of a step by the template's limits."""
    kept: list[ToolDescriptor] = []
    dropped: dict[str, str] = {}
    for tool in tools:
        reason = _reason_to_drop(tool.name, counters, iteration, limits)
        if reason is None:
            kept.append(tool)
        else:
            dropped[tool.name] = reason
    return Offer(tuple(kept), dropped)


def _reason_to_drop(name: str, counters: Counters, iteration: int, limits: ExecutionLimits) -> str | None:
    if iteration > limits.max_iterations and name != FINAL_ANSWER:
        return "over_max_iterations"
    if iteration == limits.max_iterations and name not in _AT_THE_END:
        return "max_iterations"
    if name == CLARIFICATION and counters.clarifications >= limits.max_clarifications:
        return "max_clarifications"
    return None
