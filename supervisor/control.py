"""The control socket: one JSON object per line in, one per line out.

`{"op": "kill", "process": "worker-*"}` is answered by `{"ok": true, "processes": […]}`
or `{"ok": false, "error": "…"}`. A process is named by a glob; what is asked
happens to all that match at once. `kill`, `stop` and `restart` are answered when the old process
is gone, `start` and `restart` with `"wait": true` when the new one is ready.

| op | what happens |
|---|---|
| status | nothing; the processes are listed |
| kill | SIGKILL, as a crash; the supervisor starts it again |
| pause, resume | SIGSTOP, SIGCONT |
| stop, start | graceful end, stays down; up again |
| restart | graceful end, up again at once |
| wait_ready | answered when every match is ready and says so now; `timeout` in seconds |
| shutdown | everything ends |
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from supervisor.errors import NotRunning, SupervisorError, unwrapped
from supervisor.process import SupervisedProcess
from supervisor.stack import Stack

_READY_TIMEOUT = 60.0
_LINE_LIMIT = 1_000_000


class Control:
    """Answers requests about one stack."""

    def __init__(self, stack: Stack, shutdown: Callable[[], None]) -> None:
        self._stack = stack
        self._shutdown = shutdown
        self._turns = {process.name: asyncio.Lock() for process in stack.processes}
        self._operations: Mapping[str, Callable[[SupervisedProcess, float | None], Awaitable[None]]] = {
            "kill": _kill,
            "pause": _pause,
            "resume": _resume,
            "stop": _stop,
            "start": _start,
            "restart": _restart,
        }

    @asynccontextmanager
    async def served(self, path: Path) -> AsyncIterator[None]:
        """Listen on the socket inside this block; what is under way at its end is dropped."""
        with unwrapped():
            async with asyncio.TaskGroup() as tasks:
                talks: set[asyncio.Task[None]] = set()

                def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                    talk = tasks.create_task(self._talk(reader, writer), name="control-connection")
                    talks.add(talk)
                    talk.add_done_callback(talks.discard)

                server = await asyncio.start_unix_server(take, path, limit=_LINE_LIMIT)
                os.chmod(path, 0o600)
                try:
                    yield
                finally:
                    server.close()
                    for talk in talks:
                        talk.cancel()

    async def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request asks.

        Raises:
            SupervisorError: it cannot be done.
        """
        operation = str(request.get("op"))
        if operation == "shutdown":
            self._shutdown()
        elif operation == "wait_ready":
            await self._wait_ready(self._stack.matching(_pattern(request)), _seconds(request) or _READY_TIMEOUT)
        elif operation in self._operations:
            await self._apply(operation, request)
        elif operation != "status":
            known = ", ".join([*self._operations, "wait_ready", "status", "shutdown"])
            raise SupervisorError(f"Unknown op {operation!r}; there are {known}.")
        return {"ok": True, "processes": [_described(process) for process in self._stack.processes]}

    async def _apply(self, operation: str, request: Mapping[str, Any]) -> None:
        processes = self._stack.matching(_pattern(request))
        wait = (_seconds(request) or _READY_TIMEOUT) if request.get("wait") else None

        async def one(process: SupervisedProcess) -> None:
            async with self._turns[process.name]:
                await self._operations[operation](process, wait)

        results = await asyncio.gather(*(one(process) for process in processes), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _wait_ready(self, processes: list[SupervisedProcess], within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await asyncio.gather(*(process.answers() for process in processes))
        except TimeoutError:
            states = ", ".join(f"{process.name} is {process.state}" for process in processes)
            raise SupervisorError(f"Not ready after {within:g} s: {states}.") from None

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, ValueError):
                while line := await reader.readline():
                    reply = await self._reply(line)
                    writer.write(json.dumps(reply).encode() + b"\n")
                    await writer.drain()
        finally:
            writer.close()

    async def _reply(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except ValueError:
            return {"ok": False, "error": "A request is one JSON object on one line."}
        if not isinstance(request, dict):
            return {"ok": False, "error": "A request is one JSON object on one line."}
        try:
            return await self.answer(request)
        except SupervisorError as exc:
            return {"ok": False, "error": str(exc)}


def ask(path: Path, request: Mapping[str, Any], *, timeout: float = 10.0) -> dict[str, Any]:
    """Send one request as a client and return the reply.

    Raises:
        NotRunning: nobody listens on the socket.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        try:
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as replies:
                line = replies.readline()
        except OSError as exc:
            raise NotRunning(f"The supervisor does not answer on {path}.") from exc
    if not line:
        raise NotRunning(f"The supervisor closed {path} without an answer.")
    return json.loads(line)


def _pattern(request: Mapping[str, Any]) -> str:
    pattern = request.get("process")
    if not isinstance(pattern, str) or not pattern:
        raise SupervisorError('This op needs "process": a name or a glob such as "worker-*".')
    return pattern


def _seconds(request: Mapping[str, Any]) -> float | None:
    timeout = request.get("timeout")
    if timeout is None:
        return None
    if not isinstance(timeout, int | float) or timeout <= 0:
        raise SupervisorError('"timeout" is a number of seconds above 0.')
    return float(timeout)


def _described(process: SupervisedProcess) -> dict[str, Any]:
    return {"name": process.name, "pid": process.pid, "state": process.state, "restarts": process.restarts}


async def _kill(process: SupervisedProcess, _wait: float | None) -> None:
    await process.kill()


async def _pause(process: SupervisedProcess, _wait: float | None) -> None:
    process.pause()


async def _resume(process: SupervisedProcess, _wait: float | None) -> None:
    process.resume()


async def _stop(process: SupervisedProcess, _wait: float | None) -> None:
    await process.stop()


async def _start(process: SupervisedProcess, wait: float | None) -> None:
    process.want()
    await _ready(process, wait)


async def _restart(process: SupervisedProcess, wait: float | None) -> None:
    await process.restart()
    await _ready(process, wait)


async def _ready(process: SupervisedProcess, wait: float | None) -> None:
    if wait is None:
        return
    try:
        async with asyncio.timeout(wait):
            await process.answers()
    except TimeoutError:
        raise SupervisorError(f"{process.name} is not ready after {wait:g} s: it is {process.state}.") from None
