"""How far a run has come: what the loop carries from step to step and the journal stores."""

from dataclasses import dataclass, field
from typing import Any

from maruntime.domain.assignment import Assignment
from maruntime.domain.message import Message


@dataclass(slots=True)
class Counters:
    """What rules read. They belong to the run and last through its waits."""

    clarifications: int = 0
    invalid_answers: int = 0
    """Unusable LLM answers in a row."""
    tool_calls: int = 0
    complaint: str | None = None
    """What the model has to be told of its last answer, when no message of the transcript does."""

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> "Counters":
        """Read what the journal stored; unknown names come from a newer worker and are left alone."""
        return cls(**{name: said[name] for name in cls.__slots__ if name in said})

    def to_json(self) -> dict[str, Any]:
        """What the journal stores."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Progress:
    """The transcript and the counters of a run."""

    transcript: list[Message]
    step_no: int
    counters: Counters = field(default_factory=Counters)

    @classmethod
    def from_assignment(cls, assignment: Assignment) -> "Progress":
        """Where the run stands when an instance takes it."""
        return cls(
            transcript=list(assignment.transcript),
            step_no=assignment.step_no,
            counters=Counters.from_json(assignment.context.get("counters", {})),
        )
