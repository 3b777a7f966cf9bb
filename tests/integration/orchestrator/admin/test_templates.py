"""`/admin/templates`."""

import asyncio
from typing import Any

import asyncpg
import pytest

from maruntime.errors import ModelNotFound
from tests.integration.orchestrator.admin.conftest import Admin, remote_tool, template


def _problems(answer: Any) -> set[tuple[str, str]]:
    return {(problem["path"], problem["code"]) for problem in answer["error"]["problems"]}


def _rule(**parts: Any) -> dict[str, Any]:
    return {
        "name": "mine",
        "when": {"type": "always"},
        "then": [{"type": "remove", "tools": ["create_report"]}],
        **parts,
    }


async def test_a_template_is_made_and_offered_at_once(admin: Admin) -> None:
    made = await admin.post("/admin/templates", template(), 201)
    models = await admin.get("/v1/models")

    assert (made["version"], made["active_version"]) == (1, 1)
    assert made["definition"]["limits"]["max_iterations"] == 10
    assert "editor" in [model["id"] for model in models["data"]]
    assert (await admin.resources.templates.by_name("editor")).id == made["version_id"]


async def test_a_version_is_a_copy_of_any_other_and_new_sessions_take_the_active_one(admin: Admin) -> None:
    catalog = admin.resources.templates
    await admin.post("/admin/templates", template(limits={"max_iterations": 6}), 201)
    await catalog.by_name("editor")

    second = await admin.post("/admin/templates/editor/versions", {"changes": {"limits": {"max_searches": 1}}}, 201)
    still = await catalog.by_name("editor")
    third = await admin.post(
        "/admin/templates/editor/versions",
        {"base_version": 1, "changes": {"description": "Other.", "limits": {"max_iterations": None}}, "activate": True},
        201,
    )
    now = await catalog.by_name("editor")
    back = await admin.post("/admin/templates/editor/activate", {"version": 2})

    assert (second["version"], second["active_version"], still.version) == (2, 1, 1)
    assert (second["definition"]["limits"]["max_iterations"], second["definition"]["limits"]["max_searches"]) == (6, 1)
    assert (third["active_version"], now.version) == (3, 3)
    assert (now.body.limits.max_iterations, now.body.limits.max_searches, now.body.description) == (10, 4, "Other.")
    assert (back["active_version"], (await catalog.by_name("editor")).version) == (2, 2)
    assert (await catalog.by_name("editor", 1)).body.limits.max_iterations == 6
    listed = (await admin.get("/admin/templates/editor/versions", limit=2))["data"]
    assert [one["version"] for one in listed] == [3, 2]
    assert (await admin.get("/admin/templates/editor/versions/3"))["definition"] == third["definition"]


async def test_a_diff_names_each_place_with_before_and_after(admin: Admin) -> None:
    await admin.post("/admin/templates", template(rules=[_rule(), _rule(name="other")]), 201)
    changes = {
        "limits": {"max_iterations": 3, "max_seconds": 60},
        "tools": ["create_report", "final_answer"],
        "rules": [_rule(phase="after_search")],
    }
    await admin.post("/admin/templates/editor/versions", {"changes": changes}, 201)

    diff = await admin.get("/admin/templates/editor/diff", **{"from": 1, "to": 2})
    same = await admin.get("/admin/templates/editor/diff", **{"from": 2, "to": 2})

    assert {change["path"]: (change.get("before"), change.get("after")) for change in diff["changes"]} == {
        "limits.max_iterations": (10, 3),
        "limits.max_seconds": (None, 60),
        "tools": (["clarification", "create_report", "final_answer"], ["create_report", "final_answer"]),
        "rules[0].phase": ("before_search", "after_search"),
        "rules[1]": (_rule(name="other", phase="before_search"), None),
    }
    assert same["changes"] == []
    assert (await admin.get("/admin/templates/editor/diff", 404, **{"from": 1, "to": 9}))["error"]["code"] == (
        "version_not_found"
    )


async def test_every_mistake_is_named_with_its_place(admin: Admin) -> None:
    wrong = template(
        "auto",
        kind="sgr_tool_calling",
        prompt_pack="nowhere",
        system_prompt="Hello ${user}, $tools, it costs 5$ on $date.",
        llm={"endpoint": "https://api.example/v1", "temperature": 3, "api_key": "sk-1"},
        limits={"max_iterations": "10"},
        tools=["web_serch", "create_report", "create_report"],
        tool_policy={
            "required": ["clarification", "create_report"],
            "deny": ["create_report"],
            "max_tools_in_prompt": 1,
        },
        rules=[_rule(when={"type": "counter", "counter": "iteration", "op": "about", "value": 1})],
        card={"tags": ["a", "a"]},
        surprise=True,
    )

    refused = await admin.post("/admin/templates", wrong, 400)

    assert _problems(refused) == {
        ("name", "reserved_name"),
        ("prompt_pack", "unknown_prompt_pack"),
        ("system_prompt", "unknown_variable"),
        ("system_prompt", "invalid_placeholder"),
        ("llm.endpoint", "invalid_value"),
        ("llm.temperature", "invalid_value"),
        ("llm.api_key", "unknown_field"),
        ("limits.max_iterations", "invalid_value"),
        ("tools[0]", "unknown_tool"),
        ("tools[2]", "duplicate"),
        ("tools", "missing_tool"),
        ("tools", "missing_terminal"),
        ("tool_policy.required[0]", "not_allowed"),
        ("tool_policy.required[1]", "denied"),
        ("tool_policy.max_tools_in_prompt", "out_of_range"),
        ("rules[0].when.op", "invalid_value"),
        ("card.tags[1]", "duplicate"),
        ("surprise", "unknown_field"),
    }
    assert "sk-1" not in str(refused)


