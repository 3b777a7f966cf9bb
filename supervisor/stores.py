"""Which Postgres and which Redis a system uses: the user's own, or the embedded ones."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from supervisor.credentials import Credentials
from supervisor.embedded_postgres import EmbeddedPostgres
from supervisor.embedded_redis import EmbeddedRedis
from supervisor.errors import SupervisorError
from supervisor.home import Home
from supervisor.readiness import address_of, answers_postgres, answers_redis
from supervisor.screen import Screen
from supervisor.settings import Settings

_ANSWERS_WITHIN = 10.0


@dataclass(frozen=True)
class Stores:
    """Where the truth and the cache are; None for what the user brought."""

    database_url: str
    redis_url: str
    postgres: EmbeddedPostgres | None
    redis: EmbeddedRedis | None

    @classmethod
    async def chosen(cls, settings: Settings, home: Home, credentials: Credentials) -> Self:
        """Take what the environment names, else what the packages bring.

        A shell that sourced the env file of an earlier life names our own
        stores; they are recognised by their passwords.
        """
        postgres: EmbeddedPostgres | None = EmbeddedPostgres(home.data / "pg", durable=settings.durable)
        database_url = settings.environ.get("DATABASE_URL", "")
        if database_url and not (postgres.password and postgres.password in database_url):
            postgres = None
        else:
            await postgres.prepare()
            database_url = postgres.url()
        redis: EmbeddedRedis | None = None
        redis_url = settings.environ.get("REDIS_URL", "")
        if not redis_url or credentials.redis_password in redis_url:
            redis = EmbeddedRedis(home.data / "redis", durable=settings.durable, password=credentials.redis_password)
            redis_url = redis.url
        return cls(database_url, redis_url, postgres, redis)

    async def check(self, screen: Screen) -> None:
        """See whether the stores that the user brought are there.

        Raises:
            SupervisorError: Postgres is not; without Redis the system runs degraded.
        """
        if self.postgres is None:
            screen.say(f"Postgres at {address_of(self.database_url)} (DATABASE_URL)")
            if not await _within(_ANSWERS_WITHIN, answers_postgres(self.database_url)):
                raise SupervisorError(f"Postgres at {address_of(self.database_url)} (DATABASE_URL) does not answer.")
        if self.redis is None:
            screen.say(f"Redis at {address_of(self.redis_url)} (REDIS_URL)")
            if not await _within(_ANSWERS_WITHIN, answers_redis(self.redis_url)):
                screen.warn(f"Redis at {address_of(self.redis_url)} (REDIS_URL) does not answer: starting without it.")


async def _within(seconds: float, answer: Awaitable[bool]) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await answer
    return False
