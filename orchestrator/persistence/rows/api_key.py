"""API keys: only their hashes."""

from datetime import datetime

from sqlalchemy import ARRAY, LargeBinary, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from orchestrator.persistence.rows.base import Row


class ApiKeyRow(Row):
    """A key that may call us, or a worker's join token."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    principal_id: Mapped[str]
    name: Mapped[str]
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    origin: Mapped[str]
    """`environment` for keys hashed in at start, `admin` for keys made over the API."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
