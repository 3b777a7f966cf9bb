"""Bring the schema to this build's head, or say how far from it the database is.

Two processes that migrate at once take turns by an advisory lock.
"""

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import PostgresDsn
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from maruntime.errors import StoreUnavailable
from orchestrator.persistence.engine import STORE_ERRORS, sqlalchemy_url, where

_LOCK = 0x6D61_7275
_FOLDER = Path(__file__).parent / "migrations"


def head_revision() -> str:
    """The revision that this build was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None, "the build ships no migration"
    return head


def known_revisions() -> frozenset[str]:
    """Every revision that this build knows; another one in the database is newer than the build."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


async def upgrade(url: PostgresDsn | str, revision: str = "head") -> None:
    """Migrate forward.

    Raises:
        StoreUnavailable: Postgres does not answer.
    """
    await _run(url, lambda config: command.upgrade(config, revision))


async def downgrade(url: PostgresDsn | str, revision: str) -> None:
    """Migrate back; `base` leaves an empty database."""
    await _run(url, lambda config: command.downgrade(config, revision))


async def _run(url: PostgresDsn | str, action: Callable[[Config], None]) -> None:
    engine = create_async_engine(sqlalchemy_url(url), poolclass=NullPool)

    def migrate(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        action(config)

    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
    except STORE_ERRORS as exc:
        raise StoreUnavailable(f"Postgres does not answer at {where(url)}: {exc}") from exc


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config
