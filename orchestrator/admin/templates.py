"""`/admin/templates`: what agents are. A session stays on the version it began with; new ones take the active one."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response, status

from maruntime.errors import Invalid, TemplateNotFound
from orchestrator.admin.schemas import (
    MAX_VERSION,
    Changer,
    IfMatch,
    JsonObject,
    Limit,
    Version,
    expected,
    json_body,
    named,
    nothing_else,
    number_after,
    page_body,
    require_version,
    shown_body,
    tagged,
    take_flag,
    take_version,
    version_body,
)
from orchestrator.catalog.authoring import Shown, TemplateAuthoring
from orchestrator.catalog.editions import Edition
from orchestrator.catalog.seeding import stored_template
from orchestrator.dependencies import AdminCaller, Platform

router = APIRouter(tags=["admin"])

_NAME = r"[a-z0-9][a-z0-9_-]{0,63}"
_EDITOR: dict[str, Any] = {
    "name": "editor",
    "kind": "tool_calling",
    "description": "Writes short reports and asks back when the request is unclear.",
    "system_prompt": "You write short reports. Today is $date.\n\nYour tools:\n$tools",
    "llm": {"endpoint": "main", "temperature": 0.2},
    "limits": {"max_iterations": 6, "max_clarifications": 1},
    "tools": ["clarification", "create_report", "final_answer"],
    "tool_policy": {"required": ["create_report"]},
    "rules": [
        {
            "name": "report_first",
            "when": {"type": "counter", "counter": "calls:create_report", "op": "eq", "value": 0},
            "then": [{"type": "force", "tool": "create_report"}],
        }
    ],
    "card": {"tags": ["writing"], "examples": ["Write a report about bees"]},
}
_CHANGES: dict[str, Any] = {
    "base_version": 1,
    "changes": {"limits": {"max_iterations": 8}, "rules": []},
    "activate": False,
}


def _authoring(platform: Platform) -> TemplateAuthoring:
    return TemplateAuthoring(platform.maker, platform.templates, default_template=platform.settings.default_template)


def _name(name: Annotated[str, Path(examples=["editor"])]) -> str:
    return named(name, "template", _NAME, TemplateNotFound)


Templates = Annotated[TemplateAuthoring, Depends(_authoring)]
Name = Annotated[str, Depends(_name)]
Compared = Annotated[int, Query(ge=1, le=MAX_VERSION)]


@router.get("/admin/templates")
async def list_templates(
    caller: AdminCaller, templates: Templates, limit: Limit = 50, after: str | None = None, active: bool | None = None
) -> dict[str, Any]:
    """List templates by name, active or not; `after` is the `last_id` of the page before."""
    after = None if after is None else named(after, "template", _NAME, TemplateNotFound)
    found = await templates.page(limit=limit + 1, after=after, active=active)
    return page_body([_shown(shown) for shown in found], limit, "name")


@router.post("/admin/templates", status_code=status.HTTP_201_CREATED, openapi_extra=json_body(template=_EDITOR))
async def create_template(
    given: JsonObject, actor: Changer, templates: Templates, response: Response
) -> dict[str, Any]:
    """Make a template; it is active unless `activate` is false."""
    activate = take_flag(given, "activate", default=True)
    name = given.pop("name", None)
    shown = await templates.create(actor, name, given, activate=activate)
    tagged(response, shown)
    return _shown(shown)


@router.get("/admin/templates/{name}")
async def get_template(name: Name, caller: AdminCaller, templates: Templates, response: Response) -> dict[str, Any]:
    """Show a template with its active version."""
    shown = await templates.get(name)
    tagged(response, shown)
    return _shown(shown)


@router.get("/admin/templates/{name}/versions")
async def list_template_versions(
    name: Name, caller: AdminCaller, templates: Templates, limit: Limit = 50, after: str | None = None
) -> dict[str, Any]:
    """List a template's versions, newest first."""
    number = number_after(after)
    before = None if number is None else min(number, MAX_VERSION)
    entry, found = await templates.versions(name, limit=limit + 1, before=before)
    return page_body([version_body("template", entry, one, _definition(one)) for one in found], limit, "version")


@router.post(
    "/admin/templates/{name}/versions", status_code=status.HTTP_201_CREATED, openapi_extra=json_body(changes=_CHANGES)
)
async def add_template_version(
    name: Name, given: JsonObject, actor: Changer, templates: Templates, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Make a version: a copy of `base_version` (the active one unless told) with `changes` merged in.

    Objects are merged field by field, lists and values are replaced, null gives
    the default back. New sessions take it when it is activated.
    """
    believed = expected(given, if_match)
    activate, base = take_flag(given, "activate", default=False), take_version(given, "base_version")
    changes = given.pop("changes", {})
    if not isinstance(changes, dict):
        raise Invalid("changes must be an object.", param="changes")
    nothing_else(given)
    shown = await templates.add_version(actor, name, changes, base_version=base, activate=activate, expected=believed)
    tagged(response, shown)
    return _shown(shown)


@router.get("/admin/templates/{name}/versions/{version}")
async def get_template_version(
    name: Name, version: Version, caller: AdminCaller, templates: Templates
) -> dict[str, Any]:
    """Show one version of a template."""
    return _shown(await templates.get(name, version))


@router.post("/admin/templates/{name}/activate", openapi_extra=json_body(rollback={"version": 1}))
async def activate_template(
    name: Name, given: JsonObject, actor: Changer, templates: Templates, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Let new sessions begin with this version; an older one is a rollback."""
    believed, version = expected(given, if_match), require_version(given, "version")
    nothing_else(given)
    shown = await templates.activate(actor, name, version, expected=believed)
    tagged(response, shown)
    return _shown(shown)


@router.post("/admin/templates/{name}/deactivate", openapi_extra=json_body(plain={}))
async def deactivate_template(
    name: Name, given: JsonObject, actor: Changer, templates: Templates, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Let no new session begin with the template; open sessions go on."""
    believed = expected(given, if_match)
    nothing_else(given)
    shown = await templates.deactivate(actor, name, expected=believed)
    tagged(response, shown)
    return _shown(shown)


@router.get("/admin/templates/{name}/diff")
async def diff_template(
    name: Name,
    caller: AdminCaller,
    templates: Templates,
    before: Annotated[Compared, Query(alias="from")],
    after: Annotated[Compared, Query(alias="to")],
) -> dict[str, Any]:
    """Show what two versions say differently, by JSON path."""
    changes = await templates.diff(name, before, after)
    return {"object": "template.diff", "name": name, "from": before, "to": after, "changes": changes}


def _definition(edition: Edition) -> dict[str, Any]:
    return stored_template(edition.body)


def _shown(shown: Shown) -> dict[str, Any]:
    return shown_body("template", shown, _definition(shown.edition))
