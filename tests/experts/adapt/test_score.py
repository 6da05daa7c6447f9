"""What counts as right, and how sure one can be."""

import pytest

from experts.adapt.score import compare_paired, estimate_share, judge_answer, score_answers
from experts.prompt import REFUSAL


@pytest.mark.parametrize(
    ("answer", "right", "value", "cited"),
    [
        ("4.5 million euros [2]", True, True, True),
        (" 4.5 million euros [2]\n", True, True, True),
        ("4.5 million euros [1]", False, True, False),
        ("4.5 million euros", False, True, False),
        ("4.5 million euros [2][3]", False, True, False),
        ("4.6 million euros [2]", False, False, True),
        ("It was 4.5 million euros [2]", False, False, True),
        (REFUSAL, False, False, False),
    ],
)
def test_exact_wants_the_value_and_its_citation(answer: str, right: bool, value: bool, cited: bool) -> None:
    judged = judge_answer(answer, "4.5 million euros [2]", "exact")
    assert (judged.right, judged.value, judged.cited) == (right, value, cited)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("In 2023 it was 4.5 Million euros [2].", True),
        ("In 2023 [2] it was 4.5 million euros.", True),
        ("In 2023 it was 4.5 million euros [1].", False),
        ("In 2023 it was 4.5 million dollars [2].", False),
    ],
)
def test_contains_wants_the_value_somewhere_and_the_same_citation(answer: str, right: bool) -> None:
    assert judge_answer(answer, "4.5 million euros [2]", "contains").right is right


def test_without_a_wanted_citation_none_is_judged() -> None:
    assert judge_answer("Paris", "Paris", "exact").cited is None
    assert judge_answer("It is Paris [1]", "Paris", "contains").right


@pytest.mark.parametrize("rule", ["exact", "contains"])
def test_a_refusal_is_right_only_by_itself(rule: str) -> None:
    assert judge_answer(REFUSAL, REFUSAL, rule).right  # type: ignore[arg-type]
    assert not judge_answer(f"{REFUSAL} It may be 4.", REFUSAL, rule).right  # type: ignore[arg-type]


def test_shares_are_taken_of_the_cases_that_ask_for_them() -> None:
    said = [("1 [1]", "1 [1]"), ("1 [2]", "1 [1]"), (REFUSAL, "1 [1]"), (REFUSAL, REFUSAL), ("2", REFUSAL)]
    score = score_answers([judge_answer(answer, wanted, "exact") for answer, wanted in said])
    assert (score.right.hits, score.right.n) == (2, 5)
    assert (score.value.hits, score.value.n) == (3, 5)
    assert score.cited is not None
    assert (score.cited.hits, score.cited.n) == (1, 3)
    assert score.refused is not None
    assert (score.refused.hits, score.refused.n) == (1, 2)
    assert score.wrongly_refused is not None
    assert (score.wrongly_refused.hits, score.wrongly_refused.n) == (1, 3)


def test_a_share_that_no_case_asks_for_is_none() -> None:
    score = score_answers([judge_answer("a", "a", "exact")])
    assert score.cited is None
    assert score.refused is None


def test_wilson_interval_is_the_published_one() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263 and 0 of 20.
    many, none = estimate_share([True] * 81 + [False] * 182), estimate_share([False] * 20)
    assert (round(many.low, 4), round(many.high, 4)) == (0.2553, 0.3662)
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)
    assert estimate_share([True] * 20).high == 1.0


def test_paired_difference_counts_what_differs_and_agrees_with_mcnemar() -> None:
    a = [True] * 90 + [True] * 8 + [False] * 2 + [False] * 10
    b = [True] * 90 + [False] * 8 + [True] * 2 + [False] * 10
    paired = compare_paired(a, b)
    assert (paired.n, paired.only_a, paired.only_b) == (110, 8, 2)
    assert paired.difference == pytest.approx(-6 / 110)
    assert paired.low < paired.difference < paired.high
    # Binomial(10, 1/2): P(X <= 2) = 56 / 1024, twice.
    assert paired.p_value == pytest.approx(112 / 1024)


def test_the_same_answers_show_no_difference_but_an_interval() -> None:
    paired = compare_paired([True, False] * 50, [True, False] * 50)
    assert (paired.difference, paired.p_value) == (0.0, 1.0)
    assert paired.low < 0 < paired.high
