"""Templates by name and by version. The `TemplateService` of the roadmap.

Versions are immutable and kept in memory once read; which version of a name is
active is asked for again after `fresh_for`.
"""

from collections import OrderedDict
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.clock import Clock
from maruntime.domain.template import TemplateVersion
from maruntime.errors import ModelNotFound
from orchestrator.catalog.repository import CatalogRepository
from orchestrator.persistence.transaction import transaction

_KEPT_VERSIONS = 1000


class TemplateCatalog:
    """Reads of templates."""

    def __init__(
        self, maker: async_sessionmaker[AsyncSession], clock: Clock, *, fresh_for: timedelta = timedelta(seconds=1)
    ) -> None:
        self._maker = maker
        self._clock = clock
        self._fresh_for = fresh_for.total_seconds()
        self._active: dict[str, tuple[float, TemplateVersion]] = {}
        self._versions: OrderedDict[str, TemplateVersion] = OrderedDict()
        self._changes = 0

    async def by_name(self, name: str, version: int | None = None) -> TemplateVersion:
        """The active version of a template, or the one asked for.

        Raises:
            ModelNotFound: no such template, no such version of it, or the template is not active.
        """
        known = self._active.get(name)
        asked_at, changes = self._clock.monotonic(), self._changes
        if version is None and known and asked_at - known[0] < self._fresh_for:
            return known[1]
        async with transaction(self._maker) as tx:
            template = await CatalogRepository(tx).template_by_name(name, version)
        if template is None:
            asked = name if version is None else f"{name}@{version}"
            raise ModelNotFound(f"The model {asked!r} does not exist", model=asked)
        if version is None and changes == self._changes:  # else it may be what was active before
            self._active[name] = (asked_at, template)
        self._remember(template)
        return template

    async def by_version_id(self, version_id: str) -> TemplateVersion:
        """An immutable version.

        Raises:
            ModelNotFound: no such version.
        """
        if version_id in self._versions:
            self._versions.move_to_end(version_id)
            return self._versions[version_id]
        async with transaction(self._maker) as tx:
            template = await CatalogRepository(tx).template_version(version_id)
        if template is None:
            raise ModelNotFound(model=version_id)
        self._remember(template)
        return template

    async def active(self) -> list[TemplateVersion]:
        """The active version of every template, by name."""
        async with transaction(self._maker) as tx:
            return await CatalogRepository(tx).active_templates()

    def forget(self) -> None:
        """Ask again which versions are active: this replica has just changed the catalog."""
        self._changes += 1
        self._active.clear()

    def _remember(self, template: TemplateVersion) -> None:
        self._versions[template.id] = template
        if len(self._versions) > _KEPT_VERSIONS:
            self._versions.popitem(last=False)
