"""Read what administrators send, and show them the catalog.

Bodies are read as JSON that nothing was done to, so that a mistake keeps its
place: `parameters.properties.city.type`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, Path, Query, Request, Response

from maruntime.errors import Invalid, MaruntimeError
from orchestrator.catalog.authoring import Expected, Shown, tag_of
from orchestrator.catalog.editions import Edition, Entry
from orchestrator.catalog.validation import refuse, unstorable
from orchestrator.dependencies import AdminCaller
from orchestrator.persistence.audit import Actor

MAX_VERSION = 2**31 - 1
_TAG = re.compile(r'\*|"[0-9]{1,10}\.[0-9]{1,10}"')

Limit = Annotated[int, Query(ge=1, le=100)]
Version = Annotated[int, Path(ge=1, le=MAX_VERSION)]
IfMatch = Annotated[str | None, Header(alias="If-Match")]


def _actor(request: Request, caller: AdminCaller) -> Actor:
    return Actor.from_principal(caller, request.scope.get("state", {}).get("request_id"))


Changer = Annotated[Actor, Depends(_actor)]


async def _object(request: Request) -> dict[str, Any]:
    body = await request.body()
    try:
        given = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as exc:
        raise Invalid(f"The request body is not valid JSON: {exc.msg}.") from exc
    if not isinstance(given, dict):
        raise Invalid("The request body must be a JSON object.")
    refuse(list(unstorable(given)))
    return given


JsonObject = Annotated[dict[str, Any], Depends(_object)]


def json_body(**examples: dict[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of a body; its examples are posted by a test."""
    shown = {name: {"value": value} for name, value in examples.items()}
    content = {"application/json": {"schema": {"type": "object"}, "examples": shown}}
    return {"requestBody": {"required": True, "content": content}}


def named(name: str, kind: str, pattern: str, missing: type[MaruntimeError]) -> str:
    """A name from a path; what has not its form names nothing."""
    if not re.fullmatch(pattern, name):
        raise missing(f"There is no such {kind}: {name[:64]!r}.")
    return name


def take_flag(given: dict[str, Any], name: str, default: bool) -> bool:
    """Take a boolean out of a body."""
    value = given.pop(name, None)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise Invalid(f"{name} must be true or false.", param=name)
    return value


def take_version(given: dict[str, Any], name: str) -> int | None:
    """Take the number of a version out of a body."""
    value = given.pop(name, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_VERSION:
        raise Invalid(f"{name} must be a whole number from 1 on.", param=name)
    return value


def require_version(given: dict[str, Any], name: str) -> int:
    """Take the number of a version that has to be there."""
    version = take_version(given, name)
    if version is None:
        raise Invalid(f"{name} is required.", param=name)
    return version


def expected(given: dict[str, Any], if_match: str | None) -> Expected:
    """What the caller believes to be changing, by `expected_version` and `If-Match`."""
    if if_match is not None and not _TAG.fullmatch(if_match):
        raise Invalid("If-Match must be the ETag of a former answer.", param="If-Match")
    return Expected(take_version(given, "expected_version"), if_match)


def nothing_else(given: Mapping[str, Any]) -> None:
    """Refuse fields that nobody asked for."""
    for name in given:
        raise Invalid(f"{name[:64]} is not known.", param=name[:64])


def tagged(response: Response, shown: Shown) -> None:
    """Give the caller what `If-Match` takes."""
    response.headers["ETag"] = tag_of(shown.entry)


def shown_body(kind: str, shown: Shown, definition: Mapping[str, Any]) -> dict[str, Any]:
    """A tool or template with one of its versions."""
    return {
        "object": kind,
        "name": shown.entry.name,
        "active_version": shown.entry.active_version,
        "latest_version": shown.entry.latest_version,
        **_edition_fields(shown.edition),
        "definition": definition,
        "warnings": [problem.to_json() for problem in shown.warnings if problem.severity == "warning"],
    }


def version_body(kind: str, entry: Entry, edition: Edition, definition: Mapping[str, Any]) -> dict[str, Any]:
    """One version in a list."""
    return {
        "object": f"{kind}.version",
        "name": entry.name,
        "is_active": entry.active_version == edition.version,
        **_edition_fields(edition),
        "definition": definition,
    }


def page_body(items: Sequence[dict[str, Any]], limit: int, key: str) -> dict[str, Any]:
    """A page of a list; one item more than the limit says that there is another page."""
    shown = list(items[:limit])
    return {
        "object": "list",
        "data": shown,
        "has_more": len(items) > limit,
        "last_id": str(shown[-1][key]) if shown else None,
    }


def number_after(after: str | None) -> int | None:
    """A cursor that is a number."""
    if after is None:
        return None
    if not (after.isascii() and after.isdecimal()) or len(after) > 18:
        raise Invalid("after must be the last_id of the page before", param="after")
    return int(after)


def _edition_fields(edition: Edition) -> dict[str, Any]:
    return {
        "version": edition.version,
        "version_id": edition.id,
        "origin": edition.origin,
        "created_by": edition.created_by,
        "created_at": edition.created_at,
    }
