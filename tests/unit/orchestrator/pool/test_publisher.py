"""The registry follows the slots, and comes back by itself."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from maruntime.domain.instance import InstanceRecord, InstanceState
from maruntime.domain.run import RunRef
from maruntime.errors import Unavailable
from maruntime.testing.clock import FakeClock
from orchestrator.pool.memory_registry import MemoryRegistry
from orchestrator.pool.publisher import RegistryPublisher
from orchestrator.pool.slots import Slots
from tests.unit.orchestrator.pool.links import a_slot


class WatchedRegistry(MemoryRegistry):
    """A registry that can be away, and that says when it was written to."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.is_away = False
        self.writes: list[tuple[list[str], list[str]]] = []
        self.asked = asyncio.Event()

    async def generation(self) -> str:
        self.asked.set()
        if self.is_away:
            raise Unavailable
        return await super().generation()

    async def write(self, put: Collection[InstanceRecord], removed: Collection[str]) -> None:
        if self.is_away:
            raise Unavailable
        self.writes.append((sorted(record.instance_id for record in put), sorted(removed)))
        await super().write(put, removed)


@pytest.fixture
def registry() -> WatchedRegistry:
    return WatchedRegistry(FakeClock())


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def publisher(registry: WatchedRegistry, clock: FakeClock) -> RegistryPublisher:
    return RegistryPublisher(registry, clock)


@pytest.fixture
def slots(publisher: RegistryPublisher) -> Slots:
    return Slots("replica-1", FakeClock(), publisher.note)


@asynccontextmanager
async def running(publisher: RegistryPublisher, slots: Slots) -> AsyncIterator[None]:
    task = asyncio.create_task(publisher.run(slots))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_changes_are_written_together(
    registry: WatchedRegistry, publisher: RegistryPublisher, slots: Slots
) -> None:
    first, second = a_slot("w1/0"), a_slot("w1/1")
    slots.add(first)
    slots.add(second)
    await publisher.flush(slots)
    slots.claim(first, RunRef("run_1", 1))
    slots.remove(second)

    await publisher.flush(slots)
    await publisher.flush(slots)

    assert registry.writes == [(["w1/0", "w1/1"], []), (["w1/0"], ["w1/1"]), ([], [])]
    (record,) = await registry.all()
    assert (record.state, record.run_id, record.replica) == (InstanceState.CLAIMED, "run_1", "replica-1")


async def test_a_wiped_registry_is_filled_again_without_any_change(
    registry: WatchedRegistry, publisher: RegistryPublisher, slots: Slots
) -> None:
    slots.add(a_slot("w1/0"))
    await publisher.flush(slots)

    registry.wipe()
    await publisher.flush(slots)

    assert [record.instance_id for record in await registry.all()] == ["w1/0"]


async def test_a_registry_that_is_away_is_told_once_and_filled_when_it_is_back(
    registry: WatchedRegistry, publisher: RegistryPublisher, slots: Slots
) -> None:
    registry.is_away = True
    with capture_logs() as logs:
        async with running(publisher, slots), asyncio.timeout(5):
            for number in range(3):
                registry.asked.clear()
                slots.add(a_slot(f"w1/{number}"))
                await registry.asked.wait()
            slots.remove(next(iter(slots)))

            registry.is_away = False
            while not publisher.is_reachable or not registry.writes:
                registry.asked.clear()
                await registry.asked.wait()
                await asyncio.sleep(0)

    assert [record.instance_id for record in await registry.all()] == ["w1/1", "w1/2"]
    assert [entry["event"] for entry in logs] == ["registry_lost", "registry_regained"]


async def test_a_write_that_fails_loses_no_change(
    registry: WatchedRegistry, publisher: RegistryPublisher, slots: Slots
) -> None:
    slot = a_slot("w1/0")
    slots.add(slot)
    await publisher.flush(slots)
    slots.claim(slot, RunRef("run_1", 1))
    registry.is_away = True
    with pytest.raises(Unavailable):
        await publisher.flush(slots)
    registry.is_away = False

    await publisher.flush(slots)

    assert (await registry.all())[0].run_id == "run_1"


async def test_a_changed_slot_is_written_soon(
    registry: WatchedRegistry, publisher: RegistryPublisher, slots: Slots
) -> None:
    async with running(publisher, slots), asyncio.timeout(5):
        slots.add(a_slot("w1/0"))
        while not registry.writes:
            registry.asked.clear()
            await registry.asked.wait()
            await asyncio.sleep(0)

    assert registry.writes == [(["w1/0"], [])]
