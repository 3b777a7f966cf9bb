"""The real SDK against a provider that answers byte for byte as scripted."""

import asyncio
import gc
import gzip
import itertools
import logging
import os
import traceback
from datetime import timedelta

import openai
import orjson
import pytest
import structlog

from agent_worker.llm.contract import (
    LLMReply,
    LLMRequest,
    LLMToolCall,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from agent_worker.llm.endpoints import LLMEndpoint
from agent_worker.llm.errors import (
    LLMMalformed,
    LLMRateLimited,
    LLMRefused,
    LLMStalled,
    LLMTimeout,
    LLMUnavailable,
    UnknownEndpoint,
)
from agent_worker.llm.openai import OpenAIClient
from maruntime.testing.clock import FakeClock

# --- what a call looks like


async def test_text_is_handed_over_as_it_comes_and_returned_whole(provider, calling, data, chunk):
    provider.will_stream(
        data(
            chunk(role="assistant", content=""),
            chunk(reasoning_content="Hm."),
            chunk(content="Hel"),
            chunk(content="lo"),
            chunk("stop"),
            {
                "choices": [],
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            },
            b"[DONE]",
        )
    )
    caller = await calling()

    reply = await caller.ask()

    assert reply == LLMReply("Hello", (), "stop", Usage(9, 2, 4), "served-1")
    assert caller.deltas == [ReasoningDelta("Hm."), TextDelta("Hel"), TextDelta("lo")]
    assert caller.restarts == []


async def test_tool_calls_are_streamed_in_fragments(provider, calling, data, chunk):
    def call(index, **function):
        return {"index": index, "function": function}

    provider.will_stream(
        data(
            chunk(tool_calls=[{"id": "a", "type": "function", **call(0, name="search", arguments="")}]),
            chunk(tool_calls=[call(0, arguments='{"q":')]),
            chunk(tool_calls=[call(0, arguments='"x"}')]),
            chunk(tool_calls=[{"id": "b", "type": "function", **call(1, name="read", arguments="{}")}]),
            chunk("tool_calls"),
            b"[DONE]",
        )
    )
    caller = await calling()

    reply = await caller.ask()

    assert reply.tool_calls == (LLMToolCall("search", '{"q":"x"}'), LLMToolCall("read", "{}"))
    assert reply.finish_reason == "tool_calls"
    assert caller.deltas == [
        ToolCallDelta(0, "search", ""),
        ToolCallDelta(0, None, '{"q":'),
        ToolCallDelta(0, None, '"x"}'),
        ToolCallDelta(1, "read", "{}"),
    ]


async def test_the_request_carries_everything_and_nothing_more(provider, calling, key):
    provider.will_say("ok")
    caller = await calling()
    tool = {"type": "function", "function": {"name": "t", "parameters": {"type": "object"}}}

    await caller.ask(
        model="big",
        tools=[tool],
        tool_choice="required",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        parameters={"temperature": 0.2, "top_k": 5, "seed": None, "stream": False},
        headers={"traceparent": "00-1-2-01"},
    )

    (request,) = provider.requests
    assert request.path == "/v1/chat/completions"
    assert request.json == {
        "model": "big",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [tool],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "response_format": {"type": "json_object"},
        "temperature": 0.2,
        "top_k": 5,
    }
    assert request.headers["authorization"] == f"Bearer {key}"
    assert request.headers["traceparent"] == "00-1-2-01"


async def test_the_environment_of_the_sdk_does_not_reach_the_provider(provider, calling, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-elsewhere")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-elsewhere")
    provider.will_say("ok")
    caller = await calling()

    await caller.ask()

    assert "elsewhere" not in str(provider.requests[0].headers)


async def test_a_compressed_stream_is_read(provider, calling, data, chunk):
    body = gzip.compress(data(chunk(content="packed"), chunk("stop"), b"[DONE]"))
    provider.will_fail(200, body, Content_Encoding="gzip")
    caller = await calling()

    assert (await caller.ask()).content == "packed"


async def test_an_endpoint_that_is_not_configured_is_named(calling):
    caller = await calling()

    with pytest.raises(UnknownEndpoint) as caught:
        await caller.ask(endpoint="elsewhere")

    assert caught.value.details == {"endpoint": "elsewhere"}


# --- streams that are odd but whole


@pytest.mark.parametrize("size", [1, 7])
async def test_slices_of_any_size_make_the_same_reply(provider, calling, data, chunk, size):
    provider.will_stream(data(chunk(content="при"), chunk(content="вет"), chunk("stop"), b"[DONE]"), slice_size=size)
    caller = await calling()

    assert (await caller.ask()).content == "привет"


@pytest.mark.parametrize(
    "ending",
    [b"", b"data: [DONE]", b"data: [DONE]\n\n", b"data: [DONE]\n\ndata: [DONE]\n\n", b"data:[DONE]\r\n\r\n"],
    ids=["absent", "unterminated", "once", "twice", "tight"],
)
async def test_done_may_come_once_twice_or_never(provider, calling, data, chunk, ending):
    provider.will_stream(data(chunk(content="a"), chunk("stop")) + ending)
    caller = await calling()

    assert (await caller.ask()).content == "a"
    assert len(provider.requests) == 1


async def test_comments_blank_lines_other_fields_and_carriage_returns_are_passed_over(provider, calling, data, chunk):
    body = b"\xef\xbb\xbf: hello\n\n\n\nevent: x\nid: 1\nretry: 5\n" + data(chunk(content="a"))
    provider.will_stream(body + b": keep-alive\n" + data(chunk("stop"), b"[DONE]").replace(b"\n", b"\r\n"))
    caller = await calling()

    assert (await caller.ask()).content == "a"


async def test_a_connection_lost_after_the_answer_was_whole_does_not_matter(provider, calling, data, chunk):
    provider.will_cut_after(data(chunk(content="a"), chunk("stop")))
    caller = await calling()

    assert (await caller.ask()).content == "a"
    assert len(provider.requests) == 1


async def test_a_provider_that_keeps_the_stream_open_after_done_does_not_hold_the_reply(provider, calling, data, chunk):
    provider.will_stall_after(data(chunk(content="a"), chunk("stop"), b"[DONE]"))
    caller = await calling()

    assert (await caller.ask()).content == "a"


async def test_arguments_that_are_not_json_are_returned_as_written(provider, calling, data, chunk):
    call = {"index": 0, "function": {"name": "t", "arguments": '{"a": nope'}}
    provider.will_stream(data(chunk(tool_calls=[call]), chunk("tool_calls"), b"[DONE]"))
    caller = await calling()

    assert (await caller.ask()).tool_calls == (LLMToolCall("t", '{"a": nope'),)


# --- malformed streams


def _malformed(data, chunk):
    first = data(chunk(content="part"))
    end = data(chunk("stop"), b"[DONE]")
    return {
        "cut json": first + b'data: {"choices": [{"delta": {"con\n\n' + end,
        "invalid utf-8": first + data(b'{"choices": [{"delta": {"content": "\xff\xfe"}}]}') + end,
        "no finish reason": first,
        "done without a finish reason": first + data(b"[DONE]"),
        "empty": b"",
        "not events": b"<html>Bad gateway</html>",
        "no object": first + data([1, 2]) + end,
        "wrong shape": first + data({"choices": [{"delta": {"content": {"deep": 1}}}]}) + end,
        "nameless call": data(chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])) + end,
        "long line": b"data: " + b"x" * (10 * 1024 * 1024) + b"\n\n" + end,
    }


