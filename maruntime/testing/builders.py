"""Objects for tests: whole and valid, so that a test says only what it is about."""

from datetime import timedelta
from typing import Any

from maruntime.domain.assignment import Assignment
from maruntime.domain.commit import CallState, Commit, End, EndKind, ToolCallRow
from maruntime.domain.event import EventType, NewEvent, RunEvent, TextDelta
from maruntime.domain.instance import InstanceRecord, InstanceState
from maruntime.domain.message import Message, Role
from maruntime.domain.principal import DEFAULT_TENANT, Principal, Scope
from maruntime.domain.run import Failure, RunRef, Usage, WaitingFor
from maruntime.domain.template import AgentKind, LLMPolicy, TemplateBody, TemplateVersion
from maruntime.domain.tool import EffectClass, ToolDescriptor, ToolKind
from maruntime.wire import frames


def a_principal(name: str = "alice", *, tenant: str = DEFAULT_TENANT) -> Principal:
    """A caller with every scope."""
    return Principal(tenant, name, f"key_{name}", frozenset(Scope))


def a_template(name: str = "assistant", *, version_id: str | None = None, endpoint: str = "main") -> TemplateVersion:
    """The first version of a template; the id follows from the name."""
    body = TemplateBody(
        kind=AgentKind.TOOL_CALLING,
        description="Answers.",
        prompt_pack="assistant",
        llm=LLMPolicy(endpoint=endpoint),
        tools=("final_answer",),
    )
    return TemplateVersion(id=version_id or f"tplv_{name}", name=name, version=1, body=body)


def a_tool(name: str = "look", **overrides: Any) -> ToolDescriptor:
    """A shipped tool without arguments."""
    said: dict[str, Any] = {
        "version_id": f"toolv_{name}",
        "name": name,
        "description": "Looks.",
        "kind": ToolKind.SHIPPED,
        "locator": name,
        "parameters": {"type": "object", "properties": {}},
    }
    return ToolDescriptor(**said | overrides)


def user(text: str = "Hi") -> Message:
    """What the user says."""
    return Message(role=Role.USER, content=text)


def assistant(text: str = "Hello") -> Message:
    """What the agent says."""
    return Message(role=Role.ASSISTANT, content=text)


def a_call(
    tool_version_id: str = "toolv_look",
    *,
    step_no: int = 1,
    call_idx: int = 0,
    state: CallState = CallState.PLANNED,
    effect_class: EffectClass = EffectClass.PURE,
    result: str | None = None,
    artifact_id: str | None = None,
    arguments: dict[str, Any] | None = None,
) -> ToolCallRow:
    """A tool call at its place in the run."""
    return ToolCallRow(
        step_no=step_no,
        call_idx=call_idx,
        call_id=f"call_{step_no}_{call_idx}",
        tool_name="look",
        tool_version_id=tool_version_id,
        effect_class=effect_class,
        state=state,
        arguments=arguments or {},
        result=result,
        artifact_id=artifact_id,
    )


def an_event(type_: EventType = EventType.STEP_REASONED, **payload: Any) -> NewEvent:
    """An event without a place."""
    return NewEvent(type_, payload)


def a_run_event(seq: int, type_: EventType = EventType.STEP_REASONED, *, run: RunRef, **payload: Any) -> RunEvent:
    """An event in its place."""
    return RunEvent(run.run_id, run.epoch, seq, type_, payload)


def a_delta(
    run: RunRef, content: str = "", *, offset: int = 0, step_no: int = 1, reasoning: str = "", epoch: int | None = None
) -> TextDelta:
    """Text on its way."""
    return TextDelta(run.run_id, run.epoch if epoch is None else epoch, step_no, offset, content, reasoning)


def a_commit(run: RunRef, commit_no: int = 1, **overrides: Any) -> Commit:
    """A commit that says nothing but its number."""
    said: dict[str, Any] = {"run": run, "commit_no": commit_no, "step_no": commit_no, "counters": {}}
    return Commit(**said | overrides)


def completing(run: RunRef, commit_no: int = 1, *, text: str = "Hello", usage: Usage | None = None) -> Commit:
    """The commit with which a run is answered."""
    return a_commit(
        run,
        commit_no,
        messages=(assistant(text),),
        events=(an_event(EventType.RUN_COMPLETED, text=text, finish_reason="stop"),),
        usage=usage or Usage(),
        end=End(EndKind.COMPLETED),
    )


def waiting(run: RunRef, commit_no: int = 1, *, question: str = "Which?") -> Commit:
    """The commit with which a run asks the user back."""
    return a_commit(
        run,
        commit_no,
        messages=(assistant(question),),
        events=(an_event(EventType.RUN_WAITING, text=question, waiting_for="clarification"),),
        end=End(EndKind.WAITING, WaitingFor.CLARIFICATION),
    )


def failing(run: RunRef, commit_no: int = 1, *, code: str = "llm_failed") -> Commit:
    """The commit with which a run fails."""
    return a_commit(
        run,
        commit_no,
        events=(an_event(EventType.RUN_FAILED, code=code, message="It failed."),),
        end=End(EndKind.FAILED, failure=Failure(code, "It failed.")),
    )


def releasing(run: RunRef, commit_no: int = 1) -> Commit:
    """The commit with which a draining worker gives a run back."""
    return a_commit(run, commit_no, events=(an_event(EventType.RUN_REQUEUED),), end=End(EndKind.RELEASED))


def an_assignment(run: RunRef, **overrides: Any) -> Assignment:
    """A run as it goes down to an instance."""
    said: dict[str, Any] = {
        "run": run,
        "session_id": "sess_1",
        "tenant_id": DEFAULT_TENANT,
        "principal_id": "alice",
        "lease": timedelta(seconds=15),
        "last_commit": 0,
        "step_no": 0,
        "template": a_template(),
        "tools": (),
        "transcript": (user(),),
    }
    return Assignment(**said | overrides)


def an_instance_record(instance_id: str = "w1/0", **overrides: Any) -> InstanceRecord:
    """An idle instance as the registry shows it."""
    said: dict[str, Any] = {
        "instance_id": instance_id,
        "worker_id": instance_id.split("/")[0],
        "replica": "replica-1",
        "attachment": f"attachment of {instance_id}",
        "state": InstanceState.IDLE,
        "llm_endpoints": ("main",),
    }
    return InstanceRecord(**said | overrides)


def a_hello(slot: int = 0, *, worker: str = "w1", **overrides: Any) -> frames.Hello:
    """The first frame of a blank slot."""
    said: dict[str, Any] = {
        "worker_id": worker,
        "instance_id": f"{worker}/{slot}",
        "build": "test",
        "llm_endpoints": ("main",),
    }
    return frames.Hello(**said | overrides)
