"""Figures of the computing exercises: drawn from ranges that training and evaluation never share."""

import random
from decimal import Decimal

# A figure whose first two digits are one of these (17, 1.74, 172.9) is asked for in evaluation only: one in ten, spread
# over the whole scale, so that the held-out questions are as hard as the trained ones.
_HELD_OUT_OPENINGS = frozenset({17, 29, 34, 46, 53, 68, 72, 85, 91})


def is_held_out_figure(value: Decimal | int) -> bool:
    """Whether a figure belongs to evaluation. Figures of one digit belong to both sides."""
    digits = f"{abs(Decimal(value)):f}".replace(".", "").lstrip("0")
    return len(digits) > 1 and int(digits[:2]) in _HELD_OUT_OPENINGS


def draw_figure(rng: random.Random, held_out: bool, low: int, high: int, decimals: int = 0) -> Decimal:
    """A figure of one side of the split between `low` and `high`, both counted in units of the last decimal.

    A held-out figure needs a range that reaches from one power of ten to the next.
    """
    while True:
        value = Decimal(rng.randint(low, high)).scaleb(-decimals)
        if is_held_out_figure(value) == held_out:
            return value


def draw_figures(rng: random.Random, held_out: bool, *ranges: tuple[int, int]) -> list[Decimal]:
    """Whole figures, one per range: all of training's side, or at least one that is held out."""
    while True:
        values = [Decimal(rng.randint(low, high)) for low, high in ranges]
        if any(is_held_out_figure(value) for value in values) == held_out:
            return values


def write_figure(value: Decimal) -> str:
    """The figure without an exponent, with the decimals it has."""
    return f"{value:f}"