@pytest.mark.parametrize(
    "case",
    ["cut json", "invalid utf-8", "no finish reason", "done without a finish reason", "empty", "not events",
     "no object", "wrong shape", "nameless call", "long line"],
)  # fmt: skip
async def test_a_malformed_stream_is_an_error_and_is_tried_again(provider, calling, data, chunk, case):
    """Durability, fault 20."""
    body = _malformed(data, chunk)[case]
    provider.will_stream(body).will_say("whole")
    strict, patient = await calling(retries=0), await calling()

    with pytest.raises(LLMMalformed):
        await strict.ask()
    provider.answers.clear()
    provider.will_stream(body).will_say("whole")
    reply = await patient.ask()

    assert reply.content == "whole"
    assert patient.restarts == ([len(patient.deltas) - 1] if len(patient.deltas) > 1 else [])
    assert patient.deltas[-1] == TextDelta("whole")


async def test_a_line_without_end_is_given_up_at_the_bound(provider, calling):
    """Durability, fault 20: a 10 MB line costs no memory."""
    sent = 0

    async def flood(writer):
        nonlocal sent
        provider.start(writer)
        while not provider.gone.is_set():
            provider.part(writer, b"x" * 65536)
            sent += 65536
            await writer.drain()

    provider.will(flood)
    caller = await calling(retries=0)

    with pytest.raises(LLMMalformed) as caught:
        await caller.ask()

    assert caught.value.details == {"max_line_bytes": 1024 * 1024}
    assert sent < 40 * 1024 * 1024  # what fits the socket's buffers


