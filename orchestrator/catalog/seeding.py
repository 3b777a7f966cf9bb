"""Load the shipped tools and templates, which are data files, into the catalog.

Running it again changes nothing; a release that ships a changed file adds a
version. Versions that an operator added by hand stay, and stay active, as long
as the shipped file is the same as when it was last loaded.
"""

from pathlib import Path
from typing import Any

import structlog
import yaml
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.domain.template import TemplateBody
from maruntime.domain.tool import ToolDescriptor
from orchestrator.catalog.repository import CatalogRepository
from orchestrator.persistence.transaction import transaction

_DEFAULTS = Path(__file__).parent / "defaults"
_LOCK = 0x6D61_7273

log = structlog.get_logger()


async def seed_defaults(maker: async_sessionmaker[AsyncSession]) -> None:
    """Put every shipped tool and template into the catalog."""
    async with transaction(maker) as tx:
        await tx.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        catalog = CatalogRepository(tx)
        for name, body in shipped_tools().items():
            if await catalog.save_tool(name, body):
                log.info("tool_seeded", tool=name)
        for name, template in shipped_templates().items():
            if await catalog.save_template(name, template):
                log.info("template_seeded", template=name)


def shipped_tools() -> dict[str, dict[str, Any]]:
    """The bodies of the shipped tools, checked against the descriptor."""
    bodies = {}
    for path in sorted((_DEFAULTS / "tools").glob("*.yaml")):
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        tool = ToolDescriptor(version_id="", **said)
        bodies[tool.name] = tool.model_dump(mode="json", exclude={"version_id", "name"})
    return bodies


def shipped_templates() -> dict[str, TemplateBody]:
    """The bodies of the shipped templates; every tool that they name is shipped too."""
    known = shipped_tools().keys()
    bodies = {}
    for path in sorted((_DEFAULTS / "templates").glob("*.yaml")):
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = said.pop("name")
        bodies[name] = TemplateBody.model_validate(said)
        unknown = set(bodies[name].tools) - known
        if unknown:
            raise ValueError(f"{path.name} names tools that are not shipped: {sorted(unknown)}")
    return bodies
