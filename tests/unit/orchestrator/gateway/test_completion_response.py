"""A turn as a chat completion, streamed and whole, judged by OpenAI's own schemas (`wire.md` §1)."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from fastapi.responses import StreamingResponse

from maruntime.domain.event import EventType, TextDelta
from maruntime.domain.run import RunRef, Turn
from maruntime.errors import RunCancelled, RunFailed, RunStillActive
from maruntime.testing.builders import a_delta, a_template
from maruntime.testing.clock import FakeClock
from orchestrator.dispatch.acceptance import Accepted
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.gateway.completion_response import CompletionResponses
from orchestrator.settings import HttpSettings
from tests.unit.orchestrator.dispatch.store import ListJournal

Judge = Callable[[bytes, str], Any]

RUN = RunRef("run_1", 1)
ACCEPTED = Accepted(Turn("turn_1", "run_1", "sess_1", 0, 1, datetime(2026, 1, 1, tzinfo=UTC)), a_template())
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2}
ABOUT = {"run_id": "run_1", "template": "assistant@1", "state": "COMPLETED"}


class Stage:
    """Plays a run's events and deltas to whoever subscribes, as soon as the run is dispatched."""

    def __init__(self, *, whole_wait: float = 5, keep_alive: float = 5) -> None:
        self.journal = ListJournal()
        self.journal.add(RUN, EventType.RUN_ACCEPTED)
        self.bus = EventBus(self.journal)
        self.script: list[TextDelta | tuple[EventType, dict[str, Any]]] = []
        self.dispatched: list[tuple[str, str]] = []
        settings = HttpSettings(whole_wait=timedelta(seconds=whole_wait), keep_alive=timedelta(seconds=keep_alive))
        self.responses = CompletionResponses(self.bus, self, self.journal, FakeClock(), settings)

    def run_accepted(self, run_id: str, endpoint: str) -> None:
        self.dispatched.append((run_id, endpoint))
        for word in self.script:
            self.bus.publish([word if isinstance(word, TextDelta) else self.journal.add(RUN, word[0], **word[1])])

    def plays(self, *script: Any) -> None:
        self.script = list(script)

    async def streamed(self, *, include_usage: bool = False, all_events: bool = False) -> list[tuple[str, bytes]]:
        """(id, data) of every frame; a comment has neither."""
        response = await self.responses.respond(
            ACCEPTED, stream=True, include_usage=include_usage, all_events=all_events
        )
        assert isinstance(response, StreamingResponse)
        async with asyncio.timeout(5):
            sent = b"".join([bytes(part) async for part in response.body_iterator])
        assert self.bus.reader_count == 0
        frames = [frame.split(b"\n") for frame in sent.split(b"\n\n") if frame]
        return [
            (
                next((line[4:].decode() for line in frame if line.startswith(b"id: ")), ""),
                next((line[6:] for line in frame if line.startswith(b"data: ")), b""),
            )
            for frame in frames
        ]

    async def whole(self) -> Any:
        async with asyncio.timeout(5):
            return await self.responses.respond(ACCEPTED, stream=False, include_usage=False, all_events=False)


@pytest.fixture
def stage() -> Stage:
    return Stage()


def done(text: str = "Hello", **more: Any) -> tuple[EventType, dict[str, Any]]:
    return (EventType.RUN_COMPLETED, {"text": text, "finish_reason": "stop", "usage": USAGE, **more})


async def test_a_stream_is_role_text_end_usage_and_done(stage: Stage, judged: Judge) -> None:
    stage.plays(a_delta(RUN, "Hel", reasoning="hm"), a_delta(RUN, "lo", offset=3), done())

    frames = await stage.streamed(include_usage=True)

    assert frames[-1] == ("", b"[DONE]")
    chunks = [judged(data, "CreateChatCompletionStreamResponse") for _, data in frames[:-1]]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "hm"},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["x_maruntime"] == ABOUT
    assert chunks[-1]["usage"]["total_tokens"] == 10
    assert {(chunk["id"], chunk["model"]) for chunk in chunks} == {("chatcmpl-turn_1", "sess_1")}


async def test_the_places_of_a_stream_never_go_back(stage: Stage) -> None:
    stage.plays(a_delta(RUN, "Hel"), (EventType.TOOL_CALL_PLANNED, {"tool": "x"}), a_delta(RUN, "lo", offset=3), done())

    frames = await stage.streamed(all_events=True)

    places = [tuple(map(int, place.split("."))) for place, _ in frames[:-1]]
    assert places == sorted(places)
    assert places[-1] == (1, 3, 5)


