import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from agent_worker.llm.next_step import NextStep, NextStepInvalid
from agent_worker.llm.partial_json import Piece, StringsReader
from agent_worker.llm.strict_schema import strict
from maruntime.testing.builders import a_tool

FIND = a_tool(
    "find",
    description="Finds.",
    parameters={
        "type": "object",
        "required": ["query"],
        "properties": {
            "query": {"type": "string", "maxLength": 9, "description": "What for"},
            "limit": {"type": "integer", "minimum": 1, "default": 5},
            "order": {"type": ["string", "null"], "enum": ["new", None]},
            "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}, "minItems": 1},
            "extra": {"type": "object"},
        },
        "$defs": {"Tag": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "n": {}}}},
    },
)
THINKING = {
    "reasoning_steps": ["one", "two"],
    "current_situation": "here",
    "plan_status": "p",
    "enough_data": True,
    "remaining_steps": [],
    "task_completed": False,
}


def filled(**function):
    return json.dumps({**THINKING, "function": function})


def test_the_schema_is_strict_and_in_order():
    wanted = NextStep([FIND, a_tool("look")]).response_format()

    assert (wanted["type"], wanted["json_schema"]["name"], wanted["json_schema"]["strict"]) == (
        "json_schema",
        "next_step",
        True,
    )
    schema = wanted["json_schema"]["schema"]
    assert list(schema["properties"]) == schema["required"] == [*THINKING, "function"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["function"]["anyOf"] == [
        {
            "type": "object",
            "properties": {
                "tool": {"type": "string", "const": "find"},
                "query": {"type": "string", "description": "What for [maxLength: 9]"},
                "limit": {"anyOf": [{"type": "integer", "description": "[minimum: 1; default: 5]"}, {"type": "null"}]},
                "order": {"anyOf": [{"type": "string", "enum": ["new"]}, {"type": "null", "enum": [None]}]},
                "tags": {
                    "anyOf": [
                        {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {
                                    "name": {"type": "string"},
                                    "n": {
                                        "anyOf": [
                                            {"type": "string", "description": "Any JSON, as text"},
                                            {"type": "null"},
                                        ]
                                    },
                                },
                                "required": ["name", "n"],
                                "additionalProperties": False,
                            },
                            "description": "[minItems: 1]",
                        },
                        {"type": "null"},
                    ]
                },
                "extra": {
                    "anyOf": [
                        {"type": "string", "description": 'JSON as text, for the schema {"type":"object"}'},
                        {"type": "null"},
                    ]
                },
            },
            "required": ["tool", "query", "limit", "order", "tags", "extra"],
            "additionalProperties": False,
            "description": "Finds.",
        },
        {
            "type": "object",
            "properties": {"tool": {"type": "string", "const": "look"}},
            "required": ["tool"],
            "additionalProperties": False,
            "description": "Looks.",
        },
    ]


def test_the_same_tools_give_the_same_bytes():
    """A provider's cache of schemas and prompts lives by it."""
    first, second = (json.dumps(NextStep([FIND, a_tool("look")]).response_format()) for _ in range(2))

    assert first == second


def test_a_filled_form_becomes_a_call_without_the_nulls_that_we_asked_for():
    function = {"tool": "find", "query": "q", "limit": None, "order": None, "extra": '{"a": [1]}'}

    step = NextStep([FIND]).read(filled(**function, tags=[{"name": "t", "n": "7"}, {"name": "u", "n": None}]))

    assert step.thought == "one\ntwo\nhere"
    assert step.call.name == "find"
    assert json.loads(step.call.arguments) == {
        "query": "q",
        "order": None,
        "tags": [{"name": "t", "n": 7}, {"name": "u"}],
        "extra": {"a": [1]},
    }


