"""The other end of Attach on a real gRPC server; the test says every frame by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import grpc.aio

from maruntime.wire import frames
from maruntime.wire.channel import SERVER_OPTIONS
from maruntime.wire.fabric import ServerStream, register

TOKEN = "a-join-token-of-a-test"


class Conversation:
    """One stream that a worker has opened."""

    def __init__(self, stream: ServerStream) -> None:
        self._stream = stream
        self._heard: asyncio.Queue[frames.WorkerFrame | None] = asyncio.Queue()
        self._over = asyncio.Event()
        self.gone = asyncio.Event()
        self.hello: frames.Hello

    async def serve(self) -> None:
        reader = asyncio.create_task(self._read())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({reader, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (reader, over):
                task.cancel()
            await asyncio.gather(reader, over, return_exceptions=True)
            self.gone.set()

    async def _read(self) -> None:
        try:
            async for frame in self._stream.frames():
                self._heard.put_nowait(frame)
        finally:
            self._heard.put_nowait(None)

    async def heard(self) -> frames.WorkerFrame | None:
        """The next frame; None at the end."""
        async with asyncio.timeout(5):
            return await self._heard.get()

    async def hears(self, kind: type) -> frames.WorkerFrame:
        """The next frame of a kind; others are passed over."""
        while True:
            frame = await self.heard()
            assert frame is not None, f"the stream ended before {kind.__name__}"
            if isinstance(frame, kind):
                return frame

    async def until_end(self) -> list[frames.WorkerFrame]:
        """Everything that is still said."""
        rest = []
        while (frame := await self.heard()) is not None:
            rest.append(frame)
        return rest

    async def say(self, *said: frames.OrchestratorFrame) -> None:
        for frame in said:
            await self._stream.send(frame)

    async def welcome(self, **how) -> "Conversation":
        times = {
            "heartbeat": timedelta(seconds=60),
            "lease": timedelta(seconds=15),
            "permit": timedelta(seconds=0.8),
        }
        await self.say(frames.Welcome("att", **times | how))
        return self

    def end(self) -> None:
        """End the stream."""
        self._over.set()


class FakeOrchestrator:
    """Keeps what dials it."""

    def __init__(self) -> None:
        self._conversations: asyncio.Queue[Conversation] = asyncio.Queue()
        self.dials = 0
        self.refuses = False
        self.refused = asyncio.Event()
        self.refuse_until = 0

    async def serve(self, stream: ServerStream) -> None:
        self.dials += 1
        if stream.token != TOKEN:
            if self.dials >= self.refuse_until:
                self.refused.set()
            await stream.abort(grpc.StatusCode.UNAUTHENTICATED, "The key is not valid")
        conversation = Conversation(stream)
        self._conversations.put_nowait(conversation)
        await conversation.serve()

    async def dialled(self) -> Conversation:
        """The next stream, behind its Hello."""
        async with asyncio.timeout(5):
            conversation = await self._conversations.get()
        hello = await conversation.heard()
        assert isinstance(hello, frames.Hello)
        conversation.hello = hello
        return conversation


@asynccontextmanager
async def fake_orchestrator() -> AsyncIterator[tuple[FakeOrchestrator, int]]:
    """A server with its port."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    fake = FakeOrchestrator()
    register(server, fake.serve)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield fake, port
    finally:
        await server.stop(None)
