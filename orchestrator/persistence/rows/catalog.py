"""Tools and templates with their immutable versions. No tenant means shared by all."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from orchestrator.persistence.rows.base import Row


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
    __table_args__ = (UniqueConstraint("tool_id", "version"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    tool_id: Mapped[str] = mapped_column(ForeignKey("tools.id", ondelete="CASCADE"))
    version: Mapped[int]
    body: Mapped[dict[str, Any]]
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
    __table_args__ = (UniqueConstraint("template_id", "version"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    template_id: Mapped[str] = mapped_column(ForeignKey("agent_templates.id", ondelete="CASCADE"))
    version: Mapped[int]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
