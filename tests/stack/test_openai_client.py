"""An unmodified OpenAI client against the whole system (wire.md, section 1)."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx2

from tests.stack.conftest import Platform, clarification, final_answer, report, until

TEXT = 'Grüße, мир! The answer streams: "quoted", \\ escaped, and 🐝 done.'


async def _streamed(platform: Platform, case: str, model: str, content: str, **extra: Any) -> tuple[list[Any], str]:
    stream = await platform.client(case=case).chat.completions.create(
        model=model, messages=[{"role": "user", "content": content}], stream=True, **extra
    )
    chunks = [chunk async for chunk in stream]
    return chunks, "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_create_stream_and_the_stream_helper_give_the_same_text_once(platform: Platform) -> None:
    """Issue: openai-python's three ways."""
    with platform.script(*[final_answer(TEXT, chunk=3, delay_ms=5)] * 3) as (case, _):
        client = platform.client(case=case)
        messages: Any = [{"role": "user", "content": "Go"}]

        whole = await client.chat.completions.create(model="assistant", messages=messages)
        chunks, streamed = await _streamed(platform, case, "assistant", "Go")
        async with client.chat.completions.stream(model="assistant", messages=messages) as helper:
            helped = await helper.get_final_completion()

    assert whole.choices[0].message.content == TEXT
    assert streamed == TEXT
    assert helped.choices[0].message.content == TEXT
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 5


async def test_the_answer_streams_out_of_the_tool_call_while_the_model_still_writes(platform: Platform) -> None:
    with platform.script(final_answer("word " * 60, chunk=10, delay_ms=40)) as (case, _):
        stream = await platform.client(case=case).chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "Go"}], stream=True
        )
        session_id, state_meanwhile = "", ""
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content and not state_meanwhile:
                session_id = chunk.model
                state_meanwhile = (await platform.get(f"/sessions/{session_id}"))["state"]

    assert state_meanwhile == "RUNNING"
    assert (await platform.get(f"/sessions/{session_id}"))["state"] == "COMPLETED"


async def test_the_model_of_the_answer_continues_the_session(platform: Platform) -> None:
    with platform.script(final_answer("First."), final_answer("Second.")) as (case, script):
        client = platform.client(case=case)
        first = await client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "One"}])
        second = await client.chat.completions.create(model=first.model, messages=[{"role": "user", "content": "Two"}])

    assert second.model == first.model
    said = [(message["role"], message.get("content")) for message in script.requests[1].messages[1:]]
    assert said == [("user", "One"), ("assistant", "First."), ("user", "Two")]


async def test_a_client_that_sends_its_whole_history_to_a_session_adds_only_what_is_new(platform: Platform) -> None:
    with platform.script(final_answer("First."), final_answer("Second.")) as (case, script):
        client = platform.client(case=case)
        first = await client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "One"}])
        history: Any = [
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "First."},
            {"role": "user", "content": "Two"},
        ]
        await client.chat.completions.create(model=first.model, messages=history)

    assert [message.get("content") for message in script.requests[1].messages[1:]] == ["One", "First.", "Two"]


async def test_a_stateless_client_gets_a_new_session_with_its_history(platform: Platform) -> None:
    with platform.script(final_answer("Third.")) as (case, script):
        history: Any = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "One"},
            {"role": "assistant", "content": "First."},
            {"role": "user", "content": "Two"},
        ]
        reply = await platform.client(case=case).chat.completions.create(model="assistant@1", messages=history)

    asked = script.requests[0].messages
    assert [message["role"] for message in asked] == ["system", "system", "user", "assistant", "user"]
    assert reply.model.startswith("sess_")


async def test_metadata_continues_a_session_too(platform: Platform) -> None:
    with platform.script(final_answer("First."), final_answer("Second.")) as (case, _):
        client = platform.client(case=case)
        first = await client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "One"}])
        second = await client.chat.completions.create(
            model="assistant",
            messages=[{"role": "user", "content": "Two"}],
            metadata={"session_id": first.model},
        )

    assert second.model == first.model


