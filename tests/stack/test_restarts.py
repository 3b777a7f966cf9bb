"""Processes die and come back (durability.md): nothing that was accepted is lost."""

import asyncio
from typing import Any

from tests.stack.conftest import Platform, clarification, final_answer, report, until

HELLO = [{"role": "user", "content": "Hello"}]


async def _first_words(response: Any, word: str) -> tuple[str, Any]:
    """Read a stream until a word was seen; gives what came and the lines still to come."""
    lines, came = response.aiter_lines(), ""
    async for line in lines:
        came += line
        if word in line:
            return came, lines
    raise AssertionError(came)


def _content(text: str) -> str:
    import json

    found = ""
    for event in text.split("data: ")[1:]:
        body = event.split("id: ")[0].strip()
        if body.startswith("{"):
            for choice in json.loads(body).get("choices", []):
                found += choice["delta"].get("content") or ""
    return found


async def test_a_waiting_session_is_answered_after_every_process_was_killed(platform: Platform) -> None:
    with platform.script(clarification("Which year?"), final_answer("2024 it is.")) as (case, script):
        asked = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

        await platform.control("kill", "*")
        await platform.all_ready()
        answered = await platform.client(case=case).chat.completions.create(
            model=asked.model, messages=[{"role": "user", "content": "2024"}]
        )

    assert answered.choices[0].message.content == "2024 it is."
    assert [message["content"] for message in script.requests[1].messages[1:]] == ["Hello", "Which year?", "2024"]


async def test_a_worker_killed_while_the_model_writes_is_replaced_and_the_text_comes_once(platform: Platform) -> None:
    answer = "Bees are winged insects that live in colonies. " * 6
    with platform.script({**final_answer(answer, chunk=8, delay_ms=25), "times": 2}) as (case, script):
        async with platform.http(case=case) as http:
            body = {"model": "assistant", "stream": True, "messages": HELLO}
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                came, lines = await _first_words(response, "Bees")
                await platform.control("kill", "worker-*")
                rest = "".join([line async for line in lines])
        run = await platform.get(f"/v1/runs/{response.headers['X-Run-Id']}")
    await platform.all_ready()

    assert _content(came + rest) == answer.strip() or _content(came + rest) == answer
    assert rest.endswith("data: [DONE]")
    assert (run["state"], run["epoch"]) == ("COMPLETED", 3)
    assert len(script.requests) == 2


async def test_a_run_goes_on_while_the_orchestrator_is_replaced(platform: Platform) -> None:
    answer = "Bees dance to tell each other where the flowers are. " * 8
    with platform.script(report("Bees"), final_answer(answer, chunk=8, delay_ms=60)) as (case, script):
        async with platform.http(case=case) as http:
            body = {"model": "assistant", "stream": True, "messages": HELLO}
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                run_id, session_id = response.headers["X-Run-Id"], response.headers["X-Session-Id"]
                await _first_words(response, "Bees")
                await platform.control("kill", "orchestrator-*")
        await platform.all_ready()

        async def ended() -> Any:
            run = await platform.get(f"/v1/runs/{run_id}")
            return run if run["state"] not in ("QUEUED", "RUNNING") else None

        run = await until(ended)
        history = await platform.get(f"/sessions/{session_id}/history")

    assert (run["state"], run["epoch"]) == ("COMPLETED", 1)
    assert len(script.requests) == 2
    assert history["messages"][-1]["content"] == answer


async def test_a_stopping_orchestrator_ends_streams_with_a_place_to_go_on_from(platform: Platform) -> None:
    with platform.script(final_answer("A slow tale. " * 30, chunk=8, delay_ms=40)) as (case, _):
        async with platform.http(case=case) as http:
            body = {"model": "assistant", "stream": True, "messages": HELLO}
            async with http.stream("POST", "/v1/chat/completions", json=body) as response:
                run_id = response.headers["X-Run-Id"]
                _, lines = await _first_words(response, "slow")
                restarting = asyncio.create_task(platform.control("restart", "orchestrator-1", wait=True))
                rest = "\n".join([line async for line in lines])
                await restarting
        await platform.all_ready()

        async def is_completed() -> bool:
            return (await platform.get(f"/v1/runs/{run_id}"))["state"] == "COMPLETED"

        await until(is_completed)

    assert '"code":"replica_stopping"' in rest
    assert "[DONE]" not in rest


async def test_a_worker_that_is_told_to_stop_hands_its_run_over_between_steps(platform: Platform) -> None:
    turns = (report("One"), {**report("Two"), "stream": {"chunk": 4, "delay_ms": 20}}, final_answer("Handed over."))
    with platform.script(*turns) as (case, script):
        asking = asyncio.create_task(
            platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]
        )

        async def second_step_began() -> bool:
            return len(script.requests) >= 2

        await until(second_step_began)
        await platform.control("restart", "worker-*", wait=True)
        reply = await asking
        run = await platform.get(f"/v1/runs/{(reply.model_extra or {})['x_maruntime']['run_id']}")
    await platform.all_ready()

    assert reply.choices[0].message.content == "Handed over."
    assert run["epoch"] == 2
    assert len(script.requests) == 3


async def test_a_wiped_registry_comes_back_by_itself(platform: Platform) -> None:
    from redis.asyncio import Redis

    async def instances() -> int:
        return (await platform.get("/admin/instances", platform.admin_key))["total"]

    async with Redis.from_url(platform.environment["REDIS_URL"]) as redis:
        await redis.flushall()

        async def is_back() -> bool:
            return await redis.zcard("maruntime:registry:instances") == 64

        await until(is_back, within=5)

    assert await instances() == 64


async def test_without_redis_work_goes_on(platform: Platform) -> None:
    await platform.control("stop", "redis")
    try:
        with platform.script(final_answer("Without it.")) as (case, _):
            reply = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]
        health = await platform.get("/health")
        shown = await platform.get("/admin/instances", platform.admin_key)
    finally:
        await platform.control("start", "redis")
        await platform.all_ready()

    assert reply.choices[0].message.content == "Without it."
    assert (health["status"], health["redis"]) == ("degraded", "unreachable")
    assert (shown["scope"], shown["total"]) == ("this_replica", 64)


async def test_while_postgres_is_away_new_work_is_refused_quickly_and_a_run_survives(platform: Platform) -> None:
    with platform.script(final_answer("It survived. " * 20, chunk=8, delay_ms=60), final_answer("Next.")) as (case, _):
        asking = asyncio.create_task(
            platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]
        )

        async def is_running() -> bool:
            return (await platform.get("/health"))["instances"].get("RUNNING", 0) == 1

        await until(is_running)
        await platform.control("stop", "postgres")
        try:
            async with platform.http(case=case) as http:
                refused = await http.post("/v1/chat/completions", json={"model": "assistant", "messages": HELLO})
                ready = await http.get("/readyz")
        finally:
            await platform.control("start", "postgres")
            await platform.all_ready()
        reply = await asking
        after = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    assert refused.headers["Retry-After"]
    assert ready.status_code == 503
    assert reply.choices[0].message.content == "It survived. " * 20
    assert after.choices[0].message.content == "Next."


async def test_every_slot_is_idle_when_all_is_quiet(platform: Platform) -> None:
    async def are_idle() -> bool:
        shown = await platform.get("/admin/instances", platform.admin_key)
        return shown["total"] == 64 and {instance["state"] for instance in shown["instances"]} == {"IDLE"}

    await until(are_idle)
