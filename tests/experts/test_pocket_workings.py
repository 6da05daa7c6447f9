"""The written calculations, recomputed with fractions."""

import random
import re
from decimal import Decimal
from fractions import Fraction

import pytest

from experts.pocket.figures import draw_figure, draw_figures, is_held_out_figure
from experts.pocket.workings import (
    Term,
    Working,
    add,
    divide,
    evaluate_term,
    multiply,
    split_digits,
    subtract,
    take_percentage,
    work_out,
    write_term,
)

STEP = re.compile(r"(-?[\d.]+) ([-+*/]) ([\d.]+) = (-?[\d.]+)$")


def holds(step: str) -> bool:
    """Whether an equation of two exact figures is true; `a / b = c / d` is one of two quotients."""
    quotients = re.fullmatch(r"([\d.]+) / ([\d.]+) = (\d+) / (\d+)", step)
    if quotients:
        a, b, c, d = (Fraction(text) for text in quotients.groups())
        return a / b == c / d
    match = STEP.fullmatch(step)
    assert match, step
    a, b, result = Fraction(match[1]), Fraction(match[3]), Fraction(match[4])
    return result == {"+": a + b, "-": a - b, "*": a * b, "/": a / (b or 1)}[match[2]]


def test_every_step_of_an_operation_is_true_and_the_last_one_is_the_result() -> None:
    rng = random.Random(1)
    for _ in range(500):
        a, b = draw_figures(rng, rng.random() < 0.5, (11, 999), (2, 99))
        for working, wanted in (
            (add(a, b), a + b),
            (subtract(a, b), a - b),
            (multiply(a, b), a * b),
            (divide(a * b, b), a),
        ):
            assert all(holds(step) for step in working.steps), working
            assert working.result == wanted
            assert working.steps[-1].endswith(f"= {wanted}")


def test_a_step_multiplies_by_one_digit_only() -> None:
    steps = multiply(Decimal(47), Decimal(38)).steps
    assert steps == ("40 * 38 = 1520", "7 * 38 = 266", "1520 + 266 = 1786")


def test_a_long_quotient_is_found_digit_by_digit() -> None:
    steps = divide(Decimal(952), Decimal(28)).steps
    assert steps == ("30 * 28 = 840", "952 - 840 = 112", "4 * 28 = 112", "952 / 28 = 34")


@pytest.mark.parametrize(
    ("part", "whole", "percentage"),
    [("31.6", "380.9", "8.3"), ("-31.6", "412.5", "-7.7"), ("15", "240", "6.3"), ("99.9", "100.0", "99.9")],
)
def test_a_percentage_is_rounded_half_up_to_one_decimal(part: str, whole: str, percentage: str) -> None:
    working = take_percentage(Decimal(part), Decimal(whole))
    assert working.result == Decimal(percentage)
    assert working.write("percent").endswith(f"{part} / {whole} = {percentage} percent")


def test_the_long_division_behind_a_percentage_is_true_and_brackets_it() -> None:
    rng = random.Random(2)
    for _ in range(500):
        part, whole = sorted(draw_figures(rng, False, (11, 4000), (4001, 9999)))
        *steps, last = take_percentage(part.scaleb(-1), whole.scaleb(-1)).steps
        assert all(holds(step) for step in steps)
        assert abs(Fraction(last.split(" = ")[1]) - 100 * Fraction(part) / Fraction(whole)) <= Fraction(1, 20)


def test_an_operation_is_written_with_the_brackets_it_needs() -> None:
    two, three, four = Decimal(2), Decimal(3), Decimal(4)
    assert write_term(Term(two, "*", Term(three, "+", four))) == "2 * (3 + 4)"
    assert write_term(Term(two, "+", Term(three, "*", four))) == "2 + 3 * 4"
    assert write_term(Term(four, "-", Term(three, "-", two))) == "4 - (3 - 2)"
    assert write_term(Term(Term("a", "+", "b"), "/", two)) == "(a + b) / 2"


def test_an_operation_is_worked_out_inner_before_outer() -> None:
    term = Term(Term("a", "+", "b"), "/", Decimal(3))
    values = {"a": Decimal(17), "b": Decimal(13)}
    assert work_out(term, values) == Working(("17 + 13 = 30", "30 / 3 = 10"), Decimal(10))
    assert evaluate_term(term, values) == 10


def test_an_operation_with_a_rest_or_below_zero_has_no_exact_value() -> None:
    assert evaluate_term(Term(Decimal(7), "/", Decimal(2)), {}) is None
    assert evaluate_term(Term(Decimal(2), "-", Decimal(7)), {}) is None


def test_digits_add_up_to_the_figure() -> None:
    assert split_digits(Decimal(407)) == [Decimal(400), Decimal(7)]


def test_figures_fall_on_one_side_of_the_split() -> None:
    rng = random.Random(3)
    assert not any(is_held_out_figure(draw_figure(rng, False, 100, 999, 1)) for _ in range(300))
    assert all(is_held_out_figure(draw_figure(rng, True, 100, 999, 1)) for _ in range(300))
    assert is_held_out_figure(Decimal("1.74"))
    assert is_held_out_figure(Decimal("0.17"))
    assert not is_held_out_figure(7)
