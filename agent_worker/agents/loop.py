"""The loop: prepare_context, prepare_tools, reason, select_action, act, until the run leaves the instance.

Commits follow docs/durability.md, section 3: T1 after the model, T2 before an
effect that T1 did not announce, T3 after a tool, T4 at the end or at a wait.
The next effect begins only after the commit before it is stored.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import structlog

from agent_worker.agents.context import build_messages
from agent_worker.agents.contract import Agent, Decision, Prompt, Reasoned
from agent_worker.agents.mind import RunMind
from agent_worker.agents.plan import TERMINAL, Answer, Calls, Complaint, done, handed_over, plan, reasoned_rows, started
from agent_worker.agents.progress import Progress
from agent_worker.agents.toolbox import Offer, Toolbox
from agent_worker.llm.errors import LLMError
from agent_worker.outbox import Outbox
from agent_worker.tools.arguments import clean_text
from agent_worker.tools.contract import ToolContext, ToolResult, idempotency_key
from agent_worker.tools.executor import ToolExecutor
from maruntime.clock import Clock
from maruntime.domain.assignment import Assignment
from maruntime.domain.commit import CallState, Commit, End, EndKind, ToolCallRow
from maruntime.domain.event import EventType, NewEvent
from maruntime.domain.message import Message, Role
from maruntime.domain.run import Failure, RunState, Usage, WaitingFor
from maruntime.domain.template import AgentKind
from maruntime.domain.tool import EffectClass, ToolDescriptor
from maruntime.errors import Fenced, MaruntimeError

_PREVIEW = 500

log = structlog.get_logger()


class RunCannotGoOn(MaruntimeError):
    """The run cannot go on; its code says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc] - each reason has its own


