"""One HTTP request to a place that the guard allows, bounded in time, bytes and hops.

Redirects are followed here, hop by hop, each checked like the first. Nothing
is sent twice: neither a request that got no answer nor, to another origin, a
secret or a body. The body is unpacked here as well, so that a small answer
cannot become a large one.
"""

import asyncio
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import aiohttp

from agent_worker.tools.url_guard import (
    GuardedResolver,
    Lookup,
    SystemLookup,
    Target,
    UrlPolicy,
    UrlRefused,
    checked_url,
)
from maruntime.errors import MaruntimeError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_HOPS = 5
_PIECE = 64 * 1024
_CONNECT = 10.0
# What may go to an origin that the caller did not name.
_HARMLESS = frozenset({"accept", "accept-language", "user-agent", "traceparent", "tracestate"})
_UNPACKED = {"gzip": 31, "x-gzip": 31, "deflate": 47}


class HttpFailed(MaruntimeError):
    """The request got no usable answer."""

    code = "http_failed"


class HttpTimeout(HttpFailed):
    """The server did not answer in time."""

    code = "http_timeout"


class HttpUnreachable(HttpFailed):
    """The server could not be reached."""

    code = "http_unreachable"


class ResponseTooLarge(HttpFailed):
    """The answer is over the limit."""

    code = "response_too_large"


class RedirectRefused(HttpFailed):
    """The server's redirect was not followed."""

    code = "redirect_refused"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send. `timeout` is for everything together: names, hops, and the last byte of the body."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    timeout: float = 60.0
    max_bytes: int = 1024 * 1024
    may_cut: bool = False
    """Whether an answer over the limit is cut there; otherwise it is an error."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What came back, unpacked; names of headers are in lower case, `url` is the last hop's."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the server did what it was asked."""
        return 200 <= self.status < 300


class GuardedHttp:
    """An HTTP client under one policy. Opened and closed as a context manager."""

    def __init__(self, policy: UrlPolicy, *, lookup: Lookup | None = None, connections: int = 100) -> None:
        self._policy = policy
        self._own_lookup = SystemLookup()
        self._lookup: Lookup = lookup or self._own_lookup
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A connection that was kept could be gone when it is used again: nobody would know whether the request arrived.
        connector = aiohttp.TCPConnector(
            resolver=GuardedResolver(self._policy, self._lookup),
            use_dns_cache=False,
            limit=self._connections,
            force_close=True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT),
        )
        # Otherwise aiohttp sends a PUT or a DELETE again when its connection broke.
        self._session._retry_connection = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
        self._own_lookup.close()

    async def send(self, request: HttpRequest) -> HttpReply:
        """Send a request and read its answer, whatever its status.

        Raises:
            UrlRefused: an address on the way is not allowed.
            HttpFailed: no usable answer; the subclass says why.
        """
        try:
            async with asyncio.timeout(request.timeout):
                return await self._follow(request)
        except TimeoutError as exc:
            raise HttpTimeout(f"No answer within {request.timeout:g} s.") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise HttpUnreachable(f"The server could not be reached ({type(exc).__name__}).") from exc

    async def _follow(self, request: HttpRequest) -> HttpReply:
        target = checked_url(request.url)
        for _ in range(_MAX_HOPS + 1):
            reply, location = await self._hop(request, target)
            if location is None:
                return reply
            request, target = _redirected(request, target, reply.status, location)
        raise RedirectRefused(f"The server redirected more than {_MAX_HOPS} times.")

    async def _hop(self, request: HttpRequest, target: Target) -> tuple[HttpReply, str | None]:
        if self._session is None:
            raise RuntimeError("the client is not open")
        self._policy.check_target(target)
        headers = {"Accept-Encoding": "gzip", "User-Agent": "maruntime", **request.headers}
        async with self._session.request(
            request.method, target.url, headers=headers, data=request.body, allow_redirects=False
        ) as response:
            location = response.headers.get("Location") if response.status in _REDIRECTS else None
            said = {name.lower(): value for name, value in response.headers.items()}
            reply = HttpReply(response.status, str(target.url), said, b"")
            if location is not None:
                return reply, location
            body, is_cut = await _read(response, request)
            return replace(reply, body=body, is_cut=is_cut), None


def _redirected(request: HttpRequest, here: Target, status: int, location: str) -> tuple[HttpRequest, Target]:
    there = checked_url(urljoin(str(here.url), location.partition("#")[0]))
    if here.scheme == "https" and there.scheme == "http":
        raise RedirectRefused("The server redirected from https to http.")
    method, body, headers = request.method, request.body, request.headers
    if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
        method, body = "GET", None
        headers = {name: value for name, value in headers.items() if name.lower() not in ("content-type",)}
    if there.origin != here.origin:
        if body is not None or method not in ("GET", "HEAD"):
            raise RedirectRefused("The server redirected the request to another host.")
        headers = {name: value for name, value in headers.items() if name.lower() in _HARMLESS}
    return replace(request, method=method, body=body, headers=headers), there


async def _read(response: aiohttp.ClientResponse, request: HttpRequest) -> tuple[bytes, bool]:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower() or "identity"
    if encoding != "identity" and encoding not in _UNPACKED:
        raise HttpFailed(f"The answer is packed in a way that is not read here ({encoding[:40]}).")
    unpack = zlib.decompressobj(_UNPACKED[encoding]) if encoding != "identity" else None
    body, received = bytearray(), 0
    async for piece in response.content.iter_chunked(_PIECE):
        received += len(piece)
        room = request.max_bytes - len(body) + 1
        try:
            body += piece[:room] if unpack is None else unpack.decompress(piece, room)
        except zlib.error as exc:
            raise HttpFailed("The answer is packed wrongly.") from exc
        if len(body) > request.max_bytes or received > request.max_bytes + _PIECE:
            if not request.may_cut:
                raise ResponseTooLarge(f"The answer has more than {request.max_bytes} bytes.")
            return bytes(body[: request.max_bytes]), True
    if unpack is not None and received and not unpack.eof:
        raise HttpFailed("The answer ended early.")
    return bytes(body), False


__all__ = [
    "GuardedHttp",
    "HttpFailed",
    "HttpReply",
    "HttpRequest",
    "HttpTimeout",
    "HttpUnreachable",
    "RedirectRefused",
    "ResponseTooLarge",
    "UrlRefused",
]
