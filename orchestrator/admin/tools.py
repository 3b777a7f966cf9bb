"""`/admin/tools`: what the catalog offers. A change holds from the next step of running sessions on."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response, status

from maruntime.errors import ToolNotFound
from orchestrator.admin.schemas import (
    MAX_VERSION,
    Changer,
    IfMatch,
    JsonObject,
    Limit,
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
    version_body,
)
from orchestrator.catalog.authoring import Shown, ToolAuthoring
from orchestrator.catalog.editions import Edition
from orchestrator.catalog.seeding import stored_tool
from orchestrator.dependencies import AdminCaller, Platform

router = APIRouter(tags=["admin"])

_WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": "Tell the weather in a city now.",
    "kind": "remote",
    "remote": {
        "method": "GET",
        "url": "https://weather.example/v1/now?city={city}",
        "headers": {"Authorization": "Bearer ${secret:weather}"},
    },
    "parameters": {
        "type": "object",
        "additionalProperties": False,
        "required": ["city"],
        "properties": {"city": {"type": "string", "description": "The name of the city"}},
    },
    "effect_class": "pure",
    "risk_level": "low",
    "timeout": "PT20S",
    "aliases": ["weather", "погода"],
    "examples": ["Is it raining in Oslo?", "Какая погода в Казани?"],
}
_SLUGIFY: dict[str, Any] = {
    "name": "slugify",
    "description": "Turn a title into a part of a URL.",
    "kind": "python",
    "locator": "my_tools.text:slugify",
    "parameters": {"type": "object", "required": ["title"], "properties": {"title": {"type": "string"}}},
    "effect_class": "pure",
}


def _authoring(platform: Platform) -> ToolAuthoring:
    return ToolAuthoring(platform.maker, platform.tools)


def _name(name: Annotated[str, Path(examples=["get_weather"])]) -> str:
    return named(name, "tool", r"[a-z][a-z0-9_]{0,63}", ToolNotFound)


Tools = Annotated[ToolAuthoring, Depends(_authoring)]
Name = Annotated[str, Depends(_name)]


@router.get("/admin/tools")
async def list_tools(
    caller: AdminCaller, tools: Tools, limit: Limit = 50, after: str | None = None, active: bool | None = None
) -> dict[str, Any]:
    """List tools by name, active or not; `after` is the `last_id` of the page before."""
    after = None if after is None else named(after, "tool", r"[a-z][a-z0-9_]{0,63}", ToolNotFound)
    found = await tools.page(limit=limit + 1, after=after, active=active)
    return page_body([_shown(shown) for shown in found], limit, "name")


@router.post(
    "/admin/tools",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=json_body(remote=_WEATHER, python=_SLUGIFY),
)
async def create_tool(given: JsonObject, actor: Changer, tools: Tools, response: Response) -> dict[str, Any]:
    """Make a tool. It is active at once; a Python tool, when a worker could load it."""
    shown = await tools.create(actor, given, activate=take_flag(given, "activate", default=True))
    tagged(response, shown)
    return _shown_whole(shown)


@router.get("/admin/tools/{name}")
async def get_tool(name: Name, caller: AdminCaller, tools: Tools, response: Response) -> dict[str, Any]:
    """Show a tool with its active version, and the active templates that name it."""
    shown = await tools.get(name)
    tagged(response, shown)
    return _shown_whole(shown)


@router.patch(
    "/admin/tools/{name}",
    openapi_extra=json_body(change={"timeout": "PT30S", "examples": ["Do I need an umbrella?"], "expected_version": 1}),
)
async def change_tool(
    name: Name, given: JsonObject, actor: Changer, tools: Tools, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Make a version: the active one with these fields replaced. It is active unless `activate` is false."""
    believed = expected(given, if_match)
    activate = take_flag(given, "activate", default=True)
    shown = await tools.change(actor, name, given, activate=activate, expected=believed)
    tagged(response, shown)
    return _shown_whole(shown)


@router.post("/admin/tools/{name}/activate", openapi_extra=json_body(rollback={"version": 1}))
async def activate_tool(
    name: Name, given: JsonObject, actor: Changer, tools: Tools, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Make a version the active one; an older one is a rollback."""
    believed, version = expected(given, if_match), require_version(given, "version")
    nothing_else(given)
    shown = await tools.activate(actor, name, version, expected=believed)
    tagged(response, shown)
    return _shown_whole(shown)


@router.post("/admin/tools/{name}/deactivate", openapi_extra=json_body(plain={}))
async def deactivate_tool(
    name: Name, given: JsonObject, actor: Changer, tools: Tools, response: Response, if_match: IfMatch = None
) -> dict[str, Any]:
    """Take a tool out of use. Refused while active templates cannot work without it."""
    believed = expected(given, if_match)
    nothing_else(given)
    shown = await tools.deactivate(actor, name, expected=believed)
    tagged(response, shown)
    return _shown_whole(shown)


@router.get("/admin/tools/{name}/versions")
async def list_tool_versions(
    name: Name, caller: AdminCaller, tools: Tools, limit: Limit = 50, after: str | None = None
) -> dict[str, Any]:
    """List a tool's versions, newest first."""
    before = _version_after(after)
    entry, found = await tools.versions(name, limit=limit + 1, before=before)
    return page_body([version_body("tool", entry, one, _definition(one)) for one in found], limit, "version")


def _version_after(after: str | None) -> int | None:
    number = number_after(after)
    return None if number is None else min(number, MAX_VERSION)


def _definition(edition: Edition) -> dict[str, Any]:
    return stored_tool(edition.body)


def _shown(shown: Shown) -> dict[str, Any]:
    return shown_body("tool", shown, _definition(shown.edition))


def _shown_whole(shown: Shown) -> dict[str, Any]:
    check = shown.check
    return {
        **_shown(shown),
        "check": None if check is None else {"state": check.state, "problem": check.problem, "at": check.checked_at},
        "used_by": shown.used_by,
    }