class AgentLoop:
    """One run on one instance."""

    def __init__(
        self,
        assignment: Assignment,
        agent: Agent,
        mind: RunMind,
        executor: ToolExecutor,
        outbox: Outbox,
        clock: Clock,
        draining: asyncio.Event,
    ) -> None:
        self._assignment = assignment
        self._body = assignment.template.body
        self._agent = agent
        self._mind = mind
        self._executor = executor
        self._outbox = outbox
        self._clock = clock
        self._draining = draining
        self._progress = Progress.from_assignment(assignment)
        self._by_version = {tool.version_id: tool for tool in assignment.tools}
        allowed = [tool for tool in assignment.tools if tool.name in self._body.tools or "*" in self._body.tools]
        self._toolbox = Toolbox(self._body, allowed, assignment.elapsed, clock)
        self._explanation: dict[str, Any] | None = None
        self._has_ended = False

    async def run(self) -> None:
        """Work until the run has left this instance, with every outcome journalled.

        Raises:
            Fenced: somebody else owns the run; nothing more may be said of it.
        """
        try:
            self._toolbox.moved(self._progress.counters, self._progress.step_no, RunState.RUNNING)
            await self._act(self._assignment.open_calls)
            while not self._has_ended:
                if self._draining.is_set():
                    event = NewEvent(EventType.RUN_REQUEUED, {"reason": "worker_drained"})
                    await self._commit(events=(event,), end=End(EndKind.RELEASED))
                    return
                await self._step()
        except Fenced:
            raise
        except LLMError as exc:
            log.warning("run_failed", code=exc.code, reason=exc.reason)
            await self._fail(exc)
        except MaruntimeError as exc:
            log.warning("run_failed", code=exc.code, reason=exc.message)
            await self._fail(exc)
        except Exception:
            log.exception("run_failed")
            await self._fail(MaruntimeError("The agent failed unexpectedly"))

    async def _step(self) -> None:
        step_no = self._progress.step_no + 1
        offered = self._prepare_tools(step_no)
        self._mind.begin_step(step_no)
        prompt = self._prepare_context(offered)
        self._progress.step_no = step_no
        reasoned = await self._agent.reason(prompt, self._mind)
        if reasoned.complaint is not None:
            self._progress.counters.count_usage(reasoned.usage, self._mind.calls_made)
            await self._reject(reasoned.complaint, reasoned, reasoned.usage)
            return
        if reasoned.text:
            self._outbox.say(reasoning=reasoned.text)
        decision = await self._agent.select_action(prompt.followed_by(reasoned.messages), self._mind)
        if decision.text.strip() and decision.calls:
            self._outbox.say(reasoning=clean_text(decision.text))
        if decision.thought:
            reasoned = replace(reasoned, text=decision.thought)
        await self._record(decision, reasoned, offered)

    def _prepare_tools(self, step_no: int) -> Offer:
        limits = self._body.limits
        if step_no > limits.max_iterations + limits.max_invalid_answers:
            raise self._too_many_steps()
        offered = self._toolbox.offer(self._progress.counters, step_no)
        if not offered.tools and self._body.kind is not AgentKind.PASSTHROUGH:
            raise RunCannotGoOn("no_tools", "The template leaves no tool to go on with")
        self._explanation = offered.explained()
        log.info("tools_selected", step=step_no, **self._explanation)
        return offered

    def _prepare_context(self, offered: Offer) -> Prompt:
        progress = self._progress
        messages = build_messages(
            self._body, offered.tools, progress.transcript, progress.counters.complaint, self._clock.now()
        )
        return Prompt(messages, offered.tools)

    async def _record(self, decision: Decision, reasoned: Reasoned, offered: Offer) -> None:
        """T1, and at once T4 where nothing lies between them."""
        step_no, usage = self._progress.step_no, reasoned.usage + decision.usage
        self._progress.counters.count_usage(usage, self._mind.calls_made)
        if decision.finish_reason == "content_filter" and not decision.verbatim:
            raise RunCannotGoOn("content_filter", "The model's provider withheld the answer")
        tools = {tool.name: tool for tool in offered.tools}
        planned = plan(decision, tools, step_no, first_idx=len(reasoned.calls))
        match planned:
            case Complaint():
                await self._reject(planned.text, reasoned, usage)
            case Answer():
                await self._complete(
                    planned.text, planned.finish_reason, status=planned.status, reasoned=reasoned, usage=usage
                )
            case Calls():
                self._note_validity(planned)
                if planned.rows and planned.rows[0].tool_name in TERMINAL:
                    await self._end_with(planned.rows, reasoned=reasoned, usage=usage, messages=planned.messages)
                    return
                self._progress.counters.count_calls(*(row.tool_name for row in planned.rows))
                await self._commit(
                    messages=(*reasoned.messages, *planned.messages),
                    calls=(*reasoned_rows(reasoned, step_no), *planned.rows),
                    events=(self._reasoned_event(reasoned, decision.text), *_planned_events(planned, step_no)),
                    usage=usage,
                )
                self._refuse_endless_mistakes()
                await self._act(planned.rows)

    def _note_validity(self, planned: Calls) -> None:
        counters = self._progress.counters
        counters.complaint = None
        counters.invalid_answers = counters.invalid_answers + 1 if planned.rejected else 0

    async def _reject(self, complaint: str, reasoned: Reasoned, usage: Usage) -> None:
        counters = self._progress.counters
        counters.invalid_answers += 1
        counters.complaint = complaint
        step_no = self._progress.step_no
        await self._commit(
            messages=reasoned.messages,
            calls=reasoned_rows(reasoned, step_no),
            events=(NewEvent(EventType.ANSWER_REJECTED, {"step": step_no, "problem": complaint[:_PREVIEW]}),),
            usage=usage,
        )
        self._refuse_endless_mistakes()

    def _refuse_endless_mistakes(self) -> None:
        limit = self._body.limits.max_invalid_answers
        if self._progress.counters.invalid_answers >= limit:
            if self._progress.step_no > self._body.limits.max_iterations:
                raise self._too_many_steps()
            raise RunCannotGoOn("invalid_answers", f"The model gave {limit} unusable answers in a row")

    def _too_many_steps(self) -> RunCannotGoOn:
        return RunCannotGoOn("max_iterations", f"No final answer within {self._body.limits.max_iterations} steps")

    async def _act(self, rows: Sequence[ToolCallRow]) -> None:
        """Make the calls in order; one that ends the turn is the last."""
        for place, row in enumerate(rows):
            if row.tool_name in TERMINAL:
                await self._end_with(rows[place:])
                return
            tool = self._by_version.get(row.tool_version_id)
            if tool is None:
                result = ToolResult("The tool is not in the catalog any more.", error_code="tool_gone")
            else:
                if row.effect_class is not EffectClass.PURE and row.state is CallState.PLANNED:
                    event = NewEvent(
                        EventType.TOOL_CALL_STARTED,
                        {"step": row.step_no, "tool": row.tool_name, "call_id": row.call_id},
                    )
                    await self._commit(calls=(started(row),), events=(event,))
                await self._outbox.permit()
                result = await self._executor.run(tool, row.arguments, self._context_of(row, tool))
            await self._finish(row, result)

    def _context_of(self, row: ToolCallRow, tool: ToolDescriptor) -> ToolContext:
        run = self._assignment
        return ToolContext(
            tenant_id=run.tenant_id,
            principal_id=run.principal_id,
            session_id=run.session_id,
            run_id=run.run.run_id,
            step_no=row.step_no,
            call_idx=row.call_idx,
            idempotency_key=idempotency_key(run.run.run_id, row.step_no, row.call_idx, row.arguments),
            deadline=self._clock.monotonic() + tool.timeout.total_seconds(),
            trace=run.trace,
        )

    async def _finish(self, row: ToolCallRow, result: ToolResult) -> None:
        """T3."""
        artifact_id = result.artifacts[0].id if result.artifacts else None
        event = NewEvent(
            EventType.TOOL_CALL_FINISHED,
            {
                "step": row.step_no,
                "tool": row.tool_name,
                "call_id": row.call_id,
                "error_code": result.error_code,
                "artifact_id": artifact_id,
                "preview": result.text[:_PREVIEW],
            },
        )
        await self._commit(
            messages=(Message(role=Role.TOOL, content=result.text, tool_call_id=row.call_id),),
            calls=(done(row, result.text, error_code=result.error_code, artifact_id=artifact_id),),
            events=(event,),
            artifacts=result.artifacts,
        )

    async def _end_with(
        self,
        rows: Sequence[ToolCallRow],
        *,
        reasoned: Reasoned | None = None,
        usage: Usage | None = None,
        messages: tuple[Message, ...] = (),
    ) -> None:
        """T4 by a call that ends the turn; calls behind it are not made any more."""
        row, skipped = rows[0], rows[1:]
        calls = tuple(done(late, "", error_code="turn_ended") for late in skipped)
        closing = tuple(
            Message(role=Role.TOOL, content="Not run: the turn had ended.", tool_call_id=late.call_id)
            for late in skipped
            if late.tool_name not in TERMINAL
        )
        text = handed_over(row)
        if text is not None:
            self._progress.counters.clarifications += 1
            self._toolbox.moved(self._progress.counters, self._progress.step_no, RunState.WAITING)
            await self._leave(
                text,
                End(EndKind.WAITING, waiting_for=WaitingFor.CLARIFICATION),
                NewEvent(
                    EventType.RUN_WAITING,
                    {"waiting_for": WaitingFor.CLARIFICATION.value, "text": text, "finish_reason": "stop"},
                ),
                calls=(done(row, ""), *calls),
                messages=(*messages, *closing),
                reasoned=reasoned,
                usage=usage,
            )
            return
        await self._complete(
            row.arguments["answer"],
            "stop",
            status=row.arguments["status"],
            calls=(done(row, ""), *calls),
            messages=(*messages, *closing),
            reasoned=reasoned,
            usage=usage,
        )

    async def _complete(self, text: str, finish_reason: str, *, status: str = "completed", **parts: Any) -> None:
        event = NewEvent(EventType.RUN_COMPLETED, {"text": text, "finish_reason": finish_reason, "status": status})
        await self._leave(text, End(EndKind.COMPLETED), event, **parts)

    async def _leave(
        self,
        text: str,
        end: End,
        event: NewEvent,
        *,
        calls: tuple[ToolCallRow, ...] = (),
        messages: tuple[Message, ...] = (),
        reasoned: Reasoned | None = None,
        usage: Usage | None = None,
    ) -> None:
        reasoned = reasoned or Reasoned()
        # What the agent thought is kept with its calls; the transcript gets what was said.
        await self._commit(
            messages=(*messages, Message(role=Role.ASSISTANT, content=text)),
            calls=(*reasoned_rows(reasoned, self._progress.step_no), *calls),
            events=(self._reasoned_event(reasoned, ""), event),
            usage=usage or Usage(),
            end=end,
        )

    async def _fail(self, exc: MaruntimeError) -> None:
        failure = Failure(exc.code, clean_text(exc.message), exc.retryable)
        event = NewEvent(EventType.RUN_FAILED, {"code": failure.code, "message": failure.message})
        await self._commit(events=(event,), end=End(EndKind.FAILED, failure=failure))

    async def _commit(self, *, messages: tuple[Message, ...] = (), end: End | None = None, **parts: Any) -> None:
        await self._outbox.commit(
            Commit(
                run=self._outbox.run,
                commit_no=self._outbox.next_commit_no,
                step_no=self._progress.step_no,
                counters=self._progress.counters.to_json(),
                messages=messages,
                end=end,
                **parts,
            )
        )
        self._progress.transcript.extend(messages)
        self._has_ended = end is not None

    def _reasoned_event(self, reasoned: Reasoned, aside: str) -> NewEvent:
        text = "\n".join(part for part in (reasoned.text, clean_text(aside).strip()) if part)
        payload = {"step": self._progress.step_no, "text": text, "tools": self._explanation}
        return NewEvent(EventType.STEP_REASONED, payload)


def _planned_events(planned: Calls, step_no: int) -> tuple[NewEvent, ...]:
    rejected = (
        NewEvent(EventType.ANSWER_REJECTED, {"step": step_no, "problem": problem[:_PREVIEW]})
        for problem in planned.rejected
    )
    made = (
        NewEvent(EventType.TOOL_CALL_PLANNED, {"step": step_no, "tool": row.tool_name, "call_id": row.call_id})
        for row in planned.rows
    )
    return (*rejected, *made)
