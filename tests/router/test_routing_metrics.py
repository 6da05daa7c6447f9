"""APGR, CPT, cost-quality area and calibration on cases that can be counted by hand."""

import numpy as np
import pytest

from router.routing_metrics import (
    CostQuality,
    compute_area,
    compute_calibration_error,
    compute_cost_quality,
    compute_gap_curve,
    quality_at,
    sweep_prices,
)

WEAK = [0, 0, 1, 1]
STRONG = [1, 1, 1, 1]


def test_sending_the_right_half_first_recovers_the_gap_at_half_the_calls() -> None:
    curve = compute_gap_curve([4, 3, 2, 1], WEAK, STRONG)
    assert curve.recovered.tolist() == [0, 0.5, 1, 1, 1]
    assert curve.apgr == pytest.approx(0.75)
    assert (curve.calls_for(0.5), curve.calls_for(0.8)) == (0.25, 0.5)


def test_equal_scores_are_a_random_choice() -> None:
    assert compute_gap_curve([0, 0, 0, 0], WEAK, STRONG).apgr == pytest.approx(0.5)


def test_leaving_out_what_only_the_weak_gets_right_recovers_more_than_the_gap() -> None:
    curve = compute_gap_curve([3, 2, 1], [0, 0, 1], [1, 1, 0])
    assert curve.recovered.max() == 2


def test_no_gap_is_a_mistake_that_says_so() -> None:
    with pytest.raises(ValueError, match="needs at least 1"):
        compute_gap_curve([1, 2], [1, 1], [1, 1])


def test_prices_move_the_choice_from_the_best_to_the_cheapest() -> None:
    picks = sweep_prices([[0.5, 0.9], [0.5, 0.6]], [1, 10], [0, 0.02, 1])
    assert picks.tolist() == [[1, 1], [1, 0], [0, 0]]
    point = compute_cost_quality(picks[1], [[0, 1], [1, 0]], [1, 10])
    assert (point.cost, point.quality) == (5.5, 1.0)


def test_the_area_mixes_points_and_leaves_out_what_another_beats() -> None:
    points = [CostQuality(0, 0.4), CostQuality(1, 0.8), CostQuality(0.5, 0.3)]
    assert compute_area(points, 0, 1) == pytest.approx(0.6)
    assert quality_at(points, [0.5]).tolist() == pytest.approx([0.6])
    assert quality_at([CostQuality(0.5, 0.9)], [0.4]).tolist() == [0.0]


def test_probabilities_that_come_true_have_no_calibration_error() -> None:
    generator = np.random.default_rng(0)
    predicted = generator.random(20_000)
    assert compute_calibration_error(predicted, generator.random(20_000) < predicted) < 0.02
    assert compute_calibration_error(np.full(100, 0.9), np.zeros(100)) == pytest.approx(0.9)
