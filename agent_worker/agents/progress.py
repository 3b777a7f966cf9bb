"""How far a run has come: what the loop carries from step to step and the journal stores."""

from dataclasses import dataclass, field
from typing import Any

from maruntime.domain.assignment import Assignment
from maruntime.domain.message import Message
from maruntime.domain.rule import CALLS_PREFIX, INITIAL_STAGE
from maruntime.domain.run import Usage

_SEARCHES = frozenset({"web_search"})


@dataclass(slots=True)
class Counters:
    """What rules read. They belong to the run and last through its waits."""

    clarifications: int = 0
    searches: int = 0
    invalid_answers: int = 0
    """Unusable LLM answers in a row."""
    tool_calls: int = 0
    llm_calls: int = 0
    tokens: int = 0
    calls: dict[str, int] = field(default_factory=dict)
    """How often each tool was called."""
    stage: str = INITIAL_STAGE
    complaint: str | None = None
    """What the model has to be told of its last answer, when no message of the transcript does."""

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> "Counters":
        """Read what the journal stored; unknown names come from a newer worker and are left alone."""
        return cls(**{name: said[name] for name in cls.__slots__ if name in said})

    def to_json(self) -> dict[str, Any]:
        """What the journal stores."""
        return {name: getattr(self, name) for name in self.__slots__}

    def count_calls(self, *names: str) -> None:
        """Note that tools were called."""
        for name in names:
            self.tool_calls += 1
            self.searches += name in _SEARCHES
            self.calls[name] = self.calls.get(name, 0) + 1

    def count_usage(self, usage: Usage, llm_calls: int) -> None:
        """Note what the model took."""
        self.llm_calls += llm_calls
        self.tokens += usage.prompt_tokens + usage.completion_tokens

    def as_facts(self, iteration: int) -> dict[str, int]:
        """The counters under the names that rules use."""
        named = {
            "iteration": iteration,
            "searches": self.searches,
            "clarifications": self.clarifications,
            "tool_calls": self.tool_calls,
            "invalid_answers": self.invalid_answers,
            "llm_calls": self.llm_calls,
            "tokens": self.tokens,
        }
        return named | {CALLS_PREFIX + tool: count for tool, count in self.calls.items()}


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
