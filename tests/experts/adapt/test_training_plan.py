"""What a run plans before it trains: the order of rows, micro-batches, and what the memory allows."""

from hypothesis import given
from hypothesis import strategies as st

from experts.adapt.guard import Forgetting
from experts.adapt.training import choose_micro_batch, plan_order
from experts.adapt.trial import choose_sizes, foresee_peak

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 3), st.integers(0, 9))
def test_every_row_stands_once_in_each_pass(lengths: list[int], passes: int, seed: int) -> None:
    order = plan_order(lengths, passes * len(lengths), 2, 4, seed)
    assert sorted(order) == sorted(list(range(len(lengths))) * passes)
    assert order == plan_order(lengths, passes * len(lengths), 2, 4, seed)


def test_rows_of_similar_length_share_a_micro_batch() -> None:
    lengths = [10, 500] * 64
    order = plan_order(lengths, 128, 8, 16, seed=0)
    groups = [{lengths[row] for row in order[start : start + 8]} for start in range(0, 128, 8)]
    assert all(len(group) == 1 for group in groups)
    # Long and short ones alternate at random instead of following each other.
    assert groups != sorted(groups, key=min)


@given(st.integers(1, 64), st.integers(1, 2000), st.integers(16, 20_000))
def test_a_micro_batch_divides_the_batch_and_keeps_within_the_tokens(batch: int, longest: int, tokens: int) -> None:
    size = choose_micro_batch(batch, longest, tokens)
    assert batch % size == 0
    assert size == 1 or size * longest <= tokens


def test_sizes_that_the_second_row_foretells_to_be_too_much_are_left_out() -> None:
    assert foresee_peak(1.0, 1.5, 16) == 9.0
    assert choose_sizes([1, 2, 4, 8, 16], 3.0, 3.5, 7.0) == [1, 2, 4, 8]
    assert choose_sizes([1, 2, 4], 3.0, 2.9, 3.0) == [1, 2, 4]


def test_a_drop_at_the_limit_is_allowed_and_one_over_it_is_not() -> None:
    assert not Forgetting(50, 0.90, 0.88, 0.02).exceeded
    forgotten = Forgetting(50, 0.90, 0.86, 0.02)
    assert forgotten.exceeded
    assert forgotten.describe() == ("general accuracy 90.0% before, 86.0% after (50 rows), a drop of 4.0%, limit 2.0%")
    assert not Forgetting(50, 0.5, 0.8, 0).exceeded
