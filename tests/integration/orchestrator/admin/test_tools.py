"""`/admin/tools`."""

import asyncio
from typing import Any

import asyncpg
import pytest

from orchestrator.catalog.authoring import ToolAuthoring
from tests.integration.orchestrator.admin.conftest import Admin, remote_tool, template

_LOCK = 0x6D61_7273


def _problems(answer: Any) -> set[tuple[str, str]]:
    return {(problem["path"], problem["code"]) for problem in answer["error"]["problems"]}


async def test_a_tool_is_made_active_and_seen_at_once(admin: Admin) -> None:
    before = await admin.resources.tools.active()

    made = await admin.post("/admin/tools", remote_tool(), 201)

    assert "get_weather" not in before
    assert (made["version"], made["active_version"], made["latest_version"], made["origin"]) == (1, 1, 1, "admin")
    assert made["definition"]["timeout"] == "PT1M"
    assert (await admin.resources.tools.active())["get_weather"].version_id == made["version_id"]
    assert (await admin.get("/admin/tools/get_weather"))["definition"] == made["definition"]


async def test_a_change_makes_a_version_and_the_old_one_stays_as_it_was(admin: Admin) -> None:
    made = await admin.post("/admin/tools", remote_tool(), 201)

    changed = await admin.patch("/admin/tools/get_weather", {"timeout": 2.5, "cost_hint": "cheap"})
    saved = await admin.patch("/admin/tools/get_weather", {"cost_hint": None, "activate": False})
    versions = await admin.get("/admin/tools/get_weather/versions")

    assert (changed["version"], changed["active_version"]) == (2, 2)
    assert changed["definition"] == {**made["definition"], "timeout": "PT2.5S", "cost_hint": "cheap"}
    assert (saved["version"], saved["active_version"]) == (3, 2)
    assert saved["definition"]["cost_hint"] is None
    assert [(one["version"], one["is_active"]) for one in versions["data"]] == [(3, False), (2, True), (1, False)]
    assert versions["data"][2]["definition"] == made["definition"]
    active = (await admin.resources.tools.active())["get_weather"]
    assert (active.version, active.cost_hint) == (2, "cheap")


async def test_a_change_that_changes_nothing_makes_no_version(admin: Admin) -> None:
    await admin.post("/admin/tools", remote_tool(), 201)

    same = await admin.patch("/admin/tools/get_weather", {"description": "Tell the weather in a city now."})

    assert same["latest_version"] == 1
    assert len((await admin.get("/admin/audit"))["data"]) == 1


async def test_an_older_version_is_activated_again_and_a_tool_is_taken_out_of_use(admin: Admin) -> None:
    await admin.post("/admin/tools", remote_tool(), 201)
    await admin.patch("/admin/tools/get_weather", {"description": "Weather."})

    back = await admin.post("/admin/tools/get_weather/activate", {"version": 1})
    missing = await admin.post("/admin/tools/get_weather/activate", {"version": 3}, 404)
    off = await admin.post("/admin/tools/get_weather/deactivate", {})
    again = await admin.post("/admin/tools/get_weather/deactivate", {})

    assert (back["version"], back["active_version"], back["latest_version"]) == (1, 1, 2)
    assert missing["error"]["code"] == "version_not_found"
    assert off["active_version"] is again["active_version"] is None
    assert "get_weather" not in await admin.resources.tools.active()
    names = [tool["name"] for tool in (await admin.get("/admin/tools", active="false"))["data"]]
    assert names == ["get_weather"]


async def test_the_list_is_paged(admin: Admin) -> None:
    whole = [tool["name"] for tool in (await admin.get("/admin/tools"))["data"]]
    paged, after = [], {}
    while True:
        page = await admin.get("/admin/tools", limit=2, **after)
        paged += [tool["name"] for tool in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}

    assert paged == whole == sorted(whole)
    assert {"final_answer", "reasoning"} <= set(whole)


