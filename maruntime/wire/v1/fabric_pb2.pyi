from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunRef(_message.Message):
    __slots__ = ("run_id", "epoch")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    epoch: int
    def __init__(self, run_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class WorkerFrame(_message.Message):
    __slots__ = ("hello", "heartbeat", "accepted", "commit", "deltas", "draining", "ready")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    DELTAS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    accepted: Accepted
    commit: Commit
    deltas: Deltas
    draining: Draining
    ready: Ready
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., commit: _Optional[_Union[Commit, _Mapping]] = ..., deltas: _Optional[_Union[Deltas, _Mapping]] = ..., draining: _Optional[_Union[Draining, _Mapping]] = ..., ready: _Optional[_Union[Ready, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "features", "worker_id", "instance_id", "build", "template_version_id", "llm_endpoints", "labels", "held")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    LLM_ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    features: _containers.RepeatedScalarFieldContainer[str]
    worker_id: str
    instance_id: str
    build: str
    template_version_id: str
    llm_endpoints: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.RepeatedScalarFieldContainer[str]
    held: Held
    def __init__(self, protocol: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., worker_id: _Optional[str] = ..., instance_id: _Optional[str] = ..., build: _Optional[str] = ..., template_version_id: _Optional[str] = ..., llm_endpoints: _Optional[_Iterable[str]] = ..., labels: _Optional[_Iterable[str]] = ..., held: _Optional[_Union[Held, _Mapping]] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("run", "last_acked_commit", "step_no")
    RUN_FIELD_NUMBER: _ClassVar[int]
    LAST_ACKED_COMMIT_FIELD_NUMBER: _ClassVar[int]
    STEP_NO_FIELD_NUMBER: _ClassVar[int]
    run: RunRef
    last_acked_commit: int
    step_no: int
    def __init__(self, run: _Optional[_Union[RunRef, _Mapping]] = ..., last_acked_commit: _Optional[int] = ..., step_no: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("nonce", "run", "loop_lag_ms")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    LOOP_LAG_MS_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    run: RunRef
    loop_lag_ms: int
    def __init__(self, nonce: _Optional[int] = ..., run: _Optional[_Union[RunRef, _Mapping]] = ..., loop_lag_ms: _Optional[int] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("run", "refused_code")
    RUN_FIELD_NUMBER: _ClassVar[int]
    REFUSED_CODE_FIELD_NUMBER: _ClassVar[int]
    run: RunRef
    refused_code: str
    def __init__(self, run: _Optional[_Union[RunRef, _Mapping]] = ..., refused_code: _Optional[str] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("run", "commit_no", "step_no", "messages", "calls", "events", "usage", "counters_json", "end", "artifacts")
    RUN_FIELD_NUMBER: _ClassVar[int]
    COMMIT_NO_FIELD_NUMBER: _ClassVar[int]
    STEP_NO_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_JSON_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    run: RunRef
    commit_no: int
    step_no: int
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    calls: _containers.RepeatedCompositeFieldContainer[ToolCallRow]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    usage: Usage
    counters_json: bytes
    end: End
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, run: _Optional[_Union[RunRef, _Mapping]] = ..., commit_no: _Optional[int] = ..., step_no: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., calls: _Optional[_Iterable[_Union[ToolCallRow, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., counters_json: _Optional[bytes] = ..., end: _Optional[_Union[End, _Mapping]] = ..., artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("artifact_id", "name", "media_type", "content")
    ARTIFACT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    artifact_id: str
    name: str
    media_type: str
    content: bytes
    def __init__(self, artifact_id: _Optional[str] = ..., name: _Optional[str] = ..., media_type: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class ToolCallRow(_message.Message):
    __slots__ = ("call_idx", "tool_version_id", "effect_class", "state", "call_id", "arguments_json", "result", "error_code", "idem_key", "artifact_id", "tool_name", "step_no")
    CALL_IDX_FIELD_NUMBER: _ClassVar[int]
    TOOL_VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    EFFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    IDEM_KEY_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_ID_FIELD_NUMBER: _ClassVar[int]
    TOOL_NAME_FIELD_NUMBER: _ClassVar[int]
    STEP_NO_FIELD_NUMBER: _ClassVar[int]
    call_idx: int
    tool_version_id: str
    effect_class: str
    state: str
    call_id: str
    arguments_json: bytes
    result: bytes
    error_code: str
    idem_key: str
    artifact_id: str
    tool_name: str
    step_no: int
    def __init__(self, call_idx: _Optional[int] = ..., tool_version_id: _Optional[str] = ..., effect_class: _Optional[str] = ..., state: _Optional[str] = ..., call_id: _Optional[str] = ..., arguments_json: _Optional[bytes] = ..., result: _Optional[bytes] = ..., error_code: _Optional[str] = ..., idem_key: _Optional[str] = ..., artifact_id: _Optional[str] = ..., tool_name: _Optional[str] = ..., step_no: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("kind", "waiting_for", "payload_json", "failure")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[End.Kind]
        COMPLETED: _ClassVar[End.Kind]
        FAILED: _ClassVar[End.Kind]
        WAITING: _ClassVar[End.Kind]
        RELEASED: _ClassVar[End.Kind]
    KIND_UNSPECIFIED: End.Kind
    COMPLETED: End.Kind
    FAILED: End.Kind
    WAITING: End.Kind
    RELEASED: End.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    WAITING_FOR_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    kind: End.Kind
    waiting_for: str
    payload_json: bytes
    failure: Failure
    def __init__(self, kind: _Optional[_Union[End.Kind, str]] = ..., waiting_for: _Optional[str] = ..., payload_json: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Deltas(_message.Message):
    __slots__ = ("run", "step_no", "offset", "reasoning", "content")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_NO_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    run: RunRef
    step_no: int
    offset: int
    reasoning: str
    content: str
    def __init__(self, run: _Optional[_Union[RunRef, _Mapping]] = ..., step_no: _Optional[int] = ..., offset: _Optional[int] = ..., reasoning: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class Draining(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Ready(_message.Message):
    __slots__ = ("template_version_id",)
    TEMPLATE_VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    template_version_id: str
    def __init__(self, template_version_id: _Optional[str] = ...) -> None: ...

class OrchestratorFrame(_message.Message):
    __slots__ = ("welcome", "start", "ack", "heartbeat_ack", "cancel", "pin", "drain")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ACK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    start: StartRun
    ack: Ack
    heartbeat_ack: HeartbeatAck
    cancel: Cancel
    pin: Pin
    drain: Drain
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., start: _Optional[_Union[StartRun, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., heartbeat_ack: _Optional[_Union[HeartbeatAck, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., pin: _Optional[_Union[Pin, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "features", "attachment_id", "heartbeat_ms", "lease_ms", "permit_ms", "held_kept", "held_last_commit")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    PERMIT_MS_FIELD_NUMBER: _ClassVar[int]
    HELD_KEPT_FIELD_NUMBER: _ClassVar[int]
    HELD_LAST_COMMIT_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    features: _containers.RepeatedScalarFieldContainer[str]
    attachment_id: str
    heartbeat_ms: int
    lease_ms: int
    permit_ms: int
    held_kept: bool
    held_last_commit: int
    def __init__(self, protocol: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., attachment_id: _Optional[str] = ..., heartbeat_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ..., permit_ms: _Optional[int] = ..., held_kept: _Optional[bool] = ..., held_last_commit: _Optional[int] = ...) -> None: ...

class Pin(_message.Message):
    __slots__ = ("template_version_id", "template")
    TEMPLATE_VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    template_version_id: str
    template: TemplateSnapshot
    def __init__(self, template_version_id: _Optional[str] = ..., template: _Optional[_Union[TemplateSnapshot, _Mapping]] = ...) -> None: ...

class StartRun(_message.Message):
    __slots__ = ("run", "lease_ms", "last_commit", "step_no", "template", "transcript", "context_json", "open_calls", "principal_id", "tenant_id", "trace", "tools", "session_id", "elapsed_ms")
    class TraceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RUN_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_COMMIT_FIELD_NUMBER: _ClassVar[int]
    STEP_NO_FIELD_NUMBER: _ClassVar[int]
    TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_JSON_FIELD_NUMBER: _ClassVar[int]
    OPEN_CALLS_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_MS_FIELD_NUMBER: _ClassVar[int]
    run: RunRef
    lease_ms: int
    last_commit: int
    step_no: int
    template: TemplateSnapshot
    transcript: _containers.RepeatedCompositeFieldContainer[Message]
    context_json: bytes
    open_calls: _containers.RepeatedCompositeFieldContainer[ToolCallRow]
    principal_id: str
    tenant_id: str
    trace: _containers.ScalarMap[str, str]
    tools: _containers.RepeatedCompositeFieldContainer[ToolDescriptor]
    session_id: str
    elapsed_ms: int
    def __init__(self, run: _Optional[_Union[RunRef, _Mapping]] = ..., lease_ms: _Optional[int] = ..., last_commit: _Optional[int] = ..., step_no: _Optional[int] = ..., template: _Optional[_Union[TemplateSnapshot, _Mapping]] = ..., transcript: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., context_json: _Optional[bytes] = ..., open_calls: _Optional[_Iterable[_Union[ToolCallRow, _Mapping]]] = ..., principal_id: _Optional[str] = ..., tenant_id: _Optional[str] = ..., trace: _Optional[_Mapping[str, str]] = ..., tools: _Optional[_Iterable[_Union[ToolDescriptor, _Mapping]]] = ..., session_id: _Optional[str] = ..., elapsed_ms: _Optional[int] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("run", "commit_no", "verdict", "last_seq", "retry_ms")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[Ack.Verdict]
        STORED: _ClassVar[Ack.Verdict]
        FENCED: _ClassVar[Ack.Verdict]
        RETRY: _ClassVar[Ack.Verdict]
    VERDICT_UNSPECIFIED: Ack.Verdict
    STORED: Ack.Verdict
    FENCED: Ack.Verdict
    RETRY: Ack.Verdict
    RUN_FIELD_NUMBER: _ClassVar[int]
    COMMIT_NO_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    RETRY_MS_FIELD_NUMBER: _ClassVar[int]
    run: RunRef
    commit_no: int
    verdict: Ack.Verdict
    last_seq: int
    retry_ms: int
    def __init__(self, run: _Optional[_Union[RunRef, _Mapping]] = ..., commit_no: _Optional[int] = ..., verdict: _Optional[_Union[Ack.Verdict, str]] = ..., last_seq: _Optional[int] = ..., retry_ms: _Optional[int] = ...) -> None: ...

class HeartbeatAck(_message.Message):
    __slots__ = ("nonce", "still_yours", "renewed_nonce")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    STILL_YOURS_FIELD_NUMBER: _ClassVar[int]
    RENEWED_NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: int
    still_yours: bool
    renewed_nonce: int
    def __init__(self, nonce: _Optional[int] = ..., still_yours: _Optional[bool] = ..., renewed_nonce: _Optional[int] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("run", "reason")
    RUN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    run: RunRef
    reason: str
    def __init__(self, run: _Optional[_Union[RunRef, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("step_cap_ms",)
    STEP_CAP_MS_FIELD_NUMBER: _ClassVar[int]
    step_cap_ms: int
    def __init__(self, step_cap_ms: _Optional[int] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "content_json", "tool_calls_json", "tool_call_id", "name")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_JSON_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_JSON_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    role: str
    content_json: bytes
    tool_calls_json: bytes
    tool_call_id: str
    name: str
    def __init__(self, role: _Optional[str] = ..., content_json: _Optional[bytes] = ..., tool_calls_json: _Optional[bytes] = ..., tool_call_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("type", "payload_json")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_JSON_FIELD_NUMBER: _ClassVar[int]
    type: str
    payload_json: bytes
    def __init__(self, type: _Optional[str] = ..., payload_json: _Optional[bytes] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "cached_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., cached_tokens: _Optional[int] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("code", "message", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class TemplateSnapshot(_message.Message):
    __slots__ = ("version_id", "name", "body_json", "version")
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    BODY_JSON_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version_id: str
    name: str
    body_json: bytes
    version: int
    def __init__(self, version_id: _Optional[str] = ..., name: _Optional[str] = ..., body_json: _Optional[bytes] = ..., version: _Optional[int] = ...) -> None: ...

class ToolDescriptor(_message.Message):
    __slots__ = ("version_id", "name", "kind", "locator", "schema_json", "effect_class", "timeout_ms", "description", "remote_json", "output_limit", "version")
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LOCATOR_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    EFFECT_CLASS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    REMOTE_JSON_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version_id: str
    name: str
    kind: str
    locator: str
    schema_json: bytes
    effect_class: str
    timeout_ms: int
    description: str
    remote_json: bytes
    output_limit: int
    version: int
    def __init__(self, version_id: _Optional[str] = ..., name: _Optional[str] = ..., kind: _Optional[str] = ..., locator: _Optional[str] = ..., schema_json: _Optional[bytes] = ..., effect_class: _Optional[str] = ..., timeout_ms: _Optional[int] = ..., description: _Optional[str] = ..., remote_json: _Optional[bytes] = ..., output_limit: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...
