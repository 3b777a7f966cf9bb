"""What an error looks like over HTTP: one table, one body, one set of headers.

Every failure, also of routing and validation, has OpenAI's error body; FastAPI's
`{"detail": …}` never goes out. Of an unexpected exception the client learns
nothing but that it happened; the log has it with the request's id.

`install` comes before the other middlewares are added, so that they see the
answer to an unexpected exception like any other.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maruntime import errors
from maruntime.errors import Invalid, MaruntimeError

log = structlog.get_logger(__name__)

_RETRY_AFTER = "1"
_HEADER_SAFE = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SHOWN_PATH = 256
_INTERNAL = "The server had an error while processing the request."


class _Answer(NamedTuple):
    status: int
    type: str


# The most special class of the error wins.
TABLE: Mapping[type[MaruntimeError], _Answer] = {
    errors.MaruntimeError: _Answer(500, "server_error"),
    errors.NotFound: _Answer(404, "invalid_request_error"),
    errors.Conflict: _Answer(409, "invalid_request_error"),
    errors.Refused: _Answer(403, "permission_error"),
    errors.KeyMissing: _Answer(401, "invalid_request_error"),
    errors.KeyInvalid: _Answer(401, "invalid_request_error"),
    errors.Invalid: _Answer(400, "invalid_request_error"),
    errors.BodyTooLarge: _Answer(413, "invalid_request_error"),
    errors.TranscriptTooLarge: _Answer(413, "invalid_request_error"),
    errors.Unavailable: _Answer(503, "server_error"),
    errors.NoSlotFree: _Answer(429, "rate_limit_error"),  # fullness, not a broken dependency
    errors.RunFailed: _Answer(500, "server_error"),
    errors.RunDead: _Answer(500, "server_error"),
    errors.RunExpired: _Answer(504, "server_error"),
    errors.RunStillActive: _Answer(504, "server_error"),
    errors.ReplicaStopping: _Answer(503, "server_error"),
}

_HTTP_CODES = {404: "unknown_url", 405: "method_not_allowed", 413: errors.BodyTooLarge.code}


def status_of(exc: Exception) -> int:
    """The HTTP status of an error."""
    return _answer_to(exc).status


def error_body(exc: Exception) -> dict[str, Any]:
    """The error as OpenAI writes it; an unexpected exception tells nothing of itself."""
    if not isinstance(exc, MaruntimeError):
        return _body(_INTERNAL, _answer_to(exc).type, None, MaruntimeError.code)
    param = exc.param if isinstance(exc, Invalid) else exc.details.get("param")
    body = _body(exc.message, _answer_to(exc).type, None if param is None else str(param), exc.code)
    if problems := getattr(exc, "problems", None):
        body["error"]["problems"] = problems
    return body


def http_headers_of(exc: Exception) -> dict[str, str]:
    """The headers that go with an error: whether and when to retry, and what it is about."""
    if not isinstance(exc, MaruntimeError):
        return {}
    headers = {}
    if exc.retryable:
        headers["Retry-After"] = _safe(exc.details.get("retry_after")) or _RETRY_AFTER
    else:
        headers["x-should-retry"] = "false"
    if status_of(exc) == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    for name, detail in (("X-Run-Id", "run_id"), ("X-Session-Id", "session_id")):
        if value := _safe(exc.details.get(detail)):
            headers[name] = value
    return headers


def error_response(exc: Exception) -> Response:
    """The whole answer to an error."""
    return _response(error_body(exc), status_of(exc), http_headers_of(exc))


def shown_path(scope: Scope) -> str:
    """The path as the client sent it, safe in a message or a line of log."""
    return quote(scope["path"], errors="replace")[:_SHOWN_PATH]


def install(app: FastAPI) -> None:
    """Make the app answer every error in OpenAI's form."""
    app.add_exception_handler(MaruntimeError, _on_maruntime_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(Exception, _on_unexpected)  # of the middlewares; those of routes are met below
    app.add_middleware(_UnexpectedErrors)


class _UnexpectedErrors:
    """The edge of a request: what nobody handled is logged and answered here.

    Starlette's own edge lies outside of all middlewares, and raises again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            return  # nobody is left to be answered
        except Exception as exc:
            if started:
                raise  # only a broken connection can still tell the client
            response = await _on_unexpected(Request(scope), exc)
            await response(scope, receive, send)


async def _on_maruntime_error(request: Request, exc: Exception) -> Response:
    if status_of(exc) == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", code=error_body(exc)["error"]["code"], exc_info=exc)
    return error_response(exc)


async def _on_http_exception(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    kind = "server_error" if exc.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    message = str(exc.detail)
    if exc.status_code in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
        message = f"{message}: {request.method} {shown_path(request.scope)}"
    code = _HTTP_CODES.get(exc.status_code, MaruntimeError.code if kind == "server_error" else Invalid.code)
    return _response(_body(message, kind, None, code), exc.status_code, exc.headers)


async def _on_validation_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    param = _path_of(first["loc"][1:])  # the first element says which part of the request it is
    return error_response(Invalid(f"{param or 'The request'}: {first['msg']}.", param=param))


async def _on_unexpected(request: Request, exc: Exception) -> Response:
    request_id = request.scope.get("state", {}).get("request_id")
    log.error("request_failed", code=MaruntimeError.code, request_id=request_id, exc_info=exc)
    headers = {"X-Request-Id": request_id} if request_id else {}
    return _response(error_body(exc), status_of(exc), headers)


def _answer_to(exc: Exception) -> _Answer:
    known = next((cls for cls in type(exc).__mro__ if cls in TABLE), MaruntimeError)
    return TABLE[known]


def _response(body: dict[str, Any], status: int, headers: Mapping[str, str] | None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def _body(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _safe(value: str | int | None) -> str | None:
    """What may stand in a header; a detail can be text that a client chose."""
    text = "" if value is None else str(value)
    return text if _HEADER_SAFE.fullmatch(text) else None


def _path_of(location: tuple[str | int, ...]) -> str | None:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".") or None
