"""What every registry of slots promises: the one in memory and the one in Redis alike."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from maruntime.domain.instance import InstanceState
from maruntime.testing.builders import an_instance_record
from maruntime.testing.clock import FakeClock
from orchestrator.pool.memory_registry import MemoryRegistry
from orchestrator.pool.redis_registry import RedisRegistry
from orchestrator.pool.registry import SlotRegistry


@dataclass(frozen=True)
class Place:
    """A registry, and what can befall it."""

    registry: SlotRegistry
    brief: SlotRegistry
    """The same records, written to run out soon."""
    wipe: Callable[[], Awaitable[None]]
    let_run_out: Callable[[], Awaitable[None]]


@pytest.fixture(params=["memory", "redis"])
def redis_url(request: pytest.FixtureRequest) -> str | None:
    """Where the records are kept; None is memory."""
    return request.getfixturevalue("redis_server").url if request.param == "redis" else None


@pytest.fixture
async def place(redis_url: str | None) -> AsyncIterator[Place]:
    if redis_url is None:
        clock = FakeClock()
        registry = MemoryRegistry(clock)

        async def wipe() -> None:
            registry.wipe()

        async def let_run_out() -> None:
            clock.advance(31)

        yield Place(registry, registry, wipe, let_run_out)
        return
    redis = Redis.from_url(redis_url)
    await redis.flushall()

    async def flush() -> None:
        await redis.flushall()

    async def until_gone() -> None:
        async with asyncio.timeout(5):
            while await redis.keys("maruntime:registry:instance:*"):
                await asyncio.sleep(0.01)

    yield Place(RedisRegistry(redis), RedisRegistry(redis, ttl=0.05), flush, until_gone)
    await redis.aclose()


async def test_an_empty_registry_has_no_records(place: Place) -> None:
    assert await place.registry.all() == []


async def test_records_come_back_as_they_were_written_by_instance_id(place: Place) -> None:
    records = [
        an_instance_record("w2/0"),
        an_instance_record(
            "w1/1",
            state=InstanceState.RUNNING,
            template="assistant",
            template_version_id="tplv_1",
            run_id="run_1",
            runs_served=7,
            llm_endpoints=("main", "small"),
        ),
        an_instance_record("w1/0", llm_endpoints=()),
    ]

    await place.registry.write(records, ())

    assert await place.registry.all() == sorted(records, key=lambda record: record.instance_id)


async def test_a_record_takes_the_place_of_its_former_self(place: Place) -> None:
    await place.registry.write([an_instance_record()], ())
    changed = an_instance_record(state=InstanceState.CLAIMED, run_id="run_1")

    await place.registry.write([changed], ())

    assert await place.registry.all() == [changed]


async def test_records_are_written_and_forgotten_together(place: Place) -> None:
    await place.registry.write([an_instance_record("w1/0"), an_instance_record("w1/1")], ())

    await place.registry.write([an_instance_record("w1/2")], ["w1/0", "w9/never"])

    assert [record.instance_id for record in await place.registry.all()] == ["w1/1", "w1/2"]


async def test_writing_nothing_changes_nothing(place: Place) -> None:
    await place.registry.write([an_instance_record()], ())

    await place.registry.write((), ())

    assert len(await place.registry.all()) == 1


async def test_a_record_that_is_not_written_again_vanishes(place: Place) -> None:
    await place.brief.write([an_instance_record()], ())

    await place.let_run_out()

    assert await place.registry.all() == []


async def test_a_record_that_ran_out_can_be_written_again(place: Place) -> None:
    await place.brief.write([an_instance_record()], ())
    await place.let_run_out()

    await place.registry.write([an_instance_record()], ())

    assert await place.registry.all() == [an_instance_record()]


async def test_the_generation_stays_the_same_for_everybody(place: Place) -> None:
    first = await place.registry.generation()

    assert first
    assert await place.registry.generation() == await place.brief.generation() == first


async def test_a_wiped_registry_is_empty_and_has_another_generation(place: Place) -> None:
    await place.registry.write([an_instance_record()], ())
    before = await place.registry.generation()

    await place.wipe()

    assert await place.registry.all() == []
    assert await place.registry.generation() not in ("", before)
