"""Frames to protobuf and back; the only place that sees generated code.

Every pair of functions here is held together by a round-trip property test.
"""

from datetime import timedelta
from typing import Any

import orjson

from maruntime.domain.assignment import Assignment
from maruntime.domain.commit import Artifact, CallState, Commit, End, EndKind, ToolCallRow, Verdict
from maruntime.domain.event import EventType, NewEvent, TextDelta
from maruntime.domain.message import Message, Role, ToolCallRef
from maruntime.domain.run import Failure, RunRef, Usage, WaitingFor
from maruntime.domain.template import TemplateBody, TemplateVersion
from maruntime.domain.tool import EffectClass, ToolDescriptor, ToolKind
from maruntime.errors import Invalid
from maruntime.wire import frames
from maruntime.wire.v1 import fabric_pb2 as pb


class MalformedFrame(Invalid):
    """A frame that the other side should not have sent."""

    code = "malformed_frame"


def worker_frame_to_wire(frame: frames.WorkerFrame) -> pb.WorkerFrame:
    """Encode what a worker says."""
    match frame:
        case TextDelta():
            return pb.WorkerFrame(
                deltas=pb.Deltas(
                    run=pb.RunRef(run_id=frame.run_id, epoch=frame.epoch),
                    step_no=frame.step_no,
                    offset=frame.offset,
                    reasoning=frame.reasoning,
                    content=frame.content,
                )
            )
        case Commit():
            return pb.WorkerFrame(commit=_commit_to_wire(frame))
        case frames.Heartbeat():
            return pb.WorkerFrame(
                heartbeat=pb.Heartbeat(nonce=frame.nonce, run=_ref(frame.run), loop_lag_ms=_ms(frame.loop_lag))
            )
        case frames.Accepted():
            return pb.WorkerFrame(accepted=pb.Accepted(run=_ref(frame.run), refused_code=frame.refused_code or ""))
        case frames.Ready():
            return pb.WorkerFrame(ready=pb.Ready(template_version_id=frame.template_version_id))
        case frames.Draining():
            return pb.WorkerFrame(draining=pb.Draining(reason=frame.reason))
        case frames.Hello():
            held = frame.held and pb.Held(
                run=_ref(frame.held.run), last_acked_commit=frame.held.last_acked_commit, step_no=frame.held.step_no
            )
            return pb.WorkerFrame(
                hello=pb.Hello(
                    protocol=frame.protocol,
                    worker_id=frame.worker_id,
                    instance_id=frame.instance_id,
                    build=frame.build,
                    template_version_id=frame.template_version_id or "",
                    llm_endpoints=frame.llm_endpoints,
                    labels=frame.labels,
                    held=held,
                )
            )


def worker_frame_size(frame: frames.WorkerFrame) -> int:
    """How many bytes the frame takes on the wire.

    Raises:
        ValueError, TypeError: it cannot be encoded.
    """
    return worker_frame_to_wire(frame).ByteSize()


def worker_frame_from_wire(wire: pb.WorkerFrame) -> frames.WorkerFrame:
    """Decode what a worker says.

    Raises:
        MalformedFrame: no known body, or a body that breaks the contract.
    """
    kind = wire.WhichOneof("body")
    try:
        match kind:
            case "deltas":
                body = wire.deltas
                return TextDelta(
                    body.run.run_id, body.run.epoch, body.step_no, body.offset, body.content, body.reasoning
                )
            case "commit":
                return _commit_from_wire(wire.commit)
            case "heartbeat":
                body = wire.heartbeat
                run = _ref_from(body.run) if body.HasField("run") else None
                return frames.Heartbeat(body.nonce, run, timedelta(milliseconds=body.loop_lag_ms))
            case "accepted":
                return frames.Accepted(_ref_from(wire.accepted.run), wire.accepted.refused_code or None)
            case "ready":
                return frames.Ready(wire.ready.template_version_id)
            case "draining":
                return frames.Draining(wire.draining.reason)
            case "hello":
                return _hello_from_wire(wire.hello)
    except (ValueError, orjson.JSONDecodeError) as exc:
        raise MalformedFrame(f"The frame {kind} cannot be read: {exc}") from exc
    raise MalformedFrame("The frame has no body that this version knows")


