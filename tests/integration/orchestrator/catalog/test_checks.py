"""What can be wrong with a tool or a template, without a database."""

from typing import Any

import pytest

from orchestrator.catalog.template_checks import check_template, name_problems
from orchestrator.catalog.tool_checks import check_tool
from orchestrator.catalog.validation import differences, joined, merged
from tests.integration.orchestrator.admin.conftest import remote_tool, template

TOOLS = dict.fromkeys(("answer", "clarification", "create_report", "final_answer", "reasoning"), True)


def _rule(**parts: Any) -> dict[str, Any]:
    return {
        "name": "mine",
        "when": {"type": "always"},
        "then": [{"type": "remove", "tools": ["create_report"]}],
        **parts,
    }


_URL = "https://weather.example/"


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"kind": "client"}, "kind", "unsupported_kind"),
        ({"kind": "system", "remote": None}, "kind", "unsupported_kind"),
        ({"kind": "shipped", "remote": None, "locator": "x"}, "kind", "unsupported_kind"),
        ({"kind": "magic"}, "kind", "invalid_value"),
        ({"kind": None}, "kind", "invalid_value"),
        ({"name": "Get Weather"}, "name", "invalid_value"),
        ({"name": "weather\n"}, "name", "invalid_value"),
        ({"remote": None}, "remote", "required"),
        ({"remote": {"url": _URL}}, "remote.method", "invalid_value"),
        ({"remote": {"method": "GET"}}, "remote.url", "invalid_value"),
        ({"remote": {"method": "GET", "url": "ftp://weather.example/"}}, "remote.url", "invalid_value"),
        ({"remote": {"method": "GET", "url": "file:///etc/passwd"}}, "remote.url", "invalid_value"),
        ({"remote": {"method": "GET", "url": "https://{city}.example/"}}, "remote.url", "invalid_value"),
        ({"remote": {"method": "GET", "url": "https://x.example/?key=abc"}}, "remote.url", "literal_secret"),
        ({"remote": {"method": "GET", "url": "https://x.example/${secret:a}"}}, "remote.url", "secret_in_url"),
        ({"remote": {"method": "GET", "url": "https://x.example/{city"}}, "remote.url", "invalid_value"),
        (
            {"remote": {"method": "GET", "url": _URL, "headers": {"X-Api-Key": "plain"}}},
            "remote.headers.X-Api-Key",
            "literal_secret",
        ),
        (
            {"remote": {"method": "GET", "url": _URL, "headers": {"X-Any": "a1b2c3d4e5f6a7b8c9d0e1f2a3b4"}}},
            "remote.headers.X-Any",
            "literal_secret",
        ),
        (
            {"remote": {"method": "GET", "url": _URL, "headers": {"X-Any": "a\r\nb: c"}}},
            "remote.headers.X-Any",
            "invalid_value",
        ),
        ({"kind": "python", "locator": "a.b:c"}, "remote", "kind_mismatch"),
        ({"kind": "python", "remote": None, "locator": "os.system"}, "locator", "invalid_value"),
        ({"kind": "python", "remote": None}, "locator", "invalid_value"),
        ({"parameters": {"type": "object", "$ref": "http://x.example/s"}}, "parameters.$ref", "invalid_schema"),
        ({"parameters": {"type": "object", "$ref": "#/$defs/none"}}, "parameters.$ref", "invalid_schema"),
        ({"parameters": {"type": "object", "$ref": "#"}}, "parameters", "invalid_schema"),
        ({"parameters": {"type": "object", "description": "x" * 70_000}}, "parameters", "too_large"),
        (
            {"parameters": {"type": "object", "properties": {"city": {"pattern": "("}}}},
            "parameters.properties.city.pattern",
            "invalid_schema",
        ),
        ({"parameters": "object"}, "parameters", "invalid_value"),
        ({"description": "a\x00b"}, "description", "invalid_text"),
        ({"output_limit": 0}, "output_limit", "invalid_value"),
        ({"timeout": -1}, "timeout", "invalid_value"),
        ({"timeout": True}, "timeout", "invalid_value"),
        ({"aliases": [f"alias {n}" for n in range(33)]}, "aliases", "too_many"),
        ({"version": 7}, "version", "unknown_field"),
    ],
)
def test_a_mistake_in_a_tool_has_its_place(changes: Any, path: str, code: str) -> None:
    _, problems = check_tool(remote_tool(**changes))

    assert (path, code) in {(problem.path, problem.code) for problem in problems}


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        (
            {"rules": [_rule(then=[{"type": "remove", "tools": ["web_search"]}])]},
            "rules[0].then[0].tools[0]",
            "unknown_tool",
        ),
        (
            {"rules": [_rule(then=[{"type": "require_approval", "tools": ["create_report"]}])]},
            "rules[0].then[0].type",
            "unsupported_action",
        ),
        ({"rules": [_rule(name="max_iterations")]}, "rules[0].name", "duplicate_name"),
        ({"rules": [_rule(then=[{"type": "remove", "tools": ["*"]}])]}, "rules", "dead_end"),
        ({"tools": ["create_report"]}, "tools", "missing_terminal"),
        ({"tool_policy": {"deny": ["final_answer"]}}, "tools", "missing_terminal"),
        ({"tool_policy": {"deny": ["nothing"]}}, "tool_policy.deny[0]", "unknown_tool"),
        ({"kind": "dialog"}, "tools", "missing_tool"),
        ({"kind": "passthrough"}, "tools", "kind_mismatch"),
        ({"kind": "poet"}, "kind", "invalid_value"),
        ({"kind": None}, "kind", "invalid_value"),
        ({"description": None}, "description", "invalid_value"),
        ({"tools": ["*", "none"]}, "tools[1]", "unknown_tool"),
        ({"name": "Editor"}, "name", "invalid_value"),
        ({"name": "sess_editor"}, "name", "reserved_name"),
        ({"name": 7}, "name", "invalid_value"),
        ({"system_prompt": "a\x00"}, "system_prompt", "invalid_text"),
        ({"system_prompt": "  "}, "system_prompt", "blank"),
        ({"llm": {"fallbacks": [{"endpoint": "not a name"}]}}, "llm.fallbacks[0].endpoint", "invalid_value"),
    ],
)
def test_a_mistake_in_a_template_has_its_place(changes: Any, path: str, code: str) -> None:
    given = template(**changes)
    name = given.pop("name")
    problems = [*name_problems(name), *check_template(given, TOOLS)[1]]

    assert (path, code) in {(problem.path, problem.code) for problem in problems}


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "passthrough", "tools": []},
        {"tools": ["*"]},
        {"tools": ["*"], "tool_policy": {"required": ["create_report"], "deny": ["clarification"]}},
        {"kind": "sgr_tool_calling", "tools": ["reasoning", "final_answer"]},
        {"kind": "dialog", "tools": ["reasoning", "final_answer"]},
        {"kind": "sgr"},
        {"kind": "text"},
        {"system_prompt": "It costs 5$$. ${tools} on $date"},
        {"rules": [_rule()]},
    ],
)
def test_a_template_that_is_fine_has_no_problem(changes: dict[str, Any]) -> None:
    given = template(**changes)
    given.pop("name")

    assert check_template(given, TOOLS)[1] == []


