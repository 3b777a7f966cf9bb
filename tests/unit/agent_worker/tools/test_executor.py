import asyncio
from datetime import timedelta

import pytest
import structlog

from agent_worker.tools.contract import ToolResult
from agent_worker.tools.executor import ToolExecutor
from maruntime.domain.commit import Artifact
from maruntime.domain.tool import ToolKind
from maruntime.testing.builders import a_tool
from tests.integration.agent_worker.tools.tool_calls import a_context


def executor(function):
    return ToolExecutor({"look": function})


async def test_the_function_gets_the_arguments_and_its_result_is_returned_whole():
    artifact = Artifact("art_1", "n", "text/plain", b"x")
    got = []

    async def look(arguments, context):
        got.append(arguments)
        return ToolResult("seen", "odd", (artifact,))

    result = await executor(look).run(a_tool(), {"a": 1}, a_context())

    assert got == [{"a": 1}]
    assert result == ToolResult("seen", "odd", (artifact,))


@pytest.mark.parametrize("tool", [a_tool(locator="elsewhere"), a_tool(kind=ToolKind.SYSTEM)])
async def test_a_tool_that_is_not_installed_is_a_result(tool):
    async def look(arguments, context):
        raise AssertionError("must not run")

    result = await executor(look).run(tool, {}, a_context())

    assert result.error_code == "tool_not_installed"


async def test_a_tool_that_raises_is_a_result_without_the_exceptions_text():
    async def look(arguments, context):
        raise RuntimeError("password=hunter2")

    with structlog.testing.capture_logs() as logs:
        result = await executor(look).run(a_tool(), {}, a_context())

    assert result == ToolResult("The tool look failed: RuntimeError.", "tool_failed")
    assert [entry["event"] for entry in logs] == ["tool_failed"]


async def test_a_tool_that_takes_too_long_is_stopped():
    stopped = asyncio.Event()

    async def look(arguments, context):
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with asyncio.timeout(5):
        result = await executor(look).run(a_tool(timeout=timedelta(milliseconds=1)), {}, a_context())

    assert result == ToolResult("The tool look did not finish within 0.001 s.", "tool_timeout")
    assert stopped.is_set()


async def test_a_cancelled_call_is_cancelled_and_no_result():
    begun = asyncio.Event()

    async def look(arguments, context):
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(executor(look).run(a_tool(), {}, a_context()))
    async with asyncio.timeout(5):
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_result_is_bounded_and_says_so():
    async def look(arguments, context):
        return ToolResult("é" * 300_000)

    result = await executor(look).run(a_tool(), {}, a_context())

    assert result.text == "é" * (256 * 1024) + "\n[cut: 300000 characters in all]"


async def test_what_cannot_be_stored_is_replaced_in_a_result():
    async def look(arguments, context):
        return ToolResult("a\x00b\udc00")

    assert (await executor(look).run(a_tool(), {}, a_context())).text == "a�b�"
