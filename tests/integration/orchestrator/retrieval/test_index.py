"""Changing the embedding model while the index serves."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from orchestrator.retrieval.documents import ToolDocument
from orchestrator.retrieval.embedding import EmbeddingUnavailable
from orchestrator.retrieval.hashed import HashedEmbedding
from orchestrator.retrieval.index import ModelState, ToolIndex, UnknownEmbedder
from orchestrator.retrieval.search import ToolSearch

TOOLS = [
    ToolDocument(f"v{n}", f"tool_{word}", f"Does something with {word}.", examples=(f"I have a {word}",))
    for n, word in enumerate(["cats", "dogs", "trains", "rain", "stones"] * 40)
]


class _Gated(HashedEmbedding):
    """A new model that encodes a batch each time the gate is opened."""

    def __init__(self) -> None:
        super().__init__(128)
        self.started = asyncio.Event()
        self.gate = asyncio.Event()
        self.fails = False

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        self.started.set()
        await self.gate.wait()
        if self.fails:
            raise EmbeddingUnavailable
        return await super().encode(texts)


@pytest.fixture
def new() -> _Gated:
    return _Gated()


@pytest.fixture
def both(pool: "asyncpg.Pool[Any]", embedder: HashedEmbedding, new: _Gated) -> tuple[ToolIndex, ToolSearch]:
    return ToolIndex(pool, [embedder, new]), ToolSearch(pool, [embedder, new])


async def _states(index: ToolIndex) -> dict[str, ModelState]:
    return {model.model: model.state for model in await index.models()}


async def test_the_first_model_serves_at_once(index: ToolIndex, embedder: HashedEmbedding) -> None:
    await index.put(TOOLS[:2])

    (model,) = await index.models()

    assert (model.model, model.dimension, model.state) == (embedder.name, 512, ModelState.SERVING)
    assert (model.done, model.total) == (4, 4)


async def test_the_old_index_serves_until_the_new_one_is_whole(
    both: tuple[ToolIndex, ToolSearch], embedder: HashedEmbedding, new: _Gated
) -> None:
    index, search = both
    await index.put(TOOLS)
    before = await search.search(["something with dogs"])
    steps: list[tuple[int, int]] = []

    async def progress(done: int, total: int) -> None:
        steps.append((done, total))

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(index.reindex(new.name, progress))
        await new.started.wait()
        during = await search.search(["something with dogs"])
        states = await _states(index)
        new.gate.set()

    assert during == before
    assert states == {embedder.name: ModelState.SERVING, new.name: ModelState.BUILDING}
    assert await _states(index) == {embedder.name: ModelState.RETIRED, new.name: ModelState.SERVING}
    assert steps == [(128, 400), (256, 400), (384, 400), (400, 400)]
    after = await search.search(["something with dogs"])
    assert after[0].version_id == before[0].version_id
    assert after[0].cosine != before[0].cosine


async def test_a_document_that_comes_while_a_model_is_built_is_in_both(
    pool: "asyncpg.Pool[Any]", both: tuple[ToolIndex, ToolSearch], index: ToolIndex, new: _Gated
) -> None:
    """Another process, which does not have the new model, adds it: the switch waits for its vector."""
    rebuilding, search = both
    await rebuilding.put(TOOLS)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(rebuilding.reindex(new.name))
        await new.started.wait()
        await index.put([ToolDocument("v_zebra", "zebra_counter", "Counts zebras.")])
        await index.remove(["v0"])
        new.gate.set()

    (best, *_) = await search.search(["count zebras"])

    assert best.version_id == "v_zebra"
    assert best.cosine is not None
    assert best.cosine > 0.3
    left = await pool.fetchval("select count(*) from tool_search_vectors")
    assert left == await pool.fetchval("select count(*) from tool_search_passages") == 399


async def test_a_reindex_that_failed_changes_nothing_and_goes_on_later(
    both: tuple[ToolIndex, ToolSearch], embedder: HashedEmbedding, new: _Gated
) -> None:
    index, search = both
    await index.put(TOOLS)
    new.gate.set()
    new.fails = True

    with pytest.raises(EmbeddingUnavailable):
        await index.reindex(new.name)

    assert (await _states(index))[embedder.name] is ModelState.SERVING
    assert await search.search(["something with dogs"])
    new.fails = False
    await index.reindex(new.name)
    assert (await _states(index))[new.name] is ModelState.SERVING


async def test_there_is_a_way_back(both: tuple[ToolIndex, ToolSearch], embedder: HashedEmbedding, new: _Gated) -> None:
    index, search = both
    new.gate.set()
    await index.put(TOOLS)
    before = await search.search(["something with dogs"])

    await index.reindex(new.name)
    await index.reindex(embedder.name)

    assert await _states(index) == {embedder.name: ModelState.SERVING, new.name: ModelState.RETIRED}
    assert await search.search(["something with dogs"]) == before


async def test_a_process_without_the_serving_model_searches_by_words(
    pool: "asyncpg.Pool[Any]", both: tuple[ToolIndex, ToolSearch], search: ToolSearch, new: _Gated
) -> None:
    index, _ = both
    new.gate.set()
    await index.put(TOOLS)
    await index.reindex(new.name)

    found = await search.search(["something with dogs"])

    assert found
    assert found[0].cosine is None


async def test_an_unknown_model_is_refused(index: ToolIndex) -> None:
    with pytest.raises(UnknownEmbedder):
        await index.reindex("never-heard-of")


async def test_two_writers_at_once_lose_nothing(
    pool: "asyncpg.Pool[Any]", index: ToolIndex, search: ToolSearch
) -> None:
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        for start in range(0, len(TOOLS), 50):
            tasks.create_task(index.put(TOOLS[start : start + 50]))
            tasks.create_task(index.put(TOOLS[start : start + 50]))

    assert await pool.fetchval("select count(*) from tool_search_documents") == len(TOOLS)
    assert (await search.search(["something with dogs"]))[0].cosine is not None
