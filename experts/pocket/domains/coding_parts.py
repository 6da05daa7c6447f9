"""The parts that small functions are put together from: how each is said, how it is coded, and what it means.

`said` begins with the form that explanations use; questions use any. In both texts `{c}` is the part's constant and
`{x}` the item; in what is said, `{np}` stands for the items that it is about. `means` is the reference: it works on
values and shares nothing with the code.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experts.pocket.names import draw_name, draw_until_split

Constant = Literal["none", "number", "small", "divisor", "text", "mark"]
Item = Literal["number", "word", "letter"]


@dataclass(frozen=True)
class Part:
    """One building block; `confused` names the parts that a bug puts in its place."""

    name: str
    said: Sequence[str]
    code: str
    means: Callable[..., object]
    constant: Constant = "none"
    confused: Sequence[str] = ()
    gives: Item | None = None


@dataclass(frozen=True)
class Chosen:
    """A part with its constant."""

    part: Part
    constant: int | str | None = None

    def write(self, **texts: str) -> str:
        """Its code; texts are quoted as Python does in this fleet, with double quotes."""
        return self.part.code.format(c=quote(self.constant), **texts)

    def say(self, form: int, **texts: str) -> str:
        """What it says, in one of its forms."""
        return self.part.said[form % len(self.part.said)].format(c=quote(self.constant), **texts)

    def mean(self, value: object) -> object:
        """What it makes of a value."""
        return self.part.means(value) if self.part.constant == "none" else self.part.means(value, self.constant)


def quote(constant: int | str | None) -> str:
    """A constant as code and questions spell it."""
    return f'"{constant}"' if isinstance(constant, str) else str(constant)


def choose(part: Part, rng: random.Random, held_out: bool) -> Chosen:
    """The part with a fresh constant, from the wanted side of the split where there is enough to split."""
    if part.constant == "number":
        return Chosen(part, int(draw_until_split(lambda: str(rng.randint(3, 99)), held_out)))
    if part.constant == "small":
        return Chosen(part, rng.randint(2, 5))
    if part.constant == "divisor":
        # Not 2: "even" says that, and one code has one explanation.
        return Chosen(part, rng.randint(3, 9))
    if part.constant == "text":
        return Chosen(part, draw_name(rng, held_out).lower()[: rng.choice((1, 2, 2))])
    if part.constant == "mark":
        return Chosen(part, rng.choice(("-", ", ", " ", "/", "_", "+", "")))
    return Chosen(part)


def index_parts(*parts: Part) -> Mapping[str, Part]:
    """The parts by name."""
    return {part.name: part for part in parts}


CONDITIONS: Mapping[Item, Mapping[str, Part]] = {
    "number": index_parts(
        Part(
            "above",
            ("are above {c}", "are greater than {c}", "are larger than {c}", "are over {c}"),
            "{x} > {c}",
            lambda x, c: x > c,
            "number",
            ("below", "at least"),
        ),
        Part(
            "below",
            ("are below {c}", "are less than {c}", "are smaller than {c}", "are under {c}"),
            "{x} < {c}",
            lambda x, c: x < c,
            "number",
            ("above", "at most"),
        ),
        Part(
            "at least",
            ("are at least {c}", "are {c} or more", "are not below {c}"),
            "{x} >= {c}",
            lambda x, c: x >= c,
            "number",
            ("at most", "above"),
        ),
        Part(
            "at most",
            ("are at most {c}", "are {c} or less", "are not above {c}"),
            "{x} <= {c}",
            lambda x, c: x <= c,
            "number",
            ("at least", "below"),
        ),
        Part("even", ("are even",), "{x} % 2 == 0", lambda x: x % 2 == 0, confused=("odd",)),
        Part("odd", ("are odd", "are not even"), "{x} % 2 == 1", lambda x: x % 2 == 1, confused=("even",)),
        Part(
            "divisible",
            ("are divisible by {c}", "can be divided by {c}"),
            "{x} % {c} == 0",
            lambda x, c: x % c == 0,
            "divisor",
            ("not divisible",),
        ),
        Part(
            "not divisible",
            ("are not divisible by {c}", "cannot be divided by {c}"),
            "{x} % {c} != 0",
            lambda x, c: x % c != 0,
            "divisor",
            ("divisible",),
        ),
        Part("positive", ("are positive", "are above zero"), "{x} > 0", lambda x: x > 0, confused=("negative",)),
        Part("negative", ("are negative", "are below zero"), "{x} < 0", lambda x: x < 0, confused=("positive",)),
        Part("differs", ("are not {c}",), "{x} != {c}", lambda x, c: x != c, "number", ("above", "below")),
    ),
    "word": index_parts(
        Part(
            "starts",
            ("start with {c}", "begin with {c}"),
            "{x}.startswith({c})",
            lambda x, c: x[: len(c)] == c,
            "text",
            ("ends", "contains"),
        ),
        Part(
            "ends",
            ("end with {c}", "end in {c}"),
            "{x}.endswith({c})",
            lambda x, c: x[-len(c) :] == c,
            "text",
            ("starts",),
        ),
        Part(
            "contains",
            ("contain {c}", "have {c} in them"),
            "{c} in {x}",
            lambda x, c: len(x.split(c)) > 1,
            "text",
            ("lacks", "starts"),
        ),
        Part(
            "lacks",
            ("do not contain {c}", "are without {c}"),
            "{c} not in {x}",
            lambda x, c: len(x.split(c)) == 1,
            "text",
            ("contains",),
        ),
        Part(
            "longer",
            ("are longer than {c} letters", "have more than {c} letters"),
            "len({x}) > {c}",
            lambda x, c: sum(1 for _ in x) > c,
            "small",
            ("shorter",),
        ),
        Part(
            "shorter",
            ("are shorter than {c} letters", "have less than {c} letters"),
            "len({x}) < {c}",
            lambda x, c: sum(1 for _ in x) < c,
            "small",
            ("longer",),
        ),
        Part(
            "length",
            ("have {c} letters", "have exactly {c} letters", "are {c} letters long"),
            "len({x}) == {c}",
            lambda x, c: sum(1 for _ in x) == c,
            "small",
            ("longer", "shorter"),
        ),
    ),
    "letter": index_parts(
        Part("vowel", ("are vowels",), '{x} in "aeiou"', lambda x: x in set("aeiou"), confused=("no vowel",)),
        Part(
            "no vowel",
            ("are no vowels", "are not vowels"),
            '{x} not in "aeiou"',
            lambda x: x not in set("aeiou"),
            confused=("vowel",),
        ),
        Part("digit", ("are digits",), "{x}.isdigit()", lambda x: x in set("0123456789"), confused=("capital",)),
        Part(
            "capital",
            ("are capital letters", "are in upper case"),
            "{x}.isupper()",
            lambda x: "A" <= x <= "Z",
            confused=("digit", "vowel"),
        ),
    ),
}

# What is said of several, said of one: "that are above 3" and "whose price is above 3".
_SINGULAR = {
    "are": "is",
    "have": "has",
    "start": "starts",
    "begin": "begins",
    "end": "ends",
    "contain": "contains",
    "do": "does",
    "can": "can",
    "cannot": "cannot",
}


def say_singular(said: str) -> str:
    """A condition said of many, as it is said of one."""
    verb, rest = said.split(" ", 1)
    return f"{_SINGULAR[verb]} {rest}".replace("in them", "in it")
