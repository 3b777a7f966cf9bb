"""Models behind OpenAI-compatible endpoints.

One SDK client per endpoint for the life of the process: making one blocks the
loop for tens of milliseconds. The SDK builds requests and sends them over
aiohttp; the stream is read raw, as its typed chunks cost ten times as much.
Retries, time limits and the bound on calls at once are ours. The key is in the
request's header and nowhere else: not in a message, not in a log line, and no
SDK exception (which holds the request) is chained to ours.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiohttp
import httpx2
import openai
import orjson

from agent_worker.llm.assembly import ReplyAssembly
from agent_worker.llm.contract import Delta, DeltaSink, LLMReply, LLMRequest
from agent_worker.llm.endpoints import LLMEndpoint
from agent_worker.llm.errors import (
    LLMError,
    LLMMalformed,
    LLMRefused,
    LLMStalled,
    LLMTimeout,
    LLMUnavailable,
    UnknownEndpoint,
)
from agent_worker.llm.failures import failure_from, seconds_to_wait, without_key
from agent_worker.llm.retry import Retrying, RetryPolicy, Sleep
from agent_worker.llm.sse import DONE, EventLines
from maruntime.clock import Clock

MAX_STREAM_BYTES = 64 * 1024 * 1024
MAX_ERROR_BODY_BYTES = 64 * 1024
KEEPALIVE_SECONDS = 20.0
# After `[DONE]` the end of the body is usually there already; only then can the connection be used again.
DRAIN_SECONDS = 0.1


class OpenAIClient:
    """Every configured endpoint, open: the `LLM` of a worker."""

    def __init__(
        self,
        endpoints: Mapping[str, LLMEndpoint],
        *,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._endpoints = {
            name: OpenAIEndpoint(name, settings, clock=clock, sleep=sleep, chance=chance)
            for name, settings in endpoints.items()
        }
        self._open = AsyncExitStack()

    async def complete(self, request: LLMRequest, on_delta: DeltaSink, *, on_restart: Callable[[], None]) -> LLMReply:
        """Make one completion at the endpoint that the request names; see `LLM.complete`."""
        endpoint = self._endpoints.get(request.endpoint)
        if endpoint is None:
            raise UnknownEndpoint(endpoint=request.endpoint)
        return await endpoint.complete(request, on_delta, on_restart=on_restart)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            for endpoint in self._endpoints.values():
                await opened.enter_async_context(endpoint)
            self._open = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()


class OpenAIEndpoint:
    """One endpoint and its one SDK client, which lives while the context is open."""

    def __init__(
        self,
        name: str,
        settings: LLMEndpoint,
        *,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._key = settings.api_key.get_secret_value()
        self._clock = clock
        self._retrying = Retrying(
            RetryPolicy(retries=settings.retries),
            clock=clock,
            sleep=sleep,
            chance=chance or random.Random(),  # noqa: S311 - it only spreads retries
        )
        self._gate = asyncio.Semaphore(settings.max_concurrency)
        self._takes_stream_options = True
        self._sdk: openai.AsyncOpenAI | None = None

    async def __aenter__(self) -> Self:
        if self._sdk is not None:
            raise RuntimeError("the endpoint is open already")
        self._sdk = self._new_sdk_client()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sdk is not None:
            sdk, self._sdk = self._sdk, None
            await sdk.close()

    async def complete(self, request: LLMRequest, on_delta: DeltaSink, *, on_restart: Callable[[], None]) -> LLMReply:
        """Make one completion; see `LLM.complete`."""
        deadline = self._clock.monotonic() + self._settings.total.total_seconds()
        outgoing = _Outgoing(on_delta, on_restart)
        return await self._retrying.call(
            partial(self._attempt, request, outgoing.put, deadline),
            deadline=deadline,
            before_retry=outgoing.restart,
            endpoint=self._name,
        )

    async def _attempt(self, request: LLMRequest, sink: DeltaSink, deadline: float) -> LLMReply:
        with_usage = self._takes_stream_options
        try:
            return await self._within_limits(request, sink, deadline, with_usage=with_usage)
        except LLMRefused as error:
            if not (with_usage and _names_stream_options(error)):
                raise
        self._takes_stream_options = False
        return await self._within_limits(request, sink, deadline, with_usage=False)

    async def _within_limits(
        self, request: LLMRequest, sink: DeltaSink, deadline: float, *, with_usage: bool
    ) -> LLMReply:
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline - self._clock.monotonic()
        alarm = asyncio.timeout_at(end)
        try:
            async with alarm, self._gate:
                patience = _Patience(alarm, end, self._settings)
                return await self._exchange(request, sink, patience, with_usage=with_usage)
        except TimeoutError:
            if not alarm.expired():
                raise
        raise LLMTimeout() if loop.time() >= end else LLMStalled()

    async def _exchange(
        self, request: LLMRequest, sink: DeltaSink, patience: "_Patience", *, with_usage: bool
    ) -> LLMReply:
        body = self._body(request, with_usage=with_usage)
        assembly = ReplyAssembly(model=body["model"])
        async with (
            aclosing(await self._opened(body, request.headers)) as response,
            aclosing(_received(response, assembly)) as received,
        ):
            lines = EventLines()
            async for data in received:
                done = self._take(lines.feed(data), assembly, sink, patience)
                if done:
                    await _drained(received)
                    break
            else:
                self._take(lines.close(), assembly, sink, patience)
        return assembly.reply()

    def _take(self, payloads: Iterable[bytes], assembly: ReplyAssembly, sink: DeltaSink, patience: "_Patience") -> bool:
        """Pass on what came; True when the provider says that this is all."""
        heard = False
        for payload in payloads:
            if payload == DONE:
                return True
            deltas = assembly.feed(self._chunk(payload))
            heard = True
            if deltas or assembly.finished:
                patience.speaking = True
            for delta in deltas:
                sink(delta)
        if heard:
            patience.renew()
        return False

    def _chunk(self, payload: bytes) -> Mapping[str, Any]:
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError as exc:
            reason = str(exc)
        else:
            if isinstance(chunk, dict):
                if chunk.get("error") or chunk.get("object") == "error":
                    raise failure_from(chunk, key=self._key)
                return chunk
            reason = f"a chunk is a {type(chunk).__name__}"
        raise LLMMalformed(reason=reason)

    async def _opened(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> httpx2.Response:
        """Send the request; the response is open and its body unread."""
        if self._sdk is None:
            raise RuntimeError("the endpoint is not open")
        try:
            # The body goes around the SDK's typed parameters: any parameter passes,
            # and a long history is not walked through once more.
            entered = self._sdk.chat.completions.with_streaming_response.create(
                model=body["model"], messages=[], stream=True, extra_body=body, extra_headers=headers
            )
            return (await entered.__aenter__()).http_response
        except openai.APIStatusError as exc:  # a redirect that leads nowhere: errors are caught by the hook
            failure: LLMError = LLMRefused(status=exc.status_code)
        except (openai.APIConnectionError, aiohttp.ClientError) as exc:
            cause = exc.__cause__ or exc
            failure = LLMUnavailable(reason=without_key(f"{type(cause).__name__}: {cause}", self._key))
        raise failure

    def _body(self, request: LLMRequest, *, with_usage: bool) -> dict[str, Any]:
        body = {name: value for name, value in request.parameters.items() if value is not None}
        body |= {"model": request.model or self._settings.model, "messages": list(request.messages), "stream": True}
        body.pop("stream_options", None)
        if with_usage:
            body["stream_options"] = {"include_usage": True}
        if request.tools:
            body["tools"] = list(request.tools)
            if request.tool_choice is not None:
                body["tool_choice"] = request.tool_choice
            if request.parallel_tool_calls is not None:
                body["parallel_tool_calls"] = request.parallel_tool_calls
        if request.response_format is not None:
            body["response_format"] = request.response_format
        return body

    async def _refuse_error_status(self, response: httpx2.Response) -> None:
        """Turn an error status into our error before the SDK reads the body, which has no bound there."""
        if not response.is_error:
            return
        body = await _error_body(response)
        try:
            error = orjson.loads(body)
        except orjson.JSONDecodeError:
            error = body.decode(errors="replace")
        raise failure_from(
            error,
            status=response.status_code,
            key=self._key,
            retry_after=seconds_to_wait(response.headers, self._clock.now()),
        )

    def _new_sdk_client(self) -> openai.AsyncOpenAI:
        # Silence is timed by `_Patience`, so the transport has a limit for connecting only.
        timeout = httpx2.Timeout(None, connect=self._settings.connect.total_seconds())
        most = self._settings.max_concurrency
        sdk = openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self._settings.base_url,
            max_retries=0,
            timeout=timeout,
            http_client=openai.DefaultAioHttpClient(
                timeout=timeout,
                limits=httpx2.Limits(
                    max_connections=most, max_keepalive_connections=most, keepalive_expiry=KEEPALIVE_SECONDS
                ),
                event_hooks={"response": [self._refuse_error_status]},
            ),
        )
        # The SDK reads these from the environment; they would go to every endpoint.
        sdk.organization = sdk.project = sdk.admin_api_key = None
        return sdk


class _Outgoing:
    """The caller's sink, and whether anything has gone into it since the last restart."""

    def __init__(self, on_delta: DeltaSink, on_restart: Callable[[], None]) -> None:
        self._on_delta = on_delta
        self._on_restart = on_restart
        self._used = False

    def put(self, delta: Delta) -> None:
        self._used = True
        self._on_delta(delta)

    def restart(self) -> None:
        if self._used:
            self._used = False
            self._on_restart()


