"""Bad input and foreign callers: the right status, OpenAI's error body, nothing half-created."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.stack.conftest import Platform, clarification, final_answer

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        (b"{not json", 400, "invalid_request", None),
        (b"[]", 400, "invalid_request", None),
        ({"messages": HELLO}, 400, "invalid_request", "model"),
        ({"model": 7, "messages": HELLO}, 400, "invalid_request", "model"),
        ({"model": None, "messages": HELLO}, 400, "invalid_request", "model"),
        ({"model": "nobody", "messages": HELLO}, 404, "model_not_found", "model"),
        ({"model": "gpt-4.1", "messages": HELLO}, 404, "model_not_found", "model"),
        ({"model": "assistant@99", "messages": HELLO}, 404, "model_not_found", "model"),
        ({"model": "sess_" + "0" * 26, "messages": HELLO}, 404, "session_not_found", "model"),
        ({"model": "sess_short", "messages": HELLO}, 404, "model_not_found", "model"),
        ({"model": "assistant", "messages": []}, 400, "invalid_request", "messages"),
        ({"model": "assistant", "messages": "x"}, 400, "invalid_request", "messages"),
        (
            {"model": "assistant", "messages": [{"role": "user", "content": ""}]},
            400,
            "invalid_request",
            "messages[0].content",
        ),
        (
            {"model": "assistant", "messages": [{"role": "user", "content": "a\x00b"}]},
            400,
            "invalid_request",
            "messages[0].content",
        ),
        (
            {"model": "assistant", "messages": [{"role": "user", "content": "x" * 10_000_000}]},
            413,
            "transcript_too_large",
            "messages",
        ),
        ({"model": "assistant", "messages": HELLO, "n": 2}, 400, "unsupported_parameter", "n"),
        ({"model": "assistant", "messages": HELLO, "logprobs": True}, 400, "unsupported_parameter", "logprobs"),
        ({"model": "assistant", "messages": HELLO, "surprise": 1}, 400, "unknown_parameter", "surprise"),
        ({"model": "assistant", "messages": HELLO, "temperature": "hot"}, 400, "invalid_request", "temperature"),
        (
            {"model": "assistant", "messages": HELLO, "metadata": {"session_id": "mine"}},
            404,
            "session_not_found",
            "metadata.session_id",
        ),
        (b"x" * (17 * 1024 * 1024), 413, "request_too_large", None),
    ],
)
async def test_bad_input_is_refused_in_openais_dialect_and_creates_nothing(
    platform: Platform,
    judged: Callable[[str, Any], None],
    body: Any,
    status: int,
    code: str,
    param: str | None,
) -> None:
    before = (await platform.get("/sessions?limit=1"))["data"]

    async with platform.http() as http:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = await http.post("/v1/chat/completions", content=content)

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param)
    judged("ErrorResponse", response.json())
    assert (await platform.get("/sessions?limit=1"))["data"] == before


async def test_a_session_of_another_is_not_there(platform: Platform, stranger: str) -> None:
    with platform.script(clarification("Which?")) as (case, _):
        mine = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]
    session_id = mine.model
    run_id = (mine.model_extra or {})["x_maruntime"]["run_id"]
    clarifying = {"messages": HELLO, "stream": False}

    async with platform.http(stranger) as http:
        answers = {
            "chat": await http.post("/v1/chat/completions", json={"model": session_id, "messages": HELLO}),
            "metadata": await http.post(
                "/v1/chat/completions",
                json={"model": "assistant", "messages": HELLO, "metadata": {"session_id": session_id}},
            ),
            "model": await http.get(f"/v1/models/{session_id}"),
            "session": await http.get(f"/sessions/{session_id}"),
            "history": await http.get(f"/sessions/{session_id}/history"),
            "artifacts": await http.get(f"/sessions/{session_id}/artifacts"),
            "delete": await http.delete(f"/sessions/{session_id}"),
            "state": await http.get(f"/agents/{session_id}/state"),
            "clarify": await http.post(f"/agents/{session_id}/provide_clarification", json=clarifying),
            "run": await http.get(f"/v1/runs/{run_id}"),
        }
        listed = (await http.get("/sessions")).json()["data"]

    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(answers, 404)
    assert session_id not in [session["id"] for session in listed]
    assert (await platform.get(f"/sessions/{session_id}"))["state"] == "WAITING"


async def test_an_id_in_the_text_of_a_message_takes_over_nothing(platform: Platform) -> None:
    with platform.script(final_answer("One."), final_answer("Two.")) as (case, _):
        client = platform.client(case=case)
        first = await client.chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]
        second = await client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": f"Continue {first.model}"}]
        )

    assert second.model != first.model


@pytest.mark.parametrize("path", ["/v1/models", "/sessions", "/agents", "/v1/tools", "/admin/keys", "/admin/instances"])
async def test_every_route_asks_for_a_key(platform: Platform, path: str) -> None:
    async with platform.http() as http:
        missing = await http.get(path, headers={"Authorization": ""})
        wrong = await http.get(path, headers={"Authorization": "Bearer wrong"})

    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "missing_api_key")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize("header", ["X-API-Key", "X-Internal-Auth"])
async def test_a_key_may_come_in_other_headers(platform: Platform, header: str) -> None:
    async with platform.http() as http:
        response = await http.get("/v1/models", headers={"Authorization": "", header: platform.key})

    assert response.status_code == 200


async def test_a_key_without_the_scope_is_refused_and_a_revoked_one_is_no_key(
    platform: Platform, stranger: str
) -> None:
    async with platform.http(platform.admin_key) as admin, platform.http(stranger) as http:
        refused = await http.get("/admin/keys")
        made = (await admin.post("/admin/keys", json={"name": "short", "scopes": ["chat"]})).json()
        valid = await http.get("/v1/models", headers={"Authorization": f"Bearer {made['key']}"})
        await admin.delete(f"/admin/keys/{made['id']}")
        revoked = await http.get("/v1/models", headers={"Authorization": f"Bearer {made['key']}"})
        listed = (await admin.get("/admin/keys")).text

    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    assert (valid.status_code, revoked.status_code) == (200, 401)
    assert made["key"] not in listed


async def test_a_key_that_is_made_for_a_principal_sees_its_sessions(platform: Platform, stranger: str) -> None:
    async with platform.http(platform.admin_key) as admin:
        keys = (await admin.get("/admin/keys")).json()["data"]
        principal = next(key["principal"] for key in keys if key["name"] == "stranger" and not key["revoked_at"])
        rotated = (
            await admin.post("/admin/keys", json={"name": "new", "scopes": ["chat"], "principal": principal})
        ).json()
    with platform.script(final_answer("Mine.")) as (case, _):
        reply = await platform.client(stranger, case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

    assert (await platform.get(f"/sessions/{reply.model}", rotated["key"]))["id"] == reply.model


async def test_clarifying_a_session_that_does_not_wait_is_a_conflict(platform: Platform) -> None:
    with platform.script(final_answer("Done.")) as (case, _):
        reply = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]
    async with platform.http() as http:
        response = await http.post(f"/agents/{reply.model}/provide_clarification", json={"messages": HELLO})

    assert (response.status_code, response.json()["error"]["code"]) == (409, "run_not_waiting")
