"""`/admin/audit`."""

from tests.integration.orchestrator.admin.conftest import Admin, remote_tool, template


async def test_every_change_says_who_what_before_and_after(admin: Admin) -> None:
    made = await admin.post("/admin/tools", remote_tool(), 201, **{"X-Request-Id": "req-1"})
    await admin.patch("/admin/tools/get_weather", {"description": "Weather."})
    await admin.post("/admin/tools/get_weather/activate", {"version": 1})
    await admin.post("/admin/tools/get_weather/deactivate", {})
    await admin.post("/admin/templates", template(), 201)
    await admin.post("/admin/templates/editor/versions", {"changes": {"description": "Other."}}, 201)
    await admin.post("/admin/templates/editor/activate", {"version": 2})
    await admin.post("/admin/templates/editor/deactivate", {})

    entries = (await admin.get("/admin/audit"))["data"]

    keys = {key["id"] for key in (await admin.get("/admin/keys"))["data"]}
    assert [(entry["action"], entry["target"]) for entry in reversed(entries)] == [
        ("tool.created", "tool:get_weather"),
        ("tool.changed", "tool:get_weather"),
        ("tool.activated", "tool:get_weather"),
        ("tool.deactivated", "tool:get_weather"),
        ("template.created", "template:editor"),
        ("template.changed", "template:editor"),
        ("template.activated", "template:editor"),
        ("template.deactivated", "template:editor"),
    ]
    first, second, third, *_ = reversed(entries)
    assert (first["principal"], first["key_id"] in keys, first["request_id"]) == ("operator", True, "req-1")
    assert first["before"] is None
    assert first["after"] == {"version": 1, "active_version": 1, "definition": made["definition"]}
    assert second["before"] == first["after"]
    assert second["after"]["definition"]["description"] == "Weather."
    assert (third["before"], third["after"]) == ({"active_version": 2}, {"active_version": 1})


async def test_what_was_refused_leaves_no_trace_in_the_catalog_or_the_log(admin: Admin) -> None:
    await admin.post("/admin/tools", remote_tool(kind="client"), 400)
    await admin.post("/admin/templates", template(tools=[]), 400)
    await admin.post("/admin/tools/final_answer/deactivate", {}, 409)

    assert (await admin.get("/admin/audit"))["data"] == []


async def test_the_log_is_paged_and_filtered(admin: Admin) -> None:
    await admin.post("/admin/tools", remote_tool(), 201)
    await admin.post("/admin/templates", template(), 201)
    await admin.post("/admin/tools/get_weather/deactivate", {})

    first = await admin.get("/admin/audit", limit=2)
    second = await admin.get("/admin/audit", limit=2, after=first["last_id"])
    of_tool = await admin.get("/admin/audit", target="tool:get_weather")

    assert [entry["action"] for entry in first["data"]] == ["tool.deactivated", "template.created"]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert [entry["action"] for entry in second["data"]] == ["tool.created"]
    assert [entry["action"] for entry in of_tool["data"]] == ["tool.deactivated", "tool.created"]
    assert (await admin.get("/admin/audit", 400, after="x"))["error"]["param"] == "after"
    assert (await admin.get("/admin/audit", 400, target="key:x"))["error"]["param"] == "target"
