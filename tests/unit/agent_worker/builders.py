"""A worker's side of a run for tests: the shipped tools, a scripted model, a journal that stores or refuses."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import yaml

from agent_worker.agents.kinds import AGENTS
from agent_worker.agents.loop import AgentLoop
from agent_worker.agents.mind import RunMind
from agent_worker.llm.contract import Delta, LLMReply, LLMRequest, LLMToolCall, ReasoningDelta, TextDelta, ToolCallDelta
from agent_worker.outbox import Outbox
from agent_worker.tools.contract import ToolFunction
from agent_worker.tools.executor import ToolExecutor
from agent_worker.tools.shipped import SHIPPED
from maruntime.domain import event
from maruntime.domain.assignment import Assignment
from maruntime.domain.commit import Commit, Verdict
from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.domain.run import RunRef, Usage
from maruntime.domain.template import AgentKind, ExecutionLimits, TemplateBody, TemplateVersion
from maruntime.domain.tool import EffectClass, ToolDescriptor
from maruntime.testing.builders import a_tool, an_assignment
from maruntime.testing.clock import FakeClock
from maruntime.wire import frames

RUN = RunRef("run_1", 3)
LEASE = timedelta(seconds=15)
PERMIT = timedelta(seconds=0.8)
_TOOLS = Path(__file__).parents[3] / "orchestrator/catalog/defaults/tools"


def shipped_tool(name: str) -> ToolDescriptor:
    """A tool as the catalog ships it."""
    return ToolDescriptor(version_id=f"toolv_{name}", **yaml.safe_load((_TOOLS / f"{name}.yaml").read_text()))


FINAL = shipped_tool("final_answer")
CLARIFICATION = shipped_tool("clarification")
REPORT = shipped_tool("create_report")
REASONING = shipped_tool("reasoning")
PAY = a_tool("pay", effect_class=EffectClass.AT_MOST_ONCE)
LOOK = a_tool("look", effect_class=EffectClass.PURE)


# --- what a model says


def call(name: str, **arguments: Any) -> LLMToolCall:
    return LLMToolCall(name, orjson.dumps(arguments).decode())


def final(answer: str = "Done.", status: str = "completed") -> LLMToolCall:
    return call("final_answer", reasoning="r", completed_steps=["s"], answer=answer, status=status)


def clarification(*questions: str) -> LLMToolCall:
    return call("clarification", reasoning="r", unclear_terms=[], assumptions=[], questions=list(questions))


def report(title: str = "T", content: str = "one two") -> LLMToolCall:
    return call("create_report", reasoning="r", title=title, content=content, confidence="high")


def reasoning(*steps: str, situation: str = "here") -> LLMToolCall:
    return call(
        "reasoning",
        reasoning_steps=list(steps) or ["think"],
        current_situation=situation,
        plan_status="p",
        enough_data=True,
        remaining_steps=[],
        task_completed=False,
    )


def reply(
    *calls: LLMToolCall, content: str = "", finish_reason: str = "tool_calls", usage: Usage | None = None
) -> LLMReply:
    return LLMReply(content, calls, finish_reason, usage or Usage(10, 2, 1), "m")


def deltas_of(answer: LLMReply, cut: Callable[[str], Iterable[str]]) -> Iterator[Delta]:
    """The pieces in which a reply arrives."""
    for piece in cut(answer.content):
        yield TextDelta(piece)
    for index, made in enumerate(answer.tool_calls):
        yield ToolCallDelta(index, made.name, "")
        for piece in cut(made.arguments):
            yield ToolCallDelta(index, None, piece)


def every(size: int) -> Callable[[str], Iterable[str]]:
    return lambda text: [text[at : at + size] for at in range(0, len(text), size)]


Cut = Callable[[str], Iterable[str]]
_BY_SEVEN = every(7)
Turn = LLMReply | Exception | Callable[["ScriptedLLM"], LLMReply]


class ScriptedLLM:
    """Answers from a list; remembers what it was asked."""

    def __init__(self, *turns: Turn, cut: Cut = _BY_SEVEN, thoughts: str = "") -> None:
        self.turns = list(turns)
        self.requests: list[LLMRequest] = []
        self.cut = cut
        self.thoughts = thoughts
        self.pause: Callable[[], Any] | None = None

    async def complete(
        self, request: LLMRequest, on_delta: Callable[[Delta], None], *, on_restart: Callable[[], None]
    ) -> LLMReply:
        self.requests.append(request)
        turn = self.turns.pop(0)
        if callable(turn):
            turn = turn(self)
        if isinstance(turn, Exception):
            raise turn
        if self.thoughts:
            on_delta(ReasoningDelta(self.thoughts))
        for delta in deltas_of(turn, self.cut):
            on_delta(delta)
            if self.pause is not None:
                await self.pause()
        return turn

    def offered(self, request_no: int) -> list[str]:
        """The tools of a request."""
        return [tool["function"]["name"] for tool in self.requests[request_no].tools]

    def read(self, request_no: int) -> list[dict[str, Any]]:
        """The messages of a request behind the system prompt."""
        return [dict(message) for message in self.requests[request_no].messages[1:]]


# --- the journal's side


class Line:
    """An outbox's stream that acknowledges at once, as told; remembers every frame."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.frames: list[frames.WorkerFrame] = []
        self.beats = 0
        self.verdict = Verdict.STORED
        self.answers_beats: bool | None = True
        """True = still yours, False = not any more, None = silence."""
        self.order: list[str] = []
        self.on_commit: Callable[[Commit], None] = lambda commit: None

    def attach(self, **how: Any) -> "Line":
        self.outbox.attach(self.send, self.ask_beat, **how)
        return self

    def send(self, frame: frames.WorkerFrame) -> None:
        self.frames.append(frame)
        if isinstance(frame, Commit):
            self.order.append(f"commit {frame.commit_no}")
            self.on_commit(frame)
            ack = frames.Ack(frame.run, frame.commit_no, self.verdict)
            asyncio.get_running_loop().call_soon(self.outbox.on_ack, ack)

    def ask_beat(self) -> None:
        self.beats += 1
        self.order.append("beat")
        nonce = 1000 + self.beats
        self.outbox.beat_sent(nonce)
        if self.answers_beats is not None:
            ack = frames.HeartbeatAck(nonce, self.answers_beats, nonce)
            asyncio.get_running_loop().call_soon(self.outbox.on_beat_ack, ack)

    @property
    def commits(self) -> list[Commit]:
        return [frame for frame in self.frames if isinstance(frame, Commit)]

    @property
    def deltas(self) -> list[event.TextDelta]:
        return [frame for frame in self.frames if isinstance(frame, event.TextDelta)]

    @property
    def content(self) -> str:
        return "".join(delta.content for delta in self.deltas)


