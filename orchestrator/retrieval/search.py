"""Find the tools for a request. The `ToolSearchService` of the roadmap.

Three legs (vectors, stems, character n-grams) rank the tools for every part of
the request, and the ranks are fused. One round trip to Postgres a search tells
which revision is current and stems the parts; the scan itself is exact, in
memory, in a thread. Chooses nothing: policy, rules and the cap are
`selection.py`.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np
import structlog

from orchestrator.retrieval import statements as sql
from orchestrator.retrieval.corpus import Corpus, CorpusReader
from orchestrator.retrieval.embedding import CachedEmbedding, EmbeddingProvider, EmbeddingUnavailable
from orchestrator.retrieval.hashed import HashedEmbedding
from orchestrator.retrieval.inverted import Floats
from orchestrator.retrieval.ngrams import heaviest
from orchestrator.retrieval.ranking import Candidate, Fusion, Leg, Ranking
from orchestrator.retrieval.text import normalised, script_of, text_config
from orchestrator.retrieval.weak_words import WEAK, weighted_words, without_weak_words

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Query:
    """One part of a request: its stems, and its vector where the embedder understands its script."""

    text: str
    weight: float
    lexemes: Mapping[str, float]
    vector: Sequence[float] | None


class ToolSearch:
    """Reads of the index.

    `embedders` are those that this process has; the one whose vectors serve is
    used, and without it the search goes on by words alone.
    """

    def __init__(
        self, pool: "asyncpg.Pool[Any]", embedders: Sequence[EmbeddingProvider], ranking: Ranking | None = None
    ) -> None:
        self._pool = pool
        self._ranking = ranking or Ranking()
        self._embedders = {embedder.name: CachedEmbedding(embedder) for embedder in embedders}
        self._weights = {embedder.name: self._vector_weight(embedder) for embedder in embedders}
        self._corpora = CorpusReader(pool, self._ranking)

    async def search(
        self, parts: Sequence[str], allowed: Collection[str] | None = None, top_k: int = 10
    ) -> list[Candidate]:
        """The best tools for these parts, at most `top_k`; none when nothing fits.

        `allowed` are the version ids that may be found at all; None allows every one.
        """
        asked = sorted({part for part in parts if normalised(part)})
        if not asked or top_k < 1:
            return []
        forms = [normalised(part) for part in asked]
        said = [without_weak_words(form) for form in forms]
        rows = await self._pool.fetch(sql.QUERY, said, forms, [text_config(form) for form in forms])
        corpus = await self._corpora.at_least(rows[0]["revision"])
        lexemes: list[dict[str, float]] = [{} for _ in asked]
        for row in rows:
            if row["lexeme"] is not None:
                lexemes[row["number"] - 1][row["lexeme"]] = 1.0 if row["says"] else WEAK
        vectors = await self._vectors(asked, corpus.model)
        longest = max(1.0, *(sum(stems.values()) for stems in lexemes))
        queries = [
            _Query(part, (max(1.0, sum(stems.values())) / longest) ** self._ranking.share, stems, vectors.get(part))
            for part, stems in zip(asked, lexemes, strict=True)
        ]
        return await asyncio.to_thread(self._ranked, corpus, queries, allowed, top_k)

    async def _vectors(self, parts: Sequence[str], model: str | None) -> Mapping[str, list[float]]:
        """The vectors of those parts whose script the serving model's embedder understands."""
        embedder = self._embedders.get(model or "")
        if embedder is None:
            return {}
        understood = [part for part in parts if script_of(part) in embedder.scripts]
        try:
            return dict(zip(understood, await embedder.encode(understood), strict=True)) if understood else {}
        except EmbeddingUnavailable as exc:
            log.warning("tool_search_without_vectors", model=model, reason=exc.message)
            return {}

    def _ranked(
        self, corpus: Corpus, queries: Sequence[_Query], allowed: Collection[str] | None, top_k: int
    ) -> list[Candidate]:
        mask = _mask(corpus, allowed)
        fusion = Fusion(len(corpus.version_ids), self._ranking.rrf_k, self._ranking.depth)
        for query in queries:
            weight = query.weight
            fusion.add(Leg.LEXICAL, weight * self._ranking.lexical, corpus.lexical(query.lexemes) * mask)
            words = weighted_words(normalised(query.text))
            ngrams = heaviest(words, self._ranking.shortest_ngram, self._ranking.longest_ngram)
            fusion.add(Leg.NGRAMS, weight * self._ranking.ngrams, corpus.ngrams(ngrams) * mask)
        with_vector = [query for query in queries if query.vector is not None]
        nearest: Floats | None = None
        if with_vector and corpus.model is not None:
            vectors = np.array([query.vector for query in with_vector], dtype=np.float32)
            cosines = corpus.cosines(vectors) * mask
            for query, scores in zip(with_vector, cosines, strict=True):
                fusion.add(Leg.VECTOR, query.weight * self._weights[corpus.model], scores)
            nearest = np.asarray(cosines.max(axis=0))
            if float(cosines.max(initial=0.0)) < self._ranking.min_cosine:
                return []
        return fusion.ranked(corpus.version_ids, nearest, top_k)

    def _vector_weight(self, embedder: EmbeddingProvider) -> float:
        hashed = isinstance(embedder, HashedEmbedding)
        return self._ranking.spelling_vector if hashed else self._ranking.meaning_vector


def _mask(corpus: Corpus, allowed: Collection[str] | None) -> Floats:
    """One for each tool that may be found, zero for the others."""
    if allowed is None:
        return np.ones(len(corpus.version_ids), dtype=np.float32)
    mask = np.zeros(len(corpus.version_ids), dtype=np.float32)
    mask[[corpus.places[version_id] for version_id in allowed if version_id in corpus.places]] = 1.0
    return mask
