"""Sessions and their transcripts."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from orchestrator.persistence.rows.base import Row


class SessionRow(Row):
    """A durable conversation."""

    __tablename__ = "sessions"
    __table_args__ = (Index(None, "principal_id", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    principal_id: Mapped[str]
    template_version_id: Mapped[str] = mapped_column(ForeignKey("agent_template_versions.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    closed_at: Mapped[datetime | None]


class SessionMessageRow(Row):
    """One message of a transcript.

    `id` orders the messages of a session: its writes follow one another, since
    one run is active at a time and commits of a run are dense.
    """

    __tablename__ = "session_messages"
    __table_args__ = (Index(None, "session_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    session_id: Mapped[str] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    run_id: Mapped[str | None]
    step_no: Mapped[int | None]
    role: Mapped[str]
    content: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    tool_calls: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    tool_call_id: Mapped[str | None]
    name: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
