"""The Attach call itself, with protobuf kept inside: a stub for workers, a registration for servers."""

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import grpc.aio

from maruntime.wire.codec import (
    orchestrator_frame_from_wire,
    orchestrator_frame_to_wire,
    worker_frame_from_wire,
    worker_frame_to_wire,
)
from maruntime.wire.frames import OrchestratorFrame, WorkerFrame
from maruntime.wire.v1 import fabric_pb2_grpc

AUTHORIZATION = "authorization"


class WorkerStream:
    """A worker's end of one Attach stream."""

    def __init__(self, channel: grpc.aio.Channel, join_token: str) -> None:
        stub = fabric_pb2_grpc.FabricStub(channel)
        self._call: grpc.aio.StreamStreamCall = stub.Attach(metadata=((AUTHORIZATION, f"Bearer {join_token}"),))

    async def send(self, frame: WorkerFrame) -> None:
        """Write a frame; waits while the transport is full.

        Raises:
            grpc.aio.AioRpcError: the stream has ended.
        """
        await self._call.write(worker_frame_to_wire(frame))

    async def receive(self) -> OrchestratorFrame | None:
        """Read a frame; None when the orchestrator ended the stream."""
        wire = await self._call.read()
        return None if wire is grpc.aio.EOF else orchestrator_frame_from_wire(wire)  # type: ignore[arg-type]

    def cancel(self) -> None:
        """End the stream at once."""
        self._call.cancel()


class ServerStream:
    """An orchestrator's end of one Attach stream."""

    def __init__(self, request_iterator: AsyncIterator[object], context: grpc.aio.ServicerContext) -> None:
        self._requests = request_iterator
        self._context = context

    @property
    def token(self) -> str | None:
        """The bearer token that the worker sent."""
        for key, value in self._context.invocation_metadata() or ():
            if key == AUTHORIZATION:
                text = value if isinstance(value, str) else value.decode()
                return text.removeprefix("Bearer ").strip()
        return None

    async def frames(self) -> AsyncIterator[WorkerFrame]:
        """Yield what the worker says, until the stream ends."""
        async for wire in self._requests:
            yield worker_frame_from_wire(wire)  # type: ignore[arg-type]

    async def send(self, frame: OrchestratorFrame) -> None:
        """Write a frame; waits while the transport is full."""
        await self._context.write(orchestrator_frame_to_wire(frame))

    async def abort(self, code: grpc.StatusCode, message: str) -> None:
        """Refuse the stream with a status."""
        await self._context.abort(code, message)


def register(server: grpc.aio.Server, serve: Callable[[ServerStream], Awaitable[None]]) -> None:
    """Let `serve` handle every Attach stream of the server."""

    class _Servicer(fabric_pb2_grpc.FabricServicer):
        async def Attach(self, request_iterator: AsyncIterator[object], context: grpc.aio.ServicerContext) -> None:
            await serve(ServerStream(request_iterator, context))

    fabric_pb2_grpc.add_FabricServicer_to_server(_Servicer(), server)