def orchestrator_frame_to_wire(frame: frames.OrchestratorFrame) -> pb.OrchestratorFrame:
    """Encode what an orchestrator says."""
    match frame:
        case frames.Ack():
            return pb.OrchestratorFrame(
                ack=pb.Ack(
                    run=_ref(frame.run),
                    commit_no=frame.commit_no,
                    verdict=frame.verdict.value,
                    last_seq=frame.last_seq,
                    retry_ms=_ms(frame.retry),
                )
            )
        case frames.HeartbeatAck():
            return pb.OrchestratorFrame(
                heartbeat_ack=pb.HeartbeatAck(
                    nonce=frame.nonce, still_yours=frame.still_yours, renewed_nonce=frame.renewed_nonce
                )
            )
        case Assignment():
            return pb.OrchestratorFrame(start=_assignment_to_wire(frame))
        case frames.Cancel():
            return pb.OrchestratorFrame(cancel=pb.Cancel(run=_ref(frame.run), reason=frame.reason))
        case frames.Pin():
            return pb.OrchestratorFrame(
                pin=pb.Pin(template_version_id=frame.template.id, template=_template_to_wire(frame.template))
            )
        case frames.Drain():
            return pb.OrchestratorFrame(drain=pb.Drain(step_cap_ms=_ms(frame.step_cap)))
        case frames.Welcome():
            return pb.OrchestratorFrame(
                welcome=pb.Welcome(
                    protocol=frame.protocol,
                    attachment_id=frame.attachment_id,
                    heartbeat_ms=_ms(frame.heartbeat),
                    lease_ms=_ms(frame.lease),
                    permit_ms=_ms(frame.permit),
                    held_kept=frame.held_kept,
                    held_last_commit=frame.held_last_commit,
                )
            )


def orchestrator_frame_from_wire(wire: pb.OrchestratorFrame) -> frames.OrchestratorFrame:
    """Decode what an orchestrator says.

    Raises:
        MalformedFrame: no known body, or a body that breaks the contract.
    """
    kind = wire.WhichOneof("body")
    try:
        match kind:
            case "ack":
                body = wire.ack
                return frames.Ack(
                    _ref_from(body.run),
                    body.commit_no,
                    Verdict(pb.Ack.Verdict.Name(body.verdict)),
                    body.last_seq,
                    timedelta(milliseconds=body.retry_ms),
                )
            case "heartbeat_ack":
                body = wire.heartbeat_ack
                return frames.HeartbeatAck(body.nonce, body.still_yours, body.renewed_nonce)
            case "start":
                return _assignment_from_wire(wire.start)
            case "cancel":
                return frames.Cancel(_ref_from(wire.cancel.run), wire.cancel.reason)
            case "pin":
                return frames.Pin(_template_from_wire(wire.pin.template))
            case "drain":
                return frames.Drain(timedelta(milliseconds=wire.drain.step_cap_ms))
            case "welcome":
                body = wire.welcome
                return frames.Welcome(
                    body.attachment_id,
                    timedelta(milliseconds=body.heartbeat_ms),
                    timedelta(milliseconds=body.lease_ms),
                    timedelta(milliseconds=body.permit_ms),
                    body.held_kept,
                    body.held_last_commit,
                    body.protocol,
                )
    except (ValueError, orjson.JSONDecodeError) as exc:
        raise MalformedFrame(f"The frame {kind} cannot be read: {exc}") from exc
    raise MalformedFrame("The frame has no body that this version knows")


def _hello_from_wire(hello: pb.Hello) -> frames.Hello:
    held = None
    if hello.HasField("held"):
        held = frames.Held(_ref_from(hello.held.run), hello.held.last_acked_commit, hello.held.step_no)
    if not hello.worker_id or not hello.instance_id.startswith(hello.worker_id + "/"):
        raise MalformedFrame("instance_id is not worker_id/slot")
    return frames.Hello(
        worker_id=hello.worker_id,
        instance_id=hello.instance_id,
        build=hello.build,
        llm_endpoints=tuple(hello.llm_endpoints),
        template_version_id=hello.template_version_id or None,
        labels=tuple(hello.labels),
        held=held,
        protocol=hello.protocol,
    )