async def test_every_mistake_is_named_with_its_place(admin: Admin) -> None:
    wrong = remote_tool(
        "final_answer",
        description=" ",
        surprise=1,
        timeout=700,
        output_limit="5",
        effect_class="sometimes",
        locator="a.b:c",
        parameters={
            "type": "array",
            "properties": {"x": {"type": "strin"}, "y z": {"minLength": -1}},
        },
        remote={
            "method": "get",
            "url": "https://user:word@weather.example/{place}",
            "headers": {"Authorization": "Bearer abc", "X-Ok": "Token ${secret:crm}", "Host": "x", "X-Var": "${env:A}"},
            "body": {},
        },
        aliases=["", "one", "One"],
        examples=["x" * 501],
    )

    refused = await admin.post("/admin/tools", wrong, 400)

    assert refused["error"]["code"] == "invalid_definition"
    assert refused["error"]["param"] == refused["error"]["problems"][0]["path"]
    assert _problems(refused) == {
        ("name", "reserved_name"),
        ("description", "invalid_value"),
        ("surprise", "unknown_field"),
        ("timeout", "out_of_range"),
        ("output_limit", "invalid_value"),
        ("effect_class", "invalid_value"),
        ("locator", "kind_mismatch"),
        ("parameters.properties.x.type", "invalid_schema"),
        ('parameters.properties["y z"].minLength', "invalid_schema"),
        ("parameters.type", "invalid_schema"),
        ("remote.method", "invalid_value"),
        ("remote.url", "secret_in_url"),
        ("remote.url", "unknown_variable"),
        ("remote.headers.Authorization", "literal_secret"),
        ("remote.headers.Host", "reserved_header"),
        ("remote.headers.X-Var", "unknown_variable"),
        ("remote.body", "unknown_field"),
        ("aliases[0]", "blank"),
        ("aliases[2]", "duplicate"),
        ("examples[0]", "too_long"),
    }
    assert "abc" not in str(refused)
    assert "word" not in str(refused["error"]["message"])
    assert (await admin.get("/admin/audit"))["data"] == []


async def test_what_is_no_object_of_json_is_refused(admin: Admin) -> None:
    for content in (b"{nope", b"[]", b'{"a": NaN}', b'{"a":' * 200 + b"1" + b"}" * 200):
        response = await admin.http.post("/admin/tools", content=content)
        assert response.status_code == 400, content[:20]
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_a_named_secret_and_a_recursive_schema_are_fine(admin: Admin) -> None:
    remote = {
        "method": "POST",
        "url": "http://crm.example:8080/v1",
        "headers": {"Authorization": "Bearer ${secret:crm}", "X-Api-Key": "${secret:other-1}", "Accept": "text/html"},
    }
    parameters = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"tree": {"$ref": "#/$defs/node"}, "pattern": {"type": "string"}, "$ref": {"type": "string"}},
        "$defs": {"node": {"type": "object", "properties": {"child": {"$ref": "#/$defs/node"}}}},
    }

    made = await admin.post("/admin/tools", remote_tool(remote=remote, parameters=parameters), 201)

    assert made["definition"]["remote"] == remote
    assert made["definition"]["parameters"] == parameters


async def test_of_two_creations_at_once_one_is_a_conflict(admin: Admin) -> None:
    answers = await asyncio.gather(*(admin.http.post("/admin/tools", json=remote_tool()) for _ in range(2)))

    assert sorted(answer.status_code for answer in answers) == [201, 409]
    refused = next(answer.json()["error"] for answer in answers if answer.status_code == 409)
    assert (refused["code"], refused["param"]) == ("name_taken", "name")
    assert (await admin.get("/admin/tools/get_weather"))["latest_version"] == 1


async def test_of_two_changes_at_once_one_is_a_conflict_and_versions_stay_dense(
    admin: Admin, database_url: str
) -> None:
    await admin.post("/admin/tools", remote_tool(), 201)
    holder = await asyncpg.connect(database_url)

    async with holder.transaction():
        await holder.execute("select pg_advisory_xact_lock($1)", _LOCK)
        changing = [
            asyncio.create_task(admin.http.patch("/admin/tools/get_weather", json={"description": text}))
            for text in ("One.", "Two.")
        ]
        async with asyncio.timeout(5):  # both have read what they change
            while await holder.fetchval("select count(*) from pg_locks where not granted") < 2:
                await asyncio.sleep(0.01)
    await holder.close()
    answers = await asyncio.gather(*changing)
    versions = (await admin.get("/admin/tools/get_weather/versions"))["data"]

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409} == {"version_conflict"}
    assert [one["version"] for one in versions] == [2, 1]


async def test_a_change_may_say_what_it_believes_to_change(admin: Admin) -> None:
    made = await admin.http.post("/admin/tools", json=remote_tool())
    tag = made.headers["ETag"]

    changed = await admin.http.patch("/admin/tools/get_weather", json={"cost_hint": "a"}, headers={"If-Match": tag})
    stale = await admin.http.patch("/admin/tools/get_weather", json={"cost_hint": "b"}, headers={"If-Match": tag})
    old = await admin.patch("/admin/tools/get_weather", {"cost_hint": "b", "expected_version": 1}, 409)
    right = await admin.patch("/admin/tools/get_weather", {"cost_hint": "b", "expected_version": 2})
    odd = await admin.http.patch("/admin/tools/get_weather", json={}, headers={"If-Match": "x"})

    assert (changed.status_code, stale.status_code, odd.status_code) == (200, 409, 400)
    assert changed.headers["ETag"] != tag
    assert (old["error"]["code"], old["error"]["param"]) == ("version_conflict", "expected_version")
    assert right["version"] == 3


