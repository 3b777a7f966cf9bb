"""What can be wrong with a tool beyond its form. Messages never repeat a value: it could be a secret."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import ConfigDict

from maruntime.domain.tool import ToolDescriptor, ToolKind
from maruntime.rules.lint import Problem
from orchestrator.catalog.json_schema import schema_problems
from orchestrator.catalog.validation import Draft, joined, read, text_problems

RESERVED_NAMES = frozenset({"reasoning", "clarification", "final_answer", "answer"})
"""The loop itself acts on these."""
LONGEST_TIMEOUT = timedelta(minutes=10)

_OURS = (ToolKind.SYSTEM, ToolKind.SHIPPED)
_OPEN_FIELDS = frozenset({"description", "risk_level", "timeout", "output_limit", "cost_hint", "aliases", "examples"})
"""What may be changed of a tool whose code is ours."""
_DESCRIPTION = 4000
_COST_HINT = 200
_URL = 2000
_ENTRYPOINT = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_REMOTE_FIELDS = frozenset({"method", "url", "headers"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]{0,4096}")
_OUR_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "idempotency-key"}
)
_SECRET = re.compile(r"\$\{secret:[a-z0-9][a-z0-9_-]{0,63}\}")
_SECRET_SLOT = re.compile(r"authorization|cookie|token|secret|passw|credential|session|signature|(^|[-_])(api-?)?key$")
_SECRET_LOOK = re.compile(
    r"(?i)\b(bearer|basic)\s+\S|\b(sk|pk|rk)[-_]\w{8}|\bgh[pousr]_\w|\bxox[a-z]-|\bAKIA\w{8}|\beyJ\w{8}"
)
_LONG_WORD = re.compile(r"[A-Za-z0-9_+/=.-]{24,}")
_VARIABLE = re.compile(r"\{([^{}]*)\}")


class ToolDraft(ToolDescriptor):
    """A tool as it is sent: every field of the descriptor but those that the catalog gives."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version_id: str = ""


def body_of(tool: ToolDescriptor) -> dict[str, Any]:
    """The part of a tool that a version keeps."""
    return tool.model_dump(mode="json", exclude={"version_id", "name", "version"})


def check_tool(
    given: Mapping[str, Any], *, base: ToolDescriptor | None = None
) -> tuple[ToolDescriptor | None, list[Problem]]:
    """Read a tool and find what is wrong with it; `base` is the version that it was made from."""
    problems = [
        Problem("unknown_field", name, "There is no such field.") for name in ("version_id", "version") if name in given
    ]
    said = {name: value for name, value in given.items() if name not in ("version_id", "version")}
    seconds = said.get("timeout")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool):
        said["timeout"] = f"PT{seconds:f}S" if seconds >= 0 else "negative"
    if said.get("kind") == "client":
        problems.append(Problem("unsupported_kind", "kind", "Tools that the client runs are not available yet."))
        said["kind"] = ToolKind.REMOTE.value
        draft = read(ToolDraft, said, _placeholders())
        return None, [*problems, *draft.problems, *_common(draft)]
    draft = read(ToolDraft, said, _placeholders())
    problems += [*draft.problems, *_common(draft)]
    if "kind" in draft.sound:
        problems += _kind_problems(draft, base)
    return draft.model, problems


def _placeholders() -> dict[str, Any]:
    return {"name": "unnamed", "description": "-", "kind": "remote", "parameters": {"type": "object"}}


def _common(draft: Draft[ToolDraft]) -> Iterator[Problem]:
    tool = draft.partial
    if not tool.description.strip() or len(tool.description) > _DESCRIPTION:
        yield Problem("invalid_value", "description", f"1 to {_DESCRIPTION} characters.")
    if "timeout" in draft.sound and not timedelta() < tool.timeout <= LONGEST_TIMEOUT:
        yield Problem("out_of_range", "timeout", f"More than 0 and at most {LONGEST_TIMEOUT.seconds} seconds.")
    if tool.cost_hint is not None and not 0 < len(tool.cost_hint.strip()) <= _COST_HINT:
        yield Problem("invalid_value", "cost_hint", f"1 to {_COST_HINT} characters.")
    if "parameters" in draft.sound:
        yield from schema_problems(tool.parameters, "parameters")
    yield from text_problems("aliases", tool.aliases, at_most=32, longest=64)
    yield from text_problems("examples", tool.examples, at_most=64, longest=500)


