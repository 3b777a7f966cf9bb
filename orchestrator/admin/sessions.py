"""`/admin/sessions`: the tenant's conversations, whoever owns them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from maruntime.domain.session import Session
from maruntime.errors import Invalid, NotFound, SessionNotFound
from maruntime.ids import is_id, is_session_id
from orchestrator.admin.schemas import Changer, JsonObject, Limit, json_body, nothing_else, page_body
from orchestrator.dependencies import AdminCaller, Platform
from orchestrator.persistence.transaction import transaction
from orchestrator.sessions.oversight import SessionOversight

router = APIRouter(tags=["admin"])

Step = Annotated[int, Path(ge=1, le=2**31 - 1)]
PrincipalFilter = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]


@router.get("/admin/sessions")
async def list_sessions(
    caller: AdminCaller,
    platform: Platform,
    limit: Limit = 50,
    after: str | None = None,
    principal: PrincipalFilter = None,
    active: bool | None = None,
) -> dict[str, Any]:
    """List the sessions of all principals, newest first; `active` are those with a run that has not ended."""
    if after is not None and not is_session_id(after):
        raise Invalid("after must be the last_id of the page before", param="after")
    async with transaction(platform.maker) as tx:
        sessions = SessionOversight(tx, caller.tenant_id)
        found = await sessions.page(limit=limit + 1, after=after, principal=principal, active=active)
    return page_body([_body(session) for session in found], limit, "id")


@router.get("/admin/sessions/{session_id}")
async def get_session(session_id: str, caller: AdminCaller, platform: Platform) -> dict[str, Any]:
    """Show a session with its latest runs."""
    _check(session_id)
    async with transaction(platform.maker) as tx:
        sessions = SessionOversight(tx, caller.tenant_id)
        session = await sessions.get(session_id)
        runs = await sessions.runs(session_id, limit=20)
    return {**_body(session), "runs": runs}


@router.post("/admin/sessions/{session_id}/cancel", openapi_extra=json_body(plain={}))
async def cancel_session(session_id: str, given: JsonObject, actor: Changer, platform: Platform) -> dict[str, Any]:
    """Cancel the session's active run. The session stays open; without an active run nothing changes."""
    _check(session_id)
    nothing_else(given)
    run_id = await platform.closing.cancel(actor, session_id)
    return {"id": session_id, "object": "session.cancelled", "cancelled": run_id is not None, "run_id": run_id}


@router.get("/admin/sessions/{session_id}/steps/{step}/tools")
async def explain_step(
    session_id: str, step: Step, caller: AdminCaller, platform: Platform, run_id: str | None = None
) -> dict[str, Any]:
    """Show why the model saw a tool at a step or did not; the latest run's step unless `run_id` says another."""
    _check(session_id)
    if run_id is not None and not is_id("run", run_id):
        raise Invalid("run_id must be the id of a run", param="run_id")
    async with transaction(platform.maker) as tx:
        sessions = SessionOversight(tx, caller.tenant_id)
        await sessions.get(session_id)
        found = await sessions.step_tools(session_id, step, run_id)
    if found is None:
        raise NotFound(f"The session has no explanation of a step {step}.")
    return {"run_id": found[0], "step": step, "tools": found[1]}


def _body(session: Session) -> dict[str, Any]:
    return {
        "id": session.id,
        "object": "session",
        "principal": session.principal_id,
        "state": session.state,
        "waiting_for": session.waiting_for,
        "template": session.template,
        "template_version": session.template_version,
        "template_version_id": session.template_version_id,
        "run_id": session.run_id,
        "created_at": session.created_at,
        "closed_at": session.closed_at,
    }


def _check(session_id: str) -> None:
    if not is_session_id(session_id):
        raise SessionNotFound(f"The session {session_id[:64]!r} does not exist")
