"""Break and mend the stack through its supervisor's control socket.

One request per connection, one JSON line each way. The socket is the only way
into the stack that is not HTTP.
"""

import asyncio
from pathlib import Path
from typing import Any

import orjson

# The supervisor keeps the deadline that it is told; this is for its answer to arrive.
_GRACE_S = 5.0
_LONGEST_LINE = 1 << 20


class ControlFailed(Exception):
    """The control socket is absent, does not answer, or refuses."""


class Control:
    """The supervisor of the stack under test, seen from outside."""

    def __init__(self, socket: Path | None) -> None:
        self._socket = socket

    async def apply(self, op: str, process: str, timeout_s: float) -> dict[str, Any]:
        """Do something to the processes that match the glob, and wait until it is done.

        Raises:
            ControlFailed: it could not be done.
        """
        if self._socket is None:
            raise ControlFailed("MARUNTIME_CONTROL is not set, so nothing can be done to the stack's processes")
        request = {"op": op, "process": process, "wait": True, "timeout": timeout_s}
        try:
            async with asyncio.timeout(timeout_s + _GRACE_S):
                answer = await self._exchange(request)
        except (OSError, ValueError) as exc:  # TimeoutError is an OSError
            raise ControlFailed(f"{op} {process}: no answer from {self._socket}: {exc or type(exc).__name__}") from exc
        if answer.get("ok") is not True:
            raise ControlFailed(f"{op} {process}: {answer.get('error', 'refused without a reason')}")
        return answer

    async def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=_LONGEST_LINE)
        try:
            writer.write(orjson.dumps(request) + b"\n")
            await writer.drain()
            answer = orjson.loads(await reader.readline())
        finally:
            writer.close()
            await writer.wait_closed()
        return answer if isinstance(answer, dict) else {"error": f"its answer is no object: {answer!r}"}
