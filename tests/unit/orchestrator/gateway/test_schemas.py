"""`wire.md` §1, fields and messages; issue "The spine", bad input."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maruntime.domain.message import FunctionCall, Message, Role, ToolCallRef
from maruntime.errors import Invalid, MaruntimeError, UnknownParameter, UnsupportedParameter
from orchestrator.gateway.model_reference import TemplateName
from orchestrator.gateway.schemas import (
    FIELDS,
    MAX_MESSAGES,
    MESSAGE_FIELDS,
    ChatRequest,
    decode_json,
    parse_chat_request,
    parse_clarification,
)

HELLO = {"role": "user", "content": "Hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "assistant", "messages": [HELLO], **fields}


def chat(*messages: Any) -> dict[str, Any]:
    return body(messages=list(messages))


def refusal_of(request: Any) -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse_chat_request(request)
    return caught.value


# --- fields


def test_the_least_request_has_a_model_and_a_message() -> None:
    request = parse_chat_request(body())

    assert request == ChatRequest(TemplateName("assistant"), (Message(role=Role.USER, content="Hello"),))
    assert request.continue_session is None


def test_every_honoured_field_arrives() -> None:
    parameters = {
        "temperature": 0,
        "top_p": 0.5,
        "frequency_penalty": -2,
        "presence_penalty": 2.0,
        "logit_bias": {"50256": -100},
        "max_completion_tokens": 1,
        "stop": ["a", "b"],
        "seed": -(2**63),
        "reasoning_effort": "low",
        "verbosity": "high",
    }

    request = parse_chat_request(
        body(
            **parameters,
            stream=True,
            stream_options={"include_usage": True, "include_obfuscation": False},
            metadata={"session_id": "mine", "k": ""},
            user="u",
        )
    )

    assert request.llm_parameters == parameters
    assert (request.stream, request.include_usage, request.user) == (True, True, "u")
    assert (request.metadata, request.continue_session) == ({"session_id": "mine", "k": ""}, "mine")


@pytest.mark.parametrize("name", [*sorted(FIELDS.keys() - {"model", "messages"}), "no_such_field"])
def test_null_is_as_good_as_absent_for_any_field(name: str) -> None:
    assert parse_chat_request(body(**{name: None})) == parse_chat_request(body())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("stream", False),
        ("stream_options", {}),
        ("stream_options", {"include_usage": None}),
        ("stop", []),
        ("response_format", {"type": "text"}),
        ("metadata", {}),
        ("store", True),
        ("service_tier", "flex"),
        ("safety_identifier", "x"),
        ("prompt_cache_key", "x"),
        ("prompt_cache_retention", "24h"),
        ("prompt_cache_options", {"mode": "auto"}),
        ("prompt_cache_of_tomorrow", 1),
        ("tools", []),
        ("tool_choice", "auto"),
        ("tool_choice", "none"),
        ("parallel_tool_calls", True),
        ("parallel_tool_calls", False),
        ("n", 1),
        ("logprobs", False),
        ("top_logprobs", 0),
        ("modalities", ["text"]),
        ("functions", []),
        ("function_call", "none"),
        ("function_call", "auto"),
    ],
)
def test_what_changes_nothing_is_accepted_and_not_kept(name: str, value: Any) -> None:
    assert parse_chat_request(body(**{name: value})) == parse_chat_request(body())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("n", True),
        ("n", 1.0),
        ("logprobs", True),
        ("logprobs", 0),
        ("top_logprobs", 5),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("prediction", {"type": "content", "content": "x"}),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("moderation", {"model": "m"}),
        ("web_search_options", {}),
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tools", "x"),
        ("tool_choice", "required"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("response_format", {"type": "json_object"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}),
    ],
)
def test_what_is_not_supported_is_refused_by_name(name: str, value: Any) -> None:
    refusal = refusal_of(body(**{name: value}))

    assert isinstance(refusal, UnsupportedParameter)
    assert refusal.param == name


@pytest.mark.parametrize("name", ["temprature", "input", "prompt_cach", "", "x" * 10_000, "a\nb", "\ud800"])
def test_a_field_that_nobody_knows_is_refused_by_name(name: str) -> None:
    refusal = refusal_of(body(**{name: 0}))

    assert isinstance(refusal, UnknownParameter)
    assert refusal.param == name[:64].replace("\n", "?").replace("\ud800", "?")


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        ("stream", 1, "stream"),
        ("stream", "true", "stream"),
        ("stream_options", True, "stream_options"),
        ("stream_options", {"include_usage": 1}, "stream_options.include_usage"),
        ("stream_options", {"x": 1}, "stream_options.x"),
        ("temperature", 2.1, "temperature"),
        ("temperature", -0.1, "temperature"),
        ("temperature", "1", "temperature"),
        ("temperature", True, "temperature"),
        ("temperature", float("nan"), "temperature"),
        ("top_p", 1.1, "top_p"),
        ("frequency_penalty", 2.1, "frequency_penalty"),
        ("presence_penalty", -2.1, "presence_penalty"),
        ("logit_bias", [], "logit_bias"),
        ("logit_bias", {"x": 1}, "logit_bias"),
        ("logit_bias", {"1": 101}, "logit_bias.1"),
        ("logit_bias", {"1": None}, "logit_bias.1"),
        ("logit_bias", {str(token): 1 for token in range(1025)}, "logit_bias"),
        ("max_tokens", 0, "max_tokens"),
        ("max_tokens", 1.0, "max_tokens"),
        ("max_tokens", True, "max_tokens"),
        ("max_completion_tokens", -1, "max_completion_tokens"),
        ("max_completion_tokens", 2**31, "max_completion_tokens"),
        ("stop", 1, "stop"),
        ("stop", "", "stop"),
        ("stop", ["a"] * 5, "stop"),
        ("stop", ["a", 1], "stop[1]"),
        ("stop", "x" * 1025, "stop"),
        ("stop", ["a", "x" * 1025], "stop[1]"),
        ("seed", 2**63, "seed"),
        ("seed", 1.5, "seed"),
        ("seed", False, "seed"),
        ("reasoning_effort", "huge", "reasoning_effort"),
        ("reasoning_effort", [], "reasoning_effort"),
        ("verbosity", "loud", "verbosity"),
        ("response_format", "text", "response_format"),
        ("response_format", {}, "response_format.type"),
        ("response_format", {"type": "xml"}, "response_format.type"),
        ("metadata", [], "metadata"),
        ("metadata", {str(number): "" for number in range(17)}, "metadata"),
        ("metadata", {"k": 1}, "metadata.k"),
        ("metadata", {"k": "v" * 513}, "metadata.k"),
        ("metadata", {"k" * 65: "v"}, "metadata." + "k" * 64),
        ("metadata", {"session_id": 1}, "metadata.session_id"),
        ("metadata", {"session_id": ""}, "metadata.session_id"),
        ("user", 1, "user"),
        ("user", "u" * 513, "user"),
        ("user", "a\0", "user"),
        ("store", "yes", "store"),
        ("service_tier", 1, "service_tier"),
        ("safety_identifier", 1, "safety_identifier"),
        ("parallel_tool_calls", "yes", "parallel_tool_calls"),
        ("model", None, "model"),
        ("messages", None, "messages"),
        ("messages", {}, "messages"),
        ("messages", [], "messages"),
        ("messages", [HELLO] * (MAX_MESSAGES + 1), "messages"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(name: str, value: Any, param: str) -> None:
    refusal = refusal_of(body(**{name: value}))

    assert refusal.param == param


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_field_is_named(name: str) -> None:
    request = body()
    del request[name]

    assert refusal_of(request).param == name


def test_two_limits_of_tokens_at_once_are_refused() -> None:
    assert refusal_of(body(max_tokens=5, max_completion_tokens=5)).param == "max_tokens"


@pytest.mark.parametrize("request_body", [None, 1, "x", [], [body()]])
def test_a_body_that_is_no_object_is_refused(request_body: Any) -> None:
    assert refusal_of(request_body).param is None


def test_the_table_has_the_fields_of_the_contract_and_no_others() -> None:
    """The three lists of `wire.md` §1."""
    honoured = (
        "model messages stream stream_options temperature top_p frequency_penalty presence_penalty logit_bias "
        "max_tokens max_completion_tokens stop seed response_format tools tool_choice parallel_tool_calls metadata "
        "user reasoning_effort verbosity"
    )
    accepted = "store service_tier prompt_cache_* safety_identifier"
    refused = (
        "n logprobs top_logprobs modalities audio prediction functions function_call moderation web_search_options"
    )

    assert sorted(FIELDS) == sorted(f"{honoured} {accepted} {refused}".split())


# --- messages


def test_a_whole_history_arrives_as_it_was_sent() -> None:
    history = [
        {"role": "system", "content": "Be short."},
        {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": "Look", "name": "anna"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "found", "tool_call_id": "call_1"},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Thanks"},
    ]

    request = parse_chat_request(chat(*history))

    assert [message.to_openai() for message in request.messages] == history


def test_an_answer_that_a_client_sends_back_as_it_got_it_is_history() -> None:
    """openai-python's `message.model_dump()` names every field, and what the stream added to the calls."""
    call = {**CALL, "index": 0, "function": {**CALL["function"], "parsed_arguments": {}}}
    answer = {
        "role": "assistant",
        "content": "Hi",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [call],
        "parsed": None,
        "reasoning_content": "thinking",
    }

    request = parse_chat_request(chat(HELLO, answer, HELLO))

    reference = ToolCallRef(id="call_1", function=FunctionCall(name="look", arguments="{}"))
    assert request.messages[1] == Message(role=Role.ASSISTANT, content="Hi", tool_calls=(reference,))