async def test_what_the_platform_acts_on_can_be_described_but_not_rewired(admin: Admin) -> None:
    described = await admin.patch("/admin/tools/final_answer", {"description": "Answer.", "examples": ["Done?"]})
    refused = await admin.patch(
        "/admin/tools/final_answer", {"parameters": {"type": "object"}, "effect_class": "keyed", "kind": "remote"}, 400
    )
    renamed = await admin.patch("/admin/tools/final_answer", {"name": "end"}, 400)

    assert (described["version"], described["origin"]) == (2, "admin")
    assert {path for path, code in _problems(refused) if code == "not_changeable"} == {
        "parameters",
        "effect_class",
        "kind",
    }
    assert ("name", "not_changeable") in _problems(renamed)


async def test_a_tool_that_an_active_template_needs_stays(admin: Admin) -> None:
    await admin.post("/admin/tools", remote_tool(), 201)
    tools = ["get_weather", "final_answer"]
    await admin.post("/admin/templates", template(tools=tools, tool_policy={"required": ["get_weather"]}), 201)
    await admin.post("/admin/templates", template("free", tools=tools), 201)

    refused = await admin.post("/admin/tools/get_weather/deactivate", {}, 409)
    shown = await admin.get("/admin/tools/get_weather")
    await admin.post("/admin/templates/editor/deactivate", {})
    off = await admin.post("/admin/tools/get_weather/deactivate", {})

    assert refused["error"]["code"] == "in_use"
    assert [problem["path"] for problem in refused["error"]["problems"]] == ["editor@1"]
    assert "editor@1" in refused["error"]["message"]
    assert shown["used_by"] == [
        {"name": "editor", "version": 1, "required": True},
        {"name": "free", "version": 1, "required": False},
    ]
    assert off["active_version"] is None


async def test_a_python_tool_is_active_only_after_a_worker_could_load_it(admin: Admin) -> None:
    tool = remote_tool("slugify", kind="python", remote=None, locator="my_tools.text:slugify")
    authoring = ToolAuthoring(admin.resources.maker, admin.resources.tools)

    made = await admin.post("/admin/tools", tool, 201)
    early = await admin.post("/admin/tools/slugify/activate", {"version": 1}, 409)
    waiting = await authoring.unchecked()
    await authoring.note_check(made["version_id"], problem="No module named 'my_tools'", by="worker-1")
    failed = await admin.post("/admin/tools/slugify/activate", {"version": 1}, 409)
    other = await admin.patch("/admin/tools/slugify", {"locator": "my_tools.words:slugify"})
    await authoring.note_check(other["version_id"], problem=None, by="worker-1")
    passed = await admin.get("/admin/tools/slugify")
    described = await admin.patch("/admin/tools/slugify", {"description": "Slugs."})
    back = await admin.post("/admin/tools/slugify/activate", {"version": 2})

    assert (made["active_version"], made["check"]["state"]) == (None, "asked")
    assert early["error"]["code"] == "tool_unchecked"
    assert [tool.version_id for tool in waiting] == [made["version_id"]]
    assert "No module named" in failed["error"]["message"]
    assert (other["version"], other["active_version"]) == (2, None)
    assert (passed["active_version"], passed["check"]["state"]) == (2, "passed")
    assert (described["active_version"], described["check"]["state"]) == (3, "passed")
    assert back["active_version"] == 2
    assert "slugify" in await admin.resources.tools.active()


async def test_a_python_tool_that_is_described_before_its_check_is_checked_again_and_becomes_active(
    admin: Admin,
) -> None:
    tool = remote_tool("slugify", kind="python", remote=None, locator="my_tools.text:slugify")
    authoring = ToolAuthoring(admin.resources.maker, admin.resources.tools)
    made = await admin.post("/admin/tools", tool, 201)
    described = await admin.patch("/admin/tools/slugify", {"description": "Slugs."})

    for version in (made, described):
        await authoring.note_check(version["version_id"], problem=None, by="worker-1")

    assert (await admin.get("/admin/tools/slugify"))["active_version"] == 2
    assert await authoring.unchecked() == []


async def test_another_replica_sees_a_change_within_a_second(admin: Admin, settings: Any) -> None:
    from orchestrator.resources import opened

    async with opened(settings) as other:
        await other.tools.active()
        await admin.post("/admin/tools", remote_tool(), 201)

        async with asyncio.timeout(2):
            while "get_weather" not in await other.tools.active():
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", ["/admin/tools/none", "/admin/tools/No%00Ne", "/admin/tools/none/versions"])
async def test_what_is_not_there_is_not_found(admin: Admin, path: str) -> None:
    refused = await admin.get(path, 404)

    assert refused["error"]["code"] == "tool_not_found"