def an_outbox(clock: FakeClock, *, last_commit: int = 0) -> Outbox:
    return Outbox(RUN, last_commit=last_commit, lease=LEASE, permit=PERMIT, clock=clock)


def a_worker_template(*tools: str, kind: AgentKind = AgentKind.TOOL_CALLING, **limits: int) -> TemplateVersion:
    body = TemplateBody(
        kind=kind, description="d", prompt_pack="assistant", limits=ExecutionLimits(**limits), tools=tools
    )
    return TemplateVersion(id="tplv_1", name="assistant", version=1, body=body)


def calling(call_id: str, name: str, arguments: str = "{}") -> ToolCallRef:
    return ToolCallRef(id=call_id, function=FunctionCall(name=name, arguments=arguments))


def tool_says(call_id: str, text: str) -> Message:
    return Message(role=Role.TOOL, content=text, tool_call_id=call_id)


class Scene:
    """One run on one instance: the real loop between a scripted model and a recording journal."""

    def __init__(
        self,
        *turns: Turn,
        tools: Iterable[ToolDescriptor] = (CLARIFICATION, REPORT, FINAL),
        kind: AgentKind = AgentKind.TOOL_CALLING,
        limits: dict[str, int] | None = None,
        functions: dict[str, ToolFunction] | None = None,
        cut: Cut = _BY_SEVEN,
        **assignment: Any,
    ) -> None:
        tools = tuple(tools)
        template = a_worker_template(*(tool.name for tool in tools), kind=kind, **(limits or {}))
        said = {"template": template, "tools": tools} | assignment
        self.assignment: Assignment = an_assignment(RUN, **said)
        self.clock = FakeClock()
        self.llm = ScriptedLLM(*turns, cut=cut)
        self.outbox = an_outbox(self.clock, last_commit=self.assignment.last_commit)
        self.line = Line(self.outbox).attach()
        self.draining = asyncio.Event()
        self.executor = ToolExecutor({**SHIPPED, **(functions or {})})
        self.mind = RunMind(
            self.llm,
            template.body.llm,
            self.assignment.context.get("llm_parameters", {}),
            self.assignment.trace,
            self.outbox,
        )
        self.loop = AgentLoop(
            self.assignment,
            AGENTS[kind](),
            self.mind,
            self.executor,
            self.outbox,
            self.clock,
            self.draining,
        )

    async def run(self) -> list[Commit]:
        async with asyncio.timeout(5):
            await self.loop.run()
        return self.line.commits

    @property
    def offered(self) -> dict[str, Any]:
        """What a step stores of its tools when none was dropped."""
        kept = {tool.name: tool.version_id for tool in self.assignment.tools}
        return {"offered": kept, "dropped": {}, "forced": None}

    @property
    def transcript(self) -> list[Message]:
        """What the journal holds after the commits."""
        return [*self.assignment.transcript, *(said for commit in self.line.commits for said in commit.messages)]