async def test_a_dead_end_is_refused_with_facts_that_lead_there(admin: Admin) -> None:
    research = _rule(
        name="research",
        when={"type": "counter", "counter": "clarifications", "op": "lt", "value": 2},
        then=[{"type": "keep_only", "tools": ["clarification"]}],
    )

    refused = await admin.post("/admin/templates", template(rules=[research]), 400)

    problem = refused["error"]["problems"][0]
    assert (problem["path"], problem["code"], refused["error"]["param"]) == ("rules", "dead_end", "rules")
    assert problem["counterexample"]["removed_by"] == {"final_answer": "research"}
    assert '"clarifications":' in refused["error"]["message"]


async def test_a_warning_does_not_refuse(admin: Admin) -> None:
    await admin.post("/admin/tools", remote_tool(activate=False), 201)
    tools = ["get_weather", "final_answer"]

    made = await admin.post("/admin/templates", template(tools=tools), 201)
    needed = template("needs_it", tools=tools, tool_policy={"required": ["get_weather"]})
    refused = await admin.post("/admin/templates", needed, 400)
    draft = await admin.post("/admin/templates", {**needed, "activate": False}, 201)
    early = await admin.post("/admin/templates/needs_it/activate", {"version": 1}, 400)
    await admin.post("/admin/tools/get_weather/activate", {"version": 1})
    active = await admin.post("/admin/templates/needs_it/activate", {"version": 1})

    assert [(w["path"], w["code"]) for w in made["warnings"]] == [("tools[0]", "inactive_tool")]
    assert ("tools", "inactive_tool") in _problems(refused)
    assert draft["active_version"] is None
    assert early["error"]["code"] == "invalid_definition"
    assert active["active_version"] == 1


async def test_a_template_that_is_not_active_begins_no_session(admin: Admin) -> None:
    await admin.post("/admin/templates", template(), 201)
    await admin.resources.templates.by_name("editor")

    off = await admin.post("/admin/templates/editor/deactivate", {})

    assert off["active_version"] is None
    for version in (None, 1):
        with pytest.raises(ModelNotFound):
            await admin.resources.templates.by_name("editor", version)
    assert (await admin.resources.templates.by_version_id(off["version_id"])).version == 1


async def test_the_default_template_stays(admin: Admin) -> None:
    name = admin.resources.settings.default_template

    refused = await admin.post(f"/admin/templates/{name}/deactivate", {}, 409)

    assert refused["error"]["code"] == "in_use"


async def test_many_versions_at_once_are_dense(admin: Admin) -> None:
    await admin.post("/admin/templates", template(), 201)

    answers = await asyncio.gather(
        *(
            admin.http.post("/admin/templates/editor/versions", json={"changes": {"description": f"Number {n}"}})
            for n in range(6)
        )
    )
    versions = [one["version"] for one in (await admin.get("/admin/templates/editor/versions"))["data"]]

    made = [answer.json()["version"] for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert made
    assert versions == list(range(len(made) + 1, 0, -1))
    assert sorted(made) == versions[-2::-1]


async def test_a_stale_belief_is_a_conflict(admin: Admin) -> None:
    await admin.post("/admin/templates", template(), 201)
    await admin.post("/admin/templates/editor/versions", {"changes": {}}, 201)

    for path, body in (
        ("versions", {"changes": {}, "expected_version": 1}),
        ("activate", {"version": 1, "expected_version": 1}),
        ("deactivate", {"expected_version": 1}),
    ):
        refused = await admin.post(f"/admin/templates/editor/{path}", body, 409)
        assert refused["error"]["code"] == "version_conflict"
    assert (await admin.post("/admin/templates", template(), 409))["error"]["code"] == "name_taken"


@pytest.mark.parametrize("table", ["tool_versions", "agent_template_versions", "agent_template_tools", "audit_log"])
async def test_the_database_refuses_to_change_what_is_immutable(admin: Admin, database_url: str, table: str) -> None:
    await admin.post("/admin/templates", template(), 201)
    column = {"agent_template_tools": "tool_name", "audit_log": "action"}.get(table, "body")
    connection = await asyncpg.connect(database_url)

    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="never updated"):
        await connection.execute(f"update {table} set {column} = {column}")
    await connection.close()


async def test_a_body_has_no_other_fields(admin: Admin) -> None:
    await admin.post("/admin/templates", template(), 201)

    for path, body, param in (
        ("versions", {"changes": {}, "base": 1}, "base"),
        ("versions", {"changes": []}, "changes"),
        ("versions", {"changes": {"name": "other"}}, "name"),
        ("activate", {}, "version"),
        ("activate", {"version": "1"}, "version"),
        ("activate", {"version": True}, "version"),
        ("activate", {"version": 2**40}, "version"),
        ("activate", {"version": 1, "surprise": 1}, "surprise"),
    ):
        refused = await admin.post(f"/admin/templates/editor/{path}", body, 400)
        assert refused["error"]["param"] == param
    assert (await admin.get("/admin/templates/editor/versions/99999999999", 400))["error"]["param"] == "version"
