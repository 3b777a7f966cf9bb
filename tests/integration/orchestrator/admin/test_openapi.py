"""What `/openapi.json` shows can be sent as it stands; every admin route asks for the scope."""

from typing import Any

import pytest

from tests.integration.orchestrator.admin.conftest import Admin


def _examples(app: Any) -> list[tuple[str, str, Any]]:
    found = []
    for path, methods in app.openapi()["paths"].items():
        for method, said in methods.items():
            if path.startswith("/admin/") and "requestBody" in said:
                place = path
                for parameter in said.get("parameters", ()):
                    shown = parameter["schema"].get("examples", parameter.get("examples")) or ["{session_id}"]
                    place = place.replace(f"{{{parameter['name']}}}", str(shown[0]))
                examples = said["requestBody"]["content"]["application/json"].get("examples", {})
                found += [(method, place, example["value"]) for example in examples.values()]
    # what is made first is there to be changed
    return sorted(found, key=lambda one: ("activate" in one[1], "deactivate" in one[1], one[0] != "post", one[1]))


async def test_every_example_can_be_sent_as_it_stands(admin: Admin) -> None:
    examples = _examples(admin.app)
    sent = []

    for method, path, example in examples:
        if "{session_id}" in path:
            continue
        response = await admin.http.request(method.upper(), path, json=example)
        assert response.status_code in (200, 201), (method, path, response.text)
        sent.append((method, path))

    assert {path for _, path in sent} == {
        "/admin/tools",
        "/admin/tools/get_weather",
        "/admin/tools/get_weather/activate",
        "/admin/tools/get_weather/deactivate",
        "/admin/templates",
        "/admin/templates/editor/versions",
        "/admin/templates/editor/activate",
        "/admin/templates/editor/deactivate",
    }


async def test_every_admin_route_asks_for_the_scope(admin: Admin) -> None:
    made = await admin.post("/admin/keys", {"name": "chat", "scopes": ["chat"]}, 201)
    routes = [
        (method, path)
        for path, methods in admin.app.openapi()["paths"].items()
        if path.startswith("/admin/")
        for method in methods
    ]

    for method, path in routes:
        for key, status in ((None, 401), (made["key"], 403)):
            headers = {"Authorization": f"Bearer {key}" if key else ""}
            response = await admin.http.request(method.upper(), path.replace("{", "").replace("}", ""), headers=headers)
            assert response.status_code == status, (method, path)
    assert len(routes) >= 20


@pytest.mark.parametrize("path", ["/admin/tools", "/admin/templates", "/admin/sessions", "/admin/audit"])
async def test_a_page_has_bounds(admin: Admin, path: str) -> None:
    assert (await admin.get(path, 400, limit=0))["error"]["param"] == "limit"
    assert (await admin.get(path, 400, limit=101))["error"]["param"] == "limit"
    assert (await admin.get(path, limit=1))["object"] == "list"
