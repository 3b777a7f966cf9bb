"""`/v1/runs`: the work on one message."""

from typing import Any

from fastapi import APIRouter

from maruntime.errors import RunNotFound
from maruntime.ids import is_id
from orchestrator.dependencies import ChatCaller, Platform
from orchestrator.gateway.completion import usage_body
from orchestrator.persistence.transaction import transaction
from orchestrator.sessions.repository import SessionRepository

router = APIRouter(tags=["runs"])


@router.get("/v1/runs/{run_id}")
async def get_run(run_id: str, caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """Show a run of the caller; `usage` is that of its latest turn."""
    if not is_id("run", run_id):
        raise RunNotFound(f"The run {run_id[:64]!r} does not exist")
    async with transaction(platform.maker) as tx:
        run = await SessionRepository(tx, caller).run(run_id)
    return {
        "id": run.id,
        "object": "run",
        "session_id": run.session_id,
        "state": run.state.value,
        "waiting_for": run.waiting_for,
        "step": run.step_no,
        "epoch": run.epoch,
        "last_seq": run.last_seq,
        "attempts": run.attempts,
        "metadata": run.metadata,
        "instance_id": run.owner or run.last_owner,
        "usage": usage_body(run.usage),
        "error": {"code": run.failure.code, "message": run.failure.message} if run.failure else None,
        "accepted_at": run.accepted_at,
        "ended_at": run.ended_at,
    }
