"""The journal: runs, turns, tool executions, events, artifacts (docs/durability.md)."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from orchestrator.persistence.rows.base import Row

_RUN_STATES = "state in ('QUEUED','RUNNING','WAITING','COMPLETED','FAILED','CANCELLED','EXPIRED','DEAD')"


class RunRow(Row):
    """The work on one user message. Only the journal's statements write it."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(_RUN_STATES, name="state"),
        CheckConstraint("(state = 'RUNNING') = (owner is not null)", name="owner_while_running"),
        CheckConstraint("(state = 'WAITING') = (waiting_for is not null)", name="waits_for_something"),
        Index(
            "one_active",
            "session_id",
            unique=True,
            postgresql_where=text("state in ('QUEUED','RUNNING','WAITING')"),
        ),
        Index(
            "ready",
            text("depth desc"),
            text("priority desc"),
            "accepted_at",
            "id",
            postgresql_where=text("state = 'QUEUED'"),
        ),
        Index("lease", "lease_until", postgresql_where=text("state = 'RUNNING'")),
        Index("waits", "waiting_until", postgresql_where=text("state = 'WAITING'")),
        Index("queued_until", "deadline", postgresql_where=text("state = 'QUEUED' and started_at is null")),
        Index(None, "session_id", "accepted_at"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    principal_id: Mapped[str]
    turn_id: Mapped[str]
    template_version_id: Mapped[str] = mapped_column(ForeignKey("agent_template_versions.id"))
    llm_endpoint: Mapped[str]
    state: Mapped[str]
    waiting_for: Mapped[str | None]
    waiting_until: Mapped[datetime | None]
    priority: Mapped[int] = mapped_column(server_default="0")
    depth: Mapped[int] = mapped_column(server_default="0")
    accepted_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deadline: Mapped[datetime]
    """Of the current turn: it is never started past it."""
    started_at: Mapped[datetime | None]
    """When the current turn was first put on a slot; what goes back to the queue after that is not late."""
    ended_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    epoch: Mapped[int] = mapped_column(BigInteger, server_default="0")
    owner: Mapped[str | None]
    last_owner: Mapped[str | None]
    attachment: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    commit_no: Mapped[int] = mapped_column(BigInteger, server_default="0")
    step_no: Mapped[int] = mapped_column(server_default="0")
    last_seq: Mapped[int] = mapped_column(BigInteger, server_default="0")
    transcript_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Size of the session's transcript after this run's latest commit."""
    counters: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    context: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    failure: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)


class TurnRow(Row):
    """One HTTP request that feeds a run."""

    __tablename__ = "turns"
    __table_args__ = (UniqueConstraint("principal_id", "request_key"), Index(None, "run_id"))

    id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    principal_id: Mapped[str]
    request_key: Mapped[str | None]
    request_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    first_seq: Mapped[int] = mapped_column(BigInteger)
    deadline: Mapped[datetime]
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    completion_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cached_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    delivered_at: Mapped[datetime | None]


class ToolExecutionRow(Row):
    """A tool call; its place in the run is its key."""

    __tablename__ = "tool_executions"
    __table_args__ = (
        CheckConstraint("state in ('planned','started','done')", name="state"),
        CheckConstraint("effect_class in ('pure','keyed','at_most_once')", name="effect_class"),
        Index("open_calls", "run_id", postgresql_where=text("state <> 'done'")),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    step_no: Mapped[int] = mapped_column(primary_key=True)
    call_idx: Mapped[int] = mapped_column(primary_key=True)
    call_id: Mapped[str]
    tool_name: Mapped[str]
    tool_version_id: Mapped[str] = mapped_column(ForeignKey("tool_versions.id"))
    effect_class: Mapped[str]
    arguments: Mapped[dict[str, Any]]
    state: Mapped[str]
    epoch: Mapped[int] = mapped_column(BigInteger)
    done_epoch: Mapped[int | None] = mapped_column(BigInteger)
    tries: Mapped[int] = mapped_column(server_default="0")
    result: Mapped[str | None]
    error_code: Mapped[str | None]
    artifact_id: Mapped[str | None]
    started_at: Mapped[datetime | None]
    done_at: Mapped[datetime | None]


class RunEventRow(Row):
    """A durable event; `seq` is dense per run."""

    __tablename__ = "run_events"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    epoch: Mapped[int] = mapped_column(BigInteger)
    type: Mapped[str]
    payload: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ArtifactRow(Row):
    """Something that a tool made; stored in the commit of the tool's result."""

    __tablename__ = "artifacts"
    __table_args__ = (Index(None, "session_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id", ondelete="CASCADE"))
    name: Mapped[str]
    media_type: Mapped[str]
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
