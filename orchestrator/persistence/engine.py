"""The two ways to Postgres: an ORM engine for catalog, admin and lists; a bare pool for the journal.

The journal's statements are hand-written and run many times per run; over the
bare driver they cost a fraction of an ORM unit of work.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from pydantic import PostgresDsn
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from maruntime.errors import StoreUnavailable
from orchestrator.settings import DatabaseSettings

STORE_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.TransactionRollbackError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What the driver raises when Postgres is away, as opposed to a statement that is wrong."""


def sqlalchemy_url(url: PostgresDsn | str) -> str:
    """The address as SQLAlchemy wants it, driver named."""
    return make_url(str(url)).set(drivername="postgresql+asyncpg").render_as_string(hide_password=False)


def driver_url(url: PostgresDsn | str) -> str:
    """The address as asyncpg wants it, whatever driver the caller named."""
    return make_url(str(url)).set(drivername="postgresql").render_as_string(hide_password=False)


@asynccontextmanager
async def opened_engine(
    url: PostgresDsn | str, settings: DatabaseSettings
) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Open the ORM engine and give its session maker."""
    engine: AsyncEngine = create_async_engine(
        sqlalchemy_url(url),
        pool_size=settings.orm_connections,
        max_overflow=0,
        pool_timeout=settings.connect_timeout.total_seconds(),
        pool_pre_ping=True,
        connect_args={
            "timeout": settings.connect_timeout.total_seconds(),
            "command_timeout": settings.command_timeout.total_seconds(),
        },
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )
    try:
        yield async_sessionmaker(engine, expire_on_commit=False)
    finally:
        await engine.dispose()


@asynccontextmanager
async def opened_pool(url: PostgresDsn | str, settings: DatabaseSettings) -> AsyncIterator["asyncpg.Pool[Any]"]:
    """Open the journal's pool.

    Raises:
        StoreUnavailable: Postgres does not answer; the message says where.
    """
    try:
        pool = await asyncpg.create_pool(
            driver_url(url),
            min_size=1,
            max_size=settings.journal_connections,
            max_inactive_connection_lifetime=0,
            timeout=settings.connect_timeout.total_seconds(),
            command_timeout=settings.command_timeout.total_seconds(),
            init=_use_orjson,
            server_settings={"application_name": "maruntime-orchestrator"},
        )
    except (*STORE_ERRORS, asyncpg.PostgresError) as exc:
        raise StoreUnavailable(f"Postgres does not answer at {where(url)}: {exc}") from exc
    try:
        yield pool
    finally:
        pool.terminate()


def where(url: PostgresDsn | str) -> str:
    """The address without its credentials, for messages."""
    parsed = make_url(str(url))
    return f"{parsed.host}:{parsed.port or 5432}/{parsed.database}"


async def _use_orjson(connection: "asyncpg.Connection[Any]") -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda data: orjson.loads(data[1:]),
    )
