"""The shipped catalog, versions that stay, and what an operator changed."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.errors import ModelNotFound
from maruntime.testing.clock import FakeClock
from orchestrator.catalog import editions
from orchestrator.catalog.editions import ADMIN, Shelf
from orchestrator.catalog.seeding import seed_defaults, shipped_templates, shipped_tools
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.catalog.tool_checks import body_of
from orchestrator.catalog.tools import ToolCatalog
from orchestrator.persistence.engine import opened_engine
from orchestrator.persistence.transaction import transaction
from orchestrator.settings import DatabaseSettings
from tests.integration.orchestrator.ledger import Ledger

Maker = async_sessionmaker[AsyncSession]


async def whole(ledger: Ledger) -> list[object]:
    tables = ("agent_templates", "agent_template_versions", "tools", "tool_versions")
    return [[tuple(row) for row in await ledger.pool.fetch(f"select * from {table} order by id")] for table in tables]


async def revise(maker: Maker, description: str) -> None:
    """What an operator does: another version, which becomes the active one."""
    body = shipped_templates()["assistant"].model_copy(update={"description": description})
    async with transaction(maker) as tx:
        await _put(editions.templates(tx), "assistant", body.model_dump(mode="json"))


async def _put(shelf: Shelf, name: str, body: dict[str, Any]) -> None:
    entry = await shelf.entry(name)
    assert entry is not None
    added = await shelf.add(entry, body, origin=ADMIN)
    await shelf.activate(entry, added.version)


async def test_what_is_shipped_is_in_the_catalog(templates: TemplateCatalog, tools: ToolCatalog) -> None:
    active = {template.name: template.body for template in await templates.active()}

    assert active == shipped_templates()
    assert (await tools.active()).keys() == shipped_tools().keys()


async def test_seeding_again_changes_nothing(ledger: Ledger, maker: Maker) -> None:
    before = await whole(ledger)

    await seed_defaults(maker)

    assert await whole(ledger) == before


async def test_processes_that_seed_at_once_make_one_version_of_each(ledger: Ledger, maker: Maker) -> None:
    await ledger.pool.execute("truncate agent_templates, tools cascade")

    await asyncio.gather(*(seed_defaults(maker) for _ in range(4)))

    assert await ledger.count("agent_template_versions") == len(shipped_templates())
    assert await ledger.count("tool_versions") == len(shipped_tools())


async def test_the_version_that_an_operator_made_active_survives_seeding(
    maker: Maker, templates: TemplateCatalog
) -> None:
    await revise(maker, "Ours.")

    await seed_defaults(maker)

    active = await templates.by_name("assistant")
    assert (active.version, active.body.description) == (2, "Ours.")


async def test_an_operator_may_go_back_to_a_former_version_and_seeding_leaves_it(
    ledger: Ledger, maker: Maker, templates: TemplateCatalog, clock: FakeClock
) -> None:
    await revise(maker, "Ours.")
    await revise(maker, "Ours, better.")
    await ledger.pool.execute("update agent_templates set active_version = 2 where name = 'assistant'")

    await seed_defaults(maker)

    clock.advance(2)
    assert (await templates.by_name("assistant")).body.description == "Ours."


async def test_a_template_is_found_by_name_and_by_name_and_version(maker: Maker, templates: TemplateCatalog) -> None:
    await revise(maker, "Ours.")

    first, second = await templates.by_name("assistant", 1), await templates.by_name("assistant", 2)

    assert (first.version, second.version) == (1, 2)
    assert (await templates.by_name("assistant")).id == second.id
    assert await templates.by_version_id(first.id) == first


@pytest.mark.parametrize(("name", "version", "asked"), [("nobody", None, "nobody"), ("assistant", 9, "assistant@9")])
async def test_what_is_not_there_is_named_as_it_was_asked_for(
    templates: TemplateCatalog, name: str, version: int | None, asked: str
) -> None:
    with pytest.raises(ModelNotFound) as refused:
        await templates.by_name(name, version)

    assert repr(asked) in refused.value.message


async def test_a_version_that_is_not_there_is_an_error(templates: TemplateCatalog) -> None:
    with pytest.raises(ModelNotFound):
        await templates.by_version_id("tplv_unknown")


async def test_another_active_version_is_seen_within_a_second(
    maker: Maker, templates: TemplateCatalog, clock: FakeClock
) -> None:
    await templates.by_name("assistant")
    await revise(maker, "Ours.")

    clock.advance(0.9)
    still = await templates.by_name("assistant")
    clock.advance(0.2)

    assert (still.version, (await templates.by_name("assistant")).version) == (1, 2)


async def test_a_version_that_was_read_once_needs_no_store(database_url: str, clock: FakeClock) -> None:
    async with opened_engine(database_url, DatabaseSettings()) as maker:
        templates = TemplateCatalog(maker, clock)
        known = await templates.by_name("assistant")
        gone = TemplateCatalog.__new__(TemplateCatalog)
        gone.__dict__ = templates.__dict__ | {"_maker": None}

        assert await gone.by_version_id(known.id) == known


async def test_tools_are_offered_in_the_order_asked_for_and_with_planned_versions(
    ledger: Ledger, maker: Maker, tools: ToolCatalog, clock: FakeClock
) -> None:
    old = (await tools.active())["create_report"]
    async with transaction(maker) as tx:
        await _put(editions.tools(tx), "create_report", body_of(old.model_copy(update={"description": "Newer."})))
    clock.advance(2)

    offered = await tools.offered(["final_answer", "unknown", "create_report"], {old.version_id})

    assert [tool.name for tool in offered] == ["final_answer", "create_report", "create_report"]
    assert [tool.description for tool in offered[1:]] == ["Newer.", old.description]
