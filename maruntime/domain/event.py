"""What happened in a run, in the past tense: the durable steps that readers replay.

`seq` is dense per run and assigned by the journal. Text deltas are not events:
they are told to readers and never stored; a step's whole text stands in its
assistant message.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """The kinds of durable event."""

    RUN_ACCEPTED = "RunAccepted"
    RUN_RESUMED = "RunResumed"
    RUN_REQUEUED = "RunRequeued"
    STEP_REASONED = "StepReasoned"
    TOOL_CALL_PLANNED = "ToolCallPlanned"
    TOOL_CALL_STARTED = "ToolCallStarted"
    TOOL_CALL_FINISHED = "ToolCallFinished"
    ANSWER_REJECTED = "AnswerRejected"
    RUN_WAITING = "RunWaiting"
    RUN_COMPLETED = "RunCompleted"
    RUN_FAILED = "RunFailed"
    RUN_CANCELLED = "RunCancelled"
    RUN_EXPIRED = "RunExpired"
    RUN_DEAD = "RunDead"

    @property
    def ends_turn(self) -> bool:
        """Whether the response of the turn ends with this event."""
        return self in _ENDS_TURN


_ENDS_TURN = frozenset(
    {
        EventType.RUN_WAITING,
        EventType.RUN_COMPLETED,
        EventType.RUN_FAILED,
        EventType.RUN_CANCELLED,
        EventType.RUN_EXPIRED,
        EventType.RUN_DEAD,
    }
)


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event before the journal has given it its place."""

    type: EventType
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event in its place."""

    run_id: str
    epoch: int
    seq: int
    type: EventType
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Text on its way: `offset` counts the characters of the open step's content sent before it."""

    run_id: str
    epoch: int
    step_no: int
    offset: int
    content: str = ""
    reasoning: str = ""