def test_a_parameter_called_tool_moves_our_own_name():
    wrench = a_tool("wrench", parameters={"type": "object", "required": ["tool"], "properties": {"tool": {}}})
    form = NextStep([wrench])

    assert form.tag == "tool_"
    assert json.loads(form.read(filled(tool_="wrench", tool="5")).call.arguments) == {"tool": 5}


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object", "additionalProperties": {"type": "integer"}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}},
        {"type": "object", "properties": {"a": {}}, "anyOf": [{"required": ["a"]}]},
    ],
)
def test_arguments_without_a_strict_form_are_written_as_text(parameters):
    form = NextStep([a_tool("free", parameters=parameters)])

    (branch,) = form.response_format()["json_schema"]["schema"]["properties"]["function"]["anyOf"]
    assert branch["required"] == ["tool", "arguments"]
    assert json.loads(form.read(filled(tool="free", arguments='{"a": 1}')).call.arguments) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("I think", "not valid JSON"),
        ('{"reasoning_steps": ["a"', "not valid JSON"),
        ("[]", "not of type 'object'"),
        (json.dumps({**THINKING, "function": None}), "function"),
        (json.dumps(THINKING), "no function.tool"),
        (json.dumps({"function": {"tool": "find"}}), "is a required property"),
        (filled(query="q"), "no function.tool: name one of find"),
    ],
)
def test_what_is_no_form_is_told_to_the_model(text, told):
    with pytest.raises(NextStepInvalid, match=told):
        NextStep([FIND]).read(text)


def test_fences_and_words_around_the_form_do_no_harm():
    assert NextStep([a_tool()]).read(f"Sure:\n```json\n{filled(tool='look')}\n```").call.arguments == "{}"


def test_a_tool_that_is_not_offered_is_judged_later():
    assert NextStep([a_tool()]).read(filled(tool="pay", n=1)).call.name == "pay"


def test_a_recursion_ends_in_text():
    node = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#/$defs/N"}}}

    form = strict({"$ref": "#/$defs/N"}, {"$defs": {"N": node}})

    assert '"type": "string"' in json.dumps(form.schema)


_leaves = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer", "minimum": 0},
        {"enum": ["a", 1, None]},
        {"const": "x"},
        {},
        {"type": "object"},
        {"type": ["boolean", "null"]},
    ]
)
_schemas = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda one, two: {"anyOf": [one, two]}, inner, inner),
        st.builds(
            lambda properties, required: {
                "type": "object",
                "properties": properties,
                "required": [name for name in properties if name in required],
            },
            st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
            st.sets(st.sampled_from("abc")),
        ),
    ),
    max_leaves=8,
)


def _assert_strict(schema):
    assert schema.keys() <= {"type", "enum", "const", "anyOf", "items", "properties", "required", "description"} | {
        "additionalProperties"
    }
    if "properties" in schema:
        assert list(schema["properties"]) == schema["required"]
        assert schema["additionalProperties"] is False
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), schema.get("items")]
    for one in inner:
        if one is not None:
            _assert_strict(one)


@given(_schemas)
def test_every_schema_becomes_a_strict_one(schema):
    form = strict(schema, schema)

    _assert_strict(form.schema)
    Draft202012Validator.check_schema(form.schema)


# --- reading strings on their way

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["tool", "answer", "x"]), inner),
    max_leaves=6,
)


def _at(value, path):
    if not path:
        return [value] if isinstance(value, str) else []
    if path[0] is None:
        return [found for item in value for found in _at(item, path[1:])] if isinstance(value, list) else []
    return _at(value[path[0]], path[1:]) if isinstance(value, dict) and path[0] in value else []


@given(
    value=st.dictionaries(st.sampled_from(["steps", "function", "answer", "x"]), _values),
    cuts=st.lists(st.integers(0, 300), max_size=12),
    ascii_only=st.booleans(),
)
def test_the_strings_at_the_paths_come_whole_from_any_slices(value, cuts, ascii_only):
    paths = [("steps", None), ("function", "tool"), ("function", "answer"), ("x", None, "answer")]
    text = json.dumps(value, ensure_ascii=ascii_only)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    reader = StringsReader(*paths)

    pieces = [piece for a, b in pairwise(edges) for piece in reader.feed(text[a:b])]

    for path in paths:
        mine = [piece for piece in pieces if piece.path == path]
        read = "".join(piece.text + ("\0end" if piece.ends else "") for piece in mine)
        assert read == "".join(found + "\0end" for found in _at(value, path))
    assert reader.done


@given(st.text(alphabet='{}[]":,\\u0d8ce ansfutiol'), st.integers(1, 5))
def test_what_is_no_json_does_the_reader_no_harm(text, size):
    reader = StringsReader(("function", "answer"), ("s", None))

    for head in ('{"function": {"answer": "', '{"s": [', ""):
        for at in range(0, len(head + text), size):
            assert all(isinstance(piece, Piece) for piece in reader.feed((head + text)[at : at + size]))
