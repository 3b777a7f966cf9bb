"""The real stores, one server of each for a test process; a database of its own for each test that asks."""

import asyncio
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from orchestrator.catalog.seeding import seed_defaults
from orchestrator.persistence import schema
from orchestrator.persistence.engine import opened_engine
from orchestrator.settings import DatabaseSettings
from supervisor.embedded_postgres import EmbeddedPostgres
from supervisor.embedded_redis import EmbeddedRedis

ROOT = Path(__file__).parent.parent
_TEMPLATE = "migrated"
_names = itertools.count(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data; its tests are skipped loudly where it is absent."""
    folder = Path(os.environ.get("MARUNTIME_SHARED_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"PUBLIC DATA IS ABSENT, NOT CHECKED: set MARUNTIME_SHARED_DATA ({folder})")
    return folder


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A real Postgres that forgets everything with the test run; holds one migrated and seeded database."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data", durable=False)

    async def start() -> None:
        await server.start()
        await server.create_database(_TEMPLATE)
        await schema.upgrade(server.url(_TEMPLATE))
        async with opened_engine(server.url(_TEMPLATE), DatabaseSettings()) as maker:
            await seed_defaults(maker)

    asyncio.run(start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
def database_url(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The address of a migrated and seeded database of the test's own."""
    name = f"test_{next(_names)}"
    asyncio.run(postgres_server.create_database(name, template=_TEMPLATE))
    yield postgres_server.url(name)

    async def drop() -> None:
        connection = await asyncpg.connect(postgres_server.url("postgres"))
        await connection.execute(f"drop database {name} with (force)")
        await connection.close()

    asyncio.run(drop())


@pytest.fixture
def empty_database_url(postgres_server: EmbeddedPostgres) -> str:
    """The address of a database without tables."""
    name = f"empty_{next(_names)}"
    asyncio.run(postgres_server.create_database(name))
    return postgres_server.url(name)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A real server of the Redis protocol."""
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"), durable=False)
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())
