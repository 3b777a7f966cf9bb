"""Keep one process of the stack running: start, judge ready, restart when it dies.

`keep` owns the life of the process and runs for ever; everything else only
changes what is wanted and waits for `keep` to bring it about.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from supervisor.child import Child
from supervisor.errors import NotStarted, SupervisorError
from supervisor.logs import last_lines

_FIRST_PAUSE, _LONGEST_PAUSE, _HEALTHY_AFTER = 0.2, 5.0, 10.0
_PROBE_EVERY, _PROBE_WITHIN = 0.05, 2.0

Say = Callable[[str], None]


class State(StrEnum):
    """Where a process is in its life."""

    STARTING = "starting"
    READY = "ready"
    PAUSED = "paused"
    STOPPED = "stopped"


async def _nothing_to_prepare() -> None:
    """Stand in for a process that needs no preparation."""


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """What to run, how to tell that it is ready and how to end it. Durations are seconds."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    is_ready: Callable[[int], Awaitable[bool]]
    prepare: Callable[[], Awaitable[None]] = _nothing_to_prepare
    wrapper: Sequence[str] = ()
    ready_within: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within: float = 10.0
    death_signal: signal.Signals = signal.SIGKILL


class SupervisedProcess:
    """A process that is brought back for as long as it is wanted."""

    def __init__(self, spec: ProcessSpec, say: Say) -> None:
        self.spec = spec
        self.state = State.STOPPED
        self.restarts = 0
        self._say = say
        self._child: Child | None = None
        self._wanted = False
        self._ends = 0
        self._why = ""
        self._before_pause = State.STARTING
        self._log_offset = 0
        self._pause = _FIRST_PAUSE
        self._changed = asyncio.Event()

    @property
    def name(self) -> str:
        """The name, such as `worker-1`."""
        return self.spec.name

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._child.pid if self._child else None

    async def keep(self) -> None:
        """Run the process again and again, for as long as it is wanted; ends only when cancelled."""
        while True:
            await self._until(lambda: self._wanted)
            lived, asked = await self._live(), not self._wanted
            if lived >= _HEALTHY_AFTER:
                self._pause = _FIRST_PAUSE
            if asked:
                self._set(State.STOPPED)
                continue
            self._set(State.STARTING)
            self.restarts += 1
            self._say(f"{self.name} ended ({self._why}); starting it again in {self._pause:.1f} s")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._until(lambda: not self._wanted)
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            if not self._wanted:
                self._set(State.STOPPED)

    async def start(self) -> None:
        """Start the process and return when it is ready.

        Raises:
            NotStarted: it ended, or was not ready in time; it stays wanted.
        """
        ends = self._ends
        self.want()
        try:
            async with asyncio.timeout(self.spec.ready_within):
                await self._until(lambda: self.state is State.READY or self._ends != ends)
        except TimeoutError:
            raise NotStarted(
                f"{self.name} was not ready within {self.spec.ready_within:g} s.", log=self.last_lines()
            ) from None
        if self.state is not State.READY:
            raise NotStarted(f"{self.name} did not start ({self._why}).", log=self.last_lines())

    def want(self) -> None:
        """Let the process run, without waiting for it."""
        if not self._wanted:
            self._pause = _FIRST_PAUSE
            self._wanted = True
            self._set(State.STARTING)

    async def stop(self, *, within: float | None = None) -> None:
        """End the process and keep it down."""
        self._wanted = False
        self._notify()
        if child := self._child:
            await child.stop(self.spec.stop_signal, within=self.spec.stop_within if within is None else within)
        await self._until(lambda: self.state is State.STOPPED)

    async def restart(self) -> None:
        """End the process and let it run again at once."""
        await self.stop()
        self.restarts += 1
        self.want()

    async def kill(self) -> None:
        """Kill the process as a crash would, and return when its end was seen."""
        child = self._running()
        child.send(signal.SIGKILL)
        await self._until(lambda: self._child is not child)

    def pause(self) -> None:
        """Freeze the process."""
        self._running().send_group(signal.SIGSTOP)
        if self.state is not State.PAUSED:
            self._before_pause = self.state
            self._set(State.PAUSED)

    def resume(self) -> None:
        """Let a frozen process go on."""
        self._running().send_group(signal.SIGCONT)
        if self.state is State.PAUSED:
            self._set(self._before_pause)

    async def answers(self) -> None:
        """Wait until the process is ready and says so when asked now."""
        while True:
            await self._until(lambda: self.state is State.READY)
            if self.pid is not None and await self._probe(self.pid):
                return
            await asyncio.sleep(_PROBE_EVERY)

    def last_lines(self) -> str:
        """What the present or latest life of the process printed last."""
        return last_lines(self.spec.log, self._log_offset)

    async def _live(self) -> float:
        """Run the process once, from preparation to end, and return the seconds it was up."""
        self._set(State.STARTING)
        self._log_offset = self.spec.log.stat().st_size if self.spec.log.exists() else 0
        began = time.monotonic()
        try:
            await self.spec.prepare()
            if not self._wanted:
                return 0.0
            self._child = child = self._spawn()
        except SupervisorError as exc:
            self._why = str(exc).rstrip(".")
        else:
            await self._watch(child)
        self._child = None
        self._ends += 1
        return time.monotonic() - began

    def _spawn(self) -> Child:
        return Child.spawn(
            self.spec.command,
            environment=self.spec.environment,
            directory=self.spec.directory,
            log=self.spec.log,
            death_signal=self.spec.death_signal,
            wrapper=self.spec.wrapper,
        )

    async def _watch(self, child: Child) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                probing = tasks.create_task(self._become_ready(child), name=f"{self.name}-readiness")
                code = await child.ended()
                probing.cancel()
        finally:
            child.send_group(signal.SIGKILL)
        self._why = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"

    async def _become_ready(self, child: Child) -> None:
        while not await self._is_up(child):  # noqa: ASYNC110 - what is asked is outside this process
            await asyncio.sleep(_PROBE_EVERY)
        self._set(State.READY)

    async def _is_up(self, child: Child) -> bool:
        # Asked twice, because somebody may freeze the process while it is probed.
        return self.state is State.STARTING and await self._probe(child.pid) and self.state is State.STARTING

    async def _probe(self, pid: int) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PROBE_WITHIN):
                return await self.spec.is_ready(pid)
        return False

    def _running(self) -> Child:
        if self._child is None:
            raise SupervisorError(f"{self.name} is not running.")
        return self._child

    def _set(self, state: State) -> None:
        self.state = state
        self._notify()

    def _notify(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._changed.wait()
