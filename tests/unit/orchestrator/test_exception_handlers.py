"""`wire.md` §1: an error body is always in the client's own dialect."""

import inspect
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2  # openai-python's own
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from jsonschema import Draft202012Validator
from openai import AsyncOpenAI, InternalServerError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from structlog.testing import capture_logs

from maruntime import errors
from maruntime.errors import Invalid, MaruntimeError
from orchestrator.exception_handlers import TABLE, error_body, http_headers_of, install, status_of
from orchestrator.middleware import RequestId

CHECKOUT = Path(__file__).parents[3]
SHARED_DATA = Path(os.environ.get("MARUNTIME_SHARED_DATA") or CHECKOUT.parent / "shared" / "data")
EVERY_ERROR = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, MaruntimeError)]


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    path = SHARED_DATA / "openai_schemas" / "ErrorResponse.json"
    if not path.is_file():
        pytest.skip(f"OpenAI's JSON Schemas are NOT CHECKED: no file {path}; set MARUNTIME_SHARED_DATA")
    return Draft202012Validator(json.loads(path.read_text()))


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    install(app)
    app.add_middleware(RequestId)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        yield client


def failing_with(app: FastAPI, exc: Exception) -> None:
    @app.get("/thing")
    async def thing(limit: int = 1) -> None:
        raise exc


# --- the table


@pytest.mark.parametrize(
    ("exc", "status", "kind"),
    [
        (errors.SessionNotFound(), 404, "invalid_request_error"),
        (errors.ModelNotFound(), 404, "invalid_request_error"),
        (errors.SessionBusy(), 409, "invalid_request_error"),
        (errors.RunNotWaiting(), 409, "invalid_request_error"),
        (errors.RunCancelled(), 409, "invalid_request_error"),
        (errors.KeyMissing(), 401, "invalid_request_error"),
        (errors.KeyInvalid(), 401, "invalid_request_error"),
        (errors.ScopeMissing(), 403, "permission_error"),
        (errors.UnknownParameter(), 400, "invalid_request_error"),
        (errors.BodyTooLarge(), 413, "invalid_request_error"),
        (errors.TranscriptTooLarge(), 413, "invalid_request_error"),
        (errors.StoreUnavailable(), 503, "server_error"),
        (errors.LinkLost(), 503, "server_error"),
        (errors.NoSlotFree(), 429, "rate_limit_error"),
        (errors.RunFailed(), 500, "server_error"),
        (errors.RunDead(), 500, "server_error"),
        (errors.RunExpired(), 504, "server_error"),
        (errors.RunStillActive(), 504, "server_error"),
        (errors.Fenced(), 500, "server_error"),
        (ValueError("secret"), 500, "server_error"),
    ],
)
def test_every_kind_of_error_has_its_status(exc: Exception, status: int, kind: str) -> None:
    assert (status_of(exc), error_body(exc)["error"]["type"]) == (status, kind)


@pytest.mark.parametrize("cls", EVERY_ERROR)
def test_every_error_of_the_platform_has_a_valid_body(schema: Draft202012Validator, cls: type[MaruntimeError]) -> None:
    body = error_body(cls())

    schema.validate(body)
    assert body["error"]["message"] == inspect.getdoc(cls)
    assert body["error"]["code"] == cls.code
    assert body["error"]["param"] is None


@pytest.mark.parametrize("cls", EVERY_ERROR)
def test_only_what_can_help_is_to_be_repeated(cls: type[MaruntimeError]) -> None:
    headers = http_headers_of(cls())

    assert ("Retry-After" in headers) is cls.retryable
    assert (headers.get("x-should-retry") == "false") is not cls.retryable


def test_every_row_of_the_table_is_an_error_of_the_platform() -> None:
    assert set(TABLE) <= set(EVERY_ERROR)


def test_the_place_of_a_wrong_value_is_the_param() -> None:
    assert error_body(Invalid("No.", param="messages[0]"))["error"]["param"] == "messages[0]"
    assert error_body(errors.ModelNotFound(param="model"))["error"]["param"] == "model"


def test_an_error_may_say_when_to_come_back_and_what_it_is_about() -> None:
    assert http_headers_of(errors.StoreUnavailable(retry_after=7)) == {"Retry-After": "7"}
    assert http_headers_of(errors.RunStillActive(run_id="run_1", session_id="sess_1")) == {
        "x-should-retry": "false",
        "X-Run-Id": "run_1",
        "X-Session-Id": "sess_1",
    }


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "ы", "", "x" * 129])
def test_text_of_a_client_never_becomes_a_header(text: str) -> None:
    assert "X-Session-Id" not in http_headers_of(errors.SessionNotFound(session_id=text))


