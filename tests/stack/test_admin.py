"""The catalog is changed while real runs go on; what the model was sent is the judge."""

import uuid
from typing import Any

from tests.stack.conftest import Platform, clarification, final_answer, until

HELLO = [{"role": "user", "content": "Hello"}]


def _offered(request: Any) -> set[str]:
    return {tool["function"]["name"] for tool in request.body.get("tools", ())}


async def _post(http: Any, path: str, body: dict[str, Any], status: int = 200) -> Any:
    response = await http.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_an_open_session_stays_on_its_version_and_a_new_one_takes_the_active_one(platform: Platform) -> None:
    name = f"stack-{uuid.uuid4().hex[:8]}"
    made = {
        "name": name,
        "kind": "tool_calling",
        "description": "Changes under an open session.",
        "tools": ["clarification", "create_report", "final_answer"],
    }
    turns = (clarification("Which year?"), final_answer("Old."), final_answer("New."), final_answer("Rolled back."))
    async with platform.http(platform.admin_key) as http:
        await _post(http, "/admin/templates", made, 201)
        with platform.script(*turns) as (case, script):
            client = platform.client(case=case)
            asked = await client.chat.completions.create(model=name, messages=HELLO)  # type: ignore[arg-type]
            changes = {"changes": {"tools": ["clarification", "final_answer"]}, "activate": True}
            changed = await _post(http, f"/admin/templates/{name}/versions", changes, 201)

            old = await client.chat.completions.create(
                model=asked.model, messages=[{"role": "user", "content": "2024"}]
            )
            new = await client.chat.completions.create(model=name, messages=HELLO)  # type: ignore[arg-type]
            await _post(http, f"/admin/templates/{name}/activate", {"version": 1})
            back = await client.chat.completions.create(model=name, messages=HELLO)  # type: ignore[arg-type]

        sessions = {
            reply.model: (await http.get(f"/admin/sessions/{reply.model}")).json() for reply in (old, new, back)
        }
        await _post(http, f"/admin/templates/{name}/deactivate", {})
        gone = await http.post("/v1/chat/completions", json={"model": name, "messages": HELLO})

    assert changed["active_version"] == 2
    assert [reply.choices[0].message.content for reply in (old, new, back)] == ["Old.", "New.", "Rolled back."]
    assert ["create_report" in _offered(request) for request in script.requests] == [True, True, False, True]
    assert [sessions[reply.model]["template_version"] for reply in (old, new, back)] == [1, 2, 1]
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_changed_tool_reaches_the_model_with_the_next_run(platform: Platform) -> None:
    words = f"Write a report, {uuid.uuid4().hex}."
    with platform.script(final_answer("One."), final_answer("Two.")) as (case, script):
        async with platform.http(platform.admin_key) as http:
            client = platform.client(case=case)
            first = await client.chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]
            before = (await http.get("/admin/tools/create_report")).json()
            patched = await http.patch("/admin/tools/create_report", json={"description": words})
            assert patched.status_code == 200, patched.text
            await client.chat.completions.create(model=first.model, messages=[*HELLO])  # type: ignore[arg-type]
            await _post(http, "/admin/tools/create_report/activate", {"version": before["version"]})

    described = [
        [
            tool["function"]["description"]
            for tool in request.body["tools"]
            if tool["function"]["name"] == "create_report"
        ]
        for request in script.requests
    ]
    assert described[0] == [before["definition"]["description"]]
    assert described[1] == [words]


async def test_an_administrator_cancels_the_run_of_another(platform: Platform, stranger: str) -> None:
    with platform.script(final_answer("A long tale. " * 40, chunk=4, delay_ms=50)) as (case, _):
        async with platform.http(stranger, case) as http, platform.http(platform.admin_key) as admin:
            body = {"model": "assistant", "messages": HELLO, "stream": True}
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                session_id, run_id = response.headers["X-Session-Id"], response.headers["X-Run-Id"]

                async def is_running() -> bool:
                    return (await admin.get(f"/admin/sessions/{session_id}")).json()["state"] == "RUNNING"

                await until(is_running)
                cancelled = await _post(admin, f"/admin/sessions/{session_id}/cancel", {})
                rest = "".join([line async for line in response.aiter_lines()])
            shown = (await admin.get(f"/admin/sessions/{session_id}")).json()
            audit = (await admin.get("/admin/audit", params={"target": f"session:{session_id}"})).json()["data"]

            async def are_idle() -> bool:
                pool = (await admin.get("/admin/instances")).json()["instances"]
                return all(instance["run_id"] != run_id for instance in pool)

            await until(are_idle)

    assert (cancelled["cancelled"], cancelled["run_id"]) == (True, run_id)
    assert '"code":"run_cancelled"' in rest
    assert "[DONE]" not in rest
    assert (shown["state"], shown["closed_at"]) == ("CANCELLED", None)
    assert [entry["action"] for entry in audit] == ["session.cancelled"]


async def test_a_step_says_which_tools_it_offered(platform: Platform) -> None:
    with platform.script(final_answer("Here.")) as (case, script):
        reply = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

    shown = await platform.get(f"/admin/sessions/{reply.model}/steps/1/tools", platform.admin_key)

    assert set(shown["tools"]["offered"]) == _offered(script.requests[0])
    assert shown["run_id"] == (reply.model_extra or {})["x_maruntime"]["run_id"]
