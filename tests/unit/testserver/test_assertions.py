"""R20: what is asserted at the end of a case can hold, and can fail."""

import pytest
from testserver.assertions import _LLM_CHECKS, judge_history, judge_llm, judge_values
from testserver.case import HistoryAssertion, LLMAssertion, ValuesAssertion
from testserver.llm_request import LLMRequest
from testserver.variables import Scope

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"title": "T", "n": 1}'}}
MESSAGES = [
    {"role": "user", "content": [{"type": "text", "text": "Write it"}]},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "written"},
]
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("f", "g")]
BODY = {
    "model": "gpt",
    "messages": MESSAGES,
    "tools": TOOLS,
    "tool_choice": "required",
    "temperature": 0,
    "response_format": {"type": "json_schema", "json_schema": {"name": "next", "schema": {}}},
}
REQUEST = LLMRequest(BODY, {"traceparent": "00-ab"})

# field → (holds, does not)
EXAMPLES = {
    "offered": (["f"], ["f", "h"]),
    "offered_exactly": (["g", "f"], ["f"]),
    "not_offered": (["h"], ["h", "g"]),
    "tool_choice": ("required", "auto"),
    "model": ("gpt", "other"),
    "asked_contains": (["Write", "written"], ["Write", "read"]),
    "asked_lacks": (["read"], ["Write"]),
    "last_user": ("Write it", "Write"),
    "tool_calls": ([{"name": "f", "arguments": {"title": "T"}}], [{"name": "f", "arguments": {"title": "U"}}]),
    "tool_results": ([{"tool": "f", "contains": "writ"}], [{"tool": "f", "contains": "read"}]),
    "response_format": ("next", "json_object"),
    "headers": ({"Traceparent": "^00-"}, {"traceparent": "^01-"}),
    "json": ({"/temperature": 0}, {"/temperature": 1}),
}


def llm(**assertion) -> list[str]:
    found = judge_llm([REQUEST], LLMAssertion.model_validate(assertion), Scope({}))
    return [failure.where for failure in found]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_assertion_on_the_llm_can_hold_and_fail(name: str):
    right, wrong = EXAMPLES[name]

    assert llm(at=0, **{name: right}) == []
    assert len(llm(at=-1, **{name: wrong})) == 1


def test_every_assertion_on_the_llm_has_a_check_and_an_example():
    fields = {field.alias or name for name, field in LLMAssertion.model_fields.items()} - {"requests", "at"}

    assert fields == EXAMPLES.keys()
    assert {"json" if name == "json_values" else name for name in _LLM_CHECKS} == fields


def test_the_number_of_requests_is_counted():
    assert llm(requests=1) == []
    assert llm(requests=2) == ["llm.requests"]
    assert llm(at=1, model="gpt") == ["llm.at"]


def test_a_tool_that_was_not_called_has_no_result():
    assert llm(at=0, tool_results=[{"tool": "g"}]) == ["llm[0].tool_results"]
    assert llm(at=0, tool_results=[{"tool": "f", "lacks": "written"}]) == ["llm[0].tool_results f.lacks"]
    assert llm(at=0, tool_calls=[{"name": "g"}]) == ["llm[0].tool_calls"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({"roles": ["user", "assistant", "tool"]}, {"roles": ["user", "tool"]}),
        ({"contains": ["Write"]}, {"contains": ["read"]}),
        ({"lacks": ["read"]}, {"lacks": ["written"]}),
        ({"tool_calls": ["f"]}, {"tool_calls": ["f", "f"]}),
        ({"messages": 3}, {"messages": 2}),
    ],
)
def test_an_assertion_on_the_history_can_hold_and_fail(right: dict, wrong: dict):
    def judged(assertion: dict) -> int:
        wanted = HistoryAssertion.model_validate({"session": "s", **assertion})
        return len(judge_history({"messages": MESSAGES}, wanted, Scope({})))

    assert judged(right) == 0
    assert judged(wrong) == 1


def test_a_history_of_another_form_fails():
    wanted = HistoryAssertion(session="s", messages=0)

    assert len(judge_history({"detail": "no"}, wanted, Scope({}))) == 1
    assert len(judge_history(None, wanted, Scope({}))) == 1


@pytest.mark.parametrize(
    ("right", "wrong"),
    [({"count": 2}, {"count": 3}), ({"distinct": 1}, {"distinct": 2}), ({"equal": ["a", "a"]}, {"equal": ["a"]})],
)
def test_an_assertion_on_collected_values_can_hold_and_fail(right: dict, wrong: dict):
    scope = Scope({"of": ["a", "a"], "text": "a"})

    assert judge_values(ValuesAssertion.model_validate({"of": "of", **right}), scope) == []
    assert len(judge_values(ValuesAssertion.model_validate({"of": "of", **wrong}), scope)) == 1
    assert len(judge_values(ValuesAssertion.model_validate({"of": "text", **right}), scope)) == 1