def _commit_to_wire(commit: Commit) -> pb.Commit:
    end = None
    if commit.end is not None:
        failure = commit.end.failure and pb.Failure(
            code=commit.end.failure.code, message=commit.end.failure.message, retryable=commit.end.failure.retryable
        )
        end = pb.End(
            kind=commit.end.kind.value,
            waiting_for=commit.end.waiting_for.value if commit.end.waiting_for else "",
            failure=failure,
        )
    return pb.Commit(
        run=_ref(commit.run),
        commit_no=commit.commit_no,
        step_no=commit.step_no,
        messages=[_message_to_wire(message) for message in commit.messages],
        calls=[_call_to_wire(call) for call in commit.calls],
        events=[pb.Event(type=event.type.value, payload_json=orjson.dumps(event.payload)) for event in commit.events],
        usage=pb.Usage(
            prompt_tokens=commit.usage.prompt_tokens,
            completion_tokens=commit.usage.completion_tokens,
            cached_tokens=commit.usage.cached_tokens,
        ),
        counters_json=orjson.dumps(commit.counters),
        end=end,
        artifacts=[
            pb.Artifact(artifact_id=item.id, name=item.name, media_type=item.media_type, content=item.content)
            for item in commit.artifacts
        ],
    )


def _commit_from_wire(wire: pb.Commit) -> Commit:
    end = None
    if wire.HasField("end"):
        failure = None
        if wire.end.HasField("failure"):
            failure = Failure(wire.end.failure.code, wire.end.failure.message, wire.end.failure.retryable)
        waiting_for = WaitingFor(wire.end.waiting_for) if wire.end.waiting_for else None
        end = End(EndKind(pb.End.Kind.Name(wire.end.kind)), waiting_for, failure)
    return Commit(
        run=_ref_from(wire.run),
        commit_no=wire.commit_no,
        step_no=wire.step_no,
        counters=_object_from(wire.counters_json or b"{}"),
        messages=tuple(_message_from_wire(message) for message in wire.messages),
        calls=tuple(_call_from_wire(call) for call in wire.calls),
        events=tuple(NewEvent(EventType(event.type), _object_from(event.payload_json)) for event in wire.events),
        artifacts=tuple(
            Artifact(item.artifact_id, item.name, item.media_type, item.content) for item in wire.artifacts
        ),
        usage=Usage(wire.usage.prompt_tokens, wire.usage.completion_tokens, wire.usage.cached_tokens),
        end=end,
    )


def _assignment_to_wire(start: Assignment) -> pb.StartRun:
    return pb.StartRun(
        run=_ref(start.run),
        lease_ms=_ms(start.lease),
        last_commit=start.last_commit,
        step_no=start.step_no,
        template=_template_to_wire(start.template),
        transcript=[_message_to_wire(message) for message in start.transcript],
        context_json=orjson.dumps(start.context),
        open_calls=[_call_to_wire(call) for call in start.open_calls],
        principal_id=start.principal_id,
        tenant_id=start.tenant_id,
        trace=start.trace,
        tools=[_tool_to_wire(tool) for tool in start.tools],
        session_id=start.session_id,
        elapsed_ms=_ms(start.elapsed),
    )


def _assignment_from_wire(wire: pb.StartRun) -> Assignment:
    return Assignment(
        run=_ref_from(wire.run),
        session_id=wire.session_id,
        tenant_id=wire.tenant_id,
        principal_id=wire.principal_id,
        lease=timedelta(milliseconds=wire.lease_ms),
        last_commit=wire.last_commit,
        step_no=wire.step_no,
        template=_template_from_wire(wire.template),
        tools=tuple(_tool_from_wire(tool) for tool in wire.tools),
        transcript=tuple(_message_from_wire(message) for message in wire.transcript),
        open_calls=tuple(_call_from_wire(call) for call in wire.open_calls),
        context=_object_from(wire.context_json or b"{}"),
        elapsed=timedelta(milliseconds=wire.elapsed_ms),
        trace=dict(wire.trace),
    )


