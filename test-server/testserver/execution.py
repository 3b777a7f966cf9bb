"""Play one case once: its steps in order, then its assertions.

A step that fails ends the case, since later steps build on it. Whatever the
script of the LLM did not foresee fails the case too, even when every step
passed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote

from testserver.answer import Answer
from testserver.assertions import judge_history, judge_llm, judge_values
from testserver.case import FAULTS, Assertion, Case, Completion, Fault, Http, Repeat, Request, Shape, Step, WaitFor
from testserver.expectations import judge
from testserver.faults import Control
from testserver.matching import agrees_at
from testserver.scripted_llm import Script
from testserver.stack import Stack
from testserver.variables import Scope, VariableUnknown
from testserver.verdict import Failure, StepVerdict

_POLL_S = 0.05
_TYPED = frozenset({"params", "json", "equals"})
_ShapeT = TypeVar("_ShapeT", bound=Shape)


class Execution:
    """One case being played against the stack."""

    def __init__(self, case: Case, stack: Stack, control: Control, script: Script) -> None:
        self._case = case
        self._stack = stack
        self._control = control
        self._script = script
        self._scope = script.scope
        self.steps: list[StepVerdict] = []

    async def play(self) -> None:
        """Play the case to its end, or to the first step that fails."""
        current = asyncio.timeout(self._case.within_s)
        try:
            async with current:
                if await self._act(self._case.act, suffix=""):
                    await self._assert()
        except TimeoutError:
            if not current.expired():
                raise
            late = Failure(where="case", expected=f"an end within {self._case.within_s} s", got=self._progress())
            self.steps.append(StepVerdict.from_failures("time", [late]))
        self._judge_script()

    async def _act(self, steps: list[Step], suffix: str) -> bool:
        for number, step in enumerate(steps, start=1):
            if isinstance(step.chosen, Repeat):
                if not await self._repeat(step.chosen, suffix):
                    return False
                continue
            name = (step.chosen.name or f"{number}. {step.kind}") + suffix
            if not self._record(name, await self._guarded(self._do(step))):
                return False
        return True

    async def _repeat(self, repeat: Repeat, suffix: str) -> bool:
        for count in range(1, repeat.times + 1):
            self._scope.set(repeat.counter, count)
            if not await self._act(repeat.steps, f"{suffix}[{count}]"):
                return False
        return True

    async def _assert(self) -> None:
        for number, assertion in enumerate(self._case.asserts, start=1):
            name = f"assert {number}. {assertion.kind}"
            self._record(name, await self._guarded(self._judge(assertion)))

    def _judge_script(self) -> None:
        failures = [
            Failure(where="scripted LLM", expected="only what the script foresees", got=fault)
            for fault in self._script.faults
        ]
        if all(step.passed for step in self.steps):
            failures += [
                Failure(where="scripted LLM", expected="every turn asked for", got=unused)
                for unused in self._script.unused()
            ]
        if failures:
            self._record("scripted LLM", failures)

    def _record(self, name: str, failures: list[Failure]) -> bool:
        self.steps.append(StepVerdict.from_failures(name, failures))
        return not failures

    def _progress(self) -> str:
        done = self.steps[-1].name if self.steps else "nothing"
        return f"the last thing done was: {done}"

    async def _guarded(self, work: Awaitable[list[Failure]]) -> list[Failure]:
        try:
            return await work
        except VariableUnknown as exc:
            return [Failure(where="variables", expected="a value", got=str(exc))]

    async def _do(self, step: Step) -> list[Failure]:
        if step.kind in FAULTS:
            return await self._fault(step.kind, step.chosen)
        if isinstance(step.chosen, WaitFor):
            return await self._wait(_filled(step.chosen, self._scope))
        return await self._request(step.chosen)

    async def _request(self, written: Request) -> list[Failure]:
        answer = await self._send(_filled(written, self._scope))
        expect = written.expect if isinstance(written, (Completion, Http)) else None
        failures = judge(answer, expect, self._scope)
        if not failures:
            failures += self._keep(written.save, answer, self._scope.set)
            failures += self._keep(written.collect, answer, self._scope.append)
        return failures

    async def _send(self, request: Request) -> Answer:
        doors: dict[str, Callable[[Any], Awaitable[Answer]]] = {
            "Chat": self._stack.chat,
            "Clarify": self._stack.clarify,
            "Http": self._stack.http,
        }
        return await doors[type(request).__name__](request)

    def _keep(self, names: dict[str, str], answer: Answer, keep: Callable[[str, Any], None]) -> list[Failure]:
        failures = []
        for name, source in names.items():
            value = answer.source(source)
            if value is None:
                failures.append(Failure(where=f"save {name}", expected=f"a value at {source}", got=answer.body))
            else:
                keep(name, value)
        return failures

    async def _fault(self, op: str, fault: Fault) -> list[Failure]:
        for process in fault.processes:
            await self._control.apply(op, self._scope.text(process), fault.timeout_s)
        return []

    async def _wait(self, wait: WaitFor) -> list[Failure]:
        path, pick, wanted = _target(wait)
        auth = wait.auth or ("admin" if wait.instance else "api")
        deadline = time.monotonic() + wait.within_s
        while True:
            left = deadline - time.monotonic()
            answer = await self._stack.get(path, auth, timeout_s=max(left, _POLL_S))
            holds, got = pick(answer)
            if holds:
                return []
            if time.monotonic() + _POLL_S >= deadline:
                found = {"status": answer.status, "found": got}
                return [Failure(where=f"GET {path}", expected=f"{wanted!r} within {wait.within_s} s", got=found)]
            await asyncio.sleep(_POLL_S)

    async def _judge(self, assertion: Assertion) -> list[Failure]:
        if assertion.llm is not None:
            return judge_llm(self._script.requests, assertion.llm, self._scope)
        if assertion.values is not None:
            return judge_values(assertion.values, self._scope)
        if assertion.history is not None:
            session = quote(self._scope.text(assertion.history.session), safe="")
            answer = await self._stack.get(f"/sessions/{session}/history", "api")
            return judge(answer, None, self._scope) or judge_history(answer.body, assertion.history, self._scope)
        return await self._request(assertion.chosen)


def _filled(shape: _ShapeT, scope: Scope) -> _ShapeT:
    document = shape.model_dump(by_alias=True, exclude_unset=True, exclude={"expect"})
    filled = {key: scope.value(value, typed=key in _TYPED) for key, value in document.items()}
    return type(shape).model_validate(filled)


def _target(wait: WaitFor) -> tuple[str, Callable[[Answer], tuple[bool, Any]], Any]:
    if wait.path is not None:
        pointer = wait.pointer or ""
        return wait.path, lambda answer: agrees_at(answer.body, pointer, wait.equals), wait.equals
    if wait.instance is not None:
        return "/admin/instances", lambda answer: _instance_state(answer, wait), wait.state
    kind, name = ("/sessions", wait.session) if wait.session is not None else ("/v1/runs", wait.run)
    path = f"{kind}/{quote(name or '', safe='')}"
    return path, lambda answer: agrees_at(answer.body, "/state", wait.state), wait.state


def _instance_state(answer: Answer, wait: WaitFor) -> tuple[bool, Any]:
    states = [
        instance.get("state")
        for instance in answer.get("/instances") or []
        if isinstance(instance, dict) and instance.get("instance_id") == wait.instance
    ]
    return states == [wait.state], states or f"no instance {wait.instance}"
