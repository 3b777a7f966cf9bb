"""R20: without a case the scripted LLM shows what the stack can do."""

import jsonschema
import orjson
import pytest
from testserver import demo
from testserver.llm_request import LLMRequest

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT, "minItems": 1}
SCHEMAS = {
    "reasoning": {"reasoning_steps": {**TEXTS, "minItems": 2}, "enough_data": {"type": "boolean"}},
    "clarification": {"reasoning": TEXT, "questions": TEXTS},
    "final_answer": {"answer": TEXT, "status": {"enum": ["completed", "failed"]}},
    "create_report": {"title": TEXT, "content": TEXT, "confidence": {"enum": ["high", "medium", "low"]}},
}


def tool(name: str, properties: dict | None = None) -> dict:
    known = SCHEMAS[name] if properties is None else properties
    parameters = {
        "type": "object",
        "properties": known,
        "required": [*known],
        "additionalProperties": False,
        "$defs": {"Colour": {"enum": ["red", "green"]}},
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def request(said: str, *names: str, then: list | None = None, **body) -> LLMRequest:
    tools = [tool(name) for name in names]
    return LLMRequest(
        {"model": "m", "messages": [{"role": "user", "content": said}, *(then or [])], "tools": tools, **body}
    )


def called(asked: LLMRequest) -> tuple[str, dict]:
    call = demo.answer(asked).tool_calls[0]
    arguments = orjson.loads(call.arguments)
    jsonschema.validate(arguments, asked.tools[call.name]["parameters"])
    return call.name, arguments


def turn(name: str, result: str) -> list:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


ACTIONS = ("clarification", "create_report", "final_answer")


@pytest.mark.parametrize("said", ["Write a report on tea", "Напиши отчёт о чае"])
def test_a_report_is_written_once_and_then_mentioned(said: str):
    name, arguments = called(request(said, *ACTIONS))
    after, answer = called(request(said, *ACTIONS, then=turn("create_report", "artifact art_1")))

    assert name == "create_report"
    assert said in arguments["content"]
    assert after == "final_answer"
    assert said in answer["answer"]
    assert "art_1" in answer["answer"]


def test_a_second_report_of_the_conversation_is_written_too():
    then = [*turn("create_report", "old"), {"role": "user", "content": "Another report"}]

    assert called(request("A report", *ACTIONS, then=then))[0] == "create_report"


@pytest.mark.parametrize("said", ["Do something", "Сделай что-нибудь"])
def test_a_vague_message_is_asked_back_about_once(said: str):
    assert called(request(said, *ACTIONS))[0] == "clarification"
    assert called(request(said, *ACTIONS, then=turn("clarification", "tea")))[0] == "final_answer"


def test_anything_else_is_answered():
    name, arguments = called(request("Hello", *ACTIONS))

    assert name == "final_answer"
    assert "scripted LLM" in arguments["answer"]
    assert "«Hello»" in arguments["answer"]


def test_the_only_offer_of_reasoning_is_taken():
    assert called(request("Write a report", "reasoning"))[0] == "reasoning"


def test_without_tools_there_is_plain_text():
    assert "«Hello»" in (demo.answer(request("Hello")).content or "")


def test_without_a_need_to_call_there_is_plain_text():
    assert demo.answer(request("Hello", "create_report")).content
    assert called(request("Hello", "create_report", tool_choice="required"))[0] == "create_report"


def test_required_fields_of_unknown_tools_are_made_up():
    properties = {
        "colour": {"$ref": "#/$defs/Colour"},
        "count": {"type": "integer", "minimum": 3},
        "names": TEXTS,
        "deep": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
        "maybe": {"anyOf": [{"type": "null"}, TEXT]},
        "short": {"type": "string", "maxLength": 2},
        "fixed": {"const": 7},
    }
    body = {"tools": [tool("paint", properties)], "tool_choice": {"type": "function", "function": {"name": "paint"}}}

    assert called(request("Hello", **body))[0] == "paint"


def test_a_schema_for_the_answer_is_met():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}

    jsonschema.validate(orjson.loads(demo.answer(request("Hello", response_format=wanted)).content or ""), schema)
