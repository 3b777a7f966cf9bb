"""The dialects that providers speak, and what is none."""

import pytest

from agent_worker.llm.assembly import ReplyAssembly
from agent_worker.llm.contract import LLMToolCall, ReasoningDelta, TextDelta, ToolCallDelta, Usage
from agent_worker.llm.errors import LLMMalformed


def choice(finish_reason=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def call(name=None, arguments=None, **rest):
    function = {key: value for key, value in {"name": name, "arguments": arguments}.items() if value is not None}
    return {**rest, "function": function}


def calls_of(*fragments):
    assembly = ReplyAssembly(model="m")
    for fragment in fragments:
        assembly.feed(choice(tool_calls=[fragment]))
    assembly.feed(choice("tool_calls"))
    return [(made.name, made.arguments) for made in assembly.reply().tool_calls]


TWO = [("a", '{"x":1}'), ("b", "{}")]


@pytest.mark.parametrize(
    "fragments",
    [
        [call("a", '{"x"', index=0, id="1"), call("b", "{}", index=1, id="2"), call(None, ":1}", index=0)],
        [call("a", '{"x"', index=1), call("b", "{}", index=3), call(None, ":1}", index=1)],
        [call("a", '{"x":1}', index=0, id="1"), call("b", "{}", index=0, id="2")],
        [call("a", '{"x"', id="1"), call(None, ":1}"), call("b", "{}", id="2")],
        [call("a", '{"x":1}'), call("b", "{}")],
        [call("a", '{"x"', index=0, id="1"), call("a", ":1}", index=0, id="1"), call("b", "{}", index=1, id="2")],
        [call("a", '{"x"', index=0, id="1"), call("a", ":1}", index=0, id="9"), call("b", "{}", index=1, id="2")],
        [call("a", '{"x"'), call("a", ":1}"), call("b", "{}")],
        [call("a", '{"x":1}', index=0), call("b", {}, index=1)],
        [call("a", index=0), call("", '{"x":1}', index=0), call("b", "{}", index=1)],
    ],
    ids=[
        "standard", "gaps in the index", "one index for all", "no index", "no index and no id", "repeated id and name",
        "a new id each time", "repeated name without id", "arguments as an object", "name first",
    ],
)  # fmt: skip
def test_two_calls_are_two_calls_however_they_are_told(fragments):
    assert calls_of(*fragments) == TWO


def test_two_calls_of_one_tool_without_an_index_are_two():
    assert calls_of(call("a", '{"x":1}'), call("a", '{"x":2}')) == [("a", '{"x":1}'), ("a", '{"x":2}')]


def test_a_name_may_come_in_pieces():
    assembly = ReplyAssembly(model="m")

    first = assembly.feed(choice(tool_calls=[call("sea", index=0, id="1")]))
    second = assembly.feed(choice(tool_calls=[call("rch", "{}", index=0)]))

    assert first == [ToolCallDelta(0, "sea", "")]
    assert second == [ToolCallDelta(0, "search", "{}")]


def test_a_refusal_is_text_and_reasoning_has_two_names():
    assembly = ReplyAssembly(model="m")

    deltas = assembly.feed(choice("stop", refusal="I will not.", reasoning="Because."))

    assert deltas == [ReasoningDelta("Because."), TextDelta("I will not.")]
    assert assembly.reply().content == "I will not."


def test_only_the_first_choice_counts():
    assembly = ReplyAssembly(model="m")
    assembly.feed({"choices": [{"index": 1, "delta": {"content": "other"}}]})
    assembly.feed(choice("stop", content="this"))

    assert assembly.reply().content == "this"


def test_the_last_usage_counts_and_its_gaps_are_zeros():
    assembly = ReplyAssembly(model="asked")
    assembly.feed({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    assembly.feed(choice("stop") | {"usage": {"prompt_tokens": 5, "prompt_tokens_details": None}})
    assembly.feed({"choices": None, "usage": None, "model": None})

    assert assembly.reply().usage == Usage(5, 0, 0)
    assert assembly.reply().model == "asked"
    assert assembly.reply().tool_calls == ()


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (0, 0),
        (10**9, 10**9),
        (10**9 + 1, 10**9),
        (2**64, 10**9),
        (1e300, 10**9),
        (-1, 0),
        (-(2**64), 0),
        (None, 0),
        (7.9, 7),
        ("7", 7),
    ],
)
def test_no_call_takes_less_than_nothing_or_more_than_can_be_stored(told, kept):
    assembly = ReplyAssembly(model="m")
    usage = {"prompt_tokens": told, "completion_tokens": told, "prompt_tokens_details": {"cached_tokens": told}}
    assembly.feed(choice("stop") | {"usage": usage})

    assert assembly.reply().usage == Usage(kept, kept, kept)


def test_usages_add_up():
    assert Usage(1, 2, 3) + Usage(10, 20, 30) == Usage(11, 22, 33)


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": {"a": 1}},
        {"choices": ["x"]},
        choice(content=["part"]),
        choice(tool_calls=["x"]),
        choice(tool_calls=[call(7, "{}")]),
        choice(tool_calls=[call("a", "{}", index=[])]),
        {"choices": [], "usage": {"prompt_tokens": "many"}},
        choice(7),
    ],
)
def test_what_has_another_shape_is_malformed(chunk):
    with pytest.raises(LLMMalformed):
        ReplyAssembly(model="m").feed(chunk)


def test_a_reply_without_an_end_or_a_call_without_a_name_is_malformed():
    endless, nameless = ReplyAssembly(model="m"), ReplyAssembly(model="m")
    endless.feed(choice(content="a"))
    nameless.feed(choice("tool_calls", tool_calls=[call(None, "{}", index=0)]))

    for assembly in (endless, nameless):
        with pytest.raises(LLMMalformed):
            assembly.reply()


def test_arguments_are_kept_as_written():
    assembly = ReplyAssembly(model="m")
    assembly.feed(choice("tool_calls", tool_calls=[call("a", '{ "x" :1', index=0)]))

    assert assembly.reply().tool_calls == (LLMToolCall("a", '{ "x" :1'),)
