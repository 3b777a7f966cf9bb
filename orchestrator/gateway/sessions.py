"""`/sessions`: the caller's conversations. A foreign one is not there."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from maruntime.domain.session import Session
from maruntime.errors import Invalid, NotFound, SessionNotFound
from maruntime.ids import is_id, is_session_id
from orchestrator.dependencies import ChatCaller, Platform
from orchestrator.persistence.transaction import transaction
from orchestrator.sessions.repository import SessionRepository

router = APIRouter(tags=["sessions"])

Limit = Annotated[int, Query(ge=1, le=100)]


def session_body(session: Session) -> dict[str, Any]:
    """A session as clients see it."""
    return {
        "id": session.id,
        "object": "session",
        "state": session.state,
        "waiting_for": session.waiting_for,
        "template": session.template,
        "template_version": session.template_version,
        "template_version_id": session.template_version_id,
        "run_id": session.run_id,
        "created_at": session.created_at,
        "closed_at": session.closed_at,
    }


@router.get("/sessions")
async def list_sessions(
    caller: ChatCaller, platform: Platform, limit: Limit = 20, after: str | None = None
) -> dict[str, Any]:
    """List the caller's sessions, newest first; `after` is the `last_id` of the page before."""
    if after is not None and not is_session_id(after):
        raise Invalid("after must be the last_id of the page before", param="after")
    async with transaction(platform.maker) as tx:
        sessions = await SessionRepository(tx, caller).page(limit=limit + 1, after=after)
    return _page([session_body(session) for session in sessions], limit)


@router.get("/sessions/{session_id}")
async def get_session(session_id: str, caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """Show a session; its state is that of its latest run."""
    _check(session_id)
    async with transaction(platform.maker) as tx:
        return session_body(await SessionRepository(tx, caller).get(session_id))


@router.delete("/sessions/{session_id}")
async def delete_session(session_id: str, caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """Close a session; its active run is cancelled. What was said stays readable."""
    _check(session_id)
    await platform.closing.close(caller, session_id)
    return {"id": session_id, "object": "session.deleted", "deleted": True}


@router.get("/sessions/{session_id}/history")
async def get_history(
    session_id: str, caller: ChatCaller, platform: Platform, limit: Limit = 100, after: str | None = None
) -> dict[str, Any]:
    """Show the transcript in OpenAI's form, oldest message first."""
    _check(session_id)
    place = _place(after)
    async with transaction(platform.maker) as tx:
        found = await SessionRepository(tx, caller).transcript(session_id, limit=limit + 1, after=place)
    return {
        "object": "list",
        "messages": [message.to_openai() for _, message in found[:limit]],
        "has_more": len(found) > limit,
        "last_id": str(found[:limit][-1][0]) if found else None,
    }


@router.get("/sessions/{session_id}/artifacts")
async def list_artifacts(session_id: str, caller: ChatCaller, platform: Platform) -> dict[str, Any]:
    """List what the session's tools made."""
    _check(session_id)
    async with transaction(platform.maker) as tx:
        return {"object": "list", "data": await SessionRepository(tx, caller).artifacts(session_id)}


@router.get("/sessions/{session_id}/artifacts/{artifact_id}")
async def get_artifact(session_id: str, artifact_id: str, caller: ChatCaller, platform: Platform) -> Response:
    """Fetch one artifact's content."""
    _check(session_id)
    if not is_id("art", artifact_id):
        raise NotFound("There is no such artifact")
    async with transaction(platform.maker) as tx:
        found = await SessionRepository(tx, caller).artifact(session_id, artifact_id)
    if found is None:
        raise NotFound("There is no such artifact")
    _, media_type, content = found
    # Whatever a tool made is shown as a file: it must not run in the origin of the gateway.
    return Response(
        content,
        media_type=media_type,
        headers={"X-Content-Type-Options": "nosniff", "Content-Disposition": f'attachment; filename="{artifact_id}"'},
    )


def _check(session_id: str) -> None:
    if not is_session_id(session_id):
        raise SessionNotFound(f"The session {session_id[:64]!r} does not exist")


def _page(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    shown = items[:limit]
    return {
        "object": "list",
        "data": shown,
        "has_more": len(items) > limit,
        "last_id": shown[-1]["id"] if shown else None,
    }


def _place(after: str | None) -> int:
    if after is None:
        return 0
    if not after.isascii() or not after.isdigit() or len(after) > 18:
        raise Invalid("after must be the last_id of the page before", param="after")
    return int(after)