def test_a_proof_does_not_grow_with_the_catalog() -> None:
    catalog = TOOLS | {f"tool_{number}": True for number in range(20_000)}
    rules = [_rule(), _rule(name="other", then=[{"type": "keep_only", "tools": ["tool_7", "final_answer"]}])]
    given = template(tools=["*"], rules=rules)
    given.pop("name")

    assert check_template(given, catalog)[1] == []


def test_changes_are_merged_field_by_field() -> None:
    base = {"limits": {"a": 1, "b": 2}, "tools": ["x"], "kind": "k"}

    assert merged(base, {"limits": {"b": None, "c": 3}, "tools": [], "llm": {"model": "m"}}) == {
        "limits": {"a": 1, "c": 3},
        "tools": [],
        "kind": "k",
        "llm": {"model": "m"},
    }
    assert base == {"limits": {"a": 1, "b": 2}, "tools": ["x"], "kind": "k"}


def test_a_difference_tells_absent_from_null_and_one_from_true() -> None:
    assert differences({"a": None, "c": 1}, {"b": None, "c": True}) == [
        {"path": "a", "before": None},
        {"path": "c", "before": 1, "after": True},
        {"path": "b", "after": None},
    ]
    assert joined("parameters", "properties", "two words", 0) == 'parameters.properties["two words"][0]'
