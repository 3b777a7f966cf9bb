"""What surrounds every request: id, log line, limit."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from maruntime.testing.clock import FakeClock
from orchestrator.exception_handlers import install
from orchestrator.middleware import AccessLog, BodyLimit, RequestId

LIMIT = 100


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def app(clock: FakeClock) -> FastAPI:
    app = FastAPI()
    install(app)
    app.add_middleware(BodyLimit, limit=LIMIT)
    app.add_middleware(AccessLog, clock=clock)
    app.add_middleware(RequestId)

    @app.post("/size")
    async def size(request: Request) -> int:
        return len(await request.body())

    @app.post("/json")
    async def typed(body: dict[str, Any]) -> int:
        return len(body)

    @app.get("/things/{name}")
    async def thing(name: str) -> dict[str, Any]:
        clock.advance(0.25)
        return get_contextvars()

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError("secret")

    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        yield client


async def nothing(*_: Any) -> Any:
    """Sends nowhere and receives nothing."""


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    for _ in range(size):
        yield b"x"


# --- request id


@pytest.mark.parametrize("given", ["a", "A.b_c-9", "x" * 128])
async def test_a_sane_id_of_the_client_is_kept(client: httpx2.AsyncClient, given: str) -> None:
    response = await client.get("/things/1", headers={"X-Request-Id": given})

    assert response.headers.get_list("X-Request-Id") == [given]
    assert response.json() == {"request_id": given}
    assert get_contextvars() == {}


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "a\tb", "<script>", "ы".encode()])
async def test_any_other_request_gets_a_new_id(client: httpx2.AsyncClient, given: Any) -> None:
    headers = {} if given is None else {"X-Request-Id": given}

    ids = {(await client.get("/things/1", headers=headers)).headers["X-Request-Id"] for _ in range(2)}

    assert len(ids) == 2
    assert all(request_id.startswith("req_") for request_id in ids)


@pytest.mark.parametrize("path", ["/nope", "/broken"])
async def test_an_error_has_the_id_too(client: httpx2.AsyncClient, path: str) -> None:
    response = await client.get(path, headers={"X-Request-Id": "mine"})

    assert response.headers["X-Request-Id"] == "mine"


# --- access log


async def test_a_request_is_one_line_with_the_template_of_its_path(client: httpx2.AsyncClient) -> None:
    with capture_logs() as lines:
        response = await client.get("/things/secret?key=secret", headers={"Authorization": "Bearer secret"})

    assert lines == [
        {
            "event": "request_served",
            "log_level": "info",
            "method": "GET",
            "path": "/things/{name}",
            "status": 200,
            "duration_ms": 250.0,
            "bytes": len(response.content),
        }
    ]


async def test_a_path_that_met_no_route_is_made_safe(client: httpx2.AsyncClient) -> None:
    with capture_logs() as lines:
        await client.get("/a%0Ab/ы/" + "x" * 1000)

    assert lines[0]["status"] == 404
    assert lines[0]["path"] == ("/a%0Ab/%D1%8B/" + "x" * 1000)[:256]


async def test_a_failure_and_a_refusal_have_their_line(client: httpx2.AsyncClient) -> None:
    with capture_logs() as lines:
        await client.get("/broken")
        await client.post("/size", content=b"x" * (LIMIT + 1))

    served = [line for line in lines if line["event"] == "request_served"]
    assert [(line["path"], line["status"]) for line in served] == [("/broken", 500), ("/size", 413)]


async def test_a_stream_has_its_line_when_it_has_ended(
    app: FastAPI, client: httpx2.AsyncClient, clock: FakeClock
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            clock.advance(1)
            yield b"12345"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(pieces())

    with capture_logs() as lines:
        await client.get("/stream")

    assert [(line["status"], line["bytes"], line["duration_ms"]) for line in lines] == [(200, 15, 3000.0)]


async def test_a_stream_that_breaks_is_logged_as_a_failure() -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("broken")

    with capture_logs() as lines, pytest.raises(ValueError, match="broken"):
        await AccessLog(breaks)({"type": "http", "method": "GET", "path": "/"}, nothing, nothing)

    assert [line["status"] for line in lines] == [500]


async def test_a_client_that_left_before_the_answer_is_logged_as_such() -> None:
    async def gives_up(scope: Any, receive: Any, send: Any) -> None: ...

    with capture_logs() as lines:
        await AccessLog(gives_up)({"type": "http", "method": "GET", "path": "/"}, nothing, nothing)

    assert [line["status"] for line in lines] == [499]


# --- body limit


@pytest.mark.parametrize("size", [0, 1, LIMIT])
async def test_a_body_within_the_limit_passes(client: httpx2.AsyncClient, size: int) -> None:
    assert (await client.post("/size", content=b"x" * size)).json() == size
    assert (await client.post("/size", content=in_pieces(size))).json() == size


@pytest.mark.parametrize("path", ["/size", "/json"])
async def test_a_body_over_the_limit_is_refused_however_it_is_sent(client: httpx2.AsyncClient, path: str) -> None:
    """FastAPI makes a 400 of an error while it reads a typed body: the answer is the limit's all the same."""
    headers = {"Content-Type": "application/json"}
    announced = await client.post(path, content=b"x" * (LIMIT + 1), headers=headers)
    streamed = await client.post(path, content=in_pieces(LIMIT + 1), headers=headers)

    for response in (announced, streamed):
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"
        assert response.json()["error"]["type"] == "invalid_request_error"
        assert response.headers["Connection"] == "close"
        assert "X-Request-Id" in response.headers


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 5000])
async def test_an_announced_length_is_refused_before_anything_is_read(length: str) -> None:
    sent = []

    async def unreachable(*_: Any) -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", length.encode())]}
    await BodyLimit(unreachable, LIMIT)(scope, unreachable, send)

    assert sent[0]["status"] == 413


async def test_reading_stops_at_the_limit(client: httpx2.AsyncClient) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 10
            yield b"x" * 10

    response = await client.post("/size", content=endless())

    assert response.status_code == 413
    assert taken <= LIMIT + 20


@pytest.mark.parametrize("length", ["x", "-1", "", "1e9", "٣"])
async def test_a_length_that_is_no_number_leaves_the_counting(client: httpx2.AsyncClient, length: str) -> None:
    headers = {b"Content-Length": length.encode()}

    response = await client.post("/size", content=b"x" * (LIMIT + 1), headers=headers)

    assert response.status_code == 413


# --- other protocols


@pytest.mark.parametrize("middleware", [RequestId, AccessLog, BodyLimit])
async def test_what_is_not_http_passes_untouched(middleware: Any) -> None:
    seen = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    arguments = ({"type": "lifespan"}, object(), object())
    await middleware(app)(*arguments)

    assert seen == [arguments]
