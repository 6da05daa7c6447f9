"""Claims about tiers: tier 1 settles only what the rows allow, and each decision says why."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.domain_head import LabelScores
from router.ngrams import BUCKETS, hash_chars, hash_words
from router.tiers import Calibration, ScopeGate, Thresholds, choose_thresholds, decide_fast, decide_full

LABELS = ("law", "finance", "weapons")


def scores(*probabilities: float, energy: float = 5.0) -> LabelScores:
    return LabelScores(np.array(probabilities, dtype=np.float32), energy)


def calibration(confidence: list[float], fast: list[bool], full: list[bool]) -> Calibration:
    figures = np.array(confidence, dtype=np.float32)
    ones = np.ones(len(confidence), dtype=np.float32)
    return Calibration(
        figures, ones, np.array(fast), ones, ones, np.array(full), ones, np.ones(len(confidence), dtype=bool)
    )


def test_tier_1_settles_as_far_down_as_the_errors_allow() -> None:
    confidence = [0.9] * 800 + [0.5] * 200
    fast = [True] * 800 + [False] * 200
    chosen = choose_thresholds(calibration(confidence, fast, [True] * 1000), 0.01)
    assert chosen.confidence == pytest.approx(0.9)


def test_fifty_rows_without_an_error_do_not_show_that_tier_1_is_as_good() -> None:
    assert choose_thresholds(calibration([0.99] * 50, [True] * 50, [True] * 50), 0.01).confidence is None
    assert choose_thresholds(calibration([0.99] * 500, [True] * 500, [True] * 500), 0.01).confidence is not None


@given(
    rows=st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans(), st.booleans()), min_size=1, max_size=300),
    target=st.floats(0, 0.2),
)
def test_on_its_own_rows_the_tiered_router_stays_within_the_target(
    rows: list[tuple[float, bool, bool]], target: float
) -> None:
    confidence, fast, full = (list(column) for column in zip(*rows, strict=True))
    chosen = choose_thresholds(calibration(confidence, fast, full), target)
    if chosen.confidence is None:
        return
    above = np.array(confidence, dtype=np.float32) >= np.float32(chosen.confidence)
    tiered = np.where(above, fast, full)
    assert np.mean(full) - np.mean(tiered) <= target + 1e-9


def test_what_may_be_refused_and_what_is_unusual_goes_to_tier_2() -> None:
    thresholds = Thresholds(0.8, 1.0, 0.01)
    settled = decide_fast(scores(0.9, 0.1, 0.0), LABELS, thresholds, ("weapons",))
    assert settled is not None
    assert (settled.label, settled.tier, settled.reason) == ("law", 1, "law at 0.90, then finance at 0.10 by tier 1")
    assert decide_fast(scores(0.0, 0.1, 0.9), LABELS, thresholds, ("weapons",)) is None
    assert decide_fast(scores(0.9, 0.1, 0.0, energy=0.5), LABELS, thresholds) is None
    assert decide_fast(scores(0.7, 0.3, 0.0), LABELS, thresholds) is None
    assert decide_fast(scores(1.0, 0.0, 0.0), LABELS, Thresholds(None, 1.0, 0.01)) is None


def test_below_the_floor_the_generalist_answers_whatever_the_head_says() -> None:
    decision = decide_full(scores(0.99, 0.01, 0.0), 0.2, LABELS, "finance", 0.24)
    assert (decision.label, decision.out_of_scope) == ("finance", True)
    assert decision.reason == "nearest domain at cosine 0.20, below the floor of 0.24: the generalist"


def test_a_refusal_needs_to_be_likelier_than_all_domains_together() -> None:
    refused = decide_full(scores(0.3, 0.1, 0.6), 0.9, LABELS, "finance", 0.24, refusals=("weapons",))
    assert (refused.label, refused.out_of_scope) == ("weapons", False)
    unsure = decide_full(scores(0.31, 0.29, 0.4), 0.9, LABELS, "finance", 0.24, refusals=("weapons",))
    assert unsure.label == "law"
    assert "too unsure to refuse" in unsure.reason


def test_the_gate_sends_low_energy_to_the_generalist() -> None:
    gate = ScopeGate(-2.0, -1.0, 4.0)
    assert decide_full(scores(0.9, 0.1, 0.0, energy=0.1), 0.5, LABELS, "finance", 0.0, gate).out_of_scope
    assert not decide_full(scores(0.9, 0.1, 0.0, energy=9.0), 0.5, LABELS, "finance", 0.0, gate).out_of_scope
    assert gate.probability(1e9, 0) == pytest.approx(0)


@given(text=st.text(max_size=5000))
def test_every_text_has_buckets_in_range_each_once(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    for buckets in (hash_words(text), hash_chars(text)):
        assert len(set(buckets.tolist())) == len(buckets)
        assert not len(buckets) or (buckets[0] >= 0 and buckets[-1] < BUCKETS)


def test_case_does_not_count_and_a_misspelt_word_keeps_most_of_its_characters() -> None:
    assert np.array_equal(hash_words("The Revenue"), hash_words("the revenue"))
    right, wrong = set(hash_chars("operating margin").tolist()), set(hash_chars("operatng margin").tolist())
    assert len(right & wrong) > len(right) / 2
