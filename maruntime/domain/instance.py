"""A slot's life while it is pinned to one template version."""

from dataclasses import dataclass
from enum import StrEnum


class InstanceState(StrEnum):
    """Where an instance stands."""

    PINNING = "PINNING"
    IDLE = "IDLE"
    CLAIMED = "CLAIMED"
    RUNNING = "RUNNING"
    RESETTING = "RESETTING"
    DRAINING = "DRAINING"
    GONE = "GONE"
    LOST = "LOST"


INSTANCE_TRANSITIONS: dict[InstanceState, frozenset[InstanceState]] = {
    InstanceState.IDLE: frozenset({InstanceState.CLAIMED}),
    InstanceState.CLAIMED: frozenset(
        {InstanceState.PINNING, InstanceState.RUNNING, InstanceState.IDLE, InstanceState.RESETTING}
    ),
    InstanceState.PINNING: frozenset({InstanceState.CLAIMED}),
    InstanceState.RUNNING: frozenset({InstanceState.RESETTING}),
    InstanceState.RESETTING: frozenset({InstanceState.IDLE}),
    InstanceState.DRAINING: frozenset({InstanceState.GONE}),
    InstanceState.GONE: frozenset(),
    InstanceState.LOST: frozenset(),
}
"""What may follow what; DRAINING, GONE and LOST may follow anything that lives."""


def can_become(now: InstanceState, then: InstanceState) -> bool:
    """Whether an instance may go from one state to another."""
    if now in (InstanceState.GONE, InstanceState.LOST):
        return False
    if then in (InstanceState.DRAINING, InstanceState.GONE, InstanceState.LOST):
        return True
    return then in INSTANCE_TRANSITIONS[now]


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance as the registry shows it."""

    instance_id: str
    worker_id: str
    replica: str
    attachment: str
    state: InstanceState
    template: str | None = None
    template_version_id: str | None = None
    run_id: str | None = None
    runs_served: int = 0
    llm_endpoints: tuple[str, ...] = ()
