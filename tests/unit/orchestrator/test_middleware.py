"""What surrounds every request: id, log line, limit."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from prometheus_client import REGISTRY
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from maruntime.testing.clock import FakeClock
from orchestrator import middleware
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


# --- metrics


def counted(**labels: str) -> float:
    return REGISTRY.get_sample_value("maruntime_http_requests_total", labels) or 0.0


def seconds_of(route: str) -> tuple[float, float]:
    count, total = (
        REGISTRY.get_sample_value(f"maruntime_http_request_seconds_{what}", {"route": route})
        for what in ("count", "sum")
    )
    return count or 0.0, total or 0.0


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/things/a", "/things/{name}", "200"),
        ("POST", "/things/a", "/things/{name}", "405"),
        ("GET", "/nope/a", "none", "404"),
        ("GET", "/broken", "/broken", "500"),
        ("POST", "/size", "/size", "413"),
    ],
)
async def test_a_request_is_counted_under_the_template_of_its_path(
    client: httpx2.AsyncClient, method: str, path: str, route: str, status: str
) -> None:
    """A label for each path would be a series for each session."""
    labels = {"method": method, "route": route, "status": status}
    before, (timed, _) = counted(**labels), seconds_of(route)

    content = in_pieces(LIMIT + 1) if status == "413" else None
    for _ in range(2):
        assert str((await client.request(method, path, content=content)).status_code) == status
        content = in_pieces(LIMIT + 1) if status == "413" else None

    assert counted(**labels) == before + 2
    assert seconds_of(route)[0] == timed + 2


async def test_the_time_of_a_request_is_observed(client: httpx2.AsyncClient) -> None:
    _, before = seconds_of("/things/{name}")

    await client.get("/things/1")

    assert seconds_of("/things/{name}")[1] == pytest.approx(before + 0.25)


async def test_a_client_that_left_is_counted_as_such() -> None:
    async def gives_up(scope: Any, receive: Any, send: Any) -> None: ...

    before = counted(method="GET", route="none", status="499")

    await AccessLog(gives_up)({"type": "http", "method": "GET", "path": "/"}, nothing, nothing)

    assert counted(method="GET", route="none", status="499") == before + 1


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


class Body:
    """A request whose body comes as the test says; what follows it never comes."""

    def __init__(self, *pieces: bytes, length: str | None = None, ends: bool = True) -> None:
        self.said: list[str] = []
        self.status: int | None = None
        self._pieces = [*pieces]
        self._ends = ends
        headers = [] if length is None else [(b"content-length", length.encode())]
        self.scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}

    async def receive(self) -> Any:
        if not self._pieces:
            await asyncio.Event().wait()
        piece = self._pieces.pop(0)
        self.said.append("piece")
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._ends}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.said.append("answer")
            self.status = message["status"]

    async def served(self, app: Any) -> None:
        async with asyncio.timeout(5):
            await BodyLimit(app, LIMIT)(self.scope, self.receive, self.send)


async def reads(scope: Any, receive: Any, send: Any) -> None:
    """An app that reads the whole body before it answers."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def unreachable(*_: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize("length", [str(LIMIT + 1), "9" * 5000])
async def test_an_announced_length_is_refused_without_the_app_when_the_client_has_sent_it(length: str) -> None:
    """Most clients read no answer while they still write: an early one is a broken pipe to them."""
    body = Body(b"x" * 50, b"x" * 50, b"x", length=length)

    await body.served(unreachable)

    assert body.status == 413
    assert body.said == ["piece", "piece", "piece", "answer"]


async def test_a_streamed_body_is_read_to_its_end_before_it_is_refused() -> None:
    body = Body(*[b"x" * LIMIT] * 4)

    await body.served(reads)

    assert (body.status, body.said) == (413, ["piece"] * 4 + ["answer"])


@pytest.mark.parametrize("pieces", [[b"x" * (LIMIT + 1)], [b"x" * LIMIT, b"x"]])
async def test_a_body_whose_last_piece_was_seen_is_refused_at_once(pieces: list[bytes]) -> None:
    """There is nothing left to wait for: `receive` would give nothing until the client hangs up."""
    body = Body(*pieces)

    await body.served(reads)

    assert (body.status, body.said) == (413, ["piece"] * len(pieces) + ["answer"])


@pytest.mark.parametrize(("length", "app"), [(str(10**9), unreachable), (None, reads)])
async def test_a_client_that_stops_sending_is_waited_for_within_a_bound(
    length: str | None, app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert middleware._DISCARD_WITHIN == 10
    monkeypatch.setattr(middleware, "_DISCARD_WITHIN", 0.001)
    body = Body(b"x" * (LIMIT + 1), length=length, ends=False)

    await body.served(app)

    assert (body.status, body.said) == (413, ["piece", "answer"])


async def test_a_client_that_leaves_while_it_sends_is_not_waited_for() -> None:
    said = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return said.pop(0) if said else await asyncio.Event().wait()

    scope = {"type": "http", "headers": [(b"content-length", str(LIMIT + 1).encode())]}
    async with asyncio.timeout(5):
        await BodyLimit(unreachable, LIMIT)(scope, receive, nothing)

    assert said == []


@pytest.mark.parametrize("length", [None, str(LIMIT + 1)])
async def test_reading_stops_at_four_times_the_limit(client: httpx2.AsyncClient, length: str | None) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 10
            yield b"x" * 10

    headers = {} if length is None else {"Content-Length": length}
    response = await client.post("/size", content=endless(), headers=headers)

    assert response.status_code == 413
    before = LIMIT + 10 if length is None else 0  # what the app read until it was over the limit
    assert before + 4 * LIMIT <= taken <= before + 4 * LIMIT + 10


@pytest.mark.parametrize("length", ["x", "-1", "", "1e9", "٣"])
async def test_a_length_that_is_no_number_leaves_the_counting(client: httpx2.AsyncClient, length: str) -> None:
    headers = {b"Content-Length": length.encode()}

    response = await client.post("/size", content=b"x" * (LIMIT + 1), headers=headers)

    assert response.status_code == 413


# --- other protocols


@pytest.mark.parametrize("layer", [RequestId, AccessLog, BodyLimit])
async def test_what_is_not_http_passes_untouched(layer: Any) -> None:
    seen = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    arguments = ({"type": "lifespan"}, object(), object())
    await layer(app)(*arguments)

    assert seen == [arguments]
