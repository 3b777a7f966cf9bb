"""The stored index of the tool search: who writes it, and how it changes its model.

Postgres holds all of it: documents, their stems, and the vectors of each model
in a table keyed by model. Every write takes the same row and raises its
revision, by which readers (`corpus.py`) see that they are behind. A model that
is being built gets the vectors of new documents beside the serving one, so
that the switch, which is one transaction, loses nothing.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import asyncpg
import structlog

from maruntime.errors import NotFound
from orchestrator.retrieval import statements as sql
from orchestrator.retrieval.documents import Passage, ToolDocument
from orchestrator.retrieval.embedding import EmbeddingProvider, EmbeddingUnavailable
from orchestrator.retrieval.text import normalised, text_config

log = structlog.get_logger()

_BATCH = 128

Connection = Any
"""A connection of the pool or a bare one: asyncpg gives them no common type."""


class ModelState(StrEnum):
    """What an embedding model is to the index."""

    BUILDING = "building"
    SERVING = "serving"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class IndexedModel:
    """How far the index of a model is."""

    model: str
    dimension: int
    state: ModelState
    done: int
    total: int
    updated_at: datetime


class UnknownEmbedder(NotFound):
    """This process has no such embedding model."""

    code = "unknown_embedder"


Progress = Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Text:
    """A passage on its way into the store."""

    version_id: str
    number: int
    passage: Passage

    @property
    def key(self) -> tuple[str, int]:
        return self.version_id, self.number


class ToolIndex:
    """Writes of the index.

    The first of `embedders` serves an index that has no model yet; another one
    takes over by `reindex`.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", embedders: Sequence[EmbeddingProvider]) -> None:
        self._pool = pool
        self._embedders = {embedder.name: embedder for embedder in embedders}
        self._first = embedders[0]

    async def put(self, documents: Iterable[ToolDocument]) -> None:
        """Add documents, or replace those of the same versions.

        A provider that does not answer stops nothing: the documents are found
        by their words, and the next `reindex` of its model adds the vectors.
        """
        by_version = {document.version_id: document for document in documents}
        texts = [
            _Text(version_id, number, passage)
            for version_id, document in by_version.items()
            for number, passage in enumerate(document.passages())
        ]
        await self._pool.execute(sql.ADD_MODEL, self._first.name, self._first.dimension)
        vectors = {name: await self._vectors(name, texts) for name in await self._current_models()}
        async with self._pool.acquire() as connection, connection.transaction():
            revision = await connection.fetchval(sql.TAKE_REVISION)
            await connection.fetch(sql.DELETE_DOCUMENTS, [*by_version])
            await connection.execute(sql.INSERT_DOCUMENTS, [*by_version], revision)
            await connection.execute(sql.INSERT_PASSAGES, *_columns(texts))
            for model, found in vectors.items():
                await _insert_vectors(
                    connection, model, [(text.key, text.passage.embedded, found[text.key]) for text in texts if found]
                )
                await connection.fetchrow(sql.PROGRESS, model)

    async def remove(self, version_ids: Iterable[str]) -> None:
        """Forget versions; those that are not there do no harm."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchval(sql.TAKE_REVISION)
            await connection.fetch(sql.DELETE_DOCUMENTS, [*version_ids])

    async def reindex(self, model: str, progress: Progress | None = None) -> None:
        """Give every passage its vector by `model`, then let it serve in place of the current one.

        The current one serves until then. Called again after a failure it goes
        on where it stopped; for the serving model it adds what is missing.

        Raises:
            UnknownEmbedder: no provider of that name was given to this process.
            EmbeddingUnavailable: the provider gave up; nothing was switched.
        """
        embedder = self._embedder(model)
        await self._pool.fetchval(sql.BUILD_MODEL, model, embedder.dimension)
        while not await self._switched(model):
            while batch := await self._pool.fetch(sql.MISSING, model, _BATCH):
                numbers = await embedder.encode([row["embedded"] for row in batch])
                rows = [
                    ((row["version_id"], row["number"]), row["embedded"], vector)
                    for row, vector in zip(batch, numbers, strict=True)
                ]
                async with self._pool.acquire() as connection:
                    await _insert_vectors(connection, model, rows)
                    counted = await connection.fetchrow(sql.PROGRESS, model)
                if progress is not None and counted is not None:
                    await progress(counted["done"], counted["total"])
        log.info("tool_index_switched", model=model)

    async def models(self) -> list[IndexedModel]:
        """Every model that has or had a part of the index, by name."""
        return [
            IndexedModel(**{**row, "state": ModelState(row["state"])}) for row in await self._pool.fetch(sql.MODELS)
        ]

    async def _switched(self, model: str) -> bool:
        """Whether the model serves now; not as long as a passage waits for its vector."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchval(sql.TAKE_REVISION)
            if await connection.fetch(sql.MISSING, model, 1):
                return False
            await connection.execute(sql.RETIRE, model)
            await connection.execute(sql.SERVE, model)
            await connection.fetchrow(sql.PROGRESS, model)
            await connection.execute(sql.DROP_RETIRED)
            return True

    async def _current_models(self) -> list[str]:
        """The models whose vectors a new document needs, as far as this process has them."""
        models = [model for model in await self.models() if model.state is not ModelState.RETIRED]
        return [model.model for model in models if model.model in self._embedders]

    async def _vectors(self, model: str, texts: Sequence[_Text]) -> dict[tuple[str, int], list[float]]:
        try:
            vectors = await self._embedders[model].encode([text.passage.embedded for text in texts])
        except EmbeddingUnavailable as exc:
            log.warning("tool_vectors_missing", model=model, reason=exc.message, passages=len(texts))
            return {}
        return {text.key: vector for text, vector in zip(texts, vectors, strict=True)}

    def _embedder(self, model: str) -> EmbeddingProvider:
        if model not in self._embedders:
            raise UnknownEmbedder(model=model)
        return self._embedders[model]


async def _insert_vectors(
    connection: Connection, model: str, rows: Sequence[tuple[tuple[str, int], str, list[float]]]
) -> None:
    await connection.executemany(sql.INSERT_VECTOR, [(model, *key, text, vector) for key, text, vector in rows])


def _columns(texts: Sequence[_Text]) -> tuple[list[Any], ...]:
    """The passages as one array per column."""
    headings = [normalised(text.passage.heading) for text in texts]
    bodies = [normalised(text.passage.text) for text in texts]
    return (
        [text.version_id for text in texts],
        [text.number for text in texts],
        headings,
        bodies,
        [text.passage.embedded for text in texts],
        [text_config(f"{heading} {body}") for heading, body in zip(headings, bodies, strict=True)],
    )
