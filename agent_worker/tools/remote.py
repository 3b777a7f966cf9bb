"""Run a remote tool: arguments into one HTTP request, its answer into a result.

Whatever goes wrong is a result that the model can read, free of secrets. A
`keyed` tool's server gets our key, the same on every attempt.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from agent_worker.tools.contract import ToolContext, ToolResult
from agent_worker.tools.guarded_http import GuardedHttp, HttpReply, HttpRequest
from agent_worker.tools.remote_spec import RemoteSpec
from agent_worker.tools.secrets import NamedSecrets
from maruntime.domain.tool import EffectClass
from maruntime.errors import MaruntimeError

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")
_FORWARDED = ("traceparent", "tracestate", "baggage")
_QUOTED = 2000
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,4096}")


class RemoteCallFailed(MaruntimeError):
    """The remote tool gave no usable result."""

    code = "remote_failed"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc] - the model and the metrics tell these apart


class RemoteTool:
    """One remote tool, callable as every tool is."""

    def __init__(self, spec: RemoteSpec, effect_class: EffectClass, http: GuardedHttp, secrets: NamedSecrets) -> None:
        self._spec = spec
        self._effect_class = effect_class
        self._http = http
        self._secrets = secrets

    async def __call__(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Make the request; its outcome is a result in every case but cancellation."""
        try:
            reply = await self._http.send(self._request(arguments, context))
            text = self._said(reply)
        except MaruntimeError as exc:
            return ToolResult(self._secrets.redact(exc.message), exc.code)
        return ToolResult(text)

    def _request(self, arguments: Mapping[str, Any], context: ToolContext) -> HttpRequest:
        spec = self._spec
        url, rest = filled_url(spec, arguments)
        headers = {"Accept": "application/json" if spec.response == "json" else "text/plain, */*;q=0.8"}
        headers |= {
            name: value
            for name, value in context.trace.items()
            if name.lower() in _FORWARDED and _PRINTABLE.fullmatch(value)
        }
        body = None
        if not spec.sends_query:
            body = orjson.dumps(rest)
            headers["Content-Type"] = "application/json"
        # Names of headers are compared without case: what the tool says replaces ours.
        said = {name.lower() for name in spec.headers}
        headers = {name: value for name, value in headers.items() if name.lower() not in said}
        headers |= {name: self._secrets.fill(value) for name, value in spec.headers.items()}
        if self._effect_class is EffectClass.KEYED:
            headers[spec.idempotency_header] = context.idempotency_key
        timeout = context.remaining(spec.timeout.total_seconds())
        return HttpRequest(spec.method, url, headers, body, timeout, spec.max_response_bytes)

    def _said(self, reply: HttpReply) -> str:
        if not reply.is_success:
            code = "remote_refused" if 400 <= reply.status < 500 else "remote_failed"
            said = self._secrets.redact(_text(reply))[:_QUOTED].strip()
            raise RemoteCallFailed(code, f"The server answered {reply.status}" + (f": {said}" if said else "."))
        if self._spec.response == "text":
            return self._secrets.redact(_text(reply))
        if not reply.body.strip():
            return ""
        try:
            value = orjson.loads(reply.body)
        except orjson.JSONDecodeError as exc:
            raise RemoteCallFailed("remote_bad_response", "The server's answer is not valid JSON.") from exc
        if self._spec.result_pointer is None:
            return self._secrets.redact(reply.body.decode())
        part = pointed(value, self._spec.result_pointer)
        return self._secrets.redact(part if isinstance(part, str) else orjson.dumps(part).decode())


def filled_url(spec: RemoteSpec, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The URL with its arguments, and the arguments that it did not take.

    Raises:
        RemoteCallFailed: an argument cannot stand where the URL wants it.
    """
    template, _, query = spec.url.partition("?")
    path = _PLACE.sub(lambda match: quote(_segment(match[1], arguments), safe=""), template)
    if any(segment in (".", "..") for segment in path.split("/")):
        raise RemoteCallFailed("invalid_arguments", "The arguments would leave the path of the tool.")
    pairs = [_PLACE.sub(lambda match: quote(_plain(match[1], arguments), safe=""), query)] if query else []
    rest = {name: value for name, value in arguments.items() if name not in spec.placeholders}
    if spec.sends_query:
        pairs += [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in _pairs(rest)]
    return path + ("?" + "&".join(pairs) if pairs else ""), rest


def pointed(value: Any, pointer: str) -> Any:
    """What a JSON pointer points at.

    Raises:
        RemoteCallFailed: nothing is there.
    """
    for token in pointer.split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and re.fullmatch(r"0|[1-9][0-9]{0,8}", name) and int(name) < len(value):
            value = value[int(name)]
        else:
            raise RemoteCallFailed("remote_bad_response", f"The server's answer has nothing at {pointer}.")
    return value


def _segment(name: str, arguments: Mapping[str, Any]) -> str:
    text = _plain(name, arguments)
    # Servers differ in when they decode %2F: a value must not climb in any reading.
    if not text or any(part in (".", "..") for part in re.split(r"[/\\]", text)):
        raise RemoteCallFailed("invalid_arguments", f"The argument {name} cannot be a part of a path.")
    return text


def _plain(name: str, arguments: Mapping[str, Any]) -> str:
    value = arguments.get(name)
    if value is None or isinstance(value, (list, dict)):
        raise RemoteCallFailed("invalid_arguments", f"The argument {name} must be a text, a number or a truth value.")
    return _written(value)


def _pairs(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in arguments.items():
        if isinstance(value, list):
            pairs += [(name, _written(item)) for item in value if item is not None]
        elif value is not None:
            pairs.append((name, _written(value)))
    return pairs


def _written(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _text(reply: HttpReply) -> str:
    return reply.body.decode("utf-8", "replace")
