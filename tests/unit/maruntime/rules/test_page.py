"""docs/rules.md says what is so."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from maruntime.domain.rule import COUNTERS, Action, Condition, Phase, Resource, Rule, unsupported_actions
from maruntime.rules.limits import limit_rules
from maruntime.rules.lint import lint

PAGE = (Path(__file__).parents[4] / "docs" / "rules.md").read_text()
BLOCKS = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]
ROWS = [json.loads(row) for row in re.findall(r"^\| `(\{.*?\})` \|", PAGE, re.MULTILINE)]
RULES: TypeAdapter[list[Rule]] = TypeAdapter(list[Rule])
PART: TypeAdapter[Any] = TypeAdapter(Condition | Action)
TOOLS = ("generate_plan", "web_search", "create_report", "final_answer")


def test_the_first_example_is_a_list_of_rules_without_a_problem() -> None:
    rules = RULES.validate_python(BLOCKS[0])
    limits = {"max_iterations": 10, "max_searches": 4}

    assert lint(rules, TOOLS, limits=limits, shipped=limit_rules(limits, TOOLS)) == []
    assert unsupported_actions(rules) == []


@pytest.mark.parametrize("example", BLOCKS[1:])
def test_an_example_has_the_problems_that_it_shows(example: dict[str, Any]) -> None:
    rules, tools, limits = RULES.validate_python(example["rules"]), example["tools"], example["limits"]

    problems = lint(rules, tools, limits=limits, shipped=limit_rules(limits, tools))

    assert [problem.to_json() for problem in problems] == example["problems"]


def test_the_tables_show_every_condition_and_action() -> None:
    schema = json.dumps(RULES.json_schema())

    assert {row["type"] for row in ROWS} == set(re.findall(r'"const": "([a-z_]+)"', schema))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["type"])
def test_a_row_is_well_formed(row: dict[str, Any]) -> None:
    assert PART.dump_python(PART.validate_python(row), mode="json") == row


def test_every_name_stands_on_the_page() -> None:
    limits = dict.fromkeys(("max_iterations", "max_searches", "max_clarifications", "max_seconds"), 1)
    shipped = (rule.name for rule in limit_rules(limits))

    for name in (*COUNTERS, *Phase, *Resource, *shipped):
        assert f"`{name}`" in PAGE


def test_every_code_of_the_linter_stands_on_the_page() -> None:
    source = (Path(__file__).parents[4] / "maruntime" / "rules" / "lint.py").read_text()
    codes = set(re.findall(r'Problem\(\s*"([a-z_]+)"', source))

    assert len(codes) == 10
    for code in codes:
        assert f"`{code}`" in PAGE
