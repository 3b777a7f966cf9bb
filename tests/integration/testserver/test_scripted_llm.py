"""R20: openai-python, unchanged, talks to the scripted LLM."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx2
import openai
import pytest
from pydantic import BaseModel
from testserver.case import LLMTurn
from testserver.scripted_llm import Script
from testserver.variables import Scope

HI = [{"role": "user", "content": "Hi"}]
PAINT = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object", "properties": {}}}}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


@pytest.fixture
def playing(bench: Callable) -> Callable:
    """A client whose requests belong to a case with these turns."""

    @asynccontextmanager
    async def play(*turns: dict) -> AsyncIterator[tuple[openai.AsyncOpenAI, Script]]:
        opened = await bench()
        script = Script([LLMTurn.model_validate(turn) for turn in turns], Scope({}))
        client = openai.AsyncOpenAI(
            base_url=f"{opened.url}/llm/v1",
            api_key="any",
            max_retries=0,
            default_headers={"baggage": "maruntime.case=it-1", "traceparent": "00-aa-bb-01"},
        )
        async with client:
            with opened.app.state.bench.llm.playing("it-1", script):
                yield client, script

    return play


async def test_a_whole_answer(playing: Callable, openai_schema: Callable):
    async with playing({"reply": {"content": "Hello"}, "usage": USAGE}) as (client, script):
        raw = await client.chat.completions.with_raw_response.create(model="gpt", messages=HI, temperature=0)

    completion = raw.parse()
    assert completion.choices[0].message.content == "Hello"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "gpt"
    assert completion.usage.total_tokens == 10
    assert script.requests[0].body["temperature"] == 0
    assert script.requests[0].headers["traceparent"] == "00-aa-bb-01"
    openai_schema("CreateChatCompletionResponse").validate(json.loads(raw.text))


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_a_streamed_answer(playing: Callable, openai_schema: Callable, size: int):
    turn = {"reply": {"content": "Привет, мир"}, "stream": {"chunk": size, "delay_ms": 1}, "usage": USAGE}
    async with playing(turn) as (client, _):
        stream = await client.chat.completions.create(
            model="gpt", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    contents = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert "".join(contents) == "Привет, мир"
    assert len(contents) == -(-11 // size)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == ["stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 10
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1
    schema = openai_schema("CreateChatCompletionStreamResponse")
    for chunk in chunks:
        schema.validate(chunk.to_dict(mode="json"))


async def test_a_stream_has_no_usage_unless_it_is_asked_for(playing: Callable):
    async with playing({"reply": {"content": "Hello"}}) as (client, _):
        stream = await client.chat.completions.create(model="gpt", messages=HI, stream=True)
        chunks = [chunk.to_dict() async for chunk in stream]

    assert all("usage" not in chunk for chunk in chunks)


TWO_CALLS = {
    "reply": {
        "tool_calls": [
            {"name": "paint", "arguments": {"colour": "dark blue", "times": 2}},
            {"name": "paint", "arguments": '{"broken'},
        ]
    },
    "stream": {"chunk": 5},
}


async def test_tool_calls_whole(playing: Callable, openai_schema: Callable):
    async with playing(TWO_CALLS) as (client, script):
        raw = await client.chat.completions.with_raw_response.create(model="gpt", messages=HI, tools=[PAINT])

    first, second = raw.parse().choices[0].message.tool_calls
    assert json.loads(first.function.arguments) == {"colour": "dark blue", "times": 2}
    assert second.function.arguments == '{"broken'
    assert first.id != second.id
    assert raw.parse().choices[0].finish_reason == "tool_calls"
    assert [*script.requests[0].tools] == ["paint"]
    openai_schema("CreateChatCompletionResponse").validate(json.loads(raw.text))


async def test_tool_calls_streamed_in_fragments(playing: Callable, openai_schema: Callable):
    async with playing(TWO_CALLS) as (client, _):
        stream = await client.chat.completions.create(model="gpt", messages=HI, tools=[PAINT], stream=True)
        chunks = [chunk async for chunk in stream]

    parts = [part for chunk in chunks for choice in chunk.choices for part in choice.delta.tool_calls or []]
    texts = {index: [part.function.arguments for part in parts if part.index == index] for index in (0, 1)}
    assert json.loads("".join(texts[0])) == {"colour": "dark blue", "times": 2}
    assert "".join(texts[1]) == '{"broken'
    assert len(texts[0]) > 5
    assert [part.function.name for part in parts if part.id] == ["paint", "paint"]
    schema = openai_schema("CreateChatCompletionStreamResponse")
    for chunk in chunks:
        schema.validate(chunk.to_dict(mode="json"))


async def test_the_stream_helper_understands_tool_calls(playing: Callable):
    turn = {"reply": {"tool_calls": [{"name": "paint", "arguments": {"colour": "blue"}}]}, "stream": {"chunk": 2}}
    async with (
        playing(turn) as (client, _),
        client.chat.completions.stream(model="gpt", messages=HI, tools=[PAINT]) as stream,
    ):
        final = await stream.get_final_completion()

    assert json.loads(final.choices[0].message.tool_calls[0].function.arguments) == {"colour": "blue"}


class Colour(BaseModel):
    name: str
    warm: bool


async def test_a_json_schema_answer_is_parsed(playing: Callable):
    async with playing({"reply": {"json": {"name": "red", "warm": True}}}) as (client, script):
        completion = await client.chat.completions.parse(model="gpt", messages=HI, response_format=Colour)

    assert completion.choices[0].message.parsed == Colour(name="red", warm=True)
    assert script.requests[0].response_format == "Colour"


async def test_a_json_answer_that_drifted_from_the_schema_is_a_fault(playing: Callable):
    async with playing({"reply": {"json": {"name": "red"}}}) as (client, script):
        with pytest.raises(openai.InternalServerError, match="'warm' is a required property"):
            await client.chat.completions.parse(model="gpt", messages=HI, response_format=Colour)

    assert len(script.faults) == 1


async def test_a_scripted_error_arrives_with_its_headers(playing: Callable):
    error = {"status": 429, "headers": {"Retry-After": "7"}, "body": {"error": {"message": "slow", "code": "rate"}}}
    async with playing({"reply": {"error": error}}, {"reply": {"error": {"status": 400}}}) as (client, script):
        with pytest.raises(openai.RateLimitError) as limited:
            await client.chat.completions.create(model="gpt", messages=HI, stream=True)
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="gpt", messages=HI)

    assert limited.value.code == "rate"
    assert limited.value.response.headers["retry-after"] == "7"
    assert script.faults == []


async def test_a_finish_reason_can_be_scripted(playing: Callable):
    async with playing({"reply": {"content": "Hel"}, "finish_reason": "length"}) as (client, _):
        completion = await client.chat.completions.create(model="gpt", messages=HI)

    assert completion.choices[0].finish_reason == "length"


async def test_a_script_that_has_ended_answers_500_and_says_why(playing: Callable):
    async with playing({"reply": {"content": "once"}}) as (client, script):
        await client.chat.completions.create(model="gpt", messages=HI)
        with pytest.raises(openai.InternalServerError, match="no turn is left") as refused:
            await client.with_options(max_retries=2).chat.completions.create(model="gpt", messages=HI)

    assert refused.value.response.headers["x-should-retry"] == "false"
    assert len(script.faults) == 1


async def test_a_person_without_a_case_gets_the_demo(bench: Callable):
    opened = await bench()
    async with openai.AsyncOpenAI(base_url=f"{opened.url}/llm/v1", api_key="any") as client:
        models = await client.models.list()
        completion = await client.chat.completions.create(model=models.data[0].id, messages=HI)

    assert "scripted LLM" in completion.choices[0].message.content


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"model":"m"}', b'{"model":"m","messages":"x"}'])
async def test_a_malformed_request_is_a_400(bench: Callable, body: bytes):
    opened = await bench()
    async with httpx2.AsyncClient() as client:
        response = await client.post(f"{opened.url}/llm/v1/chat/completions", content=body)

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_request"
