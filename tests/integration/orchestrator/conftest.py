"""The journal and the catalog on a real Postgres, with a window on the rows behind them."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.testing.clock import FakeClock
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.catalog.tools import ToolCatalog
from orchestrator.persistence.engine import opened_engine, opened_pool
from orchestrator.settings import DatabaseSettings
from tests.integration.orchestrator.ledger import Ledger, journal_over


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    async with opened_pool(database_url, DatabaseSettings(journal_connections=20)) as pool:
        yield pool


@pytest.fixture
async def maker(database_url: str) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    async with opened_engine(database_url, DatabaseSettings()) as maker:
        yield maker


@pytest.fixture
def templates(maker: async_sessionmaker[AsyncSession], clock: FakeClock) -> TemplateCatalog:
    return TemplateCatalog(maker, clock)


@pytest.fixture
def tools(maker: async_sessionmaker[AsyncSession], clock: FakeClock) -> ToolCatalog:
    return ToolCatalog(maker, clock)


@pytest.fixture
async def ledger(pool: "asyncpg.Pool[Any]", templates: TemplateCatalog, tools: ToolCatalog) -> Ledger:
    """The journal with the assistant's template and a window on the rows."""
    tool = (await tools.active())["create_report"]
    return Ledger(journal_over(pool), pool, await templates.by_name("assistant"), tool.version_id)