def test_text_of_ten_megabytes_is_legal_here() -> None:
    text = "ы" * 5_000_000

    assert parse_chat_request(chat({"role": "user", "content": text})).messages[0].text == text


def test_as_many_parts_and_calls_as_the_limit_are_legal() -> None:
    parts = [{"type": "text", "text": "x"}] * 256
    answer = {"role": "assistant", "tool_calls": [CALL] * 128}

    _, said, asked = parse_chat_request(chat(HELLO, answer, {"role": "user", "content": parts})).messages

    assert (len(said.tool_calls), asked.content) == (128, parts)


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "x"}] * 257}, "messages[0].content"),
        ({"role": "assistant", "tool_calls": [CALL] * 129}, "messages[0].tool_calls"),
    ],
)
def test_a_message_of_too_many_pieces_is_refused_with_its_place(message: Any, place: str) -> None:
    refusal = refusal_of(chat(message, HELLO))

    assert refusal.param == place
    assert "at most" in refusal.message


@pytest.mark.parametrize("stop", ["x" * 1024, ["x" * 1024] * 4])
def test_as_many_biases_and_as_long_stops_as_the_limit_are_legal(stop: Any) -> None:
    bias = {str(token): 1 for token in range(1024)}

    assert parse_chat_request(body(logit_bias=bias, stop=stop)).llm_parameters == {"logit_bias": bias, "stop": stop}


