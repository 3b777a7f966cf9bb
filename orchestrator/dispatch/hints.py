"""Tell the other replicas that a run waits for a slot: its id over Redis pub/sub.

A lost hint costs the next poll and nothing else; without Redis there are none.
"""

import asyncio
from collections.abc import Callable

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_CHANNEL = "maruntime:runs:queued"
_QUEUE = 1024
_RETRY = 1.0

log = structlog.get_logger()


class Hints:
    """Hints sent and heard; `redis` is None where there is none."""

    def __init__(self, redis: "Redis | None") -> None:
        self._redis = redis
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(_QUEUE)

    def publish(self, run_id: str) -> None:
        """Send a hint some time soon; dropped when too many wait."""
        if self._redis is not None and not self._outgoing.full():
            self._outgoing.put_nowait(run_id)

    async def send(self) -> None:
        """Send what was published, for as long as the process lives."""
        while True:
            run_id = await self._outgoing.get()
            if self._redis is None:
                continue
            try:
                await self._redis.publish(_CHANNEL, run_id)
            except (RedisError, OSError):
                log.debug("hint_dropped", run_id=run_id)
            except Exception:
                log.exception("hint_dropped", run_id=run_id)

    async def listen(self, heard: Callable[[], None]) -> None:
        """Call `heard` for every hint of another replica, for as long as the process lives."""
        if self._redis is None:
            return
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(_CHANNEL)
                    while True:
                        if await pubsub.get_message(timeout=10.0):
                            heard()
            except (RedisError, OSError):
                await asyncio.sleep(_RETRY)
            except Exception:
                log.exception("hints_unheard")
                await asyncio.sleep(_RETRY)
