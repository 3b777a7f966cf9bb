"""Servers on real sockets that answer byte for byte as scripted, and a client whose DNS is the test's."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from agent_worker.tools.guarded_http import GuardedHttp
from agent_worker.tools.url_guard import UrlPolicy

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def reply(status: int = 200, body: bytes | str = b"", **headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    said = {"Content-Type": "application/json", "Content-Length": str(len(content))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + content


class Heard:
    """One request as it came."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.line = first
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
        self.body = body


class Stand:
    """A server; each request takes the next answer, the last one repeats."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.heard: list[Heard] = []
        self.gone = asyncio.Event()
        self.came = asyncio.Event()
        self.port = 0

    def will(self, *answers: Answer) -> "Stand":
        self.answers += answers
        return self

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            self.heard.append(Heard(head, await reader.readexactly(length)))
            self.came.set()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()


@pytest.fixture
def say():
    return reply


@pytest.fixture
async def stands():
    """Opens servers."""
    servers = []

    async def opened():
        stand = Stand()
        server = await asyncio.start_server(stand.serve, "127.0.0.1", 0)
        stand.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        return stand

    yield opened
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def stand(stands):
    return await stands()


@pytest.fixture
async def clients():
    """Opens clients: `clients("allowed", lookup=...)`."""
    opened = []

    async def client(*allowed, lookup=None):
        http = await GuardedHttp(UrlPolicy(allowed_private=allowed), lookup=lookup).__aenter__()
        opened.append(http)
        return http

    yield client
    for http in opened:
        await http.__aexit__(None, None, None)


@pytest.fixture
async def http(clients, stand):
    """A client that may reach the stand and nothing else that is private."""
    return await clients(stand.address)
