"""One short block, one outcome: the use case owns the transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.errors import StoreUnavailable
from orchestrator.persistence.engine import STORE_ERRORS


@asynccontextmanager
async def transaction(maker: async_sessionmaker[AsyncSession]) -> AsyncIterator[AsyncSession]:
    """Open a database session, commit at the end, roll back on any error.

    Raises:
        StoreUnavailable: Postgres is away.
    """
    try:
        async with maker() as session, session.begin():
            yield session
    except (OperationalError, PoolTimeout, *STORE_ERRORS) as exc:
        raise StoreUnavailable from exc
    except DBAPIError as exc:
        if exc.connection_invalidated or isinstance(exc.orig.__cause__ if exc.orig else None, STORE_ERRORS):
            raise StoreUnavailable from exc
        raise
