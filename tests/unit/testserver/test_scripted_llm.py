"""R20: the scripted LLM says what the case says, records what it is asked, and invents nothing."""

from typing import Any

import orjson
import pytest
from testserver.case import LLMTurn
from testserver.llm_request import LLMRequest, parse_baggage
from testserver.llm_wire import LLMRefusal
from testserver.scripted_llm import Script, ScriptedLLM
from testserver.variables import Scope


def tool(name: str, parameters: dict | None = None) -> dict:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {}}}


def asked(said: str = "Hi", *tools: str, baggage: str | None = None, **body: Any) -> LLMRequest:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": said}]
    document = {"model": "gpt", "messages": messages, "tools": [tool(name) for name in tools], **body}
    return LLMRequest(document, {"baggage": baggage} if baggage else {})


def script(*turns: dict, **variables: Any) -> Script:
    return Script([LLMTurn.model_validate(turn) for turn in turns], Scope(variables))


def said(text: str, **more: Any) -> dict:
    return {"reply": {"content": text}, **more}


def test_turns_without_a_matcher_are_consumed_in_order():
    played = script(said("one"), said("two", times=2))

    assert [played.answer(asked()).content for _ in range(3)] == ["one", "two", "two"]
    assert played.unused() == []
    assert len(played.requests) == 3


# matcher → (the request that it is for, one that it is not for)
MATCHERS = {
    "last_user_contains": ("bread", asked("buy bread"), asked("buy milk")),
    "last_user_matches": ("^buy", asked("buy"), asked("to buy")),
    "asked_contains": (["kind", "milk"], asked("milk"), asked("bread")),
    "offers_tool": ("f", asked("", "f", "g"), asked("", "g")),
    "offers_only": (["f"], asked("", "f"), asked("", "f", "g")),
    "model": ("gpt", asked(), asked(model="other")),
    "template": ("assistant", asked(baggage="maruntime.template=assistant"), asked(baggage="a=b")),
    "messages": (2, asked(), asked(messages=[{"role": "user", "content": "x"}])),
    "last_role": ("user", asked(), asked(messages=[{"role": "tool", "content": "x"}])),
}


@pytest.mark.parametrize("name", MATCHERS)
def test_a_matched_turn_waits_for_its_request(name: str):
    value, right, wrong = MATCHERS[name]
    played = script(said("matched", when={name: value}), said("other", optional=True))

    assert played.answer(wrong).content == "other"
    assert played.unused() == ["turn 0 was used 0 of 1 times"]
    assert played.answer(right).content == "matched"
    assert played.unused() == []


def test_every_matcher_has_an_example():
    assert MATCHERS.keys() == LLMTurn.model_fields["when"].annotation.__args__[0].model_fields.keys()


def test_a_request_that_the_script_does_not_foresee_is_a_fault_and_never_retried():
    played = script(said("never", when={"offers_tool": "f"}))

    with pytest.raises(LLMRefusal) as refused:
        played.answer(asked("lost", "g"))

    assert refused.value.status == 500
    assert refused.value.headers == {"x-should-retry": "false"}
    assert "no turn is left" in played.faults[0]
    assert "'lost'" in played.faults[0]


def test_variables_are_filled_when_the_turn_is_spoken():
    played = script({"reply": {"tool_calls": [{"name": "f", "arguments": {"n": "${n}"}}]}}, n=3)
    played.scope.set("n", 4)

    call = played.answer(asked()).tool_calls[0]

    assert (call.name, orjson.loads(call.arguments)) == ("f", {"n": 4})


def test_an_unset_variable_is_a_fault():
    played = script(said("${later}"))

    with pytest.raises(LLMRefusal):
        played.answer(asked())

    assert "'later'" in played.faults[0]


def test_raw_arguments_go_out_as_they_are():
    played = script({"reply": {"tool_calls": [{"name": "f", "arguments": '{"broken'}]}})

    assert played.answer(asked()).tool_calls[0].arguments == '{"broken'


def test_a_json_reply_must_satisfy_the_schema_that_was_asked_for():
    schema = {"type": "object", "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
    played = script({"reply": {"json": {"a": 1}}}, {"reply": {"json": {"b": 1}}})

    assert orjson.loads(played.answer(asked(response_format=wanted)).content or "") == {"a": 1}
    with pytest.raises(LLMRefusal):
        played.answer(asked(response_format=wanted))
    assert "'a' is a required property" in played.faults[0]


def test_a_scripted_error_is_no_fault():
    played = script({"reply": {"error": {"status": 429, "headers": {"Retry-After": "0"}}}})

    with pytest.raises(LLMRefusal) as refused:
        played.answer(asked())

    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "0"})
    assert refused.value.body["error"]["code"] == "scripted_error"
    assert played.faults == []


def test_executions_beside_each_other_have_their_own_scripts():
    llm = ScriptedLLM()

    with llm.playing("a-1", script(said("a"))), llm.playing("b-2", script(said("b"))):
        assert llm.answer(asked(baggage="x=y, maruntime.case=b-2;p=1")).content == "b"
        assert llm.answer(asked(baggage="maruntime.case=a-1")).content == "a"
    with pytest.raises(LLMRefusal, match="500"):
        llm.answer(asked(baggage="maruntime.case=a-1"))


def test_a_malformed_request_of_a_case_is_a_fault_of_that_case():
    llm = ScriptedLLM()
    played = script(said("a"))

    with llm.playing("a-1", played), pytest.raises(LLMRefusal, match="400"):
        llm.answer(asked(baggage="maruntime.case=a-1", messages=[]))

    assert played.faults == ["a request without model or messages"]


def test_baggage_is_read_as_the_standard_says():
    assert parse_baggage("a=1, b = x%20y ;prop=1,,broken") == {"a": "1", "b": "x y"}
