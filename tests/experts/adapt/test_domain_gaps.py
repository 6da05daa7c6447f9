"""Domains are drawn by how far the student is behind, smoothed, and none is given up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.adapt.domain_gaps import DomainGap, plan_weights, share_evenly

EVEN = {"law": 0.5, "sea": 0.5}


def test_a_gap_is_the_ratio_of_the_perplexities() -> None:
    assert DomainGap(student_loss=math.log(6), teacher_loss=math.log(2)).ratio == pytest.approx(3)


def test_a_domain_is_drawn_in_proportion_to_its_gap() -> None:
    gaps = {"law": DomainGap(math.log(6), math.log(2)), "sea": DomainGap(math.log(5), math.log(5))}
    assert plan_weights(gaps, EVEN, smoothing=0, even_share=0) == pytest.approx({"law": 0.75, "sea": 0.25})


def test_smoothing_keeps_a_part_of_the_weights_before() -> None:
    gaps = {"law": DomainGap(math.log(6), math.log(2)), "sea": DomainGap(math.log(5), math.log(5))}
    before = {"law": 0.1, "sea": 0.9}
    assert plan_weights(gaps, before, smoothing=0.6, even_share=0) == pytest.approx({"law": 0.36, "sea": 0.64})


def test_a_domain_that_has_caught_up_keeps_its_part_of_the_even_share() -> None:
    gaps = {"law": DomainGap(30.0, 0.0), "sea": DomainGap(0.1, 0.1)}
    weights = plan_weights(gaps, EVEN, smoothing=0, even_share=0.2)
    assert weights["sea"] == pytest.approx(0.1)


def test_weights_settle_where_the_gaps_stay_as_they_are() -> None:
    gaps = {"law": DomainGap(math.log(3), 0.0), "sea": DomainGap(0.0, 0.0)}
    weights = share_evenly(gaps)
    for _ in range(40):
        weights = plan_weights(gaps, weights, smoothing=0.5, even_share=0)
    assert weights == pytest.approx({"law": 0.75, "sea": 0.25})


@given(
    st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000)), min_size=1, max_size=6),
    st.floats(0, 0.99),
    st.floats(0, 1),
)
def test_weights_are_shares_whatever_the_losses(
    losses: list[tuple[float, float]], smoothing: float, even_share: float
) -> None:
    gaps = {f"domain-{place}": DomainGap(*pair) for place, pair in enumerate(losses)}
    weights = plan_weights(gaps, share_evenly(gaps), smoothing, even_share)
    assert sum(weights.values()) == pytest.approx(1)
    assert all(weight >= 0 for weight in weights.values())
