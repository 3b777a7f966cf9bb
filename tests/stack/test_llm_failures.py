"""What the model does wrong: told and retried within a bound, then a failure with a reason; never a made-up success."""

import json
from typing import Any

from tests.stack.conftest import Platform, final_answer

HELLO = [{"role": "user", "content": "Hello"}]


def _broken(arguments: str) -> dict[str, Any]:
    return {"reply": {"tool_calls": [{"name": "final_answer", "arguments": arguments}]}}


async def test_malformed_arguments_are_told_to_the_model_which_then_does_better(platform: Platform) -> None:
    turns = (_broken('{"answer": "cut o'), _broken('{"answer": 7}'), final_answer("Right."))
    with platform.script(*turns) as (case, script):
        reply = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

    assert reply.choices[0].message.content == "Right."
    assert "not valid JSON" in script.requests[1].messages[-1]["content"]
    assert "do not fit the schema" in script.requests[2].messages[-1]["content"]


async def test_a_model_that_never_does_better_fails_the_run_with_a_reason(platform: Platform) -> None:
    with platform.script({**_broken("nonsense"), "times": 6, "optional": True}) as (case, script):
        async with platform.http(case=case) as http:
            whole = await http.post("/v1/chat/completions", json={"model": "assistant", "messages": HELLO})
            streamed = await http.post(
                "/v1/chat/completions", json={"model": "assistant", "messages": HELLO, "stream": True}
            )

    assert (whole.status_code, whole.json()["error"]["code"]) == (500, "invalid_answers")
    run = await platform.get(f"/v1/runs/{whole.headers['X-Run-Id']}")
    assert (run["state"], run["error"]["code"]) == ("FAILED", "invalid_answers")
    events = [line.removeprefix("data: ") for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert json.loads(events[-1])["error"]["code"] == "invalid_answers"
    assert "[DONE]" not in events
    assert len(script.requests) == 6


async def test_an_answer_that_the_client_has_whole_is_not_unsaid_for_what_is_wrong_around_it(
    platform: Platform,
) -> None:
    with platform.script({**_broken('{"answer": "All of it.", "status": "perhaps"'), "times": 2}) as (case, _):
        client = platform.client(case=case)
        whole = await client.chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]
        stream = await client.chat.completions.create(model="assistant", messages=HELLO, stream=True)  # type: ignore[arg-type, call-overload]
        streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert (whole.choices[0].message.content, streamed) == ("All of it.", "All of it.")


async def test_text_that_was_streamed_and_then_replaced_ends_the_stream_with_an_error(platform: Platform) -> None:
    with platform.script(_broken('{"answer": "cut o'), final_answer("Another.")) as (case, _):
        async with platform.http(case=case) as http:
            streamed = await http.post(
                "/v1/chat/completions", json={"model": "assistant", "messages": HELLO, "stream": True}
            )
        run = await platform.get(f"/v1/runs/{streamed.headers['X-Run-Id']}")

    assert '"code":"stream_diverged"' in streamed.text
    assert "[DONE]" not in streamed.text
    assert run["state"] == "COMPLETED"


async def test_an_empty_answer_is_not_an_answer(platform: Platform) -> None:
    with platform.script({"reply": {"content": ""}}, final_answer("Now.")) as (case, script):
        reply = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

    assert reply.choices[0].message.content == "Now."
    assert "empty" in script.requests[1].messages[-1]["content"]


async def test_plain_text_of_a_model_that_calls_no_tool_is_its_answer(platform: Platform) -> None:
    with platform.script({"reply": {"content": "Plainly."}}) as (case, _):
        reply = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

    assert reply.choices[0].message.content == "Plainly."


async def test_a_cut_answer_says_so(platform: Platform) -> None:
    cut = {**_broken('{"reasoning": "r", "completed_steps": [], "answer": "Half of'), "finish_reason": "length"}
    with platform.script(cut) as (case, _):
        reply = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("Half of", "length")


async def test_a_busy_provider_is_asked_again(platform: Platform) -> None:
    busy = {"reply": {"error": {"status": 429, "headers": {"Retry-After": "0"}}}}
    with platform.script(busy, busy, final_answer("At last.")) as (case, script):
        reply = await platform.client(case=case).chat.completions.create(model="assistant", messages=HELLO)  # type: ignore[arg-type]

    assert reply.choices[0].message.content == "At last."
    assert len(script.requests) == 3


async def test_a_provider_that_refuses_fails_the_run_without_telling_our_key(platform: Platform) -> None:
    refusal = {"reply": {"error": {"status": 400, "body": {"error": {"message": "bad key scripted", "code": "x"}}}}}
    with platform.script(refusal) as (case, _):
        async with platform.http(case=case) as http:
            response = await http.post("/v1/chat/completions", json={"model": "assistant", "messages": HELLO})

    assert (response.status_code, response.json()["error"]["code"]) == (500, "llm_refused")
    assert "scripted" not in response.text


async def test_parameters_of_the_client_reach_the_model(platform: Platform) -> None:
    with platform.script(final_answer("Ok.")) as (case, script):
        await platform.client(case=case).chat.completions.create(
            model="assistant",
            messages=HELLO,  # type: ignore[arg-type]
            temperature=0.25,
            max_completion_tokens=99,
            stop=["END"],
        )

    sent = script.requests[0].body
    assert (sent["temperature"], sent["max_completion_tokens"], sent["stop"]) == (0.25, 99, ["END"])