async def test_events_are_told_to_those_who_ask(stage: Stage, judged: Judge) -> None:
    stage.plays((EventType.TOOL_CALL_PLANNED, {"tool": "look"}), done())

    with_events = [data for _, data in (await stage.streamed(all_events=True))[:-1]]

    told = [judged(data, "CreateChatCompletionStreamResponse").get("x_maruntime") for data in with_events]
    assert {"event": "ToolCallPlanned", "seq": 2, "tool": "look"} in told


async def test_events_are_not_told_to_those_who_do_not_ask(stage: Stage) -> None:
    stage.plays((EventType.TOOL_CALL_PLANNED, {"tool": "look"}), done())

    chunks = [orjson.loads(data) for _, data in (await stage.streamed())[:-1]]

    assert not any("event" in chunk.get("x_maruntime", {}) for chunk in chunks)


async def test_a_whole_answer_is_one_body_with_its_headers(stage: Stage, judged: Judge) -> None:
    stage.plays(a_delta(RUN, "Hullo", reasoning="hm"), done())

    response = await stage.whole()

    body = judged(response.body, "CreateChatCompletionResponse")
    message = body["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Hello", "hm")
    assert (body["usage"]["total_tokens"], body["x_maruntime"]) == (10, ABOUT)
    assert (response.headers["X-Session-Id"], response.headers["X-Run-Id"]) == ("sess_1", "run_1")


async def test_a_question_says_what_is_waited_for(stage: Stage, judged: Judge) -> None:
    stage.plays((EventType.RUN_WAITING, {"text": "Which?", "waiting_for": "clarification", "usage": USAGE}))

    body = judged((await stage.whole()).body, "CreateChatCompletionResponse")

    assert body["choices"][0]["message"]["content"] == "Which?"
    assert body["x_maruntime"] == {**ABOUT, "state": "WAITING", "waiting_for": "clarification"}


async def test_a_run_that_failed_ends_a_stream_with_an_error_and_without_done(stage: Stage, judged: Judge) -> None:
    stage.plays(a_delta(RUN, "Hel"), (EventType.RUN_FAILED, {"code": "llm_failed", "message": "It is away."}))

    frames = await stage.streamed()

    error = judged(frames[-1][1], "ErrorResponse")["error"]
    assert (error["code"], error["message"]) == ("llm_failed", "It is away.")
    assert stage.journal.delivered_turns == []


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ((EventType.RUN_FAILED, {"code": "llm_failed", "message": "It is away."}), RunFailed),
        ((EventType.RUN_CANCELLED, {"code": "run_cancelled", "message": "x"}), RunCancelled),
    ],
)
async def test_a_run_that_ended_badly_is_raised_from_a_whole_answer(stage: Stage, word: Any, error: Any) -> None:
    stage.plays(word)

    with pytest.raises(error):
        await stage.whole()

    assert stage.bus.reader_count == 0


async def test_text_that_diverged_ends_the_stream_with_its_own_code(stage: Stage) -> None:
    stage.plays(a_delta(RUN, "Hullo"), done("Hello"))

    frames = await stage.streamed()

    assert orjson.loads(frames[-1][1])["error"]["code"] == "stream_diverged"


async def test_a_whole_answer_is_not_waited_for_without_end() -> None:
    stage = Stage(whole_wait=0.01)

    with pytest.raises(RunStillActive) as refused:
        await stage.whole()

    assert refused.value.details == {"run_id": "run_1", "session_id": "sess_1"}


async def test_a_silent_stream_is_kept_open_with_comments() -> None:
    stage = Stage(keep_alive=0.001)
    response = await stage.responses.respond(ACCEPTED, stream=True, include_usage=False, all_events=False)
    body = response.body_iterator

    async with asyncio.timeout(5):
        await anext(body)
        assert await anext(body) == b": keep-alive\n\n"
    await body.aclose()

    assert stage.bus.reader_count == 0


async def test_a_delivery_is_noted_once_everything_was_written(stage: Stage) -> None:
    stage.plays(done())

    await stage.streamed()

    assert (stage.journal.delivered_turns, stage.dispatched) == (["turn_1"], [("run_1", "main")])


async def test_a_store_that_is_away_at_the_end_spoils_no_answer(stage: Stage, judged: Judge) -> None:
    stage.plays(done())
    stage.journal.is_away = True

    judged((await stage.whole()).body, "CreateChatCompletionResponse")


async def test_a_stopping_replica_ends_the_stream_with_a_place_to_go_on_from(stage: Stage) -> None:
    response = await stage.responses.respond(ACCEPTED, stream=True, include_usage=False, all_events=False)
    body = response.body_iterator
    await anext(body)

    stage.bus.stop()

    async with asyncio.timeout(5):
        last = [bytes(part) async for part in body]
    assert last[-1].startswith(b"id: 0.1.0\ndata: ")
    assert b'"replica_stopping"' in last[-1]
