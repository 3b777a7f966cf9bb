"""Named things with immutable, numbered versions in Postgres: what tools and templates have in common.

Versions of a thing are dense from 1. Whoever adds or activates one holds the
catalog's lock (`locked`), so that what was checked still holds when it is stored.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from maruntime.ids import new_id
from orchestrator.persistence.rows.catalog import TemplateRow, TemplateVersionRow, ToolRow, ToolVersionRow

_LOCK = 0x6D61_7273
SHIPPED, ADMIN = "shipped", "admin"


@dataclass(frozen=True, slots=True)
class Entry:
    """A thing by its name, and how its versions stand."""

    id: str
    name: str
    active_version: int | None
    latest_version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Edition:
    """An immutable version of it."""

    id: str
    version: int
    body: dict[str, Any]
    origin: str
    created_by: str | None
    created_at: datetime


async def locked(tx: AsyncSession) -> None:
    """Let no one else change the catalog until the transaction ends."""
    await tx.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})


class Shelf:
    """The entries of one kind: reads and writes of one database session."""

    def __init__(
        self,
        tx: AsyncSession,
        entries: type[ToolRow] | type[TemplateRow],
        editions: type[ToolVersionRow] | type[TemplateVersionRow],
    ) -> None:
        self._tx = tx
        self._entries = entries
        self._editions = editions
        self._owner = ToolVersionRow.tool_id if editions is ToolVersionRow else TemplateVersionRow.template_id
        self._prefix = "tool" if entries is ToolRow else "tpl"

    async def entry(self, name: str) -> Entry | None:
        """A thing by its name."""
        return next(iter(await self._found(self._query().where(self._entries.name == name))), None)

    async def page(self, *, limit: int, after: str | None, active: bool | None) -> list[tuple[Entry, Edition]]:
        """Things by name, each with its active version, or its latest one when none is active."""
        query = self._query().order_by(self._entries.name).limit(limit)
        if after is not None:
            query = query.where(self._entries.name > after)
        if active is not None:
            is_active = self._entries.active_version.is_not(None)
            query = query.where(is_active if active else ~is_active)
        entries = await self._found(query)
        shown = [(entry.id, entry.active_version or entry.latest_version) for entry in entries]
        rows = await self._tx.scalars(
            select(self._editions).where(tuple_(self._owner, self._editions.version).in_(shown))
        )
        by_owner = {getattr(row, self._owner.key): _edition(row) for row in rows}
        return [(entry, by_owner[entry.id]) for entry in entries]

    async def edition(self, entry: Entry, version: int) -> Edition | None:
        """One version of a thing."""
        query = select(self._editions).where(self._owner == entry.id, self._editions.version == version)
        row = (await self._tx.scalars(query)).one_or_none()
        return None if row is None else _edition(row)

    async def editions(self, entry: Entry, *, limit: int | None = None, before: int | None = None) -> list[Edition]:
        """The versions of a thing, newest first."""
        query = select(self._editions).where(self._owner == entry.id).order_by(self._editions.version.desc())
        if before is not None:
            query = query.where(self._editions.version < before)
        return [_edition(row) for row in await self._tx.scalars(query.limit(limit))]

    async def create(self, name: str) -> Entry:
        """Make a thing that has no version yet."""
        row = self._entries(id=new_id(self._prefix), tenant_id=None, name=name)
        self._tx.add(row)
        await self._tx.flush()
        await self._tx.refresh(row)
        return Entry(row.id, row.name, None, 0, row.created_at)

    async def add(self, entry: Entry, body: dict[str, Any], *, origin: str, created_by: str | None = None) -> Edition:
        """Add the next version."""
        row = self._editions(
            id=new_id(f"{self._prefix}v"),
            version=entry.latest_version + 1,
            body=body,
            origin=origin,
            created_by=created_by,
            **{self._owner.key: entry.id},
        )
        self._tx.add(row)
        await self._tx.flush()
        await self._tx.refresh(row)
        return _edition(row)

    async def activate(self, entry: Entry, version: int | None) -> None:
        """Make a version the active one; None makes none active."""
        change = update(self._entries).where(self._entries.id == entry.id).values(active_version=version)
        await self._tx.execute(change)

    def _query(self) -> Select[Any]:
        latest = select(func.max(self._editions.version)).where(self._owner == self._entries.id).scalar_subquery()
        return select(self._entries, func.coalesce(latest, 0))

    async def _found(self, query: Select[Any]) -> list[Entry]:
        return [
            Entry(row.id, row.name, row.active_version, latest, row.created_at)
            for row, latest in (await self._tx.execute(query)).all()
        ]


def tools(tx: AsyncSession) -> Shelf:
    """The tools."""
    return Shelf(tx, ToolRow, ToolVersionRow)


def templates(tx: AsyncSession) -> Shelf:
    """The templates."""
    return Shelf(tx, TemplateRow, TemplateVersionRow)


def _edition(row: ToolVersionRow | TemplateVersionRow) -> Edition:
    return Edition(row.id, row.version, row.body, row.origin, row.created_by, row.created_at)
