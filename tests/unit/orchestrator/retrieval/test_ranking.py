"""Ranks are fused; scores of legs are never compared."""

import numpy as np

from orchestrator.retrieval.ranking import Fusion, Leg

_IDS = ["a", "b", "c", "d"]


def _scores(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_reciprocal_ranks_are_summed_with_weights() -> None:
    fusion = Fusion(4, k=3, depth=10)
    fusion.add(Leg.LEXICAL, 1.0, _scores(0, 9, 5, 0))
    fusion.add(Leg.VECTOR, 2.0, _scores(0.1, 0, 0.9, 0))

    found = fusion.ranked(_IDS, _scores(0.1, 0, 0.9, 0), 10)

    assert [(hit.version_id, hit.score, dict(hit.ranks)) for hit in found] == [
        ("c", round(2 / 4 + 1 / 5, 9), {Leg.LEXICAL: 2, Leg.VECTOR: 1}),
        ("a", round(2 / 5, 9), {Leg.VECTOR: 2}),
        ("b", round(1 / 4, 9), {Leg.LEXICAL: 1}),
    ]
    assert found[0].cosine == 0.9


def test_the_best_rank_of_several_parts_is_reported() -> None:
    fusion = Fusion(4, k=3, depth=10)
    fusion.add(Leg.LEXICAL, 1.0, _scores(1, 2, 3, 4))
    fusion.add(Leg.LEXICAL, 1.0, _scores(4, 3, 2, 1))

    ranks = {hit.version_id: hit.ranks[Leg.LEXICAL] for hit in fusion.ranked(_IDS, None, 4)}

    assert ranks == {"a": 1, "b": 2, "c": 2, "d": 1}


def test_a_leg_without_weight_says_nothing() -> None:
    fusion = Fusion(4, k=3, depth=10)
    fusion.add(Leg.VECTOR, 0.0, _scores(1, 2, 3, 4))

    assert fusion.ranked(_IDS, None, 4) == []


def test_equal_scores_are_ordered_by_version_id_at_every_cut() -> None:
    fusion = Fusion(4, k=3, depth=2)
    fusion.add(Leg.LEXICAL, 1.0, _scores(1, 1, 1, 1))

    assert [hit.version_id for hit in fusion.ranked(_IDS, None, 4)] == ["a", "b"]
