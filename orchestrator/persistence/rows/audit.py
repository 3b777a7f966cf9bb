"""Who changed what over the admin API. Rows are added and never updated; a trigger sees to it (migration 0002)."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Identity, Index, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from orchestrator.persistence.rows.base import Row


class AuditRow(Row):
    """One change, written in the transaction that made it."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "tenant_id", "id"), Index(None, "tenant_id", "target", "id"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant_id: Mapped[str]
    principal_id: Mapped[str]
    key_id: Mapped[str | None]
    request_id: Mapped[str | None]
    action: Mapped[str]
    """In the past tense: `tool.created`."""
    target: Mapped[str]
    """Kind and name: `tool:get_weather`."""
    before: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    after: Mapped[Any] = mapped_column(JSONB(none_as_null=True), nullable=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
