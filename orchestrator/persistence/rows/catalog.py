"""Tools and templates with their immutable versions. No tenant means shared by all.

A trigger of the database refuses every update of a version (migration 0002).
"""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from orchestrator.persistence.rows.base import Row

_ORIGINS = "origin in ('shipped','admin')"


class ToolRow(Row):
    """A tool by name, and which version of it is active."""

    __tablename__ = "tools"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str | None]
    name: Mapped[str] = mapped_column(unique=True)
    active_version: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ToolVersionRow(Row):
    """An immutable version of a tool."""

    __tablename__ = "tool_versions"
    __table_args__ = (UniqueConstraint("tool_id", "version"), CheckConstraint(_ORIGINS, name="origin"))

    id: Mapped[str] = mapped_column(primary_key=True)
    tool_id: Mapped[str] = mapped_column(ForeignKey("tools.id", ondelete="CASCADE"))
    version: Mapped[int]
    body: Mapped[dict[str, Any]]
    origin: Mapped[str] = mapped_column(server_default="shipped")
    """`shipped` for what came with a release, `admin` for what came over the API."""
    created_by: Mapped[str | None]
    """The principal that saved it."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TemplateRow(Row):
    """A template by name, and which version of it new sessions begin with."""

    __tablename__ = "agent_templates"

    id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str | None]
    name: Mapped[str] = mapped_column(unique=True)
    active_version: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TemplateVersionRow(Row):
    """An immutable version of a template."""

    __tablename__ = "agent_template_versions"
    __table_args__ = (UniqueConstraint("template_id", "version"), CheckConstraint(_ORIGINS, name="origin"))

    id: Mapped[str] = mapped_column(primary_key=True)
    template_id: Mapped[str] = mapped_column(ForeignKey("agent_templates.id", ondelete="CASCADE"))
    version: Mapped[int]
    body: Mapped[dict[str, Any]]
    origin: Mapped[str] = mapped_column(server_default="shipped")
    """`shipped` for what came with a release, `admin` for what came over the API."""
    created_by: Mapped[str | None]
    """The principal that saved it."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TemplateToolRow(Row):
    """A tool that a version of a template names; `*` is the whole catalog. Written with the version."""

    __tablename__ = "agent_template_tools"
    __table_args__ = (Index(None, "tool_name"),)

    template_version_id: Mapped[str] = mapped_column(
        ForeignKey("agent_template_versions.id", ondelete="CASCADE"), primary_key=True
    )
    tool_name: Mapped[str] = mapped_column(primary_key=True)
    required: Mapped[bool]
    """Without the tool, a session of this version cannot work."""


class ToolCheckRow(Row):
    """Whether a worker could load a version of a Python tool. It is not active before one could."""

    __tablename__ = "tool_checks"
    __table_args__ = (
        CheckConstraint("state in ('asked','passed','failed')", name="state"),
        Index("asked", "asked_at", postgresql_where=text("state = 'asked'")),
    )

    tool_version_id: Mapped[str] = mapped_column(ForeignKey("tool_versions.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[str] = mapped_column(server_default="asked")
    activates: Mapped[bool]
    """The version becomes active when the check passes."""
    problem: Mapped[str | None]
    checked_by: Mapped[str | None]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    checked_at: Mapped[datetime | None]
