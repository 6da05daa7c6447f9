"""Hidden tests for small functions, and the mistakes that they are to catch."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from experts.pocket.alternatives import split_alternatives
from experts.pocket.domains.coding_language import KEYS, Function
from experts.pocket.domains.coding_parts import CONDITIONS, choose
from experts.pocket.domains.coding_results import ENDINGS, MAPS, TEXTS

_ALL_CONDITIONS = {name: part for parts in CONDITIONS.values() for name, part in parts.items()}


def break_function(function: Function, rng: random.Random, held_out: bool) -> Function | None:
    """The function with one part taken for another or a constant one off; None where the draw found nothing to do."""
    spots = [
        (where, chosen, pool)
        for where, chosen, pool in (
            ("condition", function.condition, _ALL_CONDITIONS),
            ("map", function.map, TEXTS if function.shape == "text" else MAPS[function.source.item]),
            ("ending", function.ending, TEXTS if function.shape == "text" else None),
        )
        if chosen is not None and (chosen.part.confused or isinstance(chosen.constant, int))
    ]
    if not spots:
        return None
    where, chosen, pool = rng.choice(spots)
    if isinstance(chosen.constant, int) and (not chosen.part.confused or rng.random() < 0.25):
        changed: dict[str, Any] = {where: replace(chosen, constant=chosen.constant + rng.choice((-1, 1)))}
        return replace(function, **changed)
    if pool is None:
        kind = function.map.part.gives if function.map else function.source.item
        pool = ENDINGS[kind or function.source.item]
    other = pool.get(rng.choice(chosen.part.confused))
    if other is None or (other.gives != chosen.part.gives and function.ending is not None):
        return None
    if function.shape in ("group", "tally") and where == "map" and other.name not in KEYS:
        return None
    same = other.constant == chosen.part.constant
    changed = {where: replace(chosen, part=other) if same else choose(other, rng, held_out)}
    return replace(function, **changed)


_WORDS = split_alternatives(
    "a|be|ox|up|apple|bread|chalk|door|echo|field|Glass|house|iron|Jade|kite|lamp|moon|north|oak|Paper|quill|river|salt|"
    "tree|urn|Vine|wool|axe|yard|zinc|ant|bee|Cup|dew|ear|fox|gate|hill|ink|jar|level|radar|noon"
)


def draw_checks(function: Function, rng: random.Random, wrong: Sequence[Function] = ()) -> list[str]:
    """Three to six hidden tests as texts, `name(argument) == value`, with two values or more where there are two.

    Most arguments lie around the function's constants. Tests that tell a function of `wrong` apart are looked for among
    forty arguments.
    """
    checks: list[str] = []
    values: list[object] = []
    left = list(wrong)
    for _ in range(40):
        argument = draw_argument(function, rng)
        value = function.call(argument)
        still = [one for one in left if _call_wrong(one, argument) == value]
        new = all(one != value for one in values)
        if len(checks) < 3 or len(still) < len(left) or (new and len(checks) < 5):
            checks.append(f"{function.name}({argument!r}) == {value!r}")
            values.append(value)
        left = still
        if len(checks) == 6 or (len(checks) > 2 and not left and any(one != value for one in values)):
            break
    return checks


def list_mistakes(function: Function, rng: random.Random) -> list[Function]:
    """Functions that look like this one: with a part forgotten or, twice, taken for another."""
    mistakes = [replace(function, condition=None)] if function.condition else []
    if function.map and function.shape in ("gather", "entries", "tally", "text"):
        mistakes.append(replace(function, map=None))
    broken = (break_function(function, rng, False) for _ in range(2))
    return [*mistakes, *(one for one in broken if one is not None)]


def _call_wrong(function: Function, argument: Any) -> object:
    try:
        return function.call(argument)
    except (TypeError, IndexError, ValueError):
        return None


def is_told_apart(function: Function, other: Function, rng: random.Random) -> bool:
    """Whether the two differ in value for one of a dozen arguments."""
    arguments = (draw_argument(function, rng) for _ in range(12))
    return any(_call_wrong(other, argument) != function.call(argument) for argument in arguments)


def draw_argument(function: Function, rng: random.Random) -> Any:
    """One argument that the function accepts."""
    chosen = [c.constant for c in (function.condition, function.map, function.ending) if c is not None]
    text = next((constant for constant in chosen if isinstance(constant, str)), "a")
    number = next((constant for constant in chosen if isinstance(constant, int)), 10)

    def draw_number() -> int:
        near = (number - 1, number, number + 1, number * 2, -number, rng.randint(-9, 9), rng.randint(-30, 120))
        return rng.choice(near)

    def draw_word() -> str:
        word = rng.choice(_WORDS)
        form = rng.random()
        if form < 0.5:
            return word
        return text + word if form < 0.65 else word + text if form < 0.8 else word[:1] + text + word[1:]

    count = rng.randint(3, 6)
    if function.source.argument == "numbers":
        numbers = [draw_number() for _ in range(count)]
        return [*numbers, numbers[0]] if rng.random() < 0.4 else numbers
    if function.source.argument == "words":
        words = [draw_word() for _ in range(count)]
        return [*words, words[0]] if rng.random() < 0.4 else words
    if function.source.argument == "mapping":
        return {draw_word(): draw_number() for _ in range(count)}
    if function.source.argument == "text":
        count = rng.choice((1, 1, count, count))
        return " ".join(rng.choice((draw_word(), draw_word(), str(rng.randint(1, 99)), "level")) for _ in range(count))
    numeric, worded = (
        (function.other, function.field) if function.source.name == "names" else (function.field, function.other)
    )
    words = [draw_word() for _ in range(3)]
    return [{numeric: draw_number(), worded: rng.choice(words)} for _ in range(count)]
