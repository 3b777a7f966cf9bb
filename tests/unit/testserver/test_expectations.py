"""R20: every expectation can be met, and every expectation can fail."""

from dataclasses import replace

import pytest
from testserver.answer import Answer, assemble, faults_of_stream
from testserver.case import AnswerExpect, HttpExpect
from testserver.expectations import CHECKS, judge
from testserver.variables import Scope

SESSION = "sess_" + "a" * 26
USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def chunk(delta: dict, finish: str | None = None, **more) -> dict:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": SESSION, "choices": [choice], **more}


CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hello, "}),
    chunk({"content": "world"}),
    chunk({}, "stop", x_maruntime={"waiting_for": "clarification", "run_id": "run_1"}),
    {"id": "chatcmpl-1", "model": SESSION, "choices": [], "usage": USAGE},
]
STREAMED = Answer(200, {"x-session-id": SESSION}, assemble(CHUNKS), chunks=CHUNKS, duration_ms=10)
REFUSED = Answer(404, {}, {"error": {}}, error={"code": "not_found", "param": "model"})

# field → (an expectation that holds, one that does not, the answer)
EXAMPLES = {
    "status": (200, 201, STREAMED),
    "headers": ({"X-Session-Id": SESSION}, {"X-Session-Id": "sess_b"}, STREAMED),
    "text": ("Hello, world", "Hello, worl", STREAMED),
    "text_contains": (["Hello", "world"], ["Hello", "World"], STREAMED),
    "text_lacks": (["bye"], ["bye", "Hello"], STREAMED),
    "text_matches": ("^Hello", "^world", STREAMED),
    "json_values": ({"/usage/total_tokens": 5}, {"/usage/total_tokens": 6}, STREAMED),
    "json_schema": ({"required": ["id"]}, {"required": ["nope"]}, STREAMED),
    "error_code": ("not_found", "gone", REFUSED),
    "error_param": ("model", "messages", REFUSED),
    "finish_reason": ("stop", "length", STREAMED),
    "waiting_for": ("clarification", "approval", STREAMED),
    "deltas_at_least": (2, 3, STREAMED),
    "within_ms": (10, 9, STREAMED),
}
ALIASES = {"json_values": "json"}


def failures(answer: Answer, **expect) -> list[str]:
    kind = HttpExpect if "json_schema" in expect else AnswerExpect
    return [failure.where for failure in judge(answer, kind.model_validate(expect), Scope({}))]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_expectation_holds_for_the_right_value_and_fails_for_a_wrong_one(name: str):
    right, wrong, answer = EXAMPLES[name]
    key = ALIASES.get(name, name)

    assert failures(answer, **{key: right}) == []
    assert len(failures(answer, **{key: wrong})) >= 1


def test_every_expectation_has_a_check_and_an_example():
    fields = AnswerExpect.model_fields.keys() | HttpExpect.model_fields.keys()

    assert fields == CHECKS.keys()
    assert fields - EXAMPLES.keys() == {"model_is_session", "usage_present", "content_once"}


def test_a_model_that_is_not_the_session_is_seen_in_any_chunk():
    other = [*CHUNKS[:2], {**CHUNKS[2], "model": "assistant"}, *CHUNKS[3:]]

    assert failures(STREAMED, model_is_session=True) == []
    assert failures(replace(STREAMED, chunks=other), model_is_session=True) == ["model_is_session"]
    assert "header X-Session-Id" in failures(replace(STREAMED, headers={}), model_is_session=True)
    assert failures(replace(STREAMED, headers={"x-session-id": "s"}), model_is_session=True) == [
        "header X-Session-Id",
        "model_is_session",
    ]


@pytest.mark.parametrize("usage", [None, {}, {**USAGE, "prompt_tokens": 0}, {**USAGE, "total_tokens": 9}])
def test_usage_must_be_there_and_add_up(usage: dict | None):
    assert failures(STREAMED, usage_present=True) == []
    assert failures(replace(STREAMED, body={"usage": usage}), usage_present=True) == ["usage_present"]


def test_an_answer_sent_twice_is_seen():
    twice = replace(STREAMED, body=assemble([*CHUNKS[:3], CHUNKS[1], *CHUNKS[2:]]))

    assert failures(STREAMED, content_once=True, text="Hello, world") == []
    assert "content_once" in failures(twice, content_once=True, text_contains=["Hello, "])


def test_an_unexpected_failure_is_seen_without_any_expectation():
    assert judge(STREAMED, None, Scope({})) == []
    assert [failure.where for failure in judge(REFUSED, None, Scope({}))] == ["answer"]
    assert "answer" in failures(Answer(error={"message": "refused"}), within_ms=10)
    assert "answer" in failures(replace(STREAMED, error={"code": "boom"}), text="Hello, world")


def test_an_unexpected_failure_is_told_alone():
    assert failures(REFUSED, text="Hello", usage_present=True, deltas_at_least=2) == ["answer"]


def test_an_expected_failure_that_does_not_come_is_seen():
    assert "answer" in failures(STREAMED, error_code="not_found")


def test_a_fault_of_the_stream_fails_whatever_is_expected():
    assert failures(replace(STREAMED, wire_faults=["two ends"]), status=200) == ["stream"]


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ([], "without a chunk"),
        ([*CHUNKS[:3]], "exactly one finish_reason"),
        ([*CHUNKS, CHUNKS[3]], "exactly one finish_reason"),
        ([*CHUNKS, {**CHUNKS[4], "id": "chatcmpl-2"}], "do not agree on id"),
        ([*CHUNKS, {**CHUNKS[4], "model": "m"}], "do not agree on model"),
        (CHUNKS[1:], "no role"),
    ],
)
def test_what_no_stream_may_do_is_seen(chunks: list, says: str):
    assert faults_of_stream(CHUNKS) == []
    assert any(says in fault for fault in faults_of_stream(chunks))


def test_tool_call_deltas_are_put_together():
    start = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    pieces = [{"index": 0, "function": {"arguments": text}} for text in ('{"a"', ":1}")]

    body = assemble([chunk({"tool_calls": [call]}) for call in [start, *pieces]])

    assert body["choices"][0]["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]


def test_a_value_is_saved_from_a_pointer_a_header_or_a_property():
    assert STREAMED.source("/x_maruntime/run_id") == "run_1"
    assert STREAMED.source("header:X-Session-Id") == SESSION
    assert STREAMED.source("run_id") == "run_1"
    assert STREAMED.source("text") == "Hello, world"
    assert STREAMED.source("/nowhere") is None
