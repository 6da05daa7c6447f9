"""The rows of a run follow the domains' weights in tokens, and are the same when they are planned again."""

import random
from collections import Counter
from collections.abc import Mapping

import pytest

from experts.adapt.domain_draws import DomainDraws

_RNG = random.Random(1)
LENGTHS = {"law": [_RNG.randint(200, 400) for _ in range(50)], "sea": [_RNG.randint(20, 60) for _ in range(70)]}
BATCH = 8


def weigh_later(step: int) -> Mapping[str, float]:
    return {"law": 0.5, "sea": 0.5} if step <= 50 else {"law": 0.2, "sea": 0.8}


def count_tokens(draws: DomainDraws, first: int, last: int) -> Counter[str]:
    counted: Counter[str] = Counter()
    for position in range(first * BATCH, last * BATCH):
        drawn = draws.find(position)
        counted[drawn.domain] += LENGTHS[drawn.domain][drawn.row]
    return counted


def test_the_tokens_of_each_domain_follow_the_weights_and_not_the_lengths_of_its_rows() -> None:
    draws = DomainDraws(LENGTHS, BATCH, 0, weigh_later)
    for first, last, share in ((0, 50, 0.5), (50, 100, 0.2)):
        counted = count_tokens(draws, first, last)
        assert counted["law"] / counted.total() == pytest.approx(share, abs=0.02)


def test_a_run_that_is_taken_up_in_the_middle_sees_the_same_rows() -> None:
    whole = DomainDraws(LENGTHS, BATCH, 3, weigh_later)
    rows = [whole.find(position) for position in range(100 * BATCH)]
    resumed = DomainDraws(LENGTHS, BATCH, 3, weigh_later)
    assert [resumed.find(position) for position in range(60 * BATCH, 100 * BATCH)] == rows[60 * BATCH :]
    other = DomainDraws(LENGTHS, BATCH, 4, weigh_later)
    assert [other.find(position) for position in range(100 * BATCH)] != rows


def test_every_row_comes_once_before_one_comes_twice() -> None:
    draws = DomainDraws({"law": LENGTHS["law"]}, 10, 0, lambda _: {"law": 1.0})
    rows = [draws.find(position).row for position in range(100)]
    assert sorted(rows[:50]) == sorted(rows[50:]) == list(range(50))
    assert rows[:50] != rows[50:]


def test_rows_of_a_step_are_in_order_of_length() -> None:
    draws = DomainDraws(LENGTHS, BATCH, 0, weigh_later)
    lengths = [LENGTHS[drawn.domain][drawn.row] for drawn in map(draws.find, range(BATCH))]
    assert lengths == sorted(lengths)


def test_weights_are_asked_for_once_a_step_and_not_before_the_step_is_wanted() -> None:
    asked: list[int] = []

    def weigh(step: int) -> Mapping[str, float]:
        asked.append(step)
        return {"law": 0.5, "sea": 0.5}

    draws = DomainDraws(LENGTHS, BATCH, 0, weigh)
    for position in (0, BATCH - 1, 2 * BATCH, 0):
        draws.find(position)
    assert asked == [1, 2, 3]
