"""An inverted index with BM25 weights, read-only once built; exact.

Weights are those of the corpus it was built from, so that a query only adds
numbers: the postings of its terms, summed by document. Terms are numbers of a
`Vocabulary` that outlives the index, which makes building the next one a
matter of arrays.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BM25:
    """How fast repetition saturates, and how much a long document is held against it."""

    k1: float
    b: float


@dataclass(frozen=True, slots=True)
class Counted:
    """The terms of a document and how often each occurs."""

    terms: NDArray[np.int32]
    frequencies: Floats


class Vocabulary:
    """Numbers for terms. It only grows: a term keeps its number while the process lives."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def counted(self, frequencies: Mapping[str, float]) -> Counted:
        """The terms of a document by their numbers, new ones added."""
        numbers = self._numbers
        terms = [numbers.setdefault(term, len(numbers)) for term in frequencies]
        return Counted(np.array(terms, dtype=np.int32), np.array([*frequencies.values()], dtype=np.float32))

    def known(self, terms: Iterable[str], below: int) -> list[int]:
        """The numbers of those terms that an index of `below` terms can have."""
        return [number for term in terms if (number := self._numbers.get(term, below)) < below]

    def __len__(self) -> int:
        return len(self._numbers)


class InvertedIndex:
    """Documents by term."""

    def __init__(self, vocabulary: Vocabulary, documents: Sequence[Counted], bm25: BM25) -> None:
        """Build from the (weighted) term frequencies of each document."""
        self._vocabulary = vocabulary
        self._terms = len(vocabulary)
        self._count = len(documents)
        rows = np.repeat(np.arange(self._count), [len(document.terms) for document in documents])
        term = np.concatenate([np.zeros(0, np.int32), *(document.terms for document in documents)])
        frequency = np.concatenate([np.zeros(0), *(document.frequencies for document in documents)])
        by_term = np.argsort(term, kind="stable")
        in_documents = np.bincount(term, minlength=self._terms)
        self._starts: list[int] = np.concatenate(([0], np.cumsum(in_documents))).tolist()
        self._rows = rows[by_term]
        length = np.bincount(rows, weights=frequency, minlength=self._count)
        relative = length / (length.mean() or 1.0) if self._count else length
        rarity = np.log1p((self._count - in_documents + 0.5) / (in_documents + 0.5))
        damping = bm25.k1 * (1.0 - bm25.b + bm25.b * relative)
        weights = frequency * (bm25.k1 + 1.0) / (frequency + damping[rows]) * rarity[term]
        self._weights = weights[by_term]

    def scores(self, terms: Mapping[str, float]) -> Floats:
        """The score of every document for the weighted terms of a query; zero where none occurs."""
        scores = np.zeros(self._count)
        by_weight: dict[float, list[str]] = {}
        # Sorted by term, so that every process adds in the same order.
        for term in sorted(terms):
            by_weight.setdefault(terms[term], []).append(term)
        for weight, said in sorted(by_weight.items()):
            known = self._vocabulary.known(said, self._terms)
            if known:
                spans = [slice(self._starts[number], self._starts[number + 1]) for number in known]
                rows = np.concatenate([self._rows[span] for span in spans])
                weights = np.concatenate([self._weights[span] for span in spans])
                scores += weight * np.bincount(rows, weights=weights, minlength=self._count)
        return scores.astype(np.float32)
