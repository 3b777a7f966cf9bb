"""Everything that is opened at start and closed in reverse order; background tasks have their owner here."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import structlog
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from maruntime.clock import Clock, SystemClock
from maruntime.domain.principal import Scope
from maruntime.errors import StoreUnavailable
from orchestrator.catalog.templates import TemplateCatalog
from orchestrator.catalog.tools import ToolCatalog
from orchestrator.dispatch.acceptance import Acceptance
from orchestrator.dispatch.closing import Closing
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.event_bus import EventBus
from orchestrator.dispatch.hints import Hints
from orchestrator.dispatch.renewer import Renewer
from orchestrator.dispatch.snapshots import Snapshots
from orchestrator.dispatch.sweeper import Sweeper
from orchestrator.journal.journal import Journal
from orchestrator.persistence.engine import opened_engine, opened_pool, where
from orchestrator.pool.memory_registry import MemoryRegistry
from orchestrator.pool.publisher import RegistryPublisher
from orchestrator.pool.redis_registry import RedisRegistry
from orchestrator.pool.registry import SlotRegistry
from orchestrator.pool.slots import Slots
from orchestrator.security.api_keys import ApiKeys, GivenKey
from orchestrator.settings import OrchestratorSettings

_REDIS_TIMEOUT = 2.0
_PUBSUB_TIMEOUT = 15.0

log = structlog.get_logger()


class Background:
    """Tasks that live as long as the process; one that dies ends it."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Run something until the process ends."""
        self._tasks.append(self._group.create_task(work, name=name))

    def cancel(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()


class Lifecycle:
    """Whether the replica takes new work."""

    def __init__(self) -> None:
        self.is_stopping = False


@dataclass(frozen=True, slots=True)
class Resources:
    """What the front doors work with."""

    settings: OrchestratorSettings
    replica: str
    clock: Clock
    pool: "asyncpg.Pool[Any]"
    maker: async_sessionmaker[AsyncSession]
    redis: "Redis | None"
    keys: ApiKeys
    templates: TemplateCatalog
    tools: ToolCatalog
    journal: Journal
    bus: EventBus
    slots: Slots
    registry: SlotRegistry
    publisher: RegistryPublisher
    dispatcher: Dispatcher
    renewer: Renewer
    acceptance: Acceptance
    closing: Closing
    background: Background
    lifecycle: Lifecycle


@asynccontextmanager
async def opened(settings: OrchestratorSettings) -> AsyncIterator[Resources]:
    """Open the stores, wire everything, and keep the background tasks running for as long as the block lasts.

    Raises:
        StoreUnavailable: Postgres does not answer, or has no schema.
    """
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(opened_pool(settings.database_url, settings.database))
        maker = await stack.enter_async_context(opened_engine(settings.database_url, settings.database))
        redis = await stack.enter_async_context(_opened_redis(settings, _REDIS_TIMEOUT))
        pubsub_redis = await stack.enter_async_context(_opened_redis(settings, _PUBSUB_TIMEOUT))

        journal = Journal(
            pool,
            lease=settings.fabric.lease,
            max_attempts=settings.dispatch.max_attempts,
            clarification_wait=settings.dispatch.clarification_wait,
            transcript_limit=settings.limits.transcript_bytes,
        )
        registry: SlotRegistry = RedisRegistry(redis) if redis else MemoryRegistry(clock)
        publisher = RegistryPublisher(registry, clock)
        replica = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        slots = Slots(replica, clock, publisher.note)
        templates, tools = TemplateCatalog(maker, clock), ToolCatalog(maker, clock)
        bus, hints = EventBus(journal), Hints(pubsub_redis)
        snapshots = Snapshots(journal, templates, tools)
        dispatcher = Dispatcher(journal, slots, snapshots, bus, hints, poll=settings.dispatch.poll)
        renewer = Renewer(journal, every=settings.fabric.renew_every)
        sweeper = Sweeper(journal, bus, dispatcher, clock, every=settings.dispatch.sweep, lease=settings.fabric.lease)
        acceptance = Acceptance(
            maker,
            journal,
            templates,
            default_template=settings.default_template,
            turn_deadline=settings.dispatch.turn_deadline,
        )
        keys = ApiKeys(maker, clock)
        await _refuse_without_schema(pool, settings)
        await keys.take_from_environment(_given_keys(settings))

        background = await stack.enter_async_context(_background())
        background.start(dispatcher.run(), "dispatcher")
        background.start(renewer.run(), "renewer")
        background.start(sweeper.run(), "sweeper")
        background.start(bus.watch(), "event_bus")
        background.start(publisher.run(slots), "registry_publisher")
        background.start(hints.send(), "hints_sender")
        background.start(hints.listen(dispatcher.wake), "hints_listener")
        yield Resources(
            settings=settings,
            replica=replica,
            clock=clock,
            pool=pool,
            maker=maker,
            redis=redis,
            keys=keys,
            templates=templates,
            tools=tools,
            journal=journal,
            bus=bus,
            slots=slots,
            registry=registry,
            publisher=publisher,
            dispatcher=dispatcher,
            renewer=renewer,
            acceptance=acceptance,
            closing=Closing(journal, slots, bus),
            background=background,
            lifecycle=Lifecycle(),
        )


@asynccontextmanager
async def _background() -> AsyncIterator[Background]:
    async with asyncio.TaskGroup() as group:
        background = Background(group)
        yield background
        background.cancel()


@asynccontextmanager
async def _opened_redis(settings: OrchestratorSettings, read_within: float) -> AsyncIterator["Redis | None"]:
    if settings.redis_url is None:
        yield None
        return
    redis = Redis.from_url(
        str(settings.redis_url),
        socket_timeout=read_within,
        socket_connect_timeout=_REDIS_TIMEOUT,
        health_check_interval=10,
    )
    try:
        yield redis
    finally:
        await redis.aclose()


async def _refuse_without_schema(pool: "asyncpg.Pool[Any]", settings: OrchestratorSettings) -> None:
    async with pool.acquire() as connection:
        if await connection.fetchval("select to_regclass('runs')") is None:
            raise StoreUnavailable(
                f"The database {where(settings.database_url)} has no schema: run `python -m orchestrator migrate`"
            )


def _given_keys(settings: OrchestratorSettings) -> list[GivenKey]:
    client = frozenset({Scope.CHAT, Scope.APPROVE})
    given = (
        ("ADMIN_API_KEY", settings.admin_api_key, client | {Scope.ADMIN}),
        ("INTERNAL_API_KEY", settings.internal_api_key, client),
        ("MARUNTIME_API_KEY", settings.api_key, client),
        ("MARUNTIME_JOIN_TOKEN", settings.join_token, frozenset({Scope.WORKER})),
    )
    return [
        GivenKey(name, key, scopes)
        for name, keys, scopes in given
        if keys is not None
        for key in keys.get_secret_value().replace(",", " ").split()
    ]