def _kind_problems(draft: Draft[ToolDraft], base: ToolDescriptor | None) -> Iterator[Problem]:
    tool = draft.partial
    if base is not None and base.kind in _OURS:
        for name in sorted(set(body_of(tool)) - _OPEN_FIELDS):
            if name in draft.sound and getattr(tool, name) != getattr(base, name):
                yield Problem("not_changeable", name, f"Cannot be changed of a {base.kind.value} tool.")
        return
    if tool.kind in _OURS:
        yield Problem("unsupported_kind", "kind", f"A {tool.kind.value} tool comes with a release, not over the API.")
        return
    if tool.name in RESERVED_NAMES and "name" in draft.sound:
        yield Problem("reserved_name", "name", "The platform itself acts on this name.")
    if tool.kind is ToolKind.PYTHON:
        if tool.remote is not None:
            yield Problem("kind_mismatch", "remote", "Only a remote tool has it.")
        if "locator" in draft.sound and (not _ENTRYPOINT.fullmatch(tool.locator) or len(tool.locator) > 256):
            yield Problem("invalid_value", "locator", "Must have the form `package.module:function`.")
        return
    if tool.locator:
        yield Problem("kind_mismatch", "locator", "A remote tool has none: `remote` says what to call.")
    if tool.remote is None:
        if "remote" in draft.sound:
            yield Problem("required", "remote", "A remote tool needs `method` and `url`.")
        return
    known = tool.parameters.get("properties") if "parameters" in draft.sound else None
    yield from _remote_problems(tool.remote, known if isinstance(known, dict) else {})


def _remote_problems(remote: Mapping[str, Any], arguments: Mapping[str, Any]) -> Iterator[Problem]:
    for name in remote:
        if name not in _REMOTE_FIELDS:
            yield Problem("unknown_field", joined("remote", name), "There is no such field.")
    if remote.get("method") not in _METHODS:
        yield Problem("invalid_value", "remote.method", f"Must be one of {', '.join(_METHODS)}.")
    url = remote.get("url")
    if not isinstance(url, str) or not 0 < len(url) <= _URL:
        yield Problem("invalid_value", "remote.url", f"Must be a text of 1 to {_URL} characters.")
    else:
        yield from _url_problems(url, arguments)
    headers = remote.get("headers", {})
    if not isinstance(headers, dict) or len(headers) > 32:
        yield Problem("invalid_value", "remote.headers", "Must be an object of at most 32 texts.")
        return
    seen: set[str] = set()
    for name, value in headers.items():
        yield from _header_problems(name, value, joined("remote.headers", name))
        if name.lower() in seen:
            yield Problem("duplicate", joined("remote.headers", name), "Is there twice.")
        seen.add(name.lower())


def _url_problems(url: str, arguments: Mapping[str, Any]) -> Iterator[Problem]:
    at = "remote.url"
    if re.search(r"[^\x21-\x7e]|\\", url):
        yield Problem("invalid_value", at, "Only printable ASCII without spaces and backslashes.")
        return
    if "${" in url:
        yield Problem("secret_in_url", at, "A URL is logged: secrets belong in `remote.headers`.")
        return
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        yield Problem("invalid_value", at, "Is no URL.")
        return
    if parts.scheme not in ("http", "https") or not host:
        yield Problem("invalid_value", at, "Must begin with http:// or https:// and name a host.")
        return
    if "@" in parts.netloc:
        yield Problem("secret_in_url", at, "A URL must not hold a user or a password.")
    if "{" in parts.netloc or "}" in parts.netloc:
        yield Problem("invalid_value", at, "An argument may stand in the path and the query, not in the host.")
    if parts.fragment:
        yield Problem("invalid_value", at, "Must not have a fragment.")
    for name, value in parse_qsl(parts.query):
        if _holds_secret(name, value) and not _VARIABLE.fullmatch(value):
            yield Problem("literal_secret", at, "The query seems to hold a secret: use `${secret:name}` in a header.")
            break
    rest = parts.path + "?" + parts.query
    for name in dict.fromkeys(_VARIABLE.findall(rest)):
        if name not in arguments:
            yield Problem("unknown_variable", at, f"`parameters` has no property for {{{name[:64]}}}.")
    if re.search(r"[{}]", _VARIABLE.sub("", rest)):
        yield Problem("invalid_value", at, "A brace is left open.")


def _header_problems(name: str, value: Any, at: str) -> Iterator[Problem]:
    if not _HEADER_NAME.fullmatch(name):
        yield Problem("invalid_value", at, "Is no name of a header.")
        return
    if name.lower() in _OUR_HEADERS:
        yield Problem("reserved_header", at, "The platform sets this header itself.")
    if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
        yield Problem("invalid_value", at, "Must be a text of printable ASCII, at most 4096 characters.")
        return
    rest = _SECRET.sub("", value)
    if "${" in rest:
        yield Problem("unknown_variable", at, "Only `${secret:name}` is known.")
    elif _holds_secret(name, value):
        yield Problem("literal_secret", at, "Seems to hold a secret: use `${secret:name}`, its value is configured.")


def _holds_secret(name: str, value: str) -> bool:
    """Whether a value looks like a secret that stands there itself instead of its name."""
    rest = _SECRET.sub("", value).strip()
    if _SECRET_LOOK.search(rest):
        return True
    if _SECRET_SLOT.search(name.lower()) and rest:
        # A word beside a named secret is the scheme: `Bearer ${secret:crm}`.
        return rest == value.strip() or not re.fullmatch(r"[A-Za-z][A-Za-z-]{0,15}[ =:]?", rest)
    return any(
        re.search(r"\d", word) and re.search(r"[A-Za-z]", word) and not re.search(r"[./]", word)
        for word in _LONG_WORD.findall(rest)
    )
