"""Calculations in short written steps, each a true equation that a small model can learn one at a time.

A step adds or subtracts two figures, multiplies by one digit (times a power of ten) or divides where the quotient is
short. Longer operations are written as several steps: a product by its digits, a quotient by long division.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from experts.pocket.figures import write_figure

# A quotient up to this is written at once.
_SHORT_QUOTIENT = 99


@dataclass(frozen=True)
class Working:
    """The steps that were written and the figure they arrive at."""

    steps: tuple[str, ...]
    result: Decimal

    def write(self, unit: str = "") -> str:
        """The steps as one text; its end is the result with its unit."""
        return "; ".join(self.steps) + (f" {unit}" if unit else "")


def add(a: Decimal, b: Decimal) -> Working:
    """One step."""
    return _step(a, "+", b, a + b)


def subtract(a: Decimal, b: Decimal) -> Working:
    """One step, or two where the result is negative: the size of the difference first."""
    if a >= b:
        return _step(a, "-", b, a - b)
    return _chain(subtract(b, a), _step(a, "-", b, a - b))


def multiply(a: Decimal, b: Decimal) -> Working:
    """One step where a factor has one digit, otherwise one per digit of the shorter factor, and their sums."""
    short, long = sorted((a, b), key=_count_digits)
    if _count_digits(short) <= 1:
        return _step(short, "*", long, short * long)
    working: Working | None = None
    for part in split_digits(short):
        product = _step(part, "*", long, part * long)
        working = _chain(working, product, add(working.result, product.result)) if working else product
    assert working is not None
    return working


def divide(a: Decimal, b: Decimal) -> Working:
    """An exact quotient of whole figures: one step where it is short, otherwise by its digits, largest first."""
    quotient = a / b
    if quotient <= 9 or (quotient <= _SHORT_QUOTIENT and b < 10) or (_count_digits(b) <= 1 and b % 10 == 0):
        return _step(a, "/", b, _plain(quotient))
    steps: list[str] = []
    rest = a
    for part in split_digits(_plain(quotient)):
        product = _step(part, "*", b, part * b)
        steps += product.steps
        if rest != product.result:
            steps += subtract(rest, product.result).steps
        rest -= product.result
    return Working((*steps, *_step(a, "/", b, _plain(quotient)).steps), _plain(quotient))


def take_percentage(part: Decimal, whole: Decimal) -> Working:
    """What percentage one figure is of a larger one, rounded half up to one decimal, by long division.

    The result is negative where the part is. Both figures first become whole by moving the point.
    """
    size = abs(part)
    steps: list[str] = []
    shift = max(0, *(-int(value.as_tuple().exponent) for value in (size, whole)))
    top, bottom = int(size.scaleb(shift)), int(whole.scaleb(shift))
    if shift:
        steps.append(f"{write_figure(size)} / {write_figure(whole)} = {top} / {bottom}")
    rest, begun = top, False
    for _ in ("tens", "ones", "tenths"):
        rest *= 10
        digit = rest // bottom
        begun = begun or digit > 0
        if begun:
            steps.append(f"{digit} * {bottom} = {digit * bottom}")
            if digit:
                steps.append(f"{rest} - {digit * bottom} = {rest - digit * bottom}")
        rest -= digit * bottom
    percentage = (part * 100 / whole).quantize(Decimal("0.1"), ROUND_HALF_UP)
    steps.append(f"{write_figure(part)} / {write_figure(whole)} = {write_figure(percentage)}")
    return Working(tuple(steps), percentage)


def split_digits(value: Decimal) -> list[Decimal]:
    """A whole figure as the sum of its digits: 407 is 400 and 7."""
    text = write_figure(value)
    return [Decimal(digit).scaleb(len(text) - 1 - place) for place, digit in enumerate(text) if digit != "0"]


Sign = Literal["+", "-", "*", "/"]


@dataclass(frozen=True)
class Term:
    """An operation on figures, named variables or further operations."""

    left: "Term | Decimal | str"
    sign: Sign
    right: "Term | Decimal | str"


Operand = Term | Decimal | str
_WORKED = {"+": add, "-": subtract, "*": multiply, "/": divide}


def write_term(operand: Operand) -> str:
    """The operation as text, with the brackets it needs."""
    if isinstance(operand, str):
        return operand
    if isinstance(operand, Decimal):
        return write_figure(operand)
    left, right = write_term(operand.left), write_term(operand.right)
    if operand.sign in "*/" and isinstance(operand.left, Term) and operand.left.sign in "+-":
        left = f"({left})"
    if isinstance(operand.right, Term) and (operand.sign in "*/" or operand.right.sign in "+-") and operand.sign != "+":
        right = f"({right})"
    return f"{left} {operand.sign} {right}"


def list_figures(operand: Operand) -> list[Decimal]:
    """The figures of an operation, from left to right."""
    if isinstance(operand, Term):
        return [*list_figures(operand.left), *list_figures(operand.right)]
    return [operand] if isinstance(operand, Decimal) else []


def work_out(operand: Operand, values: Mapping[str, Decimal]) -> Working:
    """The steps of an operation, left before right, inner before outer."""
    if isinstance(operand, str):
        return Working((), values[operand])
    if isinstance(operand, Decimal):
        return Working((), operand)
    left, right = work_out(operand.left, values), work_out(operand.right, values)
    last = _WORKED[operand.sign](left.result, right.result)
    return Working((*left.steps, *right.steps, *last.steps), last.result)


def evaluate_term(operand: Operand, values: Mapping[str, Decimal]) -> Decimal | None:
    """The exact value, or None where some division leaves a rest or some difference is negative."""
    if isinstance(operand, str):
        return values[operand]
    if isinstance(operand, Decimal):
        return operand
    left, right = evaluate_term(operand.left, values), evaluate_term(operand.right, values)
    if left is None or right is None:
        return None
    if operand.sign == "/":
        return _plain(left / right) if right and left % right == 0 else None
    value = left + right if operand.sign == "+" else left - right if operand.sign == "-" else left * right
    return value if value >= 0 else None


def _step(a: Decimal, sign: Sign, b: Decimal, result: Decimal) -> Working:
    return Working((f"{write_figure(a)} {sign} {write_figure(b)} = {write_figure(result)}",), result)


def _chain(*workings: Working) -> Working:
    return Working(tuple(step for working in workings for step in working.steps), workings[-1].result)


def _count_digits(value: Decimal) -> int:
    return len(write_figure(value).replace(".", "").strip("0"))


def _plain(value: Decimal) -> Decimal:
    """Without trailing zeros behind the point."""
    return value.quantize(Decimal(1)) if value == value.to_integral() else value.normalize()