# --- through the app


@pytest.mark.parametrize("cls", EVERY_ERROR)
async def test_an_error_of_the_platform_is_answered(
    app: FastAPI, client: httpx2.AsyncClient, cls: type[MaruntimeError]
) -> None:
    failing_with(app, cls())

    response = await client.get("/thing")

    assert response.status_code == status_of(cls())
    assert response.json() == error_body(cls())
    assert response.headers.items() >= {k.lower(): v for k, v in http_headers_of(cls()).items()}.items()


async def test_a_key_that_is_missing_is_asked_for(app: FastAPI, client: httpx2.AsyncClient) -> None:
    failing_with(app, errors.KeyMissing())

    assert (await client.get("/thing")).headers["WWW-Authenticate"] == "Bearer"


async def test_an_unknown_route_is_answered(client: httpx2.AsyncClient, schema: Draft202012Validator) -> None:
    response = await client.get("/no/such%0Aroute")

    schema.validate(response.json())
    assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")
    assert response.json()["error"]["message"] == "Not Found: GET /no/such%0Aroute"


async def test_a_wrong_method_is_answered_with_the_right_ones(
    app: FastAPI, client: httpx2.AsyncClient, schema: Draft202012Validator
) -> None:
    failing_with(app, ValueError())

    response = await client.post("/thing")

    schema.validate(response.json())
    assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")
    assert response.headers["Allow"] == "GET"


async def test_a_wrong_query_is_answered_with_its_place(
    app: FastAPI, client: httpx2.AsyncClient, schema: Draft202012Validator
) -> None:
    failing_with(app, ValueError())

    response = await client.get("/thing?limit=x")

    schema.validate(response.json())
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
    assert response.json()["error"]["param"] == "limit"


@pytest.mark.parametrize(("status", "code"), [(400, "invalid_request"), (413, "request_too_large"), (503, "internal")])
async def test_an_http_exception_keeps_its_status_and_headers(
    app: FastAPI, client: httpx2.AsyncClient, schema: Draft202012Validator, status: int, code: str
) -> None:
    failing_with(app, HTTPException(status, "Why.", {"X-Extra": "1"}))

    response = await client.get("/thing")

    schema.validate(response.json())
    assert (response.status_code, response.headers["X-Extra"]) == (status, "1")
    assert (response.json()["error"]["message"], response.json()["error"]["code"]) == ("Why.", code)


async def test_of_an_unexpected_exception_only_the_log_knows(
    app: FastAPI, client: httpx2.AsyncClient, schema: Draft202012Validator
) -> None:
    exc = ValueError("secret")
    failing_with(app, exc)

    with capture_logs() as lines:
        response = await client.get("/thing", headers={"X-Request-Id": "mine"})

    schema.validate(response.json())
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert response.headers["X-Request-Id"] == "mine"
    assert [(line["event"], line["request_id"], line["exc_info"]) for line in lines] == [
        ("request_failed", "mine", exc)
    ]


async def test_a_middleware_that_fails_is_answered_too(app: FastAPI, schema: Draft202012Validator) -> None:
    class Broken:
        def __init__(self, app: Any) -> None: ...

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            raise ValueError("secret")

    app.add_middleware(Broken)
    app.add_middleware(RequestId)
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)

    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.get("/thing", headers={"X-Request-Id": "mine"})

    schema.validate(response.json())
    assert (response.status_code, response.headers["X-Request-Id"]) == (500, "mine")


async def test_a_stream_that_breaks_is_not_ended_as_if_it_were_whole(app: FastAPI, client: httpx2.AsyncClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"data: 1\n\n"
        raise ValueError("broken")

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces())

    with pytest.raises(ValueError, match="broken"):
        await client.get("/stream")


async def test_a_client_that_left_is_no_failure(app: FastAPI) -> None:
    failing_with(app, ClientDisconnect())
    scope = {"type": "http", "method": "GET", "path": "/thing", "headers": [], "query_string": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        raise AssertionError(message)

    with capture_logs() as lines:
        await app(scope, receive, send)

    assert lines == []


async def test_the_official_client_does_not_repeat_what_cannot_help(app: FastAPI) -> None:
    asked = 0

    @app.post("/v1/chat/completions")
    async def chat() -> None:
        nonlocal asked
        asked += 1
        raise errors.RunFailed("The tool broke.")

    http_client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app))
    async with AsyncOpenAI(base_url="http://test/v1", api_key="k", http_client=http_client) as openai:
        with pytest.raises(InternalServerError) as caught:
            await openai.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x"}])

    assert (asked, caught.value.code) == (1, "run_failed")
