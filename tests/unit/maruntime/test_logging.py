"""What stands in the log of a process, read from outside: `configure` changes the process that calls it."""

import asyncio
import json
import sys
from typing import Any

import pytest

PROGRAM = """
import logging
import structlog
from maruntime.observability.logging import configure

configure("info", process="test")

def inner(key):
    prompt = "canary-of-a-local"
    try:
        raise LookupError("first")
    except LookupError as exc:
        raise ValueError("visible") from exc

try:
    inner("canary-of-an-argument")
except ValueError as exc:
    {says}
"""

SAYS = {
    "structlog": 'structlog.get_logger().exception("failed", run_id="run_1")',
    "with exc_info": 'structlog.get_logger().error("failed", run_id="run_1", exc_info=exc)',
    "of a library": 'logging.getLogger("library").exception("failed")',
    "in a group": (
        'structlog.get_logger().error("failed", exc_info=ExceptionGroup("group", [exc, KeyError("other")]))'
    ),
}


async def lines_of(program: str) -> list[dict[str, Any]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    assert (process.returncode, error) == (0, b"")
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("says", SAYS.values(), ids=SAYS.keys())
async def test_a_traceback_has_its_places_and_no_local_variables(says: str) -> None:
    """Frames hold keys and prompts; neither may stand in a log."""
    (line,) = await lines_of(PROGRAM.format(says=says))

    text = json.dumps(line)
    assert line["event"] == "failed"
    assert line["level"] == "error"
    assert "canary" not in text
    assert "locals" not in text
    for told in ("ValueError", "visible", "LookupError", "inner", "lineno"):
        assert told in text


async def test_lines_are_json_with_the_level_the_time_and_what_was_bound() -> None:
    program = (
        "import logging, structlog\n"
        "from maruntime.observability.logging import configure\n"
        'configure("warning", process="test")\n'
        "log = structlog.get_logger()\n"
        'log.info("quiet")\n'
        'log.warning("heard", run_id="run_1")\n'
        'logging.getLogger("library").info("quiet")\n'
        'logging.getLogger("library").warning("heard %s", "too")\n'
    )

    own, librarys = await lines_of(program)

    assert (own["event"], own["level"], own["run_id"], own["process"]) == ("heard", "warning", "run_1", "test")
    assert (librarys["event"], librarys["level"], librarys["process"]) == ("heard too", "warning", "test")
    assert own["timestamp"].endswith("Z")
