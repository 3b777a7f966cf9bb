"""`generate_plan` and `adapt_plan`: a plan that stands in the transcript, where the next step reads it."""

from collections.abc import Sequence
from typing import Any

from agent_worker.tools.contract import ToolContext, ToolResult


async def generate_plan(arguments: dict[str, Any], _context: ToolContext) -> ToolResult:
    """Lay out how the goal is to be reached."""
    parts = [f"Plan for: {arguments['research_goal'].strip()}", _numbered(arguments["planned_steps"])]
    if arguments.get("search_strategies"):
        parts.append("How to search:\n" + _listed(arguments["search_strategies"]))
    return ToolResult("\n\n".join(parts))


async def adapt_plan(arguments: dict[str, Any], _context: ToolContext) -> ToolResult:
    """Lay out how the plan changes."""
    parts = [
        f"The plan has changed. New goal: {arguments['new_goal'].strip()}",
        f"Goal before: {arguments['original_goal'].strip()}",
        "Changes:\n" + _listed(arguments["plan_changes"]),
        "Next steps:\n" + _numbered(arguments["next_steps"]),
    ]
    return ToolResult("\n\n".join(parts))


def _numbered(lines: Sequence[str]) -> str:
    return "\n".join(f"{number}. {line.strip()}" for number, line in enumerate(lines, start=1))


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line.strip()}" for line in lines)