def _message_to_wire(message: Message) -> pb.Message:
    return pb.Message(
        role=message.role.value,
        content_json=orjson.dumps(message.content),
        tool_calls_json=orjson.dumps([call.model_dump() for call in message.tool_calls]) if message.tool_calls else b"",
        tool_call_id=message.tool_call_id or "",
        name=message.name or "",
    )


def _message_from_wire(wire: pb.Message) -> Message:
    calls: list[Any] = orjson.loads(wire.tool_calls_json) if wire.tool_calls_json else []
    if not isinstance(calls, list):
        raise MalformedFrame("tool_calls_json is not a list")
    return Message(
        role=Role(wire.role),
        content=orjson.loads(wire.content_json),
        tool_calls=tuple(ToolCallRef.model_validate(call) for call in calls),
        tool_call_id=wire.tool_call_id or None,
        name=wire.name or None,
    )


def _call_to_wire(call: ToolCallRow) -> pb.ToolCallRow:
    return pb.ToolCallRow(
        step_no=call.step_no,
        call_idx=call.call_idx,
        tool_version_id=call.tool_version_id,
        tool_name=call.tool_name,
        effect_class=call.effect_class.value,
        state=call.state.value,
        call_id=call.call_id,
        arguments_json=orjson.dumps(call.arguments),
        result=call.result.encode() if call.result is not None else b"",
        error_code=call.error_code or "",
        artifact_id=call.artifact_id or "",
    )


def _call_from_wire(wire: pb.ToolCallRow) -> ToolCallRow:
    state = CallState(wire.state)
    return ToolCallRow(
        step_no=wire.step_no,
        call_idx=wire.call_idx,
        call_id=wire.call_id,
        tool_name=wire.tool_name,
        tool_version_id=wire.tool_version_id,
        effect_class=EffectClass(wire.effect_class),
        state=state,
        arguments=_object_from(wire.arguments_json),
        result=wire.result.decode() if state is CallState.DONE else None,
        error_code=wire.error_code or None,
        artifact_id=wire.artifact_id or None,
    )


def _template_to_wire(template: TemplateVersion) -> pb.TemplateSnapshot:
    return pb.TemplateSnapshot(
        version_id=template.id,
        name=template.name,
        version=template.version,
        body_json=template.body.model_dump_json().encode(),
    )


def _template_from_wire(wire: pb.TemplateSnapshot) -> TemplateVersion:
    body = TemplateBody.model_validate_json(wire.body_json)
    return TemplateVersion(id=wire.version_id, name=wire.name, version=wire.version, body=body)


def _tool_to_wire(tool: ToolDescriptor) -> pb.ToolDescriptor:
    return pb.ToolDescriptor(
        version_id=tool.version_id,
        name=tool.name,
        description=tool.description,
        kind=tool.kind.value,
        locator=tool.locator,
        schema_json=orjson.dumps(tool.parameters),
        effect_class=tool.effect_class.value,
        timeout_ms=_ms(tool.timeout),
        remote_json=orjson.dumps(tool.remote) if tool.remote else b"",
        output_limit=tool.output_limit,
        version=tool.version,
    )


def _tool_from_wire(wire: pb.ToolDescriptor) -> ToolDescriptor:
    return ToolDescriptor(
        version_id=wire.version_id,
        name=wire.name,
        description=wire.description,
        kind=ToolKind(wire.kind),
        locator=wire.locator,
        parameters=_object_from(wire.schema_json),
        effect_class=EffectClass(wire.effect_class),
        timeout=timedelta(milliseconds=wire.timeout_ms),
        remote=_object_from(wire.remote_json) if wire.remote_json else None,
        output_limit=wire.output_limit or 256 * 1024,
        version=wire.version or 1,
    )


def _object_from(data: bytes) -> dict[str, Any]:
    value = orjson.loads(data)
    if not isinstance(value, dict):
        raise MalformedFrame("A JSON object was expected")
    return value


def _ref(run: RunRef | None) -> pb.RunRef | None:
    return pb.RunRef(run_id=run.run_id, epoch=run.epoch) if run else None


def _ref_from(wire: pb.RunRef) -> RunRef:
    return RunRef(wire.run_id, wire.epoch)


def _ms(duration: timedelta) -> int:
    return max(0, round(duration / timedelta(milliseconds=1)))
