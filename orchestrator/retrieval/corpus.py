"""The index as a process searches it: the whole of one revision, in memory.

Built from Postgres and nothing else, exact, replaced as a whole when the
stored revision has moved on. Only changed documents are read again; weights
that depend on the whole corpus are computed anew, in a thread.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np

from orchestrator.retrieval import statements as sql
from orchestrator.retrieval.inverted import Counted, Floats, InvertedIndex, Vocabulary
from orchestrator.retrieval.ngrams import counted
from orchestrator.retrieval.ranking import Ranking

_BLOCK = 512


@dataclass(frozen=True, slots=True)
class _Document:
    """A tool version, the features of all its texts counted once."""

    revision: int
    passages: int
    lexemes: Counted
    ngrams: Counted


@dataclass(frozen=True, slots=True)
class _Vocabularies:
    """The numbers of stems and of n-grams, shared by all revisions of a process."""

    lexemes: Vocabulary
    ngrams: Vocabulary


class Corpus:
    """One revision. Scores are given by tool, in the order of `version_ids`."""

    def __init__(
        self,
        revision: int,
        model: str | None,
        documents: Mapping[str, _Document],
        vectors: Mapping[str, Mapping[int, Floats]],
        ranking: Ranking,
        vocabularies: _Vocabularies,
    ) -> None:
        """Build it: computing, to be done in a thread."""
        self.revision = revision
        self.model = model
        self.documents = documents
        self.vectors = vectors
        self.version_ids = sorted(documents)
        self.places = {version_id: place for place, version_id in enumerate(self.version_ids)}
        ordered = [documents[version_id] for version_id in self.version_ids]
        self._starts = np.cumsum([0, *(document.passages for document in ordered)])[:-1]
        self._single = all(document.passages == 1 for document in ordered)
        self._lexical = InvertedIndex(vocabularies.lexemes, [document.lexemes for document in ordered], ranking.bm25)
        self._ngrams = InvertedIndex(vocabularies.ngrams, [document.ngrams for document in ordered], ranking.bm25)
        self._matrix = self._stacked(vectors)

    def lexical(self, lexemes: Mapping[str, float]) -> Floats:
        """BM25 over stems."""
        return self._lexical.scores(lexemes)

    def ngrams(self, ngrams: Mapping[str, float]) -> Floats:
        """BM25 over character n-grams."""
        return self._ngrams.scores(ngrams)

    def cosines(self, vectors: Floats) -> Floats:
        """The cosine of each query vector (rows) to each tool's nearest passage (columns); zero without a vector."""
        if self._matrix is None or self._matrix.shape[1] != vectors.shape[1]:
            return np.zeros((len(vectors), len(self.version_ids)), dtype=np.float32)
        scores = np.empty((len(vectors), len(self._matrix)), dtype=np.float32)
        # Block by block, so that a block is in the processor's cache for every vector after the first; and one
        # product a vector, since of a matrix with few rows BLAS makes a slow one whose digits depend on the others.
        for start in range(0, len(self._matrix), _BLOCK):
            block = self._matrix[start : start + _BLOCK]
            for row, vector in zip(scores, vectors, strict=True):
                np.dot(block, vector, out=row[start : start + _BLOCK])
        return scores if self._single else np.maximum.reduceat(scores, self._starts, axis=1)

    def _stacked(self, vectors: Mapping[str, Mapping[int, Floats]]) -> Floats | None:
        some = next((vector for of_tool in vectors.values() for vector in of_tool.values()), None)
        if some is None:
            return None
        nothing = np.zeros(len(some), dtype=np.float32)
        return np.stack(
            [
                vectors.get(version_id, {}).get(number, nothing)
                for version_id in self.version_ids
                for number in range(self.documents[version_id].passages)
            ]
        )