def test_as_many_messages_as_the_limit_are_legal() -> None:
    assert len(parse_chat_request(chat(*[HELLO] * MAX_MESSAGES)).messages) == MAX_MESSAGES


def test_a_breakpoint_of_the_prompt_cache_has_no_effect() -> None:
    part = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}

    assert parse_chat_request(chat({"role": "user", "content": [part]})).messages[0].content == [
        {"type": "text", "text": "x"}
    ]


@pytest.mark.parametrize("content", ["", " \n\t\u00a0", None, [], [{"type": "text", "text": " "}], 1, True, {}])
def test_a_user_must_say_something(content: Any) -> None:
    assert refusal_of(chat(HELLO, {"role": "user", "content": content})).param == "messages[1].content"


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ("Hello", ""),
        (None, ""),
        ({}, ".role"),
        ({"role": "function", "content": "x", "name": "f"}, ".role"),
        ({"role": ["user"], "content": "x"}, ".role"),
        ({"role": "user"}, ".content"),
        ({"role": "user", "content": "a\0b"}, ".content"),
        ({"role": "user", "content": "\ud800"}, ".content"),
        ({"role": "user", "content": ["x"]}, ".content[0]"),
        ({"role": "user", "content": [{"text": "x"}]}, ".content[0].type"),
        ({"role": "user", "content": [{"type": "video"}]}, ".content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, ".content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": 1}]}, ".content[0].text"),
        ({"role": "user", "content": "x", "name": ""}, ".name"),
        ({"role": "user", "content": "x", "name": "n" * 65}, ".name"),
        ({"role": "system"}, ".content"),
        ({"role": "tool", "content": "x"}, ".tool_call_id"),
        ({"role": "tool", "content": "x", "tool_call_id": ""}, ".tool_call_id"),
        ({"role": "tool", "tool_call_id": "call_1"}, ".content"),
        ({"role": "assistant"}, ".content"),
        ({"role": "assistant", "content": None, "tool_calls": []}, ".content"),
        ({"role": "assistant", "content": [], "tool_calls": [CALL]}, ".content"),
        ({"role": "assistant", "tool_calls": {}}, ".tool_calls"),
        ({"role": "assistant", "tool_calls": [1]}, ".tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [CALL, {**CALL, "type": "x"}]}, ".tool_calls[1].type"),
        ({"role": "assistant", "tool_calls": [{**CALL, "id": None}]}, ".tool_calls[0].id"),
        ({"role": "assistant", "tool_calls": [{**CALL, "function": None}]}, ".tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f"}}]},
            ".tool_calls[0].function.arguments",
        ),
        (
            {"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": {}}}]},
            ".tool_calls[0].function.arguments",
        ),
    ],
)
def test_a_malformed_message_is_refused_with_its_place(message: Any, place: str) -> None:
    assert refusal_of(chat(HELLO, message, HELLO)).param == f"messages[1]{place}"


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ".content[0]"),
        ({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "input_audio"}]}, ".content[1]"),
        ({"role": "user", "content": [{"type": "file", "file": {}}]}, ".content[0]"),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, ".content[0]"),
        ({"role": "assistant", "content": None, "refusal": "no"}, ".refusal"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, ".audio"),
        ({"role": "assistant", "content": "x", "function_call": {"name": "f", "arguments": ""}}, ".function_call"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}, ".tool_calls[0].type"),
    ],
)
def test_what_a_message_may_not_hold_yet_is_refused_with_its_place(message: Any, place: str) -> None:
    refusal = refusal_of(chat(HELLO, message, HELLO))

    assert isinstance(refusal, UnsupportedParameter)
    assert refusal.param == f"messages[1]{place}"


