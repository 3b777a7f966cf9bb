"""Every frame survives the wire, and what breaks the contract is one error."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maruntime.domain.assignment import Assignment
from maruntime.domain.commit import Artifact, CallState, Commit, End, EndKind, ToolCallRow, Verdict
from maruntime.domain.event import EventType, NewEvent, TextDelta
from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.domain.run import Failure, RunRef, Usage, WaitingFor
from maruntime.domain.template import AgentKind, ExecutionLimits, LLMPolicy, TemplateBody, TemplateVersion
from maruntime.domain.tool import EffectClass, ToolDescriptor, ToolKind
from maruntime.wire import codec, frames
from maruntime.wire.v1 import fabric_pb2 as pb

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = TEXT.filter(bool)
INT64 = st.integers(0, 2**63 - 1)
INT32 = st.integers(0, 2**31 - 1)
MS = st.integers(0, 2**32 - 1).map(lambda ms: timedelta(milliseconds=ms))
NUMBER = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)
REF = st.builds(RunRef, NAME, INT64)


def some(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


CALL_REF = st.builds(ToolCallRef, id=TEXT, function=st.builds(FunctionCall, name=TEXT, arguments=TEXT))
MESSAGE = st.builds(
    Message,
    role=st.sampled_from(Role),
    content=st.none() | TEXT | st.lists(OBJECT, max_size=2),
    tool_calls=some(CALL_REF),
    tool_call_id=st.none() | NAME,
    name=st.none() | NAME,
)
CALL = st.builds(
    ToolCallRow,
    step_no=INT64,
    call_idx=INT32,
    call_id=TEXT,
    tool_name=TEXT,
    tool_version_id=TEXT,
    effect_class=st.sampled_from(EffectClass),
    state=st.just(CallState.DONE),
    arguments=OBJECT,
    result=TEXT,
    error_code=st.none() | NAME,
    artifact_id=st.none() | NAME,
) | st.builds(
    ToolCallRow,
    step_no=INT64,
    call_idx=INT32,
    call_id=TEXT,
    tool_name=TEXT,
    tool_version_id=TEXT,
    effect_class=st.sampled_from(EffectClass),
    state=st.sampled_from([CallState.PLANNED, CallState.STARTED]),
    arguments=OBJECT,
)
TOOL = st.builds(
    ToolDescriptor,
    version_id=TEXT,
    name=st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True),
    description=TEXT,
    kind=st.sampled_from(ToolKind),
    locator=TEXT,
    parameters=OBJECT,
    effect_class=st.sampled_from(EffectClass),
    timeout=MS,
)
TEMPLATE = st.builds(
    TemplateVersion,
    id=TEXT,
    name=TEXT,
    version=st.integers(1, 2**32 - 1),
    created_at=st.none(),
    body=st.builds(
        TemplateBody,
        kind=st.sampled_from(AgentKind),
        description=TEXT.filter(bool),
        prompt_pack=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
        llm=st.builds(
            LLMPolicy,
            endpoint=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,63}", fullmatch=True),
            model=st.none() | TEXT,
            temperature=st.none() | st.floats(0, 2),
            max_completion_tokens=st.none() | st.integers(1, 2**40),
        ),
        limits=st.builds(ExecutionLimits, max_iterations=st.integers(1, 100), max_clarifications=st.integers(0, 9)),
        tools=some(TEXT),
    ),
)
END = st.builds(
    End,
    kind=st.sampled_from(EndKind),
    waiting_for=st.none() | st.sampled_from(WaitingFor),
    failure=st.none() | st.builds(Failure, TEXT, TEXT, st.booleans()),
)
COMMIT = st.builds(
    Commit,
    run=REF,
    commit_no=INT64,
    step_no=INT64,
    counters=OBJECT,
    messages=some(MESSAGE),
    calls=some(CALL),
    events=some(st.builds(NewEvent, st.sampled_from(EventType), OBJECT)),
    artifacts=some(st.builds(Artifact, TEXT, TEXT, TEXT, st.binary(max_size=30))),
    usage=st.builds(Usage, INT64, INT64, INT64),
    end=st.none() | END,
)
HELLO = st.builds(
    lambda worker, slot, **more: frames.Hello(worker_id=worker, instance_id=f"{worker}/{slot}", **more),
    NAME,
    st.integers(0, 99),
    build=TEXT,
    llm_endpoints=some(TEXT),
    template_version_id=st.none() | NAME,
    labels=some(TEXT),
    held=st.none() | st.builds(frames.Held, REF, INT64, INT64),
    protocol=st.integers(0, 2**32 - 1),
)
FROM_WORKER = {
    "Hello": HELLO,
    "Heartbeat": st.builds(frames.Heartbeat, st.integers(0, 2**64 - 1), st.none() | REF, MS),
    "Accepted": st.builds(frames.Accepted, REF, st.none() | NAME),
    "Commit": COMMIT,
    "TextDelta": st.builds(TextDelta, NAME, INT64, INT64, INT64, TEXT, TEXT),
    "Draining": st.builds(frames.Draining, TEXT),
    "Ready": st.builds(frames.Ready, TEXT),
}
FROM_ORCHESTRATOR = {
    "Welcome": st.builds(frames.Welcome, TEXT, MS, MS, MS, st.booleans(), INT64, st.integers(0, 2**32 - 1)),
    "Assignment": st.builds(
        Assignment,
        run=REF,
        session_id=TEXT,
        tenant_id=TEXT,
        principal_id=TEXT,
        lease=MS,
        last_commit=INT64,
        step_no=INT64,
        template=TEMPLATE,
        tools=some(TOOL),
        transcript=some(MESSAGE),
        open_calls=some(CALL),
        context=OBJECT,
        trace=st.dictionaries(TEXT, TEXT, max_size=3),
    ),
    "Ack": st.builds(frames.Ack, REF, INT64, st.sampled_from(Verdict), INT64, MS),
    "HeartbeatAck": st.builds(frames.HeartbeatAck, st.integers(0, 2**64 - 1), st.booleans(), st.integers(0, 2**64 - 1)),
    "Cancel": st.builds(frames.Cancel, REF, TEXT),
    "Pin": st.builds(frames.Pin, TEMPLATE),
    "Drain": st.builds(frames.Drain, MS),
}
THOROUGH = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def test_every_frame_of_the_contract_is_tried_here() -> None:
    assert {kind.__name__ for kind in frames.WorkerFrame.__args__} == FROM_WORKER.keys()
    assert {kind.__name__ for kind in frames.OrchestratorFrame.__args__} == FROM_ORCHESTRATOR.keys()


@pytest.mark.parametrize("name", FROM_WORKER)
def test_what_a_worker_says_arrives_as_it_was_said(name: str) -> None:
    @THOROUGH
    @given(FROM_WORKER[name])
    def goes_round(frame: frames.WorkerFrame) -> None:
        wire = codec.worker_frame_to_wire(frame).SerializeToString()

        assert codec.worker_frame_from_wire(pb.WorkerFrame.FromString(wire)) == frame

    goes_round()


@pytest.mark.parametrize("name", FROM_ORCHESTRATOR)
def test_what_an_orchestrator_says_arrives_as_it_was_said(name: str) -> None:
    @THOROUGH
    @given(FROM_ORCHESTRATOR[name])
    def goes_round(frame: frames.OrchestratorFrame) -> None:
        wire = codec.orchestrator_frame_to_wire(frame).SerializeToString()

        assert codec.orchestrator_frame_from_wire(pb.OrchestratorFrame.FromString(wire)) == frame

    goes_round()


def commit(**parts: Any) -> pb.WorkerFrame:
    return pb.WorkerFrame(commit=pb.Commit(run=pb.RunRef(run_id="r", epoch=1), commit_no=1, **parts))


def message(**parts: Any) -> pb.WorkerFrame:
    return commit(messages=[pb.Message(**{"role": "user", "content_json": b'"x"'} | parts)])


def call(**parts: Any) -> pb.WorkerFrame:
    said = {"effect_class": "pure", "state": "planned", "arguments_json": b"{}"}
    return commit(calls=[pb.ToolCallRow(**said | parts)])


def event(**parts: Any) -> pb.WorkerFrame:
    return commit(events=[pb.Event(**{"type": "RunCompleted", "payload_json": b"{}"} | parts)])


MALFORMED_FROM_WORKER = {
    "nothing": pb.WorkerFrame(),
    "a frame of a later version": pb.WorkerFrame.FromString(b"\xfa\x01\x00"),
    "an instance of another worker": pb.WorkerFrame(hello=pb.Hello(worker_id="w1", instance_id="w2/0")),
    "an instance without a worker": pb.WorkerFrame(hello=pb.Hello(worker_id="", instance_id="/0")),
    "counters that are not JSON": commit(counters_json=b"{"),
    "counters that are no object": commit(counters_json=b"[1]"),
    "no kind of end": commit(end=pb.End()),
    "an unknown kind of end": commit(end=pb.End(kind=77)),
    "an unknown wait": commit(end=pb.End(kind=pb.End.WAITING, waiting_for="rain")),
    "an unknown role": message(role="judge"),
    "content that is not JSON": message(content_json=b"x"),
    "content without any": message(content_json=b""),
    "content that is a number": message(content_json=b"1"),
    "tool calls that are no list": message(tool_calls_json=b"5"),
    "a tool call that is no object": message(tool_calls_json=b"[5]"),
    "an unknown effect class": call(effect_class="rarely"),
    "an unknown state of a call": call(state="gone"),
    "arguments that are no object": call(arguments_json=b"[]"),
    "arguments that are not JSON": call(arguments_json=b"{"),
    "a result that is not text": call(state="done", result=b"\xff"),
    "an unknown event": event(type="RunDanced"),
    "a payload that is not JSON": event(payload_json=b""),
    "a payload that is no object": event(payload_json=b"[1]"),
}


@pytest.mark.parametrize("name", MALFORMED_FROM_WORKER)
def test_a_broken_frame_of_a_worker_is_one_error(name: str) -> None:
    with pytest.raises(codec.MalformedFrame):
        codec.worker_frame_from_wire(MALFORMED_FROM_WORKER[name])


def start(**parts: Any) -> pb.OrchestratorFrame:
    body = orjson.dumps({"kind": "tool_calling", "description": "x", "prompt_pack": "p", "tools": []})
    said: dict[str, Any] = {"template": pb.TemplateSnapshot(version_id="v", name="n", version=1, body_json=body)}
    return pb.OrchestratorFrame(start=pb.StartRun(**said | parts))


MALFORMED_FROM_ORCHESTRATOR = {
    "nothing": pb.OrchestratorFrame(),
    "no verdict": pb.OrchestratorFrame(ack=pb.Ack()),
    "an unknown verdict": pb.OrchestratorFrame(ack=pb.Ack(verdict=77)),
    "a pin without a template": pb.OrchestratorFrame(pin=pb.Pin()),
    "a run without a template": pb.OrchestratorFrame(start=pb.StartRun()),
    "a context that is no object": start(context_json=b"3"),
    "a tool without parameters": start(tools=[pb.ToolDescriptor(name="look", kind="shipped", effect_class="pure")]),
    "a tool with an unlawful name": start(
        tools=[pb.ToolDescriptor(name="Look!", kind="shipped", effect_class="pure", schema_json=b"{}")]
    ),
}


@pytest.mark.parametrize("name", MALFORMED_FROM_ORCHESTRATOR)
def test_a_broken_frame_of_an_orchestrator_is_one_error(name: str) -> None:
    with pytest.raises(codec.MalformedFrame):
        codec.orchestrator_frame_from_wire(MALFORMED_FROM_ORCHESTRATOR[name])


@THOROUGH
@given(st.binary(max_size=60))
def test_whatever_protobuf_can_read_is_a_frame_or_malformed(junk: bytes) -> None:
    try:
        wire = pb.WorkerFrame.FromString(junk)
    except Exception:
        return  # gRPC refuses it before the codec sees it

    with suppress(codec.MalformedFrame):
        codec.worker_frame_from_wire(wire)


def test_a_duration_below_zero_travels_as_none() -> None:
    frame = frames.Drain(timedelta(seconds=-1))

    wire = codec.orchestrator_frame_to_wire(frame)

    assert codec.orchestrator_frame_from_wire(wire) == frames.Drain(timedelta())
