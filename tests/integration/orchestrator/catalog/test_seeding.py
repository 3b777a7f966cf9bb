"""Seeding a real database: idempotent, and an operator's decision survives it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.domain.template import TemplateBody
from orchestrator.catalog import editions
from orchestrator.catalog.editions import ADMIN, Entry
from orchestrator.catalog.seeding import seed, seed_defaults, shipped_templates, shipped_tools
from orchestrator.catalog.template_checks import check_template, prompt_packs
from orchestrator.catalog.tool_checks import schema_problems
from orchestrator.persistence.engine import opened_engine
from orchestrator.persistence.transaction import transaction
from orchestrator.settings import DatabaseSettings

Maker = async_sessionmaker[AsyncSession]
ROOT = Path(__file__).parents[4]


@pytest.fixture
async def maker(database_url: str) -> AsyncIterator[Maker]:
    async with opened_engine(database_url, DatabaseSettings()) as maker:
        yield maker


async def _entry(maker: Maker, name: str = "create_report") -> Entry:
    async with transaction(maker) as tx:
        entry = await editions.tools(tx).entry(name)
    assert entry is not None
    return entry


async def _operator_adds(maker: Maker, body: dict[str, Any]) -> None:
    async with transaction(maker) as tx:
        shelf = editions.tools(tx)
        entry = await shelf.entry("create_report")
        assert entry is not None
        added = await shelf.add(entry, body, origin=ADMIN, created_by="operator")
        await shelf.activate(entry, added.version)


async def test_seeding_again_changes_nothing(maker: Maker) -> None:
    before = await _entry(maker)

    await seed_defaults(maker)

    assert await _entry(maker) == before
    assert (before.active_version, before.latest_version) == (1, 1)


async def test_a_changed_file_adds_a_version_and_activates_it(maker: Maker) -> None:
    body = {**shipped_tools()["create_report"], "description": "New words."}

    await seed(maker, {"create_report": body}, {})
    await seed(maker, {"create_report": body}, {})

    assert (await _entry(maker)).active_version == 2
    assert (await _entry(maker)).latest_version == 2


async def test_an_operators_active_version_survives_a_changed_file(maker: Maker) -> None:
    shipped = shipped_tools()["create_report"]
    await _operator_adds(maker, {**shipped, "description": "My words."})

    await seed(maker, {"create_report": {**shipped, "description": "New words."}}, {})

    assert ((await _entry(maker)).active_version, (await _entry(maker)).latest_version) == (2, 3)


async def test_a_tool_that_an_operator_took_out_of_use_stays_out(maker: Maker) -> None:
    async with transaction(maker) as tx:
        await editions.tools(tx).activate(await _entry(maker), None)

    await seed(maker, {"create_report": {**shipped_tools()["create_report"], "description": "New words."}}, {})

    assert (await _entry(maker)).active_version is None


async def test_an_operators_own_tool_is_not_taken_over_by_a_release(maker: Maker) -> None:
    async with transaction(maker) as tx:
        shelf = editions.tools(tx)
        entry = await shelf.create("own_tool")
        await shelf.activate(entry, (await shelf.add(entry, shipped_tools()["create_report"], origin=ADMIN)).version)

    await seed(maker, {"own_tool": shipped_tools()["final_answer"]}, {})

    assert ((await _entry(maker, "own_tool")).active_version, (await _entry(maker, "own_tool")).latest_version) == (
        1,
        2,
    )


async def test_a_field_that_is_new_in_a_release_is_no_change(maker: Maker) -> None:
    """A body that an older release stored lacks the optional fields of this one."""
    older = {
        name: value for name, value in shipped_tools()["create_report"].items() if name not in ("aliases", "remote")
    }
    await seed(maker, {"older": {**older, "version": 1}}, {})

    await seed(maker, {"older": shipped_tools()["create_report"]}, {})

    assert (await _entry(maker, "older")).latest_version == 1


async def test_a_seeded_template_stores_the_tools_that_it_names(maker: Maker) -> None:
    from orchestrator.catalog.repository import CatalogRepository

    body = TemplateBody(kind="sgr_tool_calling", description="x", tools=("reasoning", "create_report", "final_answer"))  # type: ignore[arg-type]
    await seed(maker, {}, {"seeded": body})

    async with transaction(maker) as tx:
        catalog = CatalogRepository(tx)
        needs = [await catalog.active_templates_that_need(tool) for tool in ("reasoning", "create_report")]
    assert "seeded@1" in needs[0]
    assert "seeded@1" not in needs[1]


def test_what_is_shipped_could_be_saved_over_the_api() -> None:
    tools = shipped_tools()

    for name, body in tools.items():
        assert list(schema_problems(body["parameters"], name)) == []
    for name, template in shipped_templates().items():
        _, problems = check_template(template.model_dump(mode="json"), dict.fromkeys(tools, True))
        assert [problem for problem in problems if problem.severity == "error"] == [], name


def test_the_declared_prompt_packs_are_those_of_the_worker() -> None:
    folders = {folder.name for folder in (ROOT / "agent_worker" / "prompts" / "packs").iterdir() if folder.is_dir()}

    assert folders - {"__pycache__"} == prompt_packs()
