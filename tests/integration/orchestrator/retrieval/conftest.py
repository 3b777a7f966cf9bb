"""The tool search over a real Postgres."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from orchestrator.persistence.engine import opened_pool
from orchestrator.retrieval.hashed import HashedEmbedding
from orchestrator.retrieval.index import ToolIndex
from orchestrator.retrieval.search import ToolSearch
from orchestrator.settings import DatabaseSettings


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    async with opened_pool(database_url, DatabaseSettings()) as pool:
        yield pool


@pytest.fixture
def embedder() -> HashedEmbedding:
    return HashedEmbedding()


@pytest.fixture
def index(pool: "asyncpg.Pool[Any]", embedder: HashedEmbedding) -> ToolIndex:
    return ToolIndex(pool, [embedder])


@pytest.fixture
def search(pool: "asyncpg.Pool[Any]", embedder: HashedEmbedding) -> ToolSearch:
    return ToolSearch(pool, [embedder])
