"""How two rankings become one."""

import numpy as np
import pytest

from retrieval.hybrid import JudgedQuery, fit_dense_weight, fuse_ranks, merge_rankings, observe_ndcg
from retrieval.ranking import Ranking


def ranking(**scores: float) -> Ranking:
    """Rows r0, r1, … with their scores, best first as given."""
    return (
        np.array(list(scores.values()), dtype=np.float32),
        np.array([int(row[1:]) for row in scores], dtype=np.int64),
    )


EMPTY = ranking()


def test_reciprocal_rank_prefers_what_both_sides_found() -> None:
    scores, rows = fuse_ranks(ranking(r1=0.9, r2=0.8), ranking(r3=20.0, r2=3.0), None, 3)
    assert rows.tolist() == [2, 1, 3]
    assert scores.tolist() == pytest.approx([2 / 62, 1 / 61, 1 / 61])


def test_a_weight_of_one_side_only_is_that_sides_order() -> None:
    dense, lexical = ranking(r1=0.9, r2=0.8), ranking(r2=20.0, r1=3.0)
    assert fuse_ranks(dense, lexical, 1.0, 2)[1].tolist() == [1, 2]
    assert fuse_ranks(dense, lexical, 0.0, 2)[1].tolist() == [2, 1]


def test_scores_are_weighted_as_parts_of_the_highest() -> None:
    scores, rows = fuse_ranks(ranking(r1=0.8, r2=0.4), ranking(r2=10.0), 0.5, 2)
    assert rows.tolist() == [2, 1]
    assert scores.tolist() == pytest.approx([0.75, 0.5])


@pytest.mark.parametrize("weight", [None, 0.5])
def test_one_side_without_hits_leaves_the_other(weight: float | None) -> None:
    assert fuse_ranks(ranking(r4=0.5, r2=0.1), EMPTY, weight, 5)[1].tolist() == [4, 2]
    assert fuse_ranks(EMPTY, ranking(r4=5, r2=1), weight, 1)[1].tolist() == [4]
    assert fuse_ranks(EMPTY, EMPTY, weight, 5)[1].tolist() == []


def test_both_sides_in_any_order_give_each_row_once() -> None:
    rng = np.random.default_rng(0)
    for k in (1, 10, 100):
        sides = [rng.permutation(60)[:40] for _ in range(2)]
        expected: dict[int, float] = {}
        for side in sides:
            for place, row in enumerate(side.tolist(), 61):
                expected[row] = expected.get(row, 0.0) + 1 / place
        dense, lexical = ((np.arange(40, 0, -1, dtype=np.float32), side) for side in sides)
        scores, rows = fuse_ranks(dense, lexical, None, k)
        best = sorted(expected, key=lambda row: (-expected[row], row))[:k]
        assert rows.tolist() == best
        assert scores.tolist() == pytest.approx([expected[row] for row in best])


def test_negative_similarities_count_as_none() -> None:
    assert fuse_ranks(ranking(r1=-0.1), ranking(r2=1.0), 0.5, 2)[0].tolist() == [0.5, 0.0]


def test_merged_rankings_keep_the_order_of_scores_and_number_the_second_after_the_first() -> None:
    scores, rows = merge_rankings(ranking(r0=0.9, r3=0.2), ranking(r0=0.5, r1=0.1), 4, 3)
    assert rows.tolist() == [0, 4, 3]
    assert scores.tolist() == pytest.approx([0.9, 0.5, 0.2])
    assert merge_rankings(ranking(r0=0.9, r3=0.2), EMPTY, 4, 1)[1].tolist() == [0]
    assert merge_rankings(EMPTY, ranking(r0=0.9), 4, 3)[1].tolist() == [4]


def test_ndcg_is_one_for_the_ideal_order_and_discounts_by_place() -> None:
    assert observe_ndcg([1, 2], {1: 2.0, 2: 1.0}) == 1.0
    assert observe_ndcg([3, 1], {1: 1.0}) == pytest.approx(1 / np.log2(3))
    assert observe_ndcg([3], {1: 1.0}) == 0.0
    assert observe_ndcg([], {}) == 0.0


def test_the_weight_fitted_is_that_of_the_side_that_finds_what_is_relevant() -> None:
    right, wrong = ranking(r1=1.0, r2=0.5), ranking(r3=9.0, r2=8.0)
    assert fit_dense_weight([JudgedQuery(right, wrong, {1: 1.0})]) > 0.5
    assert fit_dense_weight([JudgedQuery(wrong, right, {1: 1.0})]) < 0.5
