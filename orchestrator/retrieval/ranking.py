"""Scores of legs into one list: reciprocal ranks, summed over legs and parts.

Ranks and not scores are added, since the scores of different legs cannot be
compared. What comes out says who is first, not whether anyone fits: that is
said by the cosine alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.retrieval.inverted import BM25, Floats


class Leg(StrEnum):
    """A way to find a tool."""

    VECTOR = "vector"
    LEXICAL = "lexical"
    NGRAMS = "ngrams"


_BM25 = BM25(k1=1.5, b=0.75)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The constants of the search; how they were chosen stands in docs/tool_search.md."""

    bm25: BM25 = _BM25
    heading: float = 3.0
    """How many times a word of the name or of an alias counts."""
    shortest_ngram: int = 3
    longest_ngram: int = 4
    lexical: float = 1.0
    ngrams: float = 0.75
    spelling_vector: float = 0.3
    """Of an embedder that compares spelling, as the words do already."""
    meaning_vector: float = 2.0
    rrf_k: float = 3.0
    share: float = 1.0
    """How much less a short part counts: its stems, as a share of the longest part's, to this power."""
    depth: int = 200
    """How many of each leg's best have a rank."""
    min_cosine: float = 0.0
    """When not even the nearest tool is this near, none fits; 0 refuses nothing."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tool that was found. `ranks` are its best of any part; `cosine` is None without a vector leg."""

    version_id: str
    score: float
    cosine: float | None
    ranks: Mapping[Leg, int]


class Fusion:
    """Sums reciprocal ranks of tools (by their place in the corpus)."""

    def __init__(self, tools: int, k: float, depth: int) -> None:
        self._k = k
        self._depth = depth
        self._scores = np.zeros(tools)
        self._lists: list[tuple[Leg, NDArray[np.intp]]] = []

    def add(self, leg: Leg, weight: float, scores: Floats) -> None:
        """Add one leg's scores for one part; tools without a positive score get nothing."""
        best = _best(scores, self._depth)
        if weight > 0:
            self._scores[best] += weight / (self._k + np.arange(1, len(best) + 1))
            self._lists.append((leg, best))

    def ranked(self, version_ids: Sequence[str], cosines: Floats | None, top_k: int) -> list[Candidate]:
        """The best tools; equal scores are ordered by version id."""
        top: list[int] = _best(self._scores, top_k).tolist()
        ranks = self._ranks(top)
        return [
            Candidate(
                version_id=version_ids[place],
                score=round(float(self._scores[place]), 9),
                cosine=None if cosines is None else round(float(cosines[place]), 6),
                ranks=ranks[place],
            )
            for place in top
        ]

    def _ranks(self, places: Sequence[int]) -> dict[int, dict[Leg, int]]:
        """The best rank of each place in each leg."""
        ranks: dict[int, dict[Leg, int]] = {place: {} for place in places}
        for leg, best in self._lists:
            rank_of = {place: rank for rank, place in enumerate(best.tolist(), start=1)}
            for place in places:
                if place in rank_of:
                    ranks[place][leg] = min(rank_of[place], ranks[place].get(leg, rank_of[place]))
        return ranks


def _best(scores: NDArray[np.floating[Any]], depth: int) -> NDArray[np.intp]:
    """The places with the highest positive scores, best first; equal ones by place."""
    places = np.flatnonzero(scores > 0)
    values = scores[places]
    if len(places) > depth:
        # Zeros are left out first: a partition of many equal numbers is slow.
        near = values >= np.partition(values, -depth)[-depth]
        places, values = places[near], values[near]
    return places[np.argsort(-values, kind="stable")][:depth]
