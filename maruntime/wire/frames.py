"""The frames of an Attach stream, as both sides speak of them.

Protobuf stays behind `maruntime.wire.codec`; nobody else sees it. Durations are
`timedelta`, runs are `RunRef`, and a body that is a domain type travels as one.
"""

from dataclasses import dataclass
from datetime import timedelta

from maruntime.domain.assignment import Assignment
from maruntime.domain.commit import Commit, Verdict
from maruntime.domain.event import TextDelta
from maruntime.domain.run import RunRef
from maruntime.domain.template import TemplateVersion

PROTOCOL = 1
"""The major version of the contract; another one is refused."""


# --- worker to orchestrator


@dataclass(frozen=True, slots=True)
class Held:
    """The run that an instance still owns when it attaches again."""

    run: RunRef
    last_acked_commit: int
    step_no: int


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a stream."""

    worker_id: str
    instance_id: str
    build: str
    llm_endpoints: tuple[str, ...]
    template_version_id: str | None = None
    labels: tuple[str, ...] = ()
    held: Held | None = None
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The instance lives; with a run it asks for the lease's renewal."""

    nonce: int
    run: RunRef | None
    loop_lag: timedelta


@dataclass(frozen=True, slots=True)
class Accepted:
    """The instance took the run, or says why not."""

    run: RunRef
    refused_code: str | None = None


@dataclass(frozen=True, slots=True)
class Draining:
    """No new run for this slot."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ready:
    """The reset is finished; the instance is idle again."""

    template_version_id: str


WorkerFrame = Hello | Heartbeat | Accepted | Commit | TextDelta | Draining | Ready


# --- orchestrator to worker


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to Hello, with the times that the worker has to keep."""

    attachment_id: str
    heartbeat: timedelta
    lease: timedelta
    permit: timedelta
    held_kept: bool = False
    held_last_commit: int = 0
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Ack:
    """What became of a commit."""

    run: RunRef
    commit_no: int
    verdict: Verdict
    last_seq: int = 0
    retry: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class HeartbeatAck:
    """`still_yours` as of now; `renewed_nonce` names the last heartbeat whose renewal is stored."""

    nonce: int
    still_yours: bool
    renewed_nonce: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """The run is no longer this instance's."""

    run: RunRef
    reason: str


@dataclass(frozen=True, slots=True)
class Pin:
    """The idle slot serves this template version from now on."""

    template: TemplateVersion


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish the current step within the cap, then let go."""

    step_cap: timedelta


OrchestratorFrame = Welcome | Assignment | Ack | HeartbeatAck | Cancel | Pin | Drain
