"""R11: the form of a rule, and errors that say where."""

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from maruntime.domain.rule import Rule, json_path, unsupported_actions

RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])
CONDITIONS: list[dict[str, Any]] = [
    {"type": "counter", "counter": "iteration", "op": "ge", "value": 3},
    {"type": "counter", "counter": "calls:web_search", "op": "ne", "value": {"limit": "max_searches"}},
    {"type": "state", "is": "RUNNING"},
    {"type": "state", "in": ["RUNNING", "WAITING"]},
    {"type": "stage", "is": "writing"},
    {"type": "stage", "in": ["start", "writing"]},
    {"type": "elapsed", "op": "gt", "seconds": 0.125},
    {"type": "elapsed", "op": "lt", "seconds": {"limit": "max_seconds"}},
    {"type": "budget", "resource": "wall_time", "op": "ge", "fraction": 0.8},
    {"type": "all", "conditions": [{"type": "always"}, {"type": "not", "condition": {"type": "always"}}]},
    {"type": "any", "conditions": [{"type": "always"}]},
]
ACTIONS: list[dict[str, Any]] = [
    {"type": "remove", "tools": ["*"]},
    {"type": "keep_only", "tools": ["final_answer"]},
    {"type": "set_stage", "stage": "writing"},
    {"type": "force", "tool": "final_answer"},
    {"type": "require_approval", "tools": ["http_get"]},
]


def rule(**parts: Any) -> dict[str, Any]:
    return {"name": "a", "when": {"type": "always"}, "then": [{"type": "remove", "tools": ["*"]}], **parts}


def paths(*raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        RULES.validate_python(list(raw))
    return [json_path(error["loc"], "rules") for error in caught.value.errors()]


@pytest.mark.parametrize("when", CONDITIONS)
def test_a_condition_is_written_as_it_was_read(when: dict[str, Any]) -> None:
    raw = rule(when=when, then=ACTIONS, phase="after_search")

    read = RULES.validate_python([raw])

    assert json.loads(RULES.dump_json(read)) == [raw]
    assert RULES.validate_json(RULES.dump_json(read)) == read


def test_a_rule_is_frozen_and_stands_before_the_search_unless_it_says_otherwise() -> None:
    read = Rule.model_validate(rule())

    assert read.phase == "before_search"
    assert hash(read) == hash(Rule.model_validate(rule()))
    with pytest.raises(ValidationError):
        read.name = "b"  # type: ignore[misc]


def test_the_json_schema_names_every_condition_and_action() -> None:
    schema = json.dumps(RULES.json_schema())

    for part in (*CONDITIONS, *ACTIONS):
        assert f'"const": "{part["type"]}"' in schema
    assert '"additionalProperties": false' in schema


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"name": "Not Snake"}, "rules[0].name"),
        ({"more": 1}, "rules[0].more"),
        ({"phase": "later"}, "rules[0].phase"),
        ({"then": []}, "rules[0].then"),
        ({"then": [{"type": "explode"}]}, "rules[0].then[0]"),
        ({"then": [{"type": "remove", "tools": ["x", "Y!"]}]}, "rules[0].then[0].tools[1]"),
        ({"then": [{"type": "remove", "tools": []}]}, "rules[0].then[0].tools"),
        ({"then": [{"type": "keep_only", "tools": ["*"]}]}, "rules[0].then[0].tools[0]"),
        ({"then": [{"type": "force"}]}, "rules[0].then[0].tool"),
        ({"when": {"type": "sometimes"}}, "rules[0].when"),
        ({"when": {"op": "ge"}}, "rules[0].when"),
        ({"when": {**CONDITIONS[0], "op": "=="}}, "rules[0].when.op"),
        ({"when": {**CONDITIONS[0], "counter": "calls:"}}, "rules[0].when.counter"),
        ({"when": {**CONDITIONS[0], "value": 1.5}}, "rules[0].when.value"),
        ({"when": {**CONDITIONS[0], "value": True}}, "rules[0].when.value"),
        ({"when": {**CONDITIONS[0], "value": -1}}, "rules[0].when.value"),
        ({"when": {**CONDITIONS[0], "value": {"limit": "X"}}}, "rules[0].when.value.limit"),
        ({"when": {"type": "state", "is": "BUSY"}}, "rules[0].when.is"),
        ({"when": {"type": "state", "in": []}}, "rules[0].when.in"),
        ({"when": {"type": "stage"}}, "rules[0].when"),
        ({"when": {"type": "stage", "is": "a", "in": ["b"]}}, "rules[0].when"),
        ({"when": {"type": "elapsed", "op": "eq", "seconds": 1}}, "rules[0].when.op"),
        ({"when": {"type": "elapsed", "op": "ge", "seconds": "1"}}, "rules[0].when.seconds"),
        ({"when": {"type": "elapsed", "op": "ge", "seconds": 0.1234}}, "rules[0].when.seconds"),
        ({"when": {"type": "elapsed", "op": "ge", "seconds": float("inf")}}, "rules[0].when.seconds"),
        ({"when": {"type": "budget", "resource": "money", "op": "ge", "fraction": 1}}, "rules[0].when.resource"),
        (
            {"when": {"type": "any", "conditions": [{"type": "not", "condition": {"type": "stage", "is": 1}}]}},
            "rules[0].when.conditions[0].condition.is",
        ),
        ({"phase": "transition"}, "rules[0]"),
    ],
)
def test_what_is_not_well_formed_is_refused_at_its_place(change: dict[str, Any], path: str) -> None:
    assert paths(rule(**change)) == [path]


def test_conditions_nest_eight_deep_and_no_deeper() -> None:
    deep: dict[str, Any] = {"type": "always"}
    for _ in range(7):
        deep = {"type": "not", "condition": deep}

    assert Rule.model_validate(rule(when=deep))
    assert paths(rule(when={"type": "not", "condition": deep})) == ["rules[0]"]


def test_conditions_beyond_every_measure_are_an_error_and_not_a_crash() -> None:
    deep: dict[str, Any] = {"type": "always"}
    for _ in range(5000):
        deep = {"type": "not", "condition": deep}

    with pytest.raises(ValidationError):
        Rule.model_validate(rule(when=deep))


def test_actions_of_later_releases_are_listed_with_their_place() -> None:
    """Issue 3, point 6: refused at save until then."""
    rules = RULES.validate_python([rule(), rule(then=ACTIONS)])

    assert unsupported_actions(rules) == [("rules[1].then[4]", "require_approval")]
