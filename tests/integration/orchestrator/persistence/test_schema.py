"""Migrations on a real Postgres."""

import asyncpg
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from orchestrator.persistence import schema
from orchestrator.persistence.engine import sqlalchemy_url
from orchestrator.persistence.rows import Row


async def _tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


async def test_migrations_go_up_and_down_on_an_empty_database(empty_database_url: str) -> None:
    await schema.upgrade(empty_database_url)
    up = await _tables(empty_database_url)
    await schema.downgrade(empty_database_url, "base")
    down = await _tables(empty_database_url)
    await schema.upgrade(empty_database_url)

    assert {"runs", "turns", "tool_executions", "run_events", "sessions", "api_keys"} <= up
    assert down == {"alembic_version"}
    assert await _tables(empty_database_url) == up


async def test_models_and_migrations_say_the_same(database_url: str) -> None:
    def compare(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Row.metadata))

    engine = create_async_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    async with engine.connect() as connection:
        assert await connection.run_sync(compare) == []
