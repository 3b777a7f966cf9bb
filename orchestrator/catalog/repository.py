"""Templates and tools in Postgres, as domain types."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from maruntime.domain.rule import ALL_TOOLS
from maruntime.domain.template import TemplateBody, TemplateVersion
from maruntime.domain.tool import ToolDescriptor
from orchestrator.persistence.rows.catalog import (
    TemplateRow,
    TemplateToolRow,
    TemplateVersionRow,
    ToolCheckRow,
    ToolRow,
    ToolVersionRow,
)


@dataclass(frozen=True, slots=True)
class ToolCheck:
    """Whether a worker could load a version of a Python tool."""

    state: str
    """`asked`, `passed` or `failed`."""
    activates: bool
    problem: str | None
    checked_by: str | None
    checked_at: datetime | None


class CatalogRepository:
    """Reads and writes of one database session."""

    def __init__(self, tx: AsyncSession) -> None:
        self._tx = tx

    async def template_by_name(self, name: str, version: int | None = None) -> TemplateVersion | None:
        """The version asked for, or the active one; None when there is none, or when the template is not active."""
        wanted = TemplateRow.active_version if version is None else version
        query = (
            select(TemplateRow.name, TemplateVersionRow)
            .join(TemplateVersionRow, TemplateVersionRow.template_id == TemplateRow.id)
            .where(
                TemplateRow.name == name,
                TemplateVersionRow.version == wanted,
                TemplateRow.active_version.is_not(None),
            )
        )
        return _template((await self._tx.execute(query)).one_or_none())

    async def template_version(self, version_id: str) -> TemplateVersion | None:
        """An immutable version by its id."""
        query = (
            select(TemplateRow.name, TemplateVersionRow)
            .join(TemplateVersionRow, TemplateVersionRow.template_id == TemplateRow.id)
            .where(TemplateVersionRow.id == version_id)
        )
        return _template((await self._tx.execute(query)).one_or_none())

    async def active_templates(self) -> list[TemplateVersion]:
        """The active version of every template, by name."""
        query = (
            select(TemplateRow.name, TemplateVersionRow)
            .join(TemplateVersionRow, TemplateVersionRow.template_id == TemplateRow.id)
            .where(TemplateVersionRow.version == TemplateRow.active_version)
            .order_by(TemplateRow.name)
        )
        found = [_template(row) for row in await self._tx.execute(query)]
        return [template for template in found if template is not None]

    async def active_tools(self) -> list[ToolDescriptor]:
        """The active version of every tool, by name."""
        query = (
            select(ToolRow.name, ToolVersionRow)
            .join(ToolVersionRow, ToolVersionRow.tool_id == ToolRow.id)
            .where(ToolVersionRow.version == ToolRow.active_version)
            .order_by(ToolRow.name)
        )
        return [_tool(name, row) for name, row in (await self._tx.execute(query)).all()]

    async def tool_versions(self, version_ids: set[str]) -> list[ToolDescriptor]:
        """Immutable versions of tools by their ids, whether active or not."""
        query = (
            select(ToolRow.name, ToolVersionRow)
            .join(ToolVersionRow, ToolVersionRow.tool_id == ToolRow.id)
            .where(ToolVersionRow.id.in_(version_ids))
        )
        return [_tool(name, row) for name, row in (await self._tx.execute(query)).all()]

    async def tool_states(self) -> dict[str, bool]:
        """Every tool by name, and whether it is active."""
        rows = await self._tx.execute(select(ToolRow.name, ToolRow.active_version).order_by(ToolRow.name))
        return {name: active is not None for name, active in rows.all()}

    async def active_templates_that_need(self, tool: str) -> list[str]:
        """`name@version` of each active template that cannot work without the tool."""
        query = (
            select(TemplateRow.name, TemplateVersionRow.version)
            .join(TemplateVersionRow, TemplateVersionRow.template_id == TemplateRow.id)
            .join(TemplateToolRow, TemplateToolRow.template_version_id == TemplateVersionRow.id)
            .where(
                TemplateVersionRow.version == TemplateRow.active_version,
                TemplateToolRow.tool_name == tool,
                TemplateToolRow.required,
            )
            .order_by(TemplateRow.name)
        )
        return [f"{name}@{version}" for name, version in (await self._tx.execute(query)).all()]

    async def templates_that_name(self, tool: str, *, limit: int) -> list[dict[str, Any]]:
        """The active versions of templates that name the tool or allow the whole catalog."""
        query = (
            select(
                TemplateRow.name,
                TemplateVersionRow.version,
                func.bool_or(TemplateToolRow.required & (TemplateToolRow.tool_name == tool)).label("required"),
            )
            .join(TemplateVersionRow, TemplateVersionRow.template_id == TemplateRow.id)
            .join(TemplateToolRow, TemplateToolRow.template_version_id == TemplateVersionRow.id)
            .where(
                TemplateVersionRow.version == TemplateRow.active_version,
                TemplateToolRow.tool_name.in_((tool, ALL_TOOLS)),
            )
            .group_by(TemplateRow.name, TemplateVersionRow.version)
            .order_by(TemplateRow.name)
            .limit(limit)
        )
        return [dict(row._mapping) for row in await self._tx.execute(query)]

    def note_tools(self, version_id: str, named: Mapping[str, bool]) -> None:
        """Store which tools a version of a template names, in the transaction that stores the version."""
        self._tx.add_all(
            TemplateToolRow(template_version_id=version_id, tool_name=name, required=required)
            for name, required in named.items()
        )

    # --- checks of python tools

    async def ask_check(self, version_id: str, *, activates: bool) -> None:
        """Ask the workers whether they can load a version; asking again begins anew."""
        statement = insert(ToolCheckRow).values(tool_version_id=version_id, state="asked", activates=activates)
        await self._tx.execute(
            statement.on_conflict_do_update(
                index_elements=[ToolCheckRow.tool_version_id],
                set_={"state": "asked", "activates": activates, "problem": None, "asked_at": func.now()},
            )
        )

    async def inherit_check(self, version_id: str, former_id: str) -> None:
        """Let a version have the check of one that calls the same code."""
        former = await self.check(former_id)
        if former is not None:
            row = ToolCheckRow(tool_version_id=version_id, activates=False)
            row.state, row.problem, row.checked_by = former.state, former.problem, former.checked_by
            row.checked_at = former.checked_at
            self._tx.add(row)

    async def check(self, version_id: str) -> ToolCheck | None:
        """What is known of a version's check."""
        row = await self._tx.get(ToolCheckRow, version_id)
        if row is None:
            return None
        return ToolCheck(row.state, row.activates, row.problem, row.checked_by, row.checked_at)

    async def save_check(self, version_id: str, *, problem: str | None, by: str) -> None:
        """Note what a worker found."""
        change = (
            update(ToolCheckRow)
            .where(ToolCheckRow.tool_version_id == version_id)
            .values(
                state="passed" if problem is None else "failed", problem=problem, checked_by=by, checked_at=func.now()
            )
        )
        await self._tx.execute(change)

    async def unchecked_tools(self, *, limit: int) -> list[ToolDescriptor]:
        """The versions that wait for a worker's check, those that wait longest first."""
        query = (
            select(ToolRow.name, ToolVersionRow)
            .join(ToolVersionRow, ToolVersionRow.tool_id == ToolRow.id)
            .join(ToolCheckRow, ToolCheckRow.tool_version_id == ToolVersionRow.id)
            .where(ToolCheckRow.state == "asked")
            .order_by(ToolCheckRow.asked_at)
            .limit(limit)
        )
        return [_tool(name, row) for name, row in (await self._tx.execute(query)).all()]

    async def tool_name_of(self, version_id: str) -> tuple[str, int] | None:
        """The name and number of a version."""
        query = (
            select(ToolRow.name, ToolVersionRow.version)
            .join(ToolVersionRow, ToolVersionRow.tool_id == ToolRow.id)
            .where(ToolVersionRow.id == version_id)
        )
        row = (await self._tx.execute(query)).one_or_none()
        return None if row is None else (row[0], row[1])


def _template(row: Any) -> TemplateVersion | None:
    if row is None:
        return None
    name, version = row
    return TemplateVersion(
        id=version.id,
        name=name,
        version=version.version,
        body=TemplateBody.model_validate(version.body),
        created_at=version.created_at,
    )


def _tool(name: str, row: ToolVersionRow) -> ToolDescriptor:
    return ToolDescriptor(**{**row.body, "version_id": row.id, "name": name, "version": row.version})
