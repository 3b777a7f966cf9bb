"""docs/admin.md says what is so."""

import json
import re
from pathlib import Path

from orchestrator.catalog import json_schema, template_checks, tool_checks, validation
from tests.integration.orchestrator.admin.conftest import Admin

PAGE = (Path(__file__).parents[4] / "docs" / "admin.md").read_text()
REQUESTS = re.findall(r"```\n(POST|PATCH) (\S+)\n(.*?)```", PAGE, re.DOTALL)


async def test_every_request_on_the_page_is_accepted(admin: Admin) -> None:
    for method, path, body in REQUESTS:
        response = await admin.http.request(method, path, json=json.loads(body))
        assert response.status_code in (200, 201), (path, response.text)
    assert len(REQUESTS) == 9
    diff = await admin.get("/admin/templates/editor/diff", **{"from": 1, "to": 2})
    assert [change["path"] for change in diff["changes"]] == ["limits.max_iterations", "rules[0]"]


def test_every_route_is_on_the_page(admin: Admin) -> None:
    described = ("/admin/keys", "/admin/instances")
    for path, methods in admin.app.openapi()["paths"].items():
        shown = path.replace("{session_id}", "{id}").replace("{step}", "{n}")
        if path.startswith("/admin/") and not path.startswith(described):
            for method in methods:
                assert f"`{method.upper()} {shown}" in PAGE, path


def test_every_code_of_a_problem_is_on_the_page() -> None:
    for module in (json_schema, template_checks, tool_checks, validation):
        codes = re.findall(r'Problem\(\s*"([a-z_]+)"', Path(module.__file__).read_text())
        assert codes
        for code in codes:
            assert f"`{code}`" in PAGE, code
