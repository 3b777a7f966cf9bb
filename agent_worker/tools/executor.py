"""Run one tool call: find what executes it, keep its time, bound its result. The `ToolExecutor` of the roadmap.

A tool's failure is not an exception of the run: it becomes a result that the
model reads. Journalling the intent and the result is the loop's business.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from pydantic import ValidationError

from agent_worker.tools.arguments import clean_text
from agent_worker.tools.contract import ToolContext, ToolFunction, ToolResult
from agent_worker.tools.guarded_http import GuardedHttp
from agent_worker.tools.remote import RemoteTool
from agent_worker.tools.remote_spec import RemoteSpec
from agent_worker.tools.secrets import NamedSecrets
from maruntime.domain.tool import ToolDescriptor, ToolKind

log = structlog.get_logger()


class ToolExecutor:
    """Calls tools: functions of the worker, and HTTP endpoints where `http` is given."""

    def __init__(
        self,
        shipped: Mapping[str, ToolFunction],
        *,
        http: GuardedHttp | None = None,
        secrets: NamedSecrets | None = None,
    ) -> None:
        self._shipped = shipped
        self._http = http
        self._secrets = secrets or NamedSecrets({})

    async def run(self, tool: ToolDescriptor, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Call a tool with validated arguments."""
        function = self._function_of(tool)
        if function is None:
            return ToolResult(f"The tool {tool.name} cannot be run by this worker.", error_code="tool_not_installed")
        try:
            async with asyncio.timeout(tool.timeout.total_seconds()):
                result = await function(arguments, context)
        except TimeoutError:
            seconds = tool.timeout.total_seconds()
            return ToolResult(f"The tool {tool.name} did not finish within {seconds:g} s.", error_code="tool_timeout")
        except Exception as exc:
            log.exception("tool_failed", tool=tool.name)
            return ToolResult(f"The tool {tool.name} failed: {type(exc).__name__}.", error_code="tool_failed")
        return self._bounded(result, tool.output_limit)

    def _function_of(self, tool: ToolDescriptor) -> ToolFunction | None:
        if tool.kind is ToolKind.SHIPPED:
            return self._shipped.get(tool.locator)
        if tool.kind is ToolKind.REMOTE and self._http is not None:
            try:
                spec = RemoteSpec.model_validate(tool.remote)
            except ValidationError:
                log.exception("remote_spec_unreadable", tool=tool.name)
                return None
            return RemoteTool(spec, tool.effect_class, self._http, self._secrets)
        return None

    def _bounded(self, result: ToolResult, limit: int) -> ToolResult:
        text = clean_text(self._secrets.redact(result.text))
        if len(text) > limit:
            text = text[:limit] + f"\n[cut: {len(text)} characters in all]"
        return ToolResult(text, result.error_code, result.artifacts)
