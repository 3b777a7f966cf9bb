"""BM25 as its formula says."""

import math

import pytest

from orchestrator.retrieval.inverted import BM25, InvertedIndex, Vocabulary


def _index(*documents: dict[str, float], k1: float = 1.5, b: float = 0.75) -> InvertedIndex:
    vocabulary = Vocabulary()
    return InvertedIndex(vocabulary, [vocabulary.counted(document) for document in documents], BM25(k1, b))


def test_a_score_is_that_of_the_formula() -> None:
    passages = [{"cat": 2.0, "dog": 1.0}, {"dog": 1.0}, {"bird": 4.0}]
    k1, b, average = 1.5, 0.75, 8 / 3

    scores = _index(*passages, k1=k1, b=b).scores({"cat": 1.0, "dog": 0.5, "fish": 1.0})

    def weight(frequency: float, length: float, in_passages: int) -> float:
        idf = math.log(1 + (3 - in_passages + 0.5) / (in_passages + 0.5))
        return idf * frequency * (k1 + 1) / (frequency + k1 * (1 - b + b * length / average))

    assert scores.tolist() == pytest.approx([weight(2, 3, 1) + 0.5 * weight(1, 3, 2), 0.5 * weight(1, 1, 2), 0], 1e-5)


def test_nothing_known_scores_nothing() -> None:
    assert _index({"cat": 1.0}).scores({"dog": 1.0}).tolist() == [0.0]
    assert _index().scores({"dog": 1.0}).tolist() == []
    assert _index({}).scores({"dog": 1.0}).tolist() == [0.0]


def test_an_index_is_not_disturbed_by_terms_that_came_later() -> None:
    """A search may still run on the old revision while the next one is built."""
    vocabulary = Vocabulary()
    old = InvertedIndex(vocabulary, [vocabulary.counted({"cat": 1.0})], BM25(1.5, 0.75))
    vocabulary.counted({"dog": 1.0})

    assert old.scores({"dog": 1.0}).tolist() == [0.0]
    assert old.scores({"cat": 1.0})[0] > 0