@pytest.mark.parametrize("role", sorted(MESSAGE_FIELDS))
def test_a_field_of_a_message_that_nobody_knows_is_refused(role: str) -> None:
    refusal = refusal_of(chat({"role": role, "content": "x", "tool_call_id": None, "weight": 1}, HELLO))

    assert isinstance(refusal, UnknownParameter)
    assert refusal.param == "messages[0].weight"


@pytest.mark.parametrize("role", ["system", "developer", "assistant"])
def test_the_last_message_must_be_a_users(role: str) -> None:
    assert refusal_of(chat(HELLO, {"role": role, "content": "x"})).param == "messages[1].role"


def test_a_result_of_a_client_tool_is_not_supported_yet() -> None:
    refusal = refusal_of(chat(HELLO, {"role": "tool", "content": "x", "tool_call_id": "call_1"}))

    assert isinstance(refusal, UnsupportedParameter)
    assert refusal.param == "messages[1].role"


# --- clarifications


def test_an_answer_to_a_question_streams_unless_told_otherwise() -> None:
    said = (Message(role=Role.USER, content="Hello"),)

    assert parse_clarification({"messages": [HELLO]}) == (said, True)
    assert parse_clarification({"messages": [HELLO], "stream": False}) == (said, False)


@pytest.mark.parametrize(
    ("request_body", "param"),
    [
        ([], None),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages[0].content"),
        ({"messages": [{"role": "system", "content": "x"}, HELLO]}, "messages[0].role"),
        ({"messages": [HELLO], "stream": 1}, "stream"),
        ({"messages": [HELLO], "model": "assistant"}, "model"),
    ],
)
def test_a_malformed_answer_is_refused_with_its_place(request_body: Any, param: str | None) -> None:
    with pytest.raises(Invalid) as caught:
        parse_clarification(request_body)

    assert caught.value.param == param


# --- JSON


def test_a_body_is_decoded() -> None:
    assert decode_json('{"a": ["ы", 1]}'.encode()) == {"a": ["ы", 1]}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
        (b'{"a": 1e999}', "not valid JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not valid JSON"),
        (b'{"a": "\xff"}', "not UTF-8: byte 7"),
        (b'{"a": NaN}', "NaN and Infinity"),
        (b'{"a": Infinity}', "NaN and Infinity"),
        (b'{"a": -Infinity}', "NaN and Infinity"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused_with_the_reason(raw: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        decode_json(raw)


# --- anything at all

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters())
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=8
)
_part = st.fixed_dictionaries({}, optional={"type": st.sampled_from(["text", "file"]) | _json, "text": _json})
_call_part = st.fixed_dictionaries({}, optional={"name": _json, "arguments": _json})
_call = st.fixed_dictionaries({}, optional={"id": _json, "type": st.just("function") | _json, "function": _call_part})
_message = st.fixed_dictionaries(
    {"role": st.sampled_from(sorted(MESSAGE_FIELDS)) | _json},
    optional={
        "content": st.text() | st.lists(_part, max_size=3) | _json,
        "tool_calls": st.lists(_call, max_size=2) | _json,
        "tool_call_id": _json,
        "name": _json,
        "refusal": _json,
    },
)
_request = st.fixed_dictionaries(
    {"model": st.just("assistant") | _json, "messages": st.lists(_message | _json, max_size=3)},
    optional={name: _json for name in FIELDS if name not in ("model", "messages")},
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_request | _json)
def test_arbitrary_json_gives_a_request_or_an_error_of_the_platform(request_body: Any) -> None:
    try:
        request = parse_chat_request(request_body)
    except MaruntimeError as exc:
        json.dumps(exc.message, ensure_ascii=False).encode()
    else:
        assert request.messages[-1].role is Role.USER


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64) | _json.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_give_an_object_or_an_error_of_the_platform(raw: bytes) -> None:
    try:
        assert isinstance(decode_json(raw), dict)
    except Invalid as exc:
        exc.message.encode()
