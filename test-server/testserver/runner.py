"""Run cases: many beside each other, those that break things alone."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import uuid4

from testserver.case import Case
from testserver.execution import Execution
from testserver.faults import Control, ControlFailed
from testserver.scripted_llm import Script, ScriptedLLM
from testserver.settings import StackSettings
from testserver.stack import StackUnset, connected
from testserver.variables import Scope, VariableUnknown
from testserver.verdict import Verdict

log = logging.getLogger(__name__)


class Runner:
    """Plays cases against one stack, whose LLM is the scripted one."""

    def __init__(self, settings: StackSettings, llm: ScriptedLLM) -> None:
        self._settings = settings
        self._llm = llm
        self._floor = _Floor()

    async def run_all(self, cases: Iterable[Case], parallel: int) -> list[Verdict]:
        """Judge several cases, at most `parallel` at a time, in the order given."""
        seats = asyncio.Semaphore(parallel)

        async def seated(case: Case) -> Verdict:
            async with seats:
                return await self.run(case)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(seated(case), name=f"case:{case.name}") for case in cases]
        return [task.result() for task in tasks]

    async def run(self, case: Case) -> Verdict:
        """Judge one case."""
        if case.needs_control and self._settings.control is None:
            return _unjudged(case, "MARUNTIME_CONTROL is not set, and the case needs it")
        async with self._floor.taken(alone=case.is_exclusive):
            return await self._play(case)

    async def _play(self, case: Case) -> Verdict:
        started = time.monotonic()
        unique = uuid4().hex[:8]
        case_id = f"{case.name}-{unique}"
        scope = Scope({"unique": unique, "case_id": case_id})
        try:
            for name, value in case.arrange.variables.items():
                scope.set(name, scope.value(value))
            script = Script(case.arrange.llm, scope)
            async with connected(self._settings, case_id) as stack:
                with self._llm.playing(case_id, script):
                    execution = Execution(case, stack, Control(self._settings.control), script)
                    await execution.play()
        except (StackUnset, ControlFailed, VariableUnknown) as exc:
            return _unjudged(case, str(exc))
        except Exception as exc:  # the edge of a run: a strange answer of the stack must not take other cases down
            log.exception("case_crashed", extra={"case": case.name})
            return _unjudged(case, f"the test server cannot judge this: {exc!r}")
        return Verdict(
            case=case.name,
            requirement=case.requirement,
            passed=all(step.passed for step in execution.steps),
            duration_ms=int((time.monotonic() - started) * 1000),
            steps=execution.steps,
            llm_requests=len(script.requests),
        )


class _Floor:
    """Room for many at once, or for one alone; who waits to be alone goes first."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._many = 0
        self._alone = False
        self._waiting_alone = 0

    @asynccontextmanager
    async def taken(self, *, alone: bool) -> AsyncIterator[None]:
        async with self._changed:
            if alone:
                await self._enter_alone()
            else:
                await self._changed.wait_for(lambda: not self._alone and not self._waiting_alone)
                self._many += 1
        try:
            yield
        finally:
            await asyncio.shield(self._leave(alone))

    async def _enter_alone(self) -> None:
        self._waiting_alone += 1
        try:
            await self._changed.wait_for(lambda: not self._alone and not self._many)
            self._alone = True
        finally:
            self._waiting_alone -= 1
            self._changed.notify_all()

    async def _leave(self, alone: bool) -> None:
        async with self._changed:
            if alone:
                self._alone = False
            else:
                self._many -= 1
            self._changed.notify_all()


def _unjudged(case: Case, error: str) -> Verdict:
    return Verdict.from_error(case.name, error).model_copy(update={"requirement": case.requirement})
