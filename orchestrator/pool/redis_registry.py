"""The registry in Redis: one JSON value per instance that expires, an index, and a generation mark.

Keys: `maruntime:registry:gen`, `maruntime:registry:instances` (a sorted set by
expiry in seconds), `maruntime:registry:instance:<id>`.
"""

import dataclasses
import secrets
import time
from collections.abc import Awaitable, Collection
from typing import Any, cast

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from maruntime.domain.instance import InstanceRecord, InstanceState
from maruntime.errors import Unavailable

_GENERATION = "maruntime:registry:gen"
_INDEX = "maruntime:registry:instances"
_RECORD = "maruntime:registry:instance:"


class RegistryUnavailable(Unavailable):
    """The pool registry does not answer."""

    code = "registry_unavailable"


class RedisRegistry:
    """Records shared by all replicas."""

    def __init__(self, redis: "Redis", *, ttl: float = 30.0) -> None:
        self._redis = redis
        self._ttl = ttl

    async def generation(self) -> str:
        """The mark of this life of the registry; sets one when there is none."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(_GENERATION, secrets.token_hex(8), nx=True)
                pipe.get(_GENERATION)
                _, mark = await pipe.execute()
        except (RedisError, OSError) as exc:
            raise RegistryUnavailable from exc
        return mark.decode() if mark else ""

    async def write(self, put: Collection[InstanceRecord], removed: Collection[str]) -> None:
        """Store records and forget others, in one round trip."""
        if not put and not removed:
            return
        until = time.time() + self._ttl
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for record in put:
                    pipe.set(_RECORD + record.instance_id, orjson.dumps(record), px=int(self._ttl * 1000))
                if put:
                    pipe.zadd(_INDEX, {record.instance_id: until for record in put})
                if removed:
                    pipe.delete(*(_RECORD + instance_id for instance_id in removed))
                    pipe.zrem(_INDEX, *removed)
                pipe.zremrangebyscore(_INDEX, "-inf", time.time() - self._ttl)
                await pipe.execute()
        except (RedisError, OSError) as exc:
            raise RegistryUnavailable from exc

    async def all(self) -> list[InstanceRecord]:
        """Every record that has not run out, by instance id."""
        try:
            ids = sorted(await cast(Awaitable[list[bytes]], self._redis.zrange(_INDEX, 0, -1)))
            values = await self._redis.mget([_RECORD + key.decode() for key in ids]) if ids else []
        except (RedisError, OSError) as exc:
            raise RegistryUnavailable from exc
        return [_record(orjson.loads(value)) for value in values if value is not None]


_FIELDS = {field.name for field in dataclasses.fields(InstanceRecord)}


def _record(said: dict[str, Any]) -> InstanceRecord:
    known = {key: value for key, value in said.items() if key in _FIELDS}
    known["state"] = InstanceState(known["state"])
    known["llm_endpoints"] = tuple(known["llm_endpoints"])
    return InstanceRecord(**known)