async def test_a_stream_cut_in_the_middle_is_restarted(provider, calling, data, chunk):
    provider.will_cut_after(data(chunk(content="par"))).will_say("whole")
    caller = await calling()

    reply = await caller.ask()

    assert reply.content == "whole"
    assert caller.deltas == [TextDelta("par"), TextDelta("whole")]
    assert caller.restarts == [1]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"error": {"message": "m", "type": "server_error"}}, LLMUnavailable),
        ({"error": {"message": "m", "code": 502}}, LLMUnavailable),
        ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, LLMRateLimited),
        ({"error": {"message": "m", "code": 429}}, LLMRateLimited),
        ({"error": {"message": "m", "type": "invalid_request_error"}}, LLMRefused),
        ({"error": "m"}, LLMUnavailable),
        ({"object": "error", "message": "m", "code": 400}, LLMRefused),
    ],
)
async def test_an_error_inside_a_stream_is_told_by_its_code(provider, calling, data, chunk, error, kind):
    """Durability, fault 20: an error chunk after 200."""
    provider.will_stream(data(chunk(content="a"), error))
    caller = await calling(retries=0)

    with pytest.raises(kind) as caught:
        await caller.ask()

    assert type(caught.value) is kind
    assert caught.value.message == "m"


# --- refusals, retries and limits


async def test_retry_after_is_waited_for(provider, calling):
    """Durability, fault 21."""
    provider.will_fail(429, {"error": {"message": "slow down"}}, Retry_After="7").will_say("ok")
    caller = await calling()

    reply = await caller.ask()

    assert reply.content == "ok"
    assert len(caller.pauses) == 1
    assert 7 <= caller.pauses[0] <= 7.5


async def test_retry_after_may_be_a_date(provider, calling):
    provider.will_fail(503, {}, Retry_After="Thu, 01 Jan 2026 00:00:09 GMT").will_say("ok")
    caller = await calling()

    await caller.ask()

    assert 9 <= caller.pauses[0] <= 9.5


@pytest.mark.parametrize(
    ("status", "kind"), [(429, LLMRateLimited), (500, LLMUnavailable), (503, LLMUnavailable), (408, LLMUnavailable)]
)
async def test_a_storm_of_errors_is_given_up_after_the_last_retry(provider, calling, status, kind):
    """Durability, fault 21."""
    provider.will_fail(status, {"error": {"message": "no"}})
    caller = await calling(retries=2)

    with pytest.raises(kind) as caught:
        await caller.ask()

    assert len(provider.requests) == 3
    assert len(caller.pauses) == 2
    assert caught.value.details == {"status": status}
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "too long", "code": "context_length_exceeded"}}),
        (401, {"error": {"message": "bad key"}}),
        (404, {"detail": "Not Found"}),
        (422, {"detail": [{"loc": ["body"], "msg": "bad"}]}),
        (429, {"error": {"message": "no money", "code": "insufficient_quota"}}),
        (403, b"<html>forbidden</html>"),
    ],
)
async def test_a_refusal_is_not_tried_again(provider, calling, status, body):
    provider.will_fail(status, body)
    caller = await calling()

    with pytest.raises(LLMRefused) as caught:
        await caller.ask()

    assert len(provider.requests) == 1
    assert caught.value.details == {"status": status}


