"""The work on one user message, from acceptance to a terminal state, through any number of waits."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    WAITING = "WAITING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    DEAD = "DEAD"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen to the run any more."""
        return not RUN_TRANSITIONS[self]


RUN_TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED, RunState.EXPIRED}),
    RunState.RUNNING: frozenset(
        {
            RunState.QUEUED,
            RunState.WAITING,
            RunState.COMPLETED,
            RunState.FAILED,
            RunState.CANCELLED,
            RunState.DEAD,
        }
    ),
    RunState.WAITING: frozenset({RunState.QUEUED, RunState.CANCELLED, RunState.EXPIRED}),
    RunState.COMPLETED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
    RunState.EXPIRED: frozenset(),
    RunState.DEAD: frozenset(),
}
"""What may follow what. The journal's statements follow this table; a test compares them."""

ACTIVE_STATES = (RunState.QUEUED, RunState.RUNNING, RunState.WAITING)


class WaitingFor(StrEnum):
    """What a WAITING run waits for."""

    CLARIFICATION = "clarification"


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run as its owner knows it: a commit of another epoch is refused."""

    run_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of LLM calls, added up."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed; the message is safe to show to the run's owner."""

    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A run as readers see it."""

    id: str
    tenant_id: str
    session_id: str
    principal_id: str
    turn_id: str
    template_version_id: str
    state: RunState
    waiting_for: WaitingFor | None
    epoch: int
    step_no: int
    last_seq: int
    attempts: int
    owner: str | None
    last_owner: str | None
    accepted_at: datetime
    ended_at: datetime | None
    failure: Failure | None
    usage: Usage
    counters: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    """The client's own words about its request."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One HTTP request that feeds a run; its events begin after `first_seq`."""

    id: str
    run_id: str
    session_id: str
    epoch: int
    first_seq: int
    deadline: datetime
