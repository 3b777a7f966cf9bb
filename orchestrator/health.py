"""`/livez`, `/readyz`, `/health`, `/metrics`: for balancers and people; no key is asked.

Ready means that Postgres answers and that its schema is at this build's head or
newer. Redis and the number of instances are shown as degraded and never empty
the balancer.
"""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
from fastapi import APIRouter, Response, status
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError

from maruntime.domain.instance import InstanceState
from orchestrator import metrics
from orchestrator.dependencies import Platform
from orchestrator.persistence.engine import STORE_ERRORS
from orchestrator.persistence.schema import head_revision, known_revisions
from orchestrator.resources import Resources

router = APIRouter(tags=["health"])

_HEAD = head_revision()
_KNOWN = known_revisions()
_PING_WITHIN = 1.0


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process serves requests."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(platform: Platform) -> JSONResponse:
    """The replica can take work: 200, or 503 with the reason."""
    reason = "stopping" if platform.lifecycle.is_stopping else await _store_problem(platform)
    if reason is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not_ready", "reason": reason}, status.HTTP_503_SERVICE_UNAVAILABLE)


@router.get("/health")
async def health(platform: Platform) -> dict[str, Any]:
    """How things stand, for people."""
    problem = await _store_problem(platform)
    states = Counter(slot.state.value for slot in platform.slots)
    redis = await _redis_state(platform)
    degraded = problem is not None or redis != "ok" or not states
    return {
        "status": "degraded" if degraded else "ok",
        "replica": platform.replica,
        "postgres": problem or "ok",
        "redis": redis,
        "instances": {"total": sum(states.values()), **states},
        "readers": platform.bus.reader_count,
    }


@router.get("/metrics")
async def show_metrics(platform: Platform) -> Response:
    """Prometheus' exposition, the workers' figures included."""
    states = Counter(slot.state for slot in platform.slots)
    for state in InstanceState:
        metrics.SLOTS.labels(state=state.value).set(states[state])
    metrics.READERS.set(platform.bus.reader_count)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _redis_state(platform: Resources) -> str:
    if platform.redis is None:
        return "not configured"
    try:
        async with asyncio.timeout(_PING_WITHIN):
            await platform.redis.ping()  # type: ignore[misc] - the stub knows the blocking client only
    except (RedisError, OSError):
        return "unreachable"
    return "ok"


async def _store_problem(platform: Resources) -> str | None:
    try:
        async with platform.pool.acquire(timeout=2) as connection:
            revision = await connection.fetchval("select version_num from alembic_version", timeout=2)
    except asyncpg.UndefinedTableError:
        return "schema_missing"
    except STORE_ERRORS:
        return "store_unavailable"
    if revision is None:
        return "schema_missing"
    return "schema_behind" if revision != _HEAD and revision in _KNOWN else None
