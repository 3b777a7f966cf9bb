"""Templates and tools in Postgres, as domain types."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from maruntime.domain.template import TemplateBody, TemplateVersion
from maruntime.domain.tool import ToolDescriptor
from maruntime.ids import new_id
from orchestrator.persistence.rows.catalog import TemplateRow, TemplateVersionRow, ToolRow, ToolVersionRow


class CatalogRepository:
    """Reads and writes of one database session."""

    def __init__(self, tx: AsyncSession) -> None:
        self._tx = tx

    async def template_by_name(self, name: str, version: int | None = None) -> TemplateVersion | None:
        """The version asked for, or the active one; None when there is none."""
        wanted = TemplateRow.active_version if version is None else version
        query = (
            select(TemplateRow.name, TemplateVersionRow)
            .join(TemplateVersionRow, TemplateVersionRow.template_id == TemplateRow.id)
            .where(TemplateRow.name == name, TemplateVersionRow.version == wanted)
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

    async def save_tool(self, name: str, body: dict[str, Any]) -> bool:
        """Add a version and make it active, unless some version says the same already."""
        tool = (await self._tx.execute(select(ToolRow).where(ToolRow.name == name))).scalar_one_or_none()
        if tool is None:
            tool = ToolRow(id=new_id("tool"), tenant_id=None, name=name)
            self._tx.add(tool)
            await self._tx.flush()
        versions = (await self._tx.scalars(select(ToolVersionRow).where(ToolVersionRow.tool_id == tool.id))).all()
        if any(version.body == body for version in versions):
            return False
        version = len(versions) + 1
        self._tx.add(ToolVersionRow(id=new_id("toolv"), tool_id=tool.id, version=version, body=body))
        tool.active_version = version
        return True

    async def save_template(self, name: str, body: TemplateBody) -> bool:
        """Add a version and make it active, unless some version says the same already."""
        said = body.model_dump(mode="json")
        template = (await self._tx.execute(select(TemplateRow).where(TemplateRow.name == name))).scalar_one_or_none()
        if template is None:
            template = TemplateRow(id=new_id("tpl"), tenant_id=None, name=name)
            self._tx.add(template)
            await self._tx.flush()
        versions = (
            await self._tx.scalars(select(TemplateVersionRow).where(TemplateVersionRow.template_id == template.id))
        ).all()
        if any(version.body == said for version in versions):
            return False
        version = len(versions) + 1
        self._tx.add(TemplateVersionRow(id=new_id("tplv"), template_id=template.id, version=version, body=said))
        template.active_version = version
        return True


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
    return ToolDescriptor(version_id=row.id, name=name, **row.body)
