"""Routing metrics: how much of a stronger variant's quality a choice keeps, and at what share of its calls or cost.

APGR and CPT are RouteLLM's (Ong et al. 2024, arXiv 2406.18665, section 3); the cost-quality area of several variants is
RouterBench's average improvement in quality (Hu et al. 2024, arXiv 2403.12031, section 4), here over costs scaled to
[0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GapCurve:
    """The share of the gap between weak and strong that is recovered (PGR), at k / n strong calls for k = 0 .. n."""

    recovered: Values

    @property
    def apgr(self) -> float:
        """Average of PGR over the share of strong calls: 0.5 for a random choice, above 1 where weak is right too."""
        return float(np.trapezoid(self.recovered, dx=1 / (len(self.recovered) - 1)))

    def calls_for(self, share: float) -> float:
        """CPT: the smallest share of strong calls that recovers `share` of the gap, for example 0.5 or 0.8."""
        reached = self.recovered >= share - 1e-12
        return float(np.argmax(reached) / (len(self.recovered) - 1))


def compute_gap_curve(scores: npt.ArrayLike, weak: npt.ArrayLike, strong: npt.ArrayLike) -> GapCurve:
    """The curve of sending the rows with the highest scores to the strong variant.

    `scores`, `weak` and `strong` (1 where right) have one value per row. Equal scores count as one step with a straight
    line through it, so that their order in the file decides nothing. Raises ValueError where strong is not better.
    """
    score, gain = np.asarray(scores, dtype=np.float64), np.asarray(strong, float) - np.asarray(weak, float)
    total = float(gain.sum())
    if total <= 0:
        raise ValueError(f"strong is right {total:+g} times more often than weak; a gap needs at least 1")
    order = np.argsort(-score, kind="stable")
    _, groups, sizes = np.unique(-score[order], return_inverse=True, return_counts=True)
    tied = np.bincount(groups, weights=gain[order]) / sizes
    return GapCurve(np.concatenate([[0.0], np.cumsum(tied[groups])]) / total)


def compute_calibration_error(predicted: npt.ArrayLike, right: npt.ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over bins of equal count (Guo et al. 2017): 0 where probabilities come true."""
    values, outcome = np.asarray(predicted, dtype=np.float64).ravel(), np.asarray(right, dtype=np.float64).ravel()
    order = np.argsort(values, kind="stable")
    parts = np.array_split(order, bins)
    return float(
        sum(len(part) * abs(values[part].mean() - outcome[part].mean()) for part in parts if len(part)) / len(values)
    )


@dataclass(frozen=True, slots=True)
class CostQuality:
    """What one way of choosing costs and gets right, on average over the rows."""

    cost: float
    quality: float


def compute_cost_quality(picks: npt.ArrayLike, right: npt.ArrayLike, costs: npt.ArrayLike) -> CostQuality:
    """The point of a choice: `picks` is a variant per row, `right` has shape (rows, variants), `costs` (variants,)."""
    picked, was_right = np.asarray(picks, dtype=np.int64), np.asarray(right, dtype=np.float64)
    return CostQuality(
        float(np.asarray(costs, dtype=np.float64)[picked].mean()),
        float(was_right[np.arange(len(picked)), picked].mean()),
    )


def sweep_prices(predicted: npt.ArrayLike, costs: npt.ArrayLike, prices: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The variant per price and row that maximises predicted quality minus price times cost; shape (prices, rows)."""
    values, cost = np.asarray(predicted, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    return np.stack([np.argmax(values - price * cost, axis=1) for price in np.asarray(prices, dtype=np.float64)])


def compute_area(points: Sequence[CostQuality], lowest: float, highest: float) -> float:
    """Mean quality over all cost budgets in [lowest, highest], budgets between two points mixed from both.

    Below the cheapest point the quality is 0; above the best one it stays. Raises ValueError without a budget range.
    """
    if not lowest < highest:
        raise ValueError(f"budgets from {lowest:g} to {highest:g} are no range")
    budgets = np.linspace(lowest, highest, 2001)
    quality = quality_at(points, budgets)
    return float(np.trapezoid(quality, budgets) / (highest - lowest))


def quality_at(points: Sequence[CostQuality], budgets: npt.ArrayLike) -> Values:
    """The best quality that mixing `points` reaches at each mean cost; 0 below the cheapest point."""
    hull = _upper_hull(points)
    wanted = np.asarray(budgets, dtype=np.float64)
    costs, qualities = np.array([point.cost for point in hull]), np.array([point.quality for point in hull])
    return np.where(wanted < costs[0] - 1e-12, 0.0, np.interp(wanted, costs, qualities))


def _upper_hull(points: Sequence[CostQuality]) -> list[CostQuality]:
    """The non-decreasing concave hull of points, cheapest first (Andrew's monotone chain)."""
    hull: list[CostQuality] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.quality)):
        if hull and point.quality <= hull[-1].quality:
            continue
        while len(hull) >= 2 and _slope(hull[-2], point) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(first: CostQuality, second: CostQuality) -> float:
    return (second.quality - first.quality) / max(second.cost - first.cost, 1e-12)