class _Patience:
    """Moves one alarm: the first token's limit, then the limit between two pieces, never past the end."""

    def __init__(self, alarm: asyncio.Timeout, end: float, settings: LLMEndpoint) -> None:
        self.speaking = False
        self._alarm = alarm
        self._end = end
        self._idle = settings.idle.total_seconds()
        self._set(settings.first_token.total_seconds())

    def renew(self) -> None:
        if self.speaking:
            self._set(self._idle)

    def _set(self, seconds: float) -> None:
        self._alarm.reschedule(min(self._end, asyncio.get_running_loop().time() + seconds))


async def _received(response: httpx2.Response, assembly: ReplyAssembly) -> AsyncGenerator[bytes, None]:
    """The body as it comes. A connection lost after the answer was whole is its end."""
    size = 0
    try:
        async with aclosing(response.aiter_bytes()) as chunks:
            async for data in chunks:
                size += len(data)
                if size > MAX_STREAM_BYTES:
                    raise LLMMalformed("The model's stream is over the limit.", max_bytes=MAX_STREAM_BYTES)
                yield data
    except (httpx2.HTTPError, aiohttp.ClientError) as exc:
        if assembly.finished:
            return
        reason = f"{type(exc).__name__}: {exc}"
    else:
        return
    raise LLMMalformed(reason=reason)


async def _drained(received: AsyncIterator[bytes]) -> None:
    with suppress(TimeoutError, LLMMalformed):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in received:
                pass


async def _error_body(response: httpx2.Response) -> bytes:
    body = bytearray()
    with suppress(httpx2.HTTPError, aiohttp.ClientError):
        async with aclosing(response.aiter_bytes()) as chunks:
            async for data in chunks:
                body += data
                if len(body) > MAX_ERROR_BODY_BYTES:
                    break
    return bytes(body[:MAX_ERROR_BODY_BYTES])


def _names_stream_options(error: LLMRefused) -> bool:
    return "stream_options" in error.message or error.details.get("param") == "stream_options"