async def test_a_template_that_reasons_first_tells_its_reasoning_apart_from_the_answer(platform: Platform) -> None:
    reasoning = {
        "reply": {
            "tool_calls": [
                {
                    "name": "reasoning",
                    "arguments": {
                        "reasoning_steps": ["Two and two are added."],
                        "current_situation": "The sum is known.",
                        "plan_status": "done",
                        "enough_data": True,
                        "remaining_steps": [],
                        "task_completed": True,
                    },
                }
            ]
        }
    }
    with platform.script(reasoning, final_answer("Four.")) as (case, script):
        chunks, text = await _streamed(platform, case, "sgr_assistant", "2+2?")

    thought = "".join((chunk.choices[0].delta.model_extra or {}).get("reasoning_content", "") for chunk in chunks)
    assert text == "Four."
    assert "Two and two are added." in thought
    assert set(script.requests[0].tools) == {"reasoning"}
    assert "reasoning" not in script.requests[1].tools


async def test_every_body_and_chunk_is_what_openais_schemas_say(
    platform: Platform, judged: Callable[[str, Any], None]
) -> None:
    turns = [report("Bees"), final_answer("Done.", chunk=2, delay_ms=2), report("Bees"), final_answer("Done.")]
    with platform.script(*turns) as (case, _):
        async with platform.http(case=case) as http:
            asked = {"model": "assistant", "messages": [{"role": "user", "content": "Report"}]}
            streamed = await http.post(
                "/v1/chat/completions",
                json={**asked, "stream": True, "stream_options": {"include_usage": True}},
                headers={"X-Stream-Events": "full"},
            )
            whole = await http.post("/v1/chat/completions", json=asked)
            models = await http.get("/v1/models")
            model = await http.get("/v1/models/assistant")

    events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line.startswith("data: ")]
    chunks = [json.loads(event) for event in events[:-1]]
    assert events[-1] == "[DONE]"
    for chunk in chunks:
        judged("CreateChatCompletionStreamResponse", chunk)
    judged("CreateChatCompletionResponse", whole.json())
    judged("ListModelsResponse", models.json())
    judged("Model", model.json())

    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert {chunk["model"] for chunk in chunks} == {streamed.headers["X-Session-Id"]}
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]]
    assert [reason for reason in reasons if reason] == ["stop"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0
    told = [chunk["x_maruntime"]["event"] for chunk in chunks if "event" in chunk.get("x_maruntime", {})]
    assert "ToolCallFinished" in told
    assert not any("tool_calls" in chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"])
    blocks = [block for block in streamed.text.split("\n\n") if block.startswith(("id:", "data: {"))]
    assert all(block.startswith("id: ") for block in blocks)
    assert whole.headers["X-Run-Id"].startswith("run_")
    assert whole.headers["X-Request-Id"]


async def test_what_a_tool_made_is_an_artifact_of_the_session(platform: Platform) -> None:
    with platform.script(report("On bees"), final_answer("Done.")) as (case, script):
        reply = await platform.client(case=case).chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "Report"}]
        )

    [artifact] = (await platform.get(f"/sessions/{reply.model}/artifacts"))["data"]
    async with platform.http() as http:
        content = await http.get(f"/sessions/{reply.model}/artifacts/{artifact['id']}")
    assert content.text.startswith("# On bees")
    assert artifact["id"] in script.requests[1].messages[-1]["content"]


async def test_a_client_that_leaves_does_not_cancel_the_run(platform: Platform) -> None:
    with platform.script(final_answer("A long goodbye. " * 20, chunk=10, delay_ms=20)) as (case, _):
        async with (
            platform.http(case=case) as http,
            http.stream(
                "POST",
                "/v1/chat/completions",
                json={"model": "assistant", "stream": True, "messages": [{"role": "user", "content": "Go"}]},
            ) as response,
        ):
            run_id = response.headers["X-Run-Id"]
            async for line in response.aiter_lines():
                if "content" in line and "long" in line:
                    break

        async def is_completed() -> bool:
            return (await platform.get(f"/v1/runs/{run_id}"))["state"] == "COMPLETED"

        await until(is_completed)