class CorpusReader:
    """Keeps the corpus of the newest revision that a caller has seen."""

    def __init__(self, pool: "asyncpg.Pool[Any]", ranking: Ranking) -> None:
        self._pool = pool
        self._ranking = ranking
        self._vocabularies = _Vocabularies(Vocabulary(), Vocabulary())
        self._corpus: Corpus | None = None
        self._reading = asyncio.Lock()

    async def at_least(self, revision: int) -> Corpus:
        """The corpus of this revision or of a later one; read from the store when ours is older."""
        if self._corpus is None or self._corpus.revision < revision:
            async with self._reading:
                if self._corpus is None or self._corpus.revision < revision:
                    self._corpus = await self._read(self._corpus)
        return self._corpus

    async def _read(self, old: Corpus | None) -> Corpus:
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            revision = await connection.fetchval(sql.REVISION)
            stored = dict(await connection.fetch(sql.DOCUMENTS))
            models = await connection.fetch(sql.MODELS)
            model = next((row["model"] for row in models if row["state"] == "serving"), None)
            known = old.documents if old else {}
            changed = [v for v, at in stored.items() if v not in known or known[v].revision != at]
            rows = await connection.fetch(sql.PASSAGES, changed)
            same_model = old is not None and old.model == model
            # Without all their vectors they are read again: a later `reindex` may have added them.
            bare = [v for v in stored if same_model and v in known and not _has_all(old, v)]
            wanted = [*dict.fromkeys([*changed, *bare])] if same_model else [*stored]
            packed = await connection.fetch(sql.VECTORS, model, wanted)
        return await asyncio.to_thread(self._built, old, revision, model, stored, rows, packed, same_model)

    def _built(
        self,
        old: Corpus | None,
        revision: int,
        model: str | None,
        stored: Mapping[str, int],
        rows: Sequence[Any],
        packed: Sequence[Any],
        same_model: bool,
    ) -> Corpus:
        passages: dict[str, list[Any]] = {}
        for row in rows:
            passages.setdefault(row["version_id"], []).append(row)
        fresh = {version_id: self._document(stored[version_id], found) for version_id, found in passages.items()}
        known = old.documents if old else {}
        documents = {version_id: fresh.get(version_id) or known[version_id] for version_id in stored}
        read: dict[str, dict[int, Floats]] = {}
        for row in packed:
            read.setdefault(row["version_id"], {})[row["number"]] = _unpacked(row["numbers"])
        vectors: dict[str, Mapping[int, Floats]] = {**read}
        if old is not None and same_model:
            for version_id in documents.keys() - fresh.keys() - vectors.keys():
                vectors[version_id] = old.vectors.get(version_id, {})
        return Corpus(revision, model, documents, vectors, self._ranking, self._vocabularies)

    def _document(self, revision: int, rows: Sequence[Any]) -> _Document:
        ranking = self._ranking
        lexemes: dict[str, float] = {}
        words: list[tuple[str, float]] = []
        for row in rows:
            for lexeme, in_heading, in_body in zip(row["lexemes"], row["in_heading"], row["in_body"], strict=True):
                lexemes[lexeme] = lexemes.get(lexeme, 0.0) + ranking.heading * in_heading + in_body
            words += [(word, ranking.heading) for word in row["heading"].split()]
            words += [(word, 1.0) for word in row["body"].split()]
        ngrams = counted(words, ranking.shortest_ngram, ranking.longest_ngram)
        numbers = self._vocabularies
        return _Document(revision, len(rows), numbers.lexemes.counted(lexemes), numbers.ngrams.counted(ngrams))


def _has_all(corpus: Corpus | None, version_id: str) -> bool:
    return corpus is not None and len(corpus.vectors.get(version_id, {})) == corpus.documents[version_id].passages


def _unpacked(sent: bytes) -> Floats:
    """The numbers of pgvector's binary form: two 16-bit words, then big-endian floats."""
    return np.frombuffer(sent, dtype=">f4", offset=4).astype(np.float32)
