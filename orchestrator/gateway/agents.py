"""`/agents`: the owner's names for sessions at work and for templates. An agent's id is its session's id."""

from typing import Any

from fastapi import APIRouter, Request, Response

from maruntime.errors import SessionNotFound
from maruntime.ids import is_session_id
from orchestrator.dependencies import ChatCaller, Platform
from orchestrator.dispatch.acceptance import Request as WorkRequest
from orchestrator.gateway.chat import responses_of, trace_of
from orchestrator.gateway.schemas import decode_json, parse_clarification
from orchestrator.gateway.sessions import session_body
from orchestrator.persistence.transaction import transaction
from orchestrator.sessions.repository import SessionRepository

router = APIRouter(tags=["agents"])


@router.get("/agents")
async def list_agents(caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """List the caller's sessions that have an active run, and the registered templates."""
    limit = platform.settings.limits.page
    async with transaction(platform.maker) as tx:
        active = await SessionRepository(tx, caller).page(limit=limit, after=None, only_active=True)
    templates = await platform.templates.active()
    return {
        "agents": [{"agent_id": session.id, **session_body(session)} for session in active],
        "registered": [
            {
                "name": template.name,
                "version": template.version,
                "kind": template.body.kind.value,
                "description": template.body.description,
            }
            for template in templates
        ],
        "total": len(active),
    }


@router.get("/agents/{agent_id}/state")
async def get_agent_state(agent_id: str, caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """Show how far a session's latest run has come."""
    _check(agent_id)
    async with transaction(platform.maker) as tx:
        sessions = SessionRepository(tx, caller)
        session = await sessions.get(agent_id)
        run = await sessions.latest_run(agent_id)
    counters = run.counters if run else {}
    return {
        "agent_id": session.id,
        **session_body(session),
        "iteration": run.step_no if run else 0,
        "clarifications_used": counters.get("clarifications", 0),
        "counters": counters,
        "instance_id": run.owner if run else None,
        "failure": {"code": run.failure.code, "message": run.failure.message} if run and run.failure else None,
    }


@router.post("/agents/{agent_id}/provide_clarification")
async def provide_clarification(agent_id: str, request: Request, caller: ChatCaller, platform: Platform) -> Response:
    """Answer a session's question; the response is that of a chat completion, streamed by default.

    A session that does not wait for a clarification is 409.
    """
    _check(agent_id)
    messages, stream = parse_clarification(decode_json(await request.body()))
    accepted = await platform.acceptance.clarify(caller, agent_id, WorkRequest(messages, trace_of(request)))
    return await responses_of(platform).respond(accepted, stream=stream, include_usage=False, all_events=False)


def _check(agent_id: str) -> None:
    if not is_session_id(agent_id):
        raise SessionNotFound(f"The agent {agent_id[:64]!r} does not exist")
