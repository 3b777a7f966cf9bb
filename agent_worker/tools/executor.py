"""Run one tool call: find what executes it, keep its time, bound its result. The `ToolExecutor` of the roadmap.

A tool's failure is not an exception of the run: it becomes a result that the
model reads. Journalling the intent and the result is the loop's business.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from agent_worker.tools.arguments import clean_text
from agent_worker.tools.contract import ToolFunction, ToolResult
from maruntime.domain.tool import ToolDescriptor, ToolKind

_RESULT_LIMIT = 256 * 1024

log = structlog.get_logger()


class ToolExecutor:
    """Calls tools of the worker."""

    def __init__(self, shipped: Mapping[str, ToolFunction]) -> None:
        self._shipped = shipped

    async def run(self, tool: ToolDescriptor, arguments: dict[str, Any]) -> ToolResult:
        """Call a tool with validated arguments."""
        function = self._shipped.get(tool.locator) if tool.kind is ToolKind.SHIPPED else None
        if function is None:
            return ToolResult(f"The tool {tool.name} cannot be run by this worker.", error_code="tool_not_installed")
        try:
            async with asyncio.timeout(tool.timeout.total_seconds()):
                result = await function(arguments)
        except TimeoutError:
            seconds = tool.timeout.total_seconds()
            return ToolResult(f"The tool {tool.name} did not finish within {seconds:g} s.", error_code="tool_timeout")
        except Exception as exc:
            log.exception("tool_failed", tool=tool.name)
            return ToolResult(f"The tool {tool.name} failed: {type(exc).__name__}.", error_code="tool_failed")
        return _bounded(result)


def _bounded(result: ToolResult) -> ToolResult:
    text = clean_text(result.text)
    if len(text) > _RESULT_LIMIT:
        text = text[:_RESULT_LIMIT] + f"\n[cut: {len(text)} characters in all]"
    return ToolResult(text, result.error_code, result.artifacts)
