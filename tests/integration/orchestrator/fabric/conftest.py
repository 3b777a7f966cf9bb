"""A replica's fabric on a real port, and workers whose frames are written by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import grpc
import grpc.aio
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.clock import SystemClock
from maruntime.domain.assignment import Assignment
from maruntime.domain.principal import Scope
from maruntime.domain.run import RunRef
from maruntime.testing.builders import a_hello
from maruntime.wire import frames
from maruntime.wire.channel import CLIENT_OPTIONS
from maruntime.wire.fabric import WorkerStream
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.catalog.tools import ToolCatalog
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.dispatch.hints import Hints
from orchestrator.dispatch.renewer import Renewer
from orchestrator.dispatch.snapshots import Snapshots
from orchestrator.fabric.attachment import Attachment
from orchestrator.fabric.attachments import Attachments
from orchestrator.fabric.server import listening
from orchestrator.pool.slots import Slots
from orchestrator.security.api_keys import ApiKeys, GivenKey
from orchestrator.settings import FabricSettings
from tests.integration.orchestrator.ledger import LEASE, Ledger

JOIN_TOKEN = "join-token-of-the-tests"
CHAT_KEY = "a-key-that-may-only-chat"

Frame = TypeVar("Frame")


def fabric_settings(**overrides: object) -> FabricSettings:
    said = {"port": 0, "lease": LEASE, "permit": timedelta(milliseconds=50)}
    said |= {"reattach_grace": timedelta(milliseconds=200), "renew_every": timedelta(milliseconds=10)}
    return FabricSettings(**said | overrides)


@dataclass
class Worker:
    """A worker's end of one stream."""

    stream: WorkerStream
    welcome: frames.Welcome | None = None
    heard: list[frames.OrchestratorFrame] = field(default_factory=list)

    async def say(self, *said: frames.WorkerFrame) -> None:
        for frame in said:
            await self.stream.send(frame)

    async def hear(self, kind: type[Frame], *, until: Callable[[Frame], bool] = lambda frame: True) -> Frame:
        """The next frame of a kind; others are kept in `heard`."""
        async with asyncio.timeout(5):
            while True:
                frame = await self.stream.receive()
                assert frame is not None, "the orchestrator ended the stream"
                self.heard.append(frame)
                if isinstance(frame, kind) and until(frame):
                    return frame

    async def takes(self) -> Assignment:
        """Wait for a run and accept it."""
        assignment = await self.hear(Assignment)
        await self.say(frames.Accepted(assignment.run))
        return assignment

    async def beats(self, run: RunRef | None, nonce: int) -> frames.HeartbeatAck:
        await self.say(frames.Heartbeat(nonce, run, timedelta()))
        return await self.hear(frames.HeartbeatAck, until=lambda ack: ack.nonce == nonce)

    async def is_refused(self) -> grpc.aio.AioRpcError:
        """The status with which the stream ends."""
        try:
            async with asyncio.timeout(5):
                while await self.stream.receive() is not None:
                    pass
        except grpc.aio.AioRpcError as refused:
            return refused
        raise AssertionError("the stream ended well")


@dataclass
class Replica:
    """One orchestrator's fabric."""

    port: int
    slots: Slots
    bus: EventBus
    dispatcher: Dispatcher
    attachments: Attachments
    stack: AsyncExitStack

    async def dial(
        self,
        hello: frames.Hello | None = None,
        *,
        token: str = JOIN_TOKEN,
        credentials: grpc.ChannelCredentials | None = None,
        greet: bool = True,
    ) -> Worker:
        """Open a stream; with `greet` it is welcomed when this returns."""
        address = f"127.0.0.1:{self.port}"
        if credentials is None:
            channel = grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)
        else:
            options = [*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", "localhost")]
            channel = grpc.aio.secure_channel(address, credentials, options=options)
        self.stack.push_async_callback(channel.close)
        worker = Worker(WorkerStream(channel, token))
        if greet:
            await worker.say(hello or a_hello())
            worker.welcome = await worker.hear(frames.Welcome)
        return worker

    async def gone(self, instance_id: str) -> None:
        """Wait until the slot's stream has ended here."""
        async with asyncio.timeout(5):
            while self.slots.get(instance_id) is not None:
                await asyncio.sleep(0.005)


Open = Callable[..., "AsyncIterator[Replica]"]


@pytest.fixture
def opened_replica(
    ledger: Ledger, maker: async_sessionmaker[AsyncSession], templates: TemplateCatalog, tools: ToolCatalog
) -> Open:
    """Opens a replica over the test's database; several may be open at once."""

    @asynccontextmanager
    async def opened(settings: FabricSettings | None = None) -> AsyncIterator[Replica]:
        settings = settings or fabric_settings()
        journal, clock = ledger.journal, SystemClock()
        slots, bus = Slots("replica", clock, lambda instance_id: None), EventBus(journal)
        snapshots = Snapshots(journal, templates, tools)
        dispatcher = Dispatcher(journal, slots, snapshots, bus, Hints(None), poll=timedelta(milliseconds=50))
        renewer = Renewer(journal, every=settings.renew_every)
        keys = ApiKeys(maker, clock)
        await keys.take_from_environment(
            [
                GivenKey("MARUNTIME_JOIN_TOKEN", JOIN_TOKEN, frozenset({Scope.WORKER})),
                GivenKey("MARUNTIME_API_KEY", CHAT_KEY, frozenset({Scope.CHAT})),
            ]
        )

        def make(hello: frames.Hello) -> Attachment:
            return Attachment(
                hello,
                journal=journal,
                slots=slots,
                bus=bus,
                dispatcher=dispatcher,
                renewer=renewer,
                settings=settings,
            )

        attachments = Attachments(
            make,
            keys=keys,
            templates=templates,
            journal=journal,
            slots=slots,
            bus=bus,
            dispatcher=dispatcher,
            reattach_grace=settings.reattach_grace.total_seconds(),
        )
        tasks = [asyncio.create_task(work) for work in (dispatcher.run(), renewer.run(), attachments.release_orphans())]
        async with AsyncExitStack() as stack:
            port = await stack.enter_async_context(listening(settings, attachments.serve))
            yield Replica(port, slots, bus, dispatcher, attachments, stack)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return opened


@pytest.fixture
async def replica(opened_replica: Open) -> AsyncIterator[Replica]:
    async with opened_replica() as replica:
        yield replica
