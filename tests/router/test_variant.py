"""Choosing a variant: quality, cost, queue and SLO."""

import pytest

from router.variant import Budget, Quality, VariantOption, choose_variant

SLO_S = 2.0


def build_options(full: float = 0.8, quick: float = 0.7, **full_load: float) -> tuple[VariantOption, ...]:
    """A dear and a cheap variant with their predicted probabilities."""
    return (
        VariantOption("full", full, 10.0, int(full_load.get("queue", 0)), 4, full_load.get("answer_s", 1.0)),
        VariantOption("quick", quick, 1.0, 0, 4, 1.0),
    )


@pytest.mark.parametrize(("wanted", "expected"), [("fast", "quick"), ("best", "full")])
def test_fast_takes_the_cheapest_and_best_the_most_likely_right(wanted: Quality, expected: str) -> None:
    choice = choose_variant(build_options(), wanted, SLO_S)
    assert choice.variant == expected
    assert choice.reason.startswith(wanted)


def test_balanced_pays_for_a_hard_question_and_not_for_an_easy_one() -> None:
    assert choose_variant(build_options(0.80, 0.40), "balanced", SLO_S).variant == "full"
    assert choose_variant(build_options(0.95, 0.94), "balanced", SLO_S).variant == "quick"


def test_a_budget_takes_the_most_likely_right_that_it_pays() -> None:
    assert choose_variant(build_options(), Budget(10), SLO_S).variant == "full"
    assert choose_variant(build_options(), Budget(9.9), SLO_S).variant == "quick"


def test_a_budget_below_every_cost_takes_the_cheapest_and_says_so() -> None:
    choice = choose_variant(build_options(), Budget(0.5), SLO_S)
    assert choice.variant == "quick"
    assert "none costs at most 0.5" in choice.reason


@pytest.mark.parametrize("wanted", ["fast", "balanced", "best", Budget(100)])
def test_where_nothing_speaks_for_another_the_first_answers(wanted: Quality | Budget) -> None:
    options = [VariantOption(name, 0.5, 1.0) for name in ("one", "two", "three")]
    assert choose_variant(options, wanted, SLO_S).variant == "one"


@pytest.mark.parametrize("wanted", ["fast", "balanced", "best", Budget(100)])
def test_the_only_variant_is_taken_whatever_its_queue(wanted: Quality | Budget) -> None:
    choice = choose_variant([VariantOption("full", 0.1, 1000, 500, 1, 60)], wanted, SLO_S)
    assert (choice.variant, choice.reason) == ("full", "the domain's only variant")


def test_a_queue_that_breaks_the_slo_sends_the_sub_query_elsewhere_and_says_why() -> None:
    choice = choose_variant(build_options(queue=20), "best", SLO_S)
    assert choice.variant == "quick"
    assert "full would wait 4.2 s, over 2 s" in choice.reason


def test_a_queue_within_the_capacity_waits_for_nothing() -> None:
    assert choose_variant(build_options(queue=3, answer_s=60), "best", SLO_S).variant == "full"


def test_when_every_variant_is_late_the_shortest_wait_wins() -> None:
    options = [VariantOption("full", 0.9, 1, 50, 4, 2), VariantOption("quick", 0.1, 1, 30, 4, 2)]
    choice = choose_variant(options, "best", SLO_S)
    assert choice.variant == "quick"
    assert "every variant waits over 2 s" in choice.reason


def test_the_choice_carries_what_it_was_made_from() -> None:
    options = build_options()
    choice = choose_variant(options, "best", SLO_S)
    assert (choice.predicted, choice.cost, choice.queue, choice.options) == (0.8, 10.0, 0, options)


def test_no_options_is_a_mistake_that_says_so() -> None:
    with pytest.raises(ValueError, match="at least one"):
        choose_variant([], "fast", SLO_S)
