"""Several processes in stages: started in order, kept running, stopped in reverse.

What the stages are is given by the caller; nothing here knows what maruntime
consists of. Processes of one stage start at the same time.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from supervisor.child import Child
from supervisor.errors import NoSuchProcess, NotStarted, unwrapped
from supervisor.logs import last_lines
from supervisor.process import ProcessSpec, Say, SupervisedProcess


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command that has to succeed before the next stage."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log: Path
    within: float = 120.0


Stage = Sequence[ProcessSpec | Job]


class Stack:
    """All processes of one system."""

    def __init__(self, stages: Sequence[Stage], say: Say) -> None:
        self._say = say
        self._stages: list[list[SupervisedProcess | Job]] = [
            [item if isinstance(item, Job) else SupervisedProcess(item, say) for item in stage] for stage in stages
        ]

    @property
    def processes(self) -> list[SupervisedProcess]:
        """Every process, in the order of starting."""
        return [item for stage in self._stages for item in stage if isinstance(item, SupervisedProcess)]

    def matching(self, pattern: str) -> list[SupervisedProcess]:
        """The processes whose names match a glob such as `worker-*`.

        Raises:
            NoSuchProcess: no name matches.
        """
        found = [process for process in self.processes if fnmatchcase(process.name, pattern)]
        if not found:
            known = ", ".join(process.name for process in self.processes)
            raise NoSuchProcess(f"No process is named {pattern!r}; there are {known}.")
        return found

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep every wanted process running inside this block, and stop all of them at its end."""
        with unwrapped():
            async with asyncio.TaskGroup() as tasks:
                keepers = [tasks.create_task(process.keep(), name=f"keep-{process.name}") for process in self.processes]
                try:
                    yield
                finally:
                    await self._stop()
                    for keeper in keepers:
                        keeper.cancel()

    async def start(self) -> None:
        """Bring the stages up one after the other.

        Raises:
            NotStarted: a process or a job failed.
        """
        for stage in self._stages:
            with unwrapped():
                async with asyncio.TaskGroup() as tasks:
                    for item in stage:
                        tasks.create_task(self._start(item), name=f"start-{item.name}")

    async def _start(self, item: SupervisedProcess | Job) -> None:
        if isinstance(item, Job):
            await _done(item)
            self._say(f"{item.name} done")
        else:
            await item.start()
            self._say(f"{item.name} ready (pid {item.pid})")

    async def _stop(self) -> None:
        for stage in reversed(self._stages):
            running = [item for item in stage if isinstance(item, SupervisedProcess)]
            await asyncio.gather(*(process.stop() for process in running))


async def _done(job: Job) -> None:
    offset = job.log.stat().st_size if job.log.exists() else 0
    child = Child.spawn(job.command, environment=job.environment, directory=job.directory, log=job.log)
    try:
        async with asyncio.timeout(job.within):
            code = await child.ended()
    except TimeoutError:
        raise NotStarted(f"{job.name} took longer than {job.within:g} s.", log=last_lines(job.log, offset)) from None
    finally:
        if not child.has_ended():
            await child.kill()
    if code != 0:
        raise NotStarted(f"{job.name} failed with exit code {code}.", log=last_lines(job.log, offset))