async def test_a_question_waits_and_its_answer_goes_on(platform: Platform) -> None:
    with platform.script(clarification("Which year?"), final_answer("2024 it is.")) as (case, script):
        client = platform.client(case=case)
        asked = await client.chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "Compare"}]
        )
        state = await platform.get(f"/agents/{asked.model}/state")
        answered = await client.chat.completions.create(
            model=asked.model, messages=[{"role": "user", "content": "2024"}]
        )

    assert asked.choices[0].message.content == "Which year?"
    assert asked.choices[0].finish_reason == "stop"
    assert (asked.model_extra or {})["x_maruntime"]["waiting_for"] == "clarification"
    assert (state["state"], state["waiting_for"], state["clarifications_used"]) == ("WAITING", "clarification", 1)
    assert answered.choices[0].message.content == "2024 it is."
    assert [message["content"] for message in script.requests[1].messages[1:]] == ["Compare", "Which year?", "2024"]


async def test_a_second_message_while_a_run_works_is_refused_and_not_retried(platform: Platform) -> None:
    with platform.script(final_answer("Slow. " * 50, chunk=10, delay_ms=30)) as (case, _):
        async with platform.http(case=case) as http:
            body = {"model": "assistant", "stream": True, "messages": [{"role": "user", "content": "Go"}]}
            async with http.stream("POST", "/v1/chat/completions", json=body) as first:
                session_id = first.headers["X-Session-Id"]
                second = await http.post("/v1/chat/completions", json={**body, "model": session_id})
                await first.aread()

    assert second.status_code == 409
    assert second.json()["error"]["code"] == "session_busy"
    assert second.headers["x-should-retry"] == "false"


async def test_closing_a_session_cancels_its_run_and_tells_the_reader(platform: Platform) -> None:
    with platform.script({**final_answer("Never. " * 400, chunk=10, delay_ms=50), "optional": True}) as (case, _):
        async with platform.http(case=case) as http:
            body = {"model": "assistant", "stream": True, "messages": [{"role": "user", "content": "Go"}]}
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                session_id = response.headers["X-Session-Id"]
                lines = response.aiter_lines()
                async for line in lines:
                    if "Never" in line:
                        break
                closed = await http.delete(f"/sessions/{session_id}")
                rest = [line async for line in lines]
            again = await http.post("/v1/chat/completions", json={**body, "model": session_id})

    assert closed.json()["deleted"] is True
    assert '"code":"run_cancelled"' in "".join(rest)
    assert "[DONE]" not in "".join(rest)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "session_closed")
    assert (await platform.get(f"/sessions/{session_id}"))["state"] == "CLOSED"


async def test_many_clients_at_once_get_their_own_answers(platform: Platform) -> None:
    async def ask(number: int) -> None:
        turns = (report(f"No {number}"), final_answer(f"Answer {number}", chunk=2, delay_ms=1))
        with platform.script(*turns) as (case, _):
            _, text = await _streamed(platform, case, "assistant", f"Question {number}")
        assert text == f"Answer {number}"

    async with asyncio.TaskGroup() as group:
        for number in range(80):
            group.create_task(ask(number))


async def test_the_routes_of_sessions_and_agents_show_the_callers_own(platform: Platform) -> None:
    with platform.script(clarification("Which?")) as (case, _):
        reply = await platform.client(case=case).chat.completions.create(
            model="assistant", messages=[{"role": "user", "content": "Go"}]
        )

    agents = await platform.get("/agents")
    first = await platform.get("/sessions?limit=1")
    second = await platform.get(f"/sessions?limit=1&after={first['last_id']}")
    tools = await platform.get("/v1/tools")
    assert reply.model in [agent["agent_id"] for agent in agents["agents"]]
    assert {template["name"] for template in agents["registered"]} >= {"assistant", "sgr_assistant"}
    assert first["data"][0]["id"] == reply.model
    assert second["data"][0]["id"] != reply.model
    assert {tool["name"] for tool in tools["data"]} >= {"reasoning", "clarification", "final_answer", "create_report"}


async def test_health_tells_how_things_stand_without_a_key(platform: Platform) -> None:
    async with httpx2.AsyncClient(base_url=platform.url) as http:
        live, ready, health, metrics = [await http.get(path) for path in ("/livez", "/readyz", "/health", "/metrics")]

    assert (live.status_code, ready.status_code) == (200, 200)
    assert health.json()["status"] == "ok"
    assert health.json()["instances"]["total"] == 64
    assert "maruntime_runs_claimed_total" in metrics.text