async def test_a_huge_error_body_is_not_read_to_its_end(provider, calling):
    async def flood(writer):
        writer.write(b"HTTP/1.1 400 X\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not provider.gone.is_set():
            provider.part(writer, b"y" * 65536)
            await writer.drain()

    provider.will(flood)
    caller = await calling()

    with pytest.raises(LLMRefused) as caught:
        await caller.ask()

    assert len(caught.value.message) == 1000


async def test_a_provider_that_rejects_stream_options_is_asked_without_from_then_on(provider, calling):
    provider.will_fail(400, {"error": {"message": "Unknown parameter", "param": "stream_options"}}).will_say("ok")
    caller = await calling(retries=0)

    await caller.ask()
    reply = await caller.ask()

    assert ["stream_options" in request.json for request in provider.requests] == [True, False, False]
    assert reply.usage == Usage()
    assert caller.pauses == []


async def test_a_reset_connection_is_tried_again(provider, calling):
    provider.will_reset().will_say("ok")
    caller = await calling()

    assert (await caller.ask()).content == "ok"
    assert len(caller.pauses) == 1


async def test_something_that_does_not_speak_http_is_unavailable(provider, calling):
    async def nonsense(writer):
        writer.write(b"SSH-2.0-OpenSSH_9\r\n\r\n")
        writer.close()

    provider.will(nonsense)
    caller = await calling(retries=1)

    with pytest.raises(LLMUnavailable):
        await caller.ask()

    assert len(provider.requests) == 2


async def test_a_closed_port_is_unavailable_and_its_address_is_for_the_log_only(provider, calling):
    caller = await calling(base_url="http://127.0.0.1:1/v1", retries=0)

    with pytest.raises(LLMUnavailable) as caught:
        await caller.ask()

    assert "127.0.0.1" not in caught.value.message
    assert "127.0.0.1" in caught.value.reason


@pytest.mark.parametrize("start", [b"", b": waiting\n\n", b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'])
async def test_silence_before_the_first_token_is_tried_again(provider, calling, start, soon):
    """Durability, fault 19: comments and an empty first chunk are silence too."""
    provider.will_stall_after(start).will_say("ok")
    caller = await calling(first_token=soon)

    assert (await caller.ask()).content == "ok"
    assert caller.restarts == []


async def test_headers_that_never_come_are_silence_too(provider, calling, soon):
    async def nothing(writer):
        await provider.gone.wait()

    provider.will(nothing)
    caller = await calling(first_token=soon, retries=0)

    with pytest.raises(LLMStalled) as caught:
        await caller.ask()

    assert caught.value.code == "llm_timeout"


async def test_a_stream_that_stalls_in_the_middle_is_restarted(provider, calling, data, chunk, soon):
    """Durability, fault 19."""
    provider.will_stall_after(data(chunk(content="par"))).will_say("whole")
    caller = await calling(idle=soon)

    assert (await caller.ask()).content == "whole"
    assert caller.restarts == [1]


async def test_the_total_limit_is_never_retried(provider, calling, data, chunk):
    provider.will_stall_after(data(chunk(content="par")))
    caller = await calling(total=timedelta(milliseconds=300))

    with pytest.raises(LLMTimeout) as caught:
        await caller.ask()

    assert type(caught.value) is LLMTimeout
    assert len(provider.requests) == 1


async def test_no_retry_starts_past_the_total_limit(provider, calling):
    provider.will_fail(429, {}, Retry_After="20")
    caller = await calling(total=timedelta(seconds=50))

    with pytest.raises(LLMRateLimited):
        await caller.ask()

    assert len(provider.requests) == 3
    assert sum(caller.pauses) < 50


async def test_no_more_calls_than_allowed_are_under_way(provider, calling, data, chunk):
    full, go = asyncio.Event(), asyncio.Event()

    async def answer(writer):
        if provider.in_flight == 3:
            full.set()
        await go.wait()
        provider.start(writer)
        provider.part(writer, data(chunk(content="a"), chunk("stop"), b"[DONE]"))
        writer.write(b"0\r\n\r\n")

    provider.will(answer)
    caller = await calling(max_concurrency=3)

    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(caller.ask())
        await full.wait()
        go.set()

    assert provider.most_in_flight == 3
    assert len(provider.requests) == 10


async def test_waiting_for_a_place_counts_towards_the_total_limit(provider, calling, data, chunk, monkeypatch):
    """The call in front never ends: only a limit that counts while it waits can end the one behind it."""
    provider.will_stall_after(data(chunk(content="par")))
    caller = await calling(max_concurrency=1, total=timedelta(seconds=50))
    speaking = asyncio.Event()
    request = LLMRequest(endpoint="main", messages=[])
    front = asyncio.ensure_future(caller.client.complete(request, lambda _: speaking.set(), on_restart=lambda: None))
    async with asyncio.timeout(5):
        await speaking.wait()
    readings = itertools.count(caller.clock.monotonic(), step=60)  # a minute goes by from one look to the next
    monkeypatch.setattr(caller.clock, "monotonic", lambda: next(readings))

    with pytest.raises(LLMTimeout) as caught:
        await caller.ask()

    assert type(caught.value) is LLMTimeout
    assert not front.done()
    assert len(provider.requests) == 1
    front.cancel()
    with pytest.raises(asyncio.CancelledError):
        await front


# --- nothing leaks


async def test_cancelling_hangs_up_and_frees_the_place(provider, calling, data, chunk):
    provider.will_stall_after(data(chunk(content="par"))).will_say("next")
    caller = await calling(max_concurrency=1)
    speaking = asyncio.Event()
    request = LLMRequest(endpoint="main", messages=[])

    call = asyncio.ensure_future(caller.client.complete(request, lambda _: speaking.set(), on_restart=lambda: None))
    async with asyncio.timeout(5):
        await speaking.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await provider.gone.wait()

    assert (await caller.ask()).content == "next"


async def test_a_failing_sink_ends_the_call_with_its_own_error(provider, calling):
    provider.will_say("a")
    caller = await calling(max_concurrency=1)
    request = LLMRequest(endpoint="main", messages=[])

    def broken(_):
        raise LookupError("sink")

    with pytest.raises(LookupError):
        await caller.client.complete(request, broken, on_restart=lambda: None)
    assert (await caller.ask()).content == "a"
    assert len(provider.requests) == 2


async def test_calls_share_one_client_one_connection_and_leave_no_descriptors(provider, calling, monkeypatch):
    made = []
    make = openai.AsyncOpenAI.__init__
    monkeypatch.setattr(openai.AsyncOpenAI, "__init__", lambda self, **kw: (made.append(1), make(self, **kw))[1])
    provider.will_say("a")
    caller = await calling()
    await caller.ask()
    before = len(os.listdir("/proc/self/fd"))

    for _ in range(200):
        await caller.ask()

    assert len(made) == 1
    assert provider.connections == 1
    assert len(os.listdir("/proc/self/fd")) == before


async def test_failed_calls_leave_no_descriptors_either(provider, calling, data, chunk):
    caller = await calling(retries=0)
    provider.will_say("a")
    await caller.ask()
    before = len(os.listdir("/proc/self/fd"))

    for spoil in (
        lambda: provider.will_reset(),
        lambda: provider.will_cut_after(data(chunk(content="a"))),
        lambda: provider.will_stream(data(b"{")),
        lambda: provider.will_fail(500, {}),
    ):
        provider.answers.clear()
        spoil()
        for _ in range(20):
            with pytest.raises((LLMUnavailable, LLMMalformed)):
                await caller.ask()
    provider.answers.clear()
    provider.will_say("a")
    await caller.ask()
    gc.collect()

    async with asyncio.timeout(5):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0)


async def test_the_key_is_in_no_message_no_log_line_and_no_traceback(provider, calling, key, caplog):
    provider.will_fail(401, {"error": {"message": f"Incorrect API key: {key}", "param": key}})
    caller = await calling()

    with (
        caplog.at_level(logging.DEBUG),
        structlog.testing.capture_logs() as lines,
        pytest.raises(LLMRefused) as caught,
    ):
        await caller.ask()

    assert caught.value.message == "Incorrect API key: ***"
    assert key not in caplog.text
    assert key not in orjson.dumps(lines).decode()
    assert key not in "".join(traceback.format_exception(caught.value))
    assert key not in str(caught.value.details)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


async def test_every_failed_attempt_is_logged(provider, calling):
    provider.will_fail(500, {"error": {"message": "boom"}}).will_say("ok")
    caller = await calling()

    with structlog.testing.capture_logs() as lines:
        await caller.ask()

    assert lines == [
        {"event": "llm_attempt_failed", "log_level": "warning", "endpoint": "main", "attempt": 1,
         "code": "llm_unavailable", "reason": "boom", "retried": True}
    ]  # fmt: skip


async def test_a_closed_client_takes_no_calls():
    endpoint = LLMEndpoint(base_url="http://127.0.0.1:1/v1", api_key="k", model="m")
    client = OpenAIClient({"main": endpoint}, clock=FakeClock())
    async with client:
        pass

    with pytest.raises(RuntimeError):
        await client.complete(LLMRequest(endpoint="main", messages=[]), print, on_restart=print)
