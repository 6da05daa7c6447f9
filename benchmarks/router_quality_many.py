"""Choosing among five real models per MMLU-Pro question: cost, quality and the share of the gap to the oracle."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality_data import Judged, load_many
from benchmarks.result import summarize
from router.quality_training import fit_quality
from router.routing_metrics import (
    CostQuality,
    compute_area,
    compute_calibration_error,
    compute_cost_quality,
    quality_at,
    sweep_prices,
)

# Cost is the count of active parameters in 10^9, which decides the compute per token; DeepSeek-Coder-V2 holds 236 in
# memory and uses 21. From the models' cards.
COSTS = {
    "mathstral-7B": 7.2,
    "Meta-Llama-3_1-8B-Instruct": 8.0,
    "DeepSeek-Coder-V2": 21.0,
    "Yi-34B": 34.4,
    "Meta-Llama-3_1-70B-Instruct": 70.6,
}
PRICES = np.concatenate([[0.0], np.geomspace(1e-5, 0.1, 300)])
SEEDS = 5
LABELS = (500, 1500, 0)
"""Questions to learn from; 0 is all of the training half."""


def measure_many() -> dict[str, Any]:
    """Half of the questions to learn from, the other half to measure, over seeds."""
    data = load_many(tuple(COSTS))
    half = len(data.texts) // 2
    return {
        "data": "MMLU-Pro, questions that all five models were asked; half to learn from, half held out, split by seed",
        "questions": len(data.texts),
        "cost": "active parameters in 10^9",
        "costs": COSTS,
        "quality": dict(zip(data.models, data.right.mean(axis=0, dtype=np.float64).round(4).tolist(), strict=True)),
        "oracle": round(float(data.right.max(axis=1).mean()), 4),
        "seeds": SEEDS,
        "by_labels": {str(labels or half): _measure(data, labels or half) for labels in LABELS},
        "category_mean": _measure(data, half, by_category=True),
    }


def _measure(data: Judged, labels: int, by_category: bool = False) -> dict[str, Any]:
    costs = np.array(list(COSTS.values()))
    runs: list[dict[str, float]] = []
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(data.texts))
        half = len(order) // 2
        learn, held = order[:labels], order[half:]
        right = data.right[held]
        if by_category:
            predicted = _category_means(data, learn, held)
        else:
            model = fit_quality(data.raw[learn], data.right[learn], data.models)
            odds = model.scale_features(data.raw[held]) @ model.weights + model.bias
            predicted = 1 / (1 + np.exp(-odds))
        points = [compute_cost_quality(picks, right, costs) for picks in sweep_prices(predicted, costs, PRICES)]
        singles = [CostQuality(float(cost), float(right[:, at].mean())) for at, cost in enumerate(costs)]
        runs.append(_compare(points, singles, float(right.max(axis=1).mean())))
        runs[-1]["calibration_error"] = compute_calibration_error(predicted, right)
    return {name: summarize([run[name] for run in runs]) for name in runs[0]}


def _compare(points: Sequence[CostQuality], singles: Sequence[CostQuality], oracle: float) -> dict[str, float]:
    """One split's figures; the router never mixes, the single models may be mixed at random."""
    best = max(singles, key=lambda point: point.quality)
    small = next(point for point in singles if point.cost == COSTS["DeepSeek-Coder-V2"])
    at_best, at_small = _within(points, best.cost), _within(points, small.cost)
    lowest, highest = min(point.cost for point in singles), max(point.cost for point in singles)
    budgets = np.linspace(lowest, highest, 500)
    cheapest = min((point.cost for point in points if point.quality >= best.quality), default=float("nan"))
    return {
        "best_single": best.quality,
        "at_equal_cost": at_best.quality,
        "gain_at_equal_cost": at_best.quality - best.quality,
        "gap_to_oracle_share": (at_best.quality - best.quality) / (oracle - best.quality),
        "cost_at_equal_cost": at_best.cost,
        "deepseek_single": small.quality,
        "at_deepseek_cost": at_small.quality,
        "single_or_mix_at_deepseek_cost": float(quality_at(singles, [small.cost])[0]),
        "cost_of_best_singles_quality": cheapest,
        "cost_quality_area": float(np.mean([_within(points, budget).quality for budget in budgets])),
        "cost_quality_area_singles_mixed": compute_area(singles, lowest, highest),
    }


def _within(points: Sequence[CostQuality], budget: float) -> CostQuality:
    """The point that spends most within a budget: chosen by cost alone, never by held-out quality."""
    affordable = [point for point in points if point.cost <= budget + 1e-9]
    cheapest = min(points, key=lambda point: point.cost)
    return max(affordable, key=lambda point: point.cost) if affordable else CostQuality(cheapest.cost, 0.0)


def _category_means(data: Judged, learn: npt.NDArray[np.int64], held: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The contender that knows each question's category, which serving does not: its mean per model, smoothed."""
    groups = np.array(data.groups)
    overall = data.right[learn].mean(axis=0).astype(np.float64)
    means: dict[str, npt.NDArray[np.float64]] = {}
    for group in set(data.groups):
        rows = data.right[learn][groups[learn] == group]
        means[group] = (rows.sum(axis=0) + 10 * overall) / (len(rows) + 10)
    return np.stack([means[group] for group in groups[held]])
