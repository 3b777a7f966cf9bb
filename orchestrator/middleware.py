"""What surrounds every HTTP request: its id, its log line, the limit of its body.

Plain ASGI, so that streams pass through untouched. `RequestId` is meant
outermost, then `AccessLog`, then `BodyLimit`: a refused body has an id and a
line in the log too. Headers and bodies are never logged, nor are queries.
"""

import asyncio
import re
from contextlib import suppress

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from maruntime.clock import Clock, SystemClock
from maruntime.errors import BodyTooLarge
from maruntime.ids import new_id
from orchestrator import metrics
from orchestrator.exception_handlers import error_response, shown_path

log = structlog.get_logger(__name__)

DEFAULT_BODY_LIMIT = 16 * 1024 * 1024

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_DISCARDED = 4
_DISCARD_WITHIN = 10.0
_CLIENT_CLOSED = 499  # as nginx logs it: there was nobody to answer


class RequestId:
    """Takes the client's request id, or makes one; the answer, the log and `scope["state"]` have it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request under its id."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        with bound_contextvars(request_id=request_id):
            await self._app(scope, receive, send_with_id)


class AccessLog:
    """Writes one line for each request when it has ended, however it ended."""

    def __init__(self, app: ASGIApp, clock: Clock | None = None) -> None:
        self._app = app
        self._clock = clock or SystemClock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_at = self._clock.monotonic()
        status, sent = _CLIENT_CLOSED, 0

        async def counting_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        except Exception:
            status = 500
            raise
        finally:
            seconds = self._clock.monotonic() - started_at
            route = _route_of(scope)
            metrics.REQUESTS.labels(scope["method"], route or "none", status).inc()
            metrics.REQUEST_SECONDS.labels(route or "none").observe(seconds)
            log.info(
                "request_served",
                method=scope["method"],
                path=route or shown_path(scope),
                status=status,
                duration_ms=round(seconds * 1000, 1),
                bytes=sent,
            )


class BodyLimit:
    """Refuses a body over the limit, before reading it when its length is announced."""

    def __init__(self, app: ASGIApp, limit: int = DEFAULT_BODY_LIMIT) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose body is within the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._announced(Headers(scope=scope)) > self._limit:
            await self._refuse(scope, receive, send)
            return
        await self._watched(scope, receive, send)

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        read, started, has_ended = 0, False, False

        async def counting_receive() -> Message:
            nonlocal read, has_ended
            message = await receive()
            read += len(message.get("body", b""))
            has_ended = not message.get("more_body", False)
            if read > self._limit and not started:
                raise self._error()
            return message

        async def deciding_send(message: Message) -> None:
            nonlocal started
            if read > self._limit and not started:
                return  # whatever the app makes of the error, the answer is ours
            started = True
            await send(message)

        try:
            await self._app(scope, counting_receive, deciding_send)
        except BodyTooLarge:
            if read <= self._limit or started:
                raise
        if read > self._limit and not started:
            await self._refuse(scope, receive, send, has_ended=has_ended)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, *, has_ended: bool = False) -> None:
        if not has_ended:
            await self._discard(receive)
        response = error_response(self._error())
        response.headers["Connection"] = "close"  # what may be left of the body is not read
        await response(scope, receive, send)

    async def _discard(self, receive: Receive) -> None:
        """Let the client finish sending, within bounds: most read no answer before they have."""
        left = self._limit * _DISCARDED
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_WITHIN):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body", False):
                        return

    def _error(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request body is over the limit of {self._limit} bytes.")

    def _announced(self, headers: Headers) -> int:
        length = headers.get("content-length", "")
        return int(length[:20]) if length.isascii() and length.isdecimal() else 0


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else new_id("req")


def _route_of(scope: Scope) -> str | None:
    """The template of the path; None for a request that met no route."""
    template = getattr(scope.get("route"), "path", None)
    return template if isinstance(template, str) else None
