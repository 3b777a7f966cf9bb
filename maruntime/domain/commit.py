"""What a worker asks the journal to store in one fenced statement (T1 to T4)."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from maruntime.domain.event import NewEvent
from maruntime.domain.message import Message
from maruntime.domain.run import Failure, RunRef, Usage, WaitingFor
from maruntime.domain.tool import EffectClass


class CallState(StrEnum):
    """How far a tool call has come."""

    PLANNED = "planned"
    STARTED = "started"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class ToolCallRow:
    """A tool call as the journal keeps it; its key is run, step and index."""

    step_no: int
    call_idx: int
    call_id: str
    tool_name: str
    tool_version_id: str
    effect_class: EffectClass
    state: CallState
    arguments: dict[str, Any]
    result: str | None = None
    error_code: str | None = None
    artifact_id: str | None = None


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that a tool made and that the caller may fetch."""

    id: str
    name: str
    media_type: str
    content: bytes


class EndKind(StrEnum):
    """How an instance lets go of a run."""

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    WAITING = "WAITING"
    RELEASED = "RELEASED"


@dataclass(frozen=True, slots=True)
class End:
    """The run leaves its instance with this commit."""

    kind: EndKind
    waiting_for: WaitingFor | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """One fenced write; `commit_no` is dense per run and is what the fence compares."""

    run: RunRef
    commit_no: int
    step_no: int
    counters: dict[str, Any]
    messages: tuple[Message, ...] = ()
    calls: tuple[ToolCallRow, ...] = ()
    events: tuple[NewEvent, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    usage: Usage = field(default_factory=Usage)
    end: End | None = None


class Verdict(StrEnum):
    """What became of a commit."""

    STORED = "STORED"
    FENCED = "FENCED"
    RETRY = "RETRY"


@dataclass(frozen=True, slots=True)
class Stored:
    """The journal's answer: the verdict, the events in their places, and who learns of them."""

    verdict: Verdict
    last_seq: int = 0
    events: tuple[Any, ...] = ()
