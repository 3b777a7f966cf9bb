"""A provider that answers with scripted bytes, on a real socket."""

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from socket import SO_LINGER, SOL_SOCKET

import orjson
import pytest

from agent_worker.llm.contract import Delta, LLMReply, LLMRequest
from agent_worker.llm.endpoints import LLMEndpoint
from agent_worker.llm.openai import OpenAIClient
from maruntime.testing.clock import FakeClock

KEY = "sk-test-3f9c0d7a51"
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Request:
    """What the client sent."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.path = lines[0].split(" ")[1]
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:] if line)}
        self.json = orjson.loads(body)


def data(*chunks: object) -> bytes:
    return b"".join(
        b"data: " + (chunk if isinstance(chunk, bytes) else orjson.dumps(chunk)) + b"\n\n" for chunk in chunks
    )


def chunk(finish_reason: str | None = None, **delta: object) -> dict:
    return {"model": "served-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


class Provider:
    """Each request takes the next answer; the last one repeats."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.gone = asyncio.Event()
        self.in_flight = 0
        self.most_in_flight = 0
        self._open: set[asyncio.StreamWriter] = set()

    # --- scripting

    def will(self, answer: Answer) -> "Provider":
        self.answers.append(answer)
        return self

    def will_stream(self, body: bytes, *, slice_size: int | None = None) -> "Provider":
        async def answer(writer: asyncio.StreamWriter) -> None:
            self.start(writer)
            step = slice_size or max(1, len(body))
            for start in range(0, len(body), step):
                self.part(writer, body[start : start + step])
                await writer.drain()
            writer.write(b"0\r\n\r\n")

        return self.will(answer)

    def will_say(self, text: str) -> "Provider":
        return self.will_stream(data(chunk(content=text), chunk("stop"), b"[DONE]"))

    def will_fail(self, status: int, body: object, **headers: str) -> "Provider":
        async def answer(writer: asyncio.StreamWriter) -> None:
            text = body if isinstance(body, bytes) else orjson.dumps(body)
            extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
            head = (
                f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(text)}\r\n\r\n"
            )
            writer.write(head.encode() + text)

        return self.will(answer)

    def will_stall_after(self, body: bytes) -> "Provider":
        async def answer(writer: asyncio.StreamWriter) -> None:
            self.start(writer)
            if body:
                self.part(writer, body)
            await writer.drain()
            await self.gone.wait()

        return self.will(answer)

    def will_cut_after(self, body: bytes) -> "Provider":
        async def answer(writer: asyncio.StreamWriter) -> None:
            self.start(writer)
            self.part(writer, body)
            await writer.drain()
            writer.close()

        return self.will(answer)

    def will_reset(self) -> "Provider":
        async def answer(writer: asyncio.StreamWriter) -> None:
            writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()

        return self.will(answer)

    @staticmethod
    def start(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    @staticmethod
    def part(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(b"%x\r\n%b\r\n" % (len(body), body))

    # --- serving

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            while not writer.is_closing():
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))[16:])
        self.requests.append(Request(head, await reader.readexactly(length)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        gone = asyncio.ensure_future(self._noticing(reader))
        try:
            await answer(writer)
            await writer.drain()
        finally:
            self.in_flight -= 1
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _noticing(self, reader: asyncio.StreamReader) -> None:
        """Set `gone` when the client hangs up in the middle of an answer."""
        waiter = reader._wait_for_data  # a read would eat the next request
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and reader.exception() is None:
                if reader._buffer:
                    return
                await waiter("noticing")
        self.gone.set()


class Caller:
    """The client under test, with everything it said and every pause it made."""

    def __init__(self, client: OpenAIClient, clock: FakeClock, pauses: list[float]) -> None:
        self.client = client
        self.clock = clock
        self.pauses = pauses
        self.deltas: list[Delta] = []
        self.restarts: list[int] = []

    async def ask(self, **changes: object) -> LLMReply:
        request = LLMRequest(**{"endpoint": "main", "messages": [{"role": "user", "content": "hi"}]} | changes)
        async with asyncio.timeout(10):
            return await self.client.complete(
                request, self.deltas.append, on_restart=lambda: self.restarts.append(len(self.deltas))
            )


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    provider = Provider()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    yield provider
    server.close()
    provider.gone.set()
    for writer in list(provider._open):
        writer.close()
    async with asyncio.timeout(5):
        while provider._open:
            await asyncio.sleep(0)


@pytest.fixture
async def calling(provider):
    """Opens a client of the provider; settings of the endpoint may be overridden."""
    async with contextlib.AsyncExitStack() as opened:

        async def calling(**settings: object) -> Caller:
            clock, pauses = FakeClock(), []

            async def sleep(seconds: float) -> None:
                pauses.append(seconds)
                clock.advance(seconds)

            endpoint = LLMEndpoint(**{"base_url": provider.url, "api_key": KEY, "model": "small"} | settings)
            client = OpenAIClient({"main": endpoint}, clock=clock, sleep=sleep, chance=random.Random(7))
            return Caller(await opened.enter_async_context(client), clock, pauses)

        yield calling


@pytest.fixture
def key() -> str:
    return KEY


@pytest.fixture
def soon() -> timedelta:
    """A limit that a silent provider reaches at once."""
    return timedelta(milliseconds=30)


@pytest.fixture(name="data")
def data_fixture():
    return data


@pytest.fixture(name="chunk")
def chunk_fixture():
    return chunk
