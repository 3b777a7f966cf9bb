"""Load the shipped tools and templates, which are data files, into the catalog.

Running it again changes nothing; a release that ships a changed file adds a
version. It becomes active unless an operator has decided otherwise: where the
active version is not the newest shipped one, it stays active.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
import yaml
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.domain.rule import ALL_TOOLS
from maruntime.domain.template import TemplateBody
from maruntime.domain.tool import ToolDescriptor
from orchestrator.catalog import editions
from orchestrator.catalog.editions import SHIPPED, Edition, Shelf
from orchestrator.catalog.repository import CatalogRepository
from orchestrator.catalog.template_checks import named_tools
from orchestrator.catalog.tool_checks import ToolDraft, body_of
from orchestrator.persistence.transaction import transaction

_DEFAULTS = Path(__file__).parent / "defaults"

log = structlog.get_logger()


async def seed_defaults(maker: async_sessionmaker[AsyncSession]) -> None:
    """Put every shipped tool and template into the catalog."""
    await seed(maker, shipped_tools(), shipped_templates())


async def seed(
    maker: async_sessionmaker[AsyncSession], tools: dict[str, dict[str, Any]], templates: dict[str, TemplateBody]
) -> None:
    """Put these tools and templates into the catalog, as a release ships them."""
    async with transaction(maker) as tx:
        await editions.locked(tx)
        catalog = CatalogRepository(tx)
        for name, body in tools.items():
            await _put(editions.tools(tx), "tool", name, body, stored_tool)
        for name, template in templates.items():
            body = template.model_dump(mode="json")
            added = await _put(editions.templates(tx), "template", name, body, stored_template)
            if added is not None:
                catalog.note_tools(added.id, named_tools(template))


def shipped_tools() -> dict[str, dict[str, Any]]:
    """The bodies of the shipped tools, checked against the descriptor."""
    bodies = {}
    for path in sorted((_DEFAULTS / "tools").glob("*.yaml")):
        tool = _read(path, ToolDraft, yaml.safe_load(path.read_text(encoding="utf-8")))
        bodies[tool.name] = body_of(tool)
    return bodies


def shipped_templates() -> dict[str, TemplateBody]:
    """The bodies of the shipped templates; every tool that they name is shipped too."""
    known = shipped_tools().keys() | {ALL_TOOLS}
    bodies = {}
    for path in sorted((_DEFAULTS / "templates").glob("*.yaml")):
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        name = said.pop("name")
        bodies[name] = _read(path, TemplateBody, said)
        unknown = set(bodies[name].tools) - known
        if unknown:
            raise ValueError(f"{path.name} names tools that are not shipped: {sorted(unknown)}")
    return bodies


def stored_tool(body: dict[str, Any]) -> dict[str, Any]:
    """A tool's body as this release writes it: fields that are new have their defaults."""
    return body_of(ToolDescriptor(**{**body, "version_id": "", "name": "stored"}))


def stored_template(body: dict[str, Any]) -> dict[str, Any]:
    """A template's body as this release writes it: fields that are new have their defaults."""
    return TemplateBody.model_validate(body).model_dump(mode="json")


async def _put(
    shelf: Shelf,
    kind: str,
    name: str,
    body: dict[str, Any],
    as_stored: Callable[[dict[str, Any]], dict[str, Any]],
) -> Edition | None:
    entry = await shelf.entry(name)
    is_new = entry is None
    if entry is None:
        entry = await shelf.create(name)
    known = await shelf.editions(entry)
    shipped = [edition for edition in known if edition.origin == SHIPPED]
    if shipped and _says(shipped[0], body, as_stored):
        return None
    added = await shelf.add(entry, body, origin=SHIPPED)
    activates = is_new or (bool(shipped) and entry.active_version == shipped[0].version)
    if activates:
        await shelf.activate(entry, added.version)
    log.info("catalog_seeded", kind=kind, name=name, version=added.version, activated=activates)
    return added


def _says(edition: Edition, body: dict[str, Any], as_stored: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
    try:
        return as_stored(edition.body) == body
    except ValidationError:
        return False  # of a release whose fields were others


def _read(path: Path, model: type[BaseModel], said: dict[str, Any]) -> Any:
    try:
        return model.model_validate(said)
    except ValidationError as exc:
        raise ValueError(f"{path.name}: {exc}") from exc
