"""Migrations on a real Postgres."""

import asyncpg

from orchestrator.persistence import schema


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
    assert await schema.differences(database_url) == []
