"""Which tools a step offers, and the reason for each (requirements R05, R11 and R21 C)."""

import json
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.retrieval.ranking import Candidate, Leg
from orchestrator.retrieval.selection import (
    Mode,
    Reason,
    Selectable,
    Selection,
    SelectionPolicy,
    chosen,
    narrowed,
)


def _tools(*names: str) -> list[Selectable]:
    return [Selectable(f"toolv_{name}", name) for name in names]


def _found(*names: str) -> list[Candidate]:
    return [Candidate(f"toolv_{name}", 1.0 / place, 0.5, {Leg.LEXICAL: place}) for place, name in enumerate(names, 1)]


def _reasons(selection: Selection) -> dict[str, str]:
    return {verdict.name: verdict.reason.value for verdict in selection.verdicts}


def _removes(rule: str, *gone: str):
    def rules(names: Sequence[str]) -> Mapping[str, str]:
        return {name: rule for name in names if name in gone}

    return rules


def test_nobody_searches_when_everything_allowed_fits() -> None:
    first = narrowed(_tools("a", "b"), SelectionPolicy(max_tools_in_prompt=2))

    selection = chosen(first, None)

    assert not first.needs_search
    assert selection.mode is Mode.ALL_FIT
    assert _reasons(selection) == {"a": "all_fit", "b": "all_fit"}


def test_the_best_found_are_kept_in_the_order_of_the_catalog() -> None:
    first = narrowed(_tools("a", "b", "c", "d"), SelectionPolicy(max_tools_in_prompt=2))

    selection = chosen(first, _found("d", "b", "a"))

    assert first.needs_search
    assert selection.kept == ("b", "d")
    assert _reasons(selection) == {"a": "over_limit", "b": "found", "c": "not_found", "d": "found"}


def test_required_tools_are_kept_whatever_was_found() -> None:
    policy = SelectionPolicy(max_tools_in_prompt=2, required=frozenset({"final_answer"}))
    first = narrowed(_tools("a", "b", "final_answer"), policy)

    selection = chosen(first, _found("b"))

    assert selection.kept == ("b", "final_answer")
    assert _reasons(selection)["final_answer"] == "required"
    assert "toolv_final_answer" not in first.searchable


def test_required_tools_over_the_limit_leave_room_for_nothing_else() -> None:
    policy = SelectionPolicy(max_tools_in_prompt=1, required=frozenset({"x", "y"}))
    first = narrowed(_tools("a", "x", "y"), policy)

    selection = chosen(first, None)

    assert not first.needs_search
    assert selection.kept == ("x", "y")
    assert _reasons(selection)["a"] == "over_limit"


def test_a_rule_before_the_search_beats_everything_but_the_policy() -> None:
    policy = SelectionPolicy(max_tools_in_prompt=5, deny=frozenset({"b"}), required=frozenset({"a", "b"}))

    selection = chosen(narrowed(_tools("a", "b", "c"), policy, _removes("max_searches", "a", "b")), None)

    assert selection.kept == ("c",)
    assert [(v.reason, v.rule) for v in selection.verdicts[:2]] == [
        (Reason.RULE, "max_searches"),
        (Reason.DENIED, None),
    ]


def test_a_rule_after_the_search_leaves_the_place_empty() -> None:
    first = narrowed(_tools("a", "b", "c"), SelectionPolicy(max_tools_in_prompt=2))

    selection = chosen(first, _found("a", "b", "c"), _removes("only_reports", "a"))

    assert selection.kept == ("b",)
    assert _reasons(selection) == {"a": "rule", "b": "found", "c": "over_limit"}


def test_only_allowed_tools_are_searched() -> None:
    first = narrowed(_tools("a", "b", "c"), SelectionPolicy(max_tools_in_prompt=1, allow=("c", "a")))

    assert first.searchable == {"toolv_a", "toolv_c"}
    assert _reasons(chosen(first, _found("a")))["b"] == "not_allowed"


def test_nothing_found_falls_back_to_the_allowlist_in_its_order() -> None:
    first = narrowed(_tools("a", "b", "c"), SelectionPolicy(max_tools_in_prompt=2, allow=("c", "a", "b")))

    selection = chosen(first, [])

    assert selection.mode is Mode.FALLBACK
    assert selection.kept == ("a", "c")
    assert _reasons(selection) == {"a": "fallback", "b": "over_limit", "c": "fallback"}


def test_the_explanation_is_json_whole() -> None:
    first = narrowed(_tools("a", "b"), SelectionPolicy(max_tools_in_prompt=1))

    explained = json.loads(json.dumps(chosen(first, _found("b")).to_json()))

    assert explained == {
        "mode": "search",
        "limit": 1,
        "kept": ["b"],
        "tools": [
            {
                "name": "a",
                "version_id": "toolv_a",
                "kept": False,
                "reason": "not_found",
                "rule": None,
                "score": None,
                "cosine": None,
                "ranks": {},
            },
            {
                "name": "b",
                "version_id": "toolv_b",
                "kept": True,
                "reason": "found",
                "rule": None,
                "score": 1.0,
                "cosine": 0.5,
                "ranks": {"lexical": 1},
            },
        ],
    }


_names = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(
    tools=_names,
    found=_names,
    allow=st.none() | _names,
    deny=_names,
    required=_names,
    gone=_names,
    limit=st.integers(1, 8),
)
def test_every_tool_has_one_verdict_and_nobody_passes_a_refusal(
    tools: list[str],
    found: list[str],
    allow: list[str] | None,
    deny: list[str],
    required: list[str],
    gone: list[str],
    limit: int,
) -> None:
    policy = SelectionPolicy(limit, tuple(allow) if allow is not None else None, frozenset(deny), frozenset(required))

    selection = chosen(narrowed(_tools(*tools), policy, _removes("r", *gone)), _found(*found))

    kept = set(selection.kept)
    assert [verdict.name for verdict in selection.verdicts] == tools
    assert not kept & (set(deny) | set(gone))
    assert allow is None or kept <= set(allow) | set(required)
    assert (set(tools) & set(required)) - set(deny) - set(gone) <= kept
    assert len(kept) <= max(limit, len(kept & set(required)))
