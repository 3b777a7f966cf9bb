"""`wire.md` §1, the response: what the platform makes, judged by OpenAI's own schemas."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from maruntime.domain.run import Usage
from maruntime.errors import RunExpired
from maruntime.ids import new_session_id, new_turn_id
from orchestrator.gateway.completion import CompletionWriter, error_event

Judge = Callable[[bytes, str], Any]

CHUNK = "CreateChatCompletionStreamResponse"
TURN = new_turn_id()
SESSION = new_session_id()
USAGE = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2)
USAGE_BODY = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 2},
}
AWKWARD = ["Hi", "", "ы😀", '"}],\\', "\0\n\u2028", "null", "data: [DONE]\n\n"]


def writer(*, include_usage: bool = False) -> CompletionWriter:
    return CompletionWriter(TURN, SESSION, 1_767_225_600, include_usage=include_usage)


def chunk_with(delta: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{TURN}",
        "object": "chat.completion.chunk",
        "created": 1_767_225_600,
        "model": SESSION,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        **more,
    }


def test_the_first_chunk_says_who_speaks(judged: Judge) -> None:
    assert judged(writer().role_chunk(), CHUNK) == chunk_with({"role": "assistant", "content": ""})


@pytest.mark.parametrize("text", AWKWARD)
def test_any_text_goes_through_a_chunk_unchanged(judged: Judge, text: str) -> None:
    assert judged(writer().content_chunk(text), CHUNK) == chunk_with({"content": text})
    assert judged(writer().reasoning_chunk(text), CHUNK) == chunk_with({"reasoning_content": text})


@pytest.mark.parametrize("name", ["\0", '"\\u0000"', 'a"b'])
def test_no_turn_or_model_can_break_a_chunk(name: str) -> None:
    odd = CompletionWriter("t", name, 1)

    chunk = orjson.loads(odd.content_chunk("x"))

    assert (chunk["model"], chunk["choices"][0]["delta"]) == (name, {"content": "x"})


def test_an_event_is_a_chunk_with_an_empty_delta(judged: Judge) -> None:
    event = {"event": "tool_call_finished", "step": 1, "tool": "look"}

    assert judged(writer().event_chunk(event), CHUNK) == chunk_with({}, x_maruntime=event)


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_the_end_has_a_reason_and_nothing_else(judged: Judge, reason: str) -> None:
    assert judged(writer().finish_chunk(reason), CHUNK) == chunk_with({}, reason)


def test_the_end_says_what_the_run_waits_for(judged: Judge) -> None:
    waiting = {"waiting_for": "clarification"}

    assert judged(writer().finish_chunk("stop", waiting), CHUNK) == chunk_with({}, "stop", x_maruntime=waiting)


def test_usage_is_a_last_chunk_without_choices(judged: Judge) -> None:
    assert judged(writer(include_usage=True).usage_chunk(USAGE), CHUNK) == {
        **chunk_with({}),
        "choices": [],
        "usage": USAGE_BODY,
    }


def test_usage_is_null_before_its_chunk_when_it_was_asked_for(judged: Judge) -> None:
    asked = writer(include_usage=True)
    chunks = [
        asked.role_chunk(),
        asked.content_chunk("x"),
        asked.reasoning_chunk("x"),
        asked.event_chunk({}),
        asked.finish_chunk("stop"),
    ]

    assert all(judged(chunk, CHUNK)["usage"] is None for chunk in chunks)


@pytest.mark.parametrize("text", AWKWARD)
def test_a_whole_answer_is_one_body(judged: Judge, text: str) -> None:
    body = judged(writer().whole(text, None, "stop", USAGE), "CreateChatCompletionResponse")

    message = {"role": "assistant", "content": text, "refusal": None}
    assert body == {
        "id": f"chatcmpl-{TURN}",
        "object": "chat.completion",
        "created": 1_767_225_600,
        "model": SESSION,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE_BODY,
    }


def test_a_whole_answer_tells_its_reasoning_and_its_state(judged: Judge) -> None:
    waiting = {"waiting_for": "clarification"}

    body = judged(writer().whole("Which?", "hm", "stop", USAGE, waiting), "CreateChatCompletionResponse")

    assert body["choices"][0]["message"]["reasoning_content"] == "hm"
    assert body["x_maruntime"] == waiting


def test_the_official_client_reads_what_is_written() -> None:
    whole = ChatCompletion.model_validate_json(writer().whole("Hi", None, "stop", USAGE), strict=True)
    chunk = ChatCompletionChunk.model_validate_json(writer(include_usage=True).content_chunk("Hi"), strict=True)

    assert whole.choices[0].message.content == chunk.choices[0].delta.content == "Hi"


@pytest.mark.parametrize("exc", [RunExpired(), ValueError("secret")])
def test_a_broken_stream_ends_with_an_error_body(judged: Judge, exc: Exception) -> None:
    body = judged(error_event(exc), "ErrorResponse")

    assert body["error"]["code"] == getattr(exc, "code", "internal")
    assert "secret" not in body["error"]["message"]
