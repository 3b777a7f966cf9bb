"""A stand-in for an embeddings endpoint: HTTP over a real socket, eight numbers by the text's bytes."""

import asyncio
from dataclasses import dataclass
from typing import Any, Self
from zlib import crc32

import orjson


@dataclass(frozen=True)
class Request:
    """What was asked."""

    line: str
    headers: dict[str, str]
    body: Any


class StandIn:
    """Answers until its block ends; `answer` replaces what it says."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: tuple[int, bytes] | None = None
        self.url = ""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
            body = orjson.loads(await reader.readexactly(int(headers["content-length"])))
            self.requests.append(Request(head[0], headers, body))
            status, said = self.answer or (200, _embeddings(body["input"]))
            writer.write(
                f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(said)}\r\n"
                "connection: close\r\n\r\n".encode()
                + said
            )
            await writer.drain()
        finally:
            writer.close()


def _embeddings(texts: list[str]) -> bytes:
    items = [
        {"object": "embedding", "index": n, "embedding": [1.0 + crc32(f"{k}{text}".encode()) % 97 for k in range(8)]}
        for n, text in enumerate(texts)
    ]
    # The order of the list is not agreed: `index` is.
    return orjson.dumps({"object": "list", "model": "stand-in", "data": items[::-1]})
