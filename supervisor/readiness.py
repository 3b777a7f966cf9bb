"""Ways to ask whether a process does its work: each answers yes or no, none raises."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from supervisor.child import Child
from supervisor.errors import NotStarted
from supervisor.logs import last_lines

_POLL_SECONDS = 0.02
_ONCE = Retry(NoBackoff(), 0)
_POSTGRES_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


async def answers_http(url: str) -> bool:
    """Tell whether a GET is answered with 200."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    except OSError:
        return False
    try:
        request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        status = (await reader.readline()).split()
    except (OSError, ValueError):
        return False
    finally:
        writer.close()
    return status[1:2] == [b"200"]


async def answers_postgres(url: str, *, ssl: bool | None = None) -> bool:
    """Tell whether a real connection runs a query; `ssl` is what the URL says unless it is given."""
    try:
        connection = await asyncpg.connect(plain_dsn(url), ssl=ssl)
    except _POSTGRES_ERRORS:
        return False
    try:
        await connection.execute("select 1")
    except _POSTGRES_ERRORS:
        return False
    finally:
        connection.terminate()
    return True


async def answers_redis(url: str) -> bool:
    """Tell whether PING is answered."""
    client: Redis = Redis.from_url(url, retry=_ONCE)
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()


async def says_attached(health_file: Path, pid: int) -> bool:
    """Tell whether the worker of this pid wrote that at least one of its slots is attached."""
    try:
        health = json.loads(health_file.read_bytes())  # noqa: ASYNC240 - a few bytes
        return health["pid"] == pid and health["attached"] > 0
    except (OSError, ValueError, KeyError, TypeError):
        return False


async def until_answers(child: Child, answers: Callable[[], Awaitable[bool]], *, within: float, log: Path) -> None:
    """Wait until a store that was just started answers; stop it when it does not.

    Raises:
        NotStarted: it ended or did not answer in time.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            while not child.has_ended():
                if await answers():
                    return
                await asyncio.sleep(_POLL_SECONDS)
    await child.kill()
    raise NotStarted(f"The store did not start; see {log}.", log=last_lines(log))


def plain_dsn(url: str) -> str:
    """The URL without a driver's name, as asyncpg takes it."""
    scheme, rest = url.split("://", 1)
    return f"{scheme.split('+')[0]}://{rest}"


def address_of(url: str) -> str:
    """Host and port of a URL: what may be shown."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}:{parts.port}" if parts.port else str(parts.hostname or "localhost")
