import contextlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_worker.tools.arguments import ArgumentsInvalid, clean_text, read_arguments
from maruntime.testing.builders import a_tool
from tests.unit.agent_worker.builders import FINAL, REPORT, final

ANYTHING = a_tool("anything", parameters={"type": "object"})
STRICT = a_tool(
    "strict",
    parameters={
        "type": "object",
        "required": ["n"],
        "additionalProperties": False,
        "properties": {
            "n": {"type": "integer", "multipleOf": 0.5, "maximum": 10},
            "items": {"type": "array", "uniqueItems": True, "items": {"enum": [1, "a", None]}},
            "text": {"type": "string", "pattern": "^a*$", "maxLength": 3},
        },
    },
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["n", "items", "text"]), inner),
    max_leaves=12,
)


def problem(tool, raw):
    with pytest.raises(ArgumentsInvalid) as caught:
        read_arguments(tool, raw)
    return str(caught.value)


def test_arguments_that_fit_are_returned():
    assert read_arguments(FINAL, final("Hé").arguments)["answer"] == "Hé"


@pytest.mark.parametrize("raw", ["", "{", "{'a': 1}", '{"a": NaN}', '{"a": 1e999}', '{"a": 1} tail', "\x00"])
def test_text_that_is_not_json_is_told_with_a_quotation(raw):
    told = problem(ANYTHING, raw)

    assert told.startswith("The arguments are not valid JSON")
    assert raw in told


@pytest.mark.parametrize("raw", ["[]", "null", '"{}"', "1"])
def test_json_that_is_not_an_object_is_told(raw):
    assert problem(ANYTHING, raw) == f"The arguments must be a JSON object: {raw}"


def test_every_problem_names_its_place():
    told = problem(STRICT, '{"n": 11, "text": "bbbb", "more": 1}')

    assert told.startswith("The arguments do not fit the schema of strict: ")
    assert "$.n: 11 is greater than the maximum of 10" in told
    assert "$.text:" in told
    assert "'more' was unexpected" in told


def test_what_is_told_stays_short():
    assert len(problem(ANYTHING, "{" + "x" * 100_000)) < 500
    assert len(problem(REPORT, orjson.dumps({str(n): "y" * 5000 for n in range(99)}).decode())) < 2500


def test_what_cannot_be_stored_is_replaced_everywhere():
    read = read_arguments(ANYTHING, r'{"k\u0000": ["a\u0000b", {"x": "\u0000"}], "n": 1}')

    assert read == {"k�": ["a�b", {"x": "�"}], "n": 1}
    assert clean_text("a\x00\ud800b") == "a��b"


@pytest.mark.parametrize("depth", [66, 253, 400, 1000, 100_000])
def test_arguments_that_are_nested_too_deeply_are_told(depth):
    """What cannot be encoded again would end the stream of the slot, not the run."""
    for raw in ('{"a":' + "[" * depth + "]" * depth + "}", '{"a":' * depth + "1" + "}" * depth):
        told = problem(ANYTHING, raw)

        assert "nested more than 64 levels deep" in told or "depth limit exceeded" in told


def test_arguments_may_be_nested_as_deeply_as_anybody_needs():
    raw = '{"a":' + "[" * 63 + "]" * 63 + "}"

    assert orjson.dumps(read_arguments(ANYTHING, raw)).decode() == raw


@given(raw=st.text() | st.text(alphabet='{}[]":,\\ntu0\x00\ud800'), tool=st.sampled_from([ANYTHING, STRICT, FINAL]))
def test_no_text_raises_anything_but_what_is_promised(raw, tool):
    with contextlib.suppress(ArgumentsInvalid):
        assert isinstance(read_arguments(tool, raw), dict)


@settings(deadline=None)
@given(value=json_values, tool=st.sampled_from([ANYTHING, STRICT]))
def test_no_json_raises_anything_but_what_is_promised(value, tool):
    try:
        raw = orjson.dumps(value).decode()
    except TypeError:  # what cannot be written as JSON
        return

    try:
        read = read_arguments(tool, raw)
    except ArgumentsInvalid:
        return

    assert "\\u0000" not in orjson.dumps(read).decode().replace("\\\\", "")
