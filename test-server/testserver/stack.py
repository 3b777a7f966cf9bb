"""The stack under test, through the doors that any client has.

Completions go through openai-python, as a stranger's program would send them;
everything else is plain HTTP. Nothing is retried and no connection is kept, so
that every request of a case is one request to the stack, and a restart leaves
no dead connection behind.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any, cast
from urllib.parse import quote

import httpx2
import openai
import orjson
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import SecretStr

from testserver.answer import Answer, assemble, faults_of_stream
from testserver.case import Auth, Chat, Clarify, Completion, Http
from testserver.settings import StackSettings


class StackUnset(Exception):
    """The environment does not say where the stack is, or how to enter."""


class Stack:
    """One execution's view of the stack: its requests carry the case's baggage."""

    def __init__(self, settings: StackSettings, http: httpx2.AsyncClient, case_id: str) -> None:
        self._settings = settings
        self._http = http
        self._case_id = case_id
        self._trace_id = token_hex(16)

    async def chat(self, chat: Chat) -> Answer:
        """Send a chat completion."""
        messages = cast(Any, chat.messages or [_user(chat.content)])
        options = {"include_usage": True} if chat.include_usage else openai.omit
        if chat.via == "stream":
            return await self._through_helper(chat, messages, cast(Any, options))

        def sent(client: openai.AsyncOpenAI) -> Awaitable[Any]:
            return client.chat.completions.with_raw_response.create(
                model=chat.model,
                messages=messages,
                stream=chat.stream,
                stream_options=cast(Any, options),
                extra_body=chat.params,
                extra_headers=self._openai_headers(chat),
            )

        return await self._complete(chat, sent)

    async def clarify(self, clarify: Clarify) -> Answer:
        """Answer the question of a session by its own route."""
        path = f"{self._base}/agents/{quote(clarify.session, safe='')}/provide_clarification"

        def sent(client: openai.AsyncOpenAI) -> Awaitable[Any]:
            return client.post(
                path,
                body={"messages": [_user(clarify.content)], "stream": clarify.stream},
                cast_to=ChatCompletion,
                options={"headers": {"X-Stainless-Raw-Response": "true", **self._openai_headers(clarify)}},
                stream=clarify.stream,
                stream_cls=openai.AsyncStream[ChatCompletionChunk],
            )

        return await self._complete(clarify, sent)

    async def http(self, http: Http) -> Answer:
        """Send a request to any other route."""
        headers = self._headers(http.headers, http.auth)
        content = None
        if "body" in http.model_fields_set:
            content = orjson.dumps(http.body)
            headers.setdefault("content-type", "application/json")
        return await self._exchange(http.method, http.path, headers, content, http.timeout_s)

    async def get(self, path: str, auth: Auth, timeout_s: float = 10.0) -> Answer:
        """Read a route of the stack."""
        return await self._exchange("GET", path, self._headers({}, auth), None, timeout_s)

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str], content: bytes | None, timeout_s: float
    ) -> Answer:
        started = time.monotonic()
        try:
            response = await self._http.request(
                method, self._base + path, headers=headers, content=content, timeout=timeout_s
            )
        except httpx2.HTTPError as exc:
            return Answer(error=_broken(exc), duration_ms=_since(started))
        body = _json(response.content)
        return Answer(
            status=response.status_code,
            headers=dict(response.headers),
            body=body,
            raw_text=response.text,
            error=_error_in(body) if response.status_code >= 400 else None,
            duration_ms=_since(started),
        )

    async def _complete(self, request: Completion, sent: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Answer:
        started = time.monotonic()
        try:
            response = await sent(self._openai(request))
        except openai.APIError as exc:
            return _refused(exc, started)
        headers = dict(response.headers)
        if request.stream:
            return await _read_stream(response.parse(), response.status_code, headers, started)
        body = _json(response.content)
        faults = _not_parsed(response)
        return Answer(response.status_code, headers, body, duration_ms=_since(started), wire_faults=faults)

    async def _through_helper(self, chat: Chat, messages: Any, options: Any) -> Answer:
        started = time.monotonic()
        manager = self._openai(chat).chat.completions.stream(
            model=chat.model,
            messages=messages,
            stream_options=options,
            extra_body=chat.params,
            extra_headers=self._openai_headers(chat),
        )
        chunks: list[dict[str, Any]] = []
        try:
            async with manager as stream:
                response = cast(Any, stream)._response
                headers = dict(response.headers)
                async for event in stream:
                    if event.type == "chunk":
                        chunks.append(event.chunk.to_dict(mode="json"))
                final = await stream.get_final_completion()
        except openai.APIStatusError as exc:
            return _refused(exc, started)
        except (openai.APIError, httpx2.HTTPError) as exc:
            status, headers = (200, {}) if chunks else (None, {})
            return Answer(
                status, headers, assemble(chunks), chunks=chunks, error=_error_of(exc), duration_ms=_since(started)
            )
        answer = Answer(
            response.status_code,
            headers,
            assemble(chunks),
            chunks=chunks,
            duration_ms=_since(started),
            wire_faults=faults_of_stream(chunks),
        )
        if (final.choices[0].message.content or "") != answer.text:
            answer.wire_faults.append("the helper .stream() puts another text together than the deltas give")
        return answer

    def _openai(self, request: Completion) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self._base}/v1",
            api_key="never sent: the headers of each request decide",
            max_retries=0,
            timeout=request.timeout_s,
            http_client=self._http,
        )

    def _openai_headers(self, request: Completion) -> dict[str, Any]:
        # Spelled as openai-python spells its own headers, so that ours replace them.
        headers = {name.title(): value for name, value in self._headers(request.headers, request.auth).items()}
        return {"Authorization": openai.omit, **headers}

    @property
    def _base(self) -> str:
        if not self._settings.url:
            raise StackUnset("MARUNTIME_URL is not set, so there is no stack to judge")
        return self._settings.url.rstrip("/")

    def _headers(self, own: dict[str, str], auth: Auth) -> dict[str, str]:
        headers = {name.lower(): value for name, value in own.items()}
        entries = [f"maruntime.case={self._case_id}", headers.pop("baggage", "")]
        ours = {"baggage": ",".join(filter(None, entries)), "traceparent": f"00-{self._trace_id}-{token_hex(8)}-01"}
        return {**ours, **self._authorization(auth), **headers}

    def _authorization(self, auth: Auth) -> dict[str, str]:
        if auth == "none":
            return {}
        settings = self._settings
        key: SecretStr | None = settings.api_key if auth == "api" else settings.admin_key
        if key is None:
            variable = "MARUNTIME_API_KEY" if auth == "api" else "MARUNTIME_ADMIN_KEY"
            raise StackUnset(f"{variable} is not set, and the case needs it")
        return {"authorization": f"Bearer {key.get_secret_value()}"}


@asynccontextmanager
async def connected(settings: StackSettings, case_id: str) -> AsyncIterator[Stack]:
    """Open the stack for one execution of a case."""
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(limits=limits, trust_env=False) as http:
        yield Stack(settings, http, case_id)


async def _read_stream(
    stream: openai.AsyncStream[ChatCompletionChunk], status: int, headers: dict[str, str], started: float
) -> Answer:
    chunks: list[dict[str, Any]] = []
    error: dict[str, Any] | None = None
    try:
        async with stream:
            async for chunk in stream:
                chunks.append(chunk.to_dict(mode="json"))
    except (openai.APIError, httpx2.HTTPError) as exc:
        error = _error_of(exc)
    faults = [] if error else faults_of_stream(chunks)
    return Answer(
        status, headers, assemble(chunks), chunks=chunks, error=error, duration_ms=_since(started), wire_faults=faults
    )


def _not_parsed(response: Any) -> list[str]:
    try:
        response.parse()
    except (openai.APIError, ValueError) as exc:
        return [f"openai-python does not understand the body: {exc}"]
    return []


def _refused(exc: openai.APIError, started: float) -> Answer:
    if isinstance(exc, openai.APIStatusError):
        body = _json(exc.response.content)
        headers = dict(exc.response.headers)
        text = exc.response.text
        return Answer(exc.status_code, headers, body, text, error=_error_in(body), duration_ms=_since(started))
    return Answer(error=_error_of(exc), duration_ms=_since(started))


def _error_of(exc: Exception) -> dict[str, Any]:
    if isinstance(exc, openai.APIError) and isinstance(exc.body, dict):
        return cast(dict[str, Any], exc.body)
    return _broken(exc)


def _error_in(body: Any) -> dict[str, Any]:
    error = body.get("error") if isinstance(body, dict) else None
    return (
        error
        if isinstance(error, dict)
        else {"type": "not_an_openai_error", "message": "no error object", "code": None}
    )


def _broken(exc: Exception) -> dict[str, Any]:
    cause = f": {exc.__cause__!r}" if exc.__cause__ else ""
    return {"type": "connection", "message": f"{exc!r}{cause}", "param": None, "code": None}


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _user(content: str | None) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _since(started: float) -> int:
    return int((time.monotonic() - started) * 1000)
