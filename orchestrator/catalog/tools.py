"""Tools by name and by version. The `ToolCatalogService` of the plan."""

from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.clock import Clock
from maruntime.domain.tool import ToolDescriptor
from orchestrator.catalog.repository import CatalogRepository
from orchestrator.persistence.transaction import transaction


class ToolCatalog:
    """Reads of tools; the list of active ones is asked for again after `fresh_for`."""

    def __init__(
        self, maker: async_sessionmaker[AsyncSession], clock: Clock, *, fresh_for: timedelta = timedelta(seconds=1)
    ) -> None:
        self._maker = maker
        self._clock = clock
        self._fresh_for = fresh_for.total_seconds()
        self._read_at = float("-inf")
        self._active: dict[str, ToolDescriptor] = {}
        self._changes = 0

    async def active(self) -> dict[str, ToolDescriptor]:
        """The active version of every tool, by name."""
        asked_at, changes = self._clock.monotonic(), self._changes
        if asked_at - self._read_at < self._fresh_for:
            return self._active
        async with transaction(self._maker) as tx:
            active = {tool.name: tool for tool in await CatalogRepository(tx).active_tools()}
        if changes == self._changes:  # else what was read may be what was there before
            self._active, self._read_at = active, asked_at
        return active

    def forget(self) -> None:
        """Ask again: this replica has just changed the catalog."""
        self._changes += 1
        self._read_at = float("-inf")

    async def offered(self, names: Iterable[str], planned_versions: set[str]) -> tuple[ToolDescriptor, ...]:
        """The active tools of these names in this order, then the versions that open calls were planned with."""
        active = await self.active()
        listed = list(names)
        tools = list(active.values()) if "*" in listed else [active[name] for name in listed if name in active]
        missing = planned_versions - {tool.version_id for tool in tools}
        if missing:
            async with transaction(self._maker) as tx:
                tools.extend(await CatalogRepository(tx).tool_versions(missing))
        return tuple(tools)
