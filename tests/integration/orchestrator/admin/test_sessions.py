"""`/admin/sessions`."""

from typing import Any

import asyncpg

from maruntime.domain.message import Message, Role
from maruntime.domain.principal import Principal, Scope
from maruntime.ids import new_session_id
from orchestrator.dispatch.acceptance import Request
from tests.integration.orchestrator.admin.conftest import Admin


async def _session(admin: Admin, principal: str = "prin_a", tenant: str = "default") -> Any:
    caller = Principal(tenant, principal, "key_x", frozenset({Scope.CHAT}))
    request = Request((Message(role=Role.USER, content="Hello"),), {})
    return (await admin.resources.acceptance.open_session(caller, None, None, request)).turn


async def test_sessions_of_all_principals_of_the_tenant_are_listed(admin: Admin) -> None:
    mine, theirs = await _session(admin), await _session(admin, "prin_b")
    foreign = await _session(admin, tenant="elsewhere")

    listed = await admin.get("/admin/sessions")
    page = await admin.get("/admin/sessions", limit=1)
    rest = await admin.get("/admin/sessions", limit=1, after=page["last_id"])
    of_one = await admin.get("/admin/sessions", principal="prin_a")
    shown = await admin.get(f"/admin/sessions/{theirs.session_id}")

    ids = {(session["id"], session["principal"]) for session in listed["data"]}
    assert ids == {(mine.session_id, "prin_a"), (theirs.session_id, "prin_b")}
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert {page["data"][0]["id"], rest["data"][0]["id"]} == {mine.session_id, theirs.session_id}
    assert [session["id"] for session in of_one["data"]] == [mine.session_id]
    assert (shown["state"], [run["id"] for run in shown["runs"]]) == ("QUEUED", [theirs.run_id])
    for session_id in (foreign.session_id, new_session_id(), "sess_x"):
        assert (await admin.get(f"/admin/sessions/{session_id}", 404))["error"]["code"] == "session_not_found"
        await admin.post(f"/admin/sessions/{session_id}/cancel", {}, 404)


async def test_cancelling_ends_the_run_and_leaves_the_session_open(admin: Admin) -> None:
    turn = await _session(admin)

    cancelled = await admin.post(f"/admin/sessions/{turn.session_id}/cancel", {})
    again = await admin.post(f"/admin/sessions/{turn.session_id}/cancel", {})
    shown = await admin.get(f"/admin/sessions/{turn.session_id}")
    entries = (await admin.get("/admin/audit"))["data"]
    events = await admin.resources.journal.events_after(turn.run_id, 0)

    assert (cancelled["cancelled"], cancelled["run_id"]) == (True, turn.run_id)
    assert (again["cancelled"], again["run_id"]) == (False, None)
    assert (shown["state"], shown["closed_at"]) == ("CANCELLED", None)
    assert events[-1].type.value == "RunCancelled"
    assert [(entry["action"], entry["target"], entry["after"]) for entry in entries] == [
        ("session.cancelled", f"session:{turn.session_id}", {"run_id": turn.run_id})
    ]
    assert [session["id"] for session in (await admin.get("/admin/sessions", active="true"))["data"]] == []


async def test_a_step_explains_its_tools(admin: Admin, database_url: str) -> None:
    turn = await _session(admin)
    path = f"/admin/sessions/{turn.session_id}/steps"
    tools = {"offered": ["final_answer"], "dropped": {"web_search": "rule: max_searches"}}
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """insert into run_events (run_id, seq, epoch, type, payload) values
           ($1, 2, 1, 'StepReasoned', '{"step": 1, "text": "", "tools": {"offered": []}}'),
           ($1, 3, 1, 'StepReasoned', $2::jsonb),
           ($1, 4, 1, 'StepReasoned', '{"step": 2, "text": "no explanation"}')""",
        turn.run_id,
        '{"step": 1, "tools": {"offered": ["final_answer"], "dropped": {"web_search": "rule: max_searches"}}}',
    )
    await connection.close()

    assert await admin.get(f"{path}/1/tools") == {"run_id": turn.run_id, "step": 1, "tools": tools}
    assert (await admin.get(f"{path}/1/tools", run_id=turn.run_id))["tools"] == tools
    assert (await admin.get(f"{path}/2/tools", 404))["error"]["code"] == "not_found"
    assert (await admin.get(f"{path}/1/tools", 404, run_id="run_" + "0" * 26))["error"]["code"] == "not_found"
    assert (await admin.get(f"{path}/0/tools", 400))["error"]["param"] == "step"
