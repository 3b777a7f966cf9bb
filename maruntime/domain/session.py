"""The durable conversation; its id is what a client may pass as `model`."""

from dataclasses import dataclass
from datetime import datetime

from maruntime.domain.run import RunState, WaitingFor

IDLE = "IDLE"
"""What clients see of a session that has no run."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session with the state of its latest run, which is what clients see as its own."""

    id: str
    tenant_id: str
    principal_id: str
    template: str
    template_version_id: str
    template_version: int
    created_at: datetime
    closed_at: datetime | None = None
    run_id: str | None = None
    run_state: RunState | None = None
    waiting_for: WaitingFor | None = None

    @property
    def state(self) -> str:
        """CLOSED, the state of the latest run, or IDLE."""
        if self.closed_at is not None:
            return "CLOSED"
        return self.run_state.value if self.run_state else IDLE
