"""Small functions as specifications: drawn, described, coded, and run by their meaning."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from experts.pocket.domains.coding_parts import CONDITIONS, Chosen, Item, Part, choose, say_singular
from experts.pocket.domains.coding_results import ENDINGS, FINAL_TEXTS, MAPS, TEXTS
from experts.pocket.names import is_held_out

Shape = Literal["gather", "lookup", "entries", "group", "tally", "total", "text"]


@dataclass(frozen=True)
class Source:
    """What a function goes through: its loop, the item that it takes and the one that its condition looks at."""

    name: str
    argument: Literal["numbers", "words", "mapping", "text", "rows"]
    loop: str
    said: str
    item: Item
    taken: str = "x"
    asked: str = "x"
    condition: Item | None = None
    whose: str = ""

    @property
    def kind(self) -> Item:
        """The kind of item that a condition looks at."""
        return self.condition or self.item


_OF_ROWS = 'x["{field}"]', 'x["{other}"]', "{other}"
_ALL = (
    Source("numbers", "numbers", "for x in {p}", "the {p}", "number"),
    Source("words", "words", "for x in {p}", "the {p}", "word"),
    Source("values", "mapping", "for x in {p}.values()", "the values of {p}", "number"),
    Source("keys", "mapping", "for x in {p}", "the keys of {p}", "word"),
    Source(
        "keys by value", "mapping", "for x, v in {p}.items()", "the keys of {p}", "word", "x", "v", "number", "value"
    ),
    Source("words of a text", "text", "for x in {p}.split()", "the words of {p}", "word"),
    Source("text", "text", "", "{p}", "letter"),
    Source("letters", "text", "for x in {p}", "the characters of {p}", "letter"),
    Source("fields", "rows", "for x in {p}", "the {field} of the {p}", "number", *_OF_ROWS[:2], "word", _OF_ROWS[2]),
    Source("names", "rows", "for x in {p}", "the {field} of the {p}", "word", *_OF_ROWS[:2], "number", _OF_ROWS[2]),
)
SOURCES: Mapping[str, Source] = {source.name: source for source in _ALL}
# Of a hundred functions, how many have a shape, and what each shape goes through.
_SHAPES: Mapping[Shape, tuple[int, Sequence[str]]] = {
    "gather": (58, [name for name in SOURCES if name != "text"]),
    "text": (10, ["text"]),
    "lookup": (7, ["numbers", "words"]),
    "entries": (7, ["values"]),
    "group": (7, ["numbers", "words", "words of a text", "fields"]),
    "tally": (7, ["numbers", "words", "words of a text", "letters", "fields"]),
    "total": (4, ["fields"]),
}
# What is done with a text first, and then: constants are in lower case.
_SENSELESS = {("backwards", "palindrome"), ("upper", "occurrences"), ("upper", "without")}
# How the key of a dictionary is said, for the maps that can make one.
KEYS = {
    "first letter": "first letter",
    "last letter": "last letter",
    "lengths": "length",
    "remainder": "remainder by {c}",
    "divided": "whole part of a division by {c}",
}


@dataclass(frozen=True)
class Function:
    """One function. `field` and `other` name the fields of rows: what is taken, and what is looked at or grouped by."""

    name: str
    parameter: str
    shape: Shape
    source: Source
    condition: Chosen | None = None
    map: Chosen | None = None
    ending: Chosen | None = None
    field: str = ""
    other: str = ""

    @property
    def composition(self) -> str:
        """What it is put together from, without names and constants; one in eight is kept for evaluation."""
        parts = (one.part.name if one else "-" for one in (self.condition, self.map, self.ending))
        return "/".join((self.shape, self.source.name, *parts))

    @property
    def is_new(self) -> bool:
        """Whether training never shows this composition."""
        return is_held_out(self.composition)

    def write(self) -> str:
        """Its source, in the one idiom that every expert writes."""
        rows = self.source.argument == "rows" and self.shape != "gather"
        names = {"p": self.parameter, "field": self.field, "other": self.field if rows else self.other}
        loop, taken, asked = (text.format(**names) for text in (self.source.loop, self.source.taken, self.source.asked))
        item = self.map.write(x=taken) if self.map else taken
        test = self.condition.write(x=asked) if self.condition else ""
        clause = f"{loop} if {test}" if test else loop
        head = f"def {self.name}({self.parameter}):\n"
        if self.shape == "text":
            assert self.ending is not None
            whole = self.map.write(x=self.parameter) if self.map else self.parameter
            return f"{head}    return {self.ending.write(x=whole)}"
        if self.shape == "gather":
            assert self.ending is not None
            whole = self._write_whole() or f"[{item} {clause}]"
            return f"{head}    return {self.ending.write(x=whole)}"
        if self.shape == "lookup":
            return f"{head}    return {{x: {item} {clause}}}"
        if self.shape == "entries":
            value = self.map.write(x="v") if self.map else "v"
            clause = f" if {self.condition.write(x='v')}" if self.condition else ""
            return f"{head}    return {{k: {value} for k, v in {self.parameter}.items(){clause}}}"
        key = f'x["{self.other}"]' if rows else item
        added = f'x["{self.field}"]' if self.shape == "total" else "1"
        step = f"result.setdefault({key}, []).append(x)"
        if self.shape != "group":
            step = f"result[{key}] = result.get({key}, 0) + {added}"
        lines = ["    result = {}", f"    for x in {loop.removeprefix('for x in ')}:"]
        lines += [f"        if {test}:", f"            {step}"] if test else [f"        {step}"]
        return head + "\n".join([*lines, "    return result"])

    def _write_whole(self) -> str:
        """What is gone through, where nothing happens to its items and the ending takes it as it is; else nothing."""
        assert self.ending is not None
        sliced = self.ending.part.name in ("first", "last", "backwards")
        plain = self.source.taken == "x" and self.source.loop.startswith("for x in ")
        if self.condition or self.map or not plain or (sliced and self.source.argument == "mapping"):
            return ""
        return self.source.loop.removeprefix("for x in ").format(p=self.parameter)

    def describe(self, rng: random.Random | None = None) -> str:
        """What it returns, as a noun phrase: in the fixed language of explanations, or, with `rng`, in any form."""

        def form() -> int:
            return rng.randrange(12) if rng else 0

        names = {"p": self.parameter, "field": self.field, "other": self.other}
        items = self.source.said.format(**names)
        if self.source.argument == "rows" and self.shape != "gather":
            items = f"the {self.parameter}"
        if self.shape == "entries":
            items = f"the entries of {self.parameter}"
        if self.condition:
            said = self.condition.say(form())
            whose = "value" if self.shape == "entries" else self.source.whose.format(**names)
            if self.source.argument == "rows" and self.shape != "gather":
                whose = self.field
            link = f"whose {whose} {say_singular(said)}" if whose else f"{self._link(form())} {said}"
            items = f"{items} {link}"
        if self.shape in ("gather", "text"):
            assert self.ending is not None
            return self.ending.say(form(), np=self.map.say(form(), np=items) if self.map else items)
        if self.shape == "lookup":
            assert self.map is not None
            return f"a dictionary from {items} to {self.map.say(form(), np='them')}"
        if self.shape == "entries":
            return f"a dictionary of {items}" + (f", with {self.map.say(form(), np='the values')}" if self.map else "")
        if self.source.argument == "rows":
            key = self.other
        else:
            key = Chosen(Part("", (KEYS[self.map.part.name],), "", id), self.map.constant).say(0) if self.map else ""
        if self.shape == "total":
            return f"a dictionary with the sum of the {self.field} of {items} for each {key}"
        if not key:
            return f"a dictionary that counts how often each of {items} occurs"
        return f"a dictionary that {'groups' if self.shape == 'group' else 'counts'} {items} by {key}"

    @staticmethod
    def _link(form: int) -> str:
        return "which" if form % 3 == 2 else "that"

    def call(self, argument: Any) -> object:
        """What the function means for one argument; the reference that hidden tests are made with."""
        if self.shape == "text":
            assert self.ending is not None
            return self.ending.mean(self.map.mean(argument) if self.map else argument)
        pairs = self._list_pairs(argument)
        if self.condition:
            pairs = [(item, asked) for item, asked in pairs if self.condition.mean(asked)]
        mapped = [self.map.mean(item) if self.map else item for item, _ in pairs]
        if self.shape == "gather":
            assert self.ending is not None
            return self.ending.mean(mapped)
        if self.shape == "lookup":
            return dict(zip((item for item, _ in pairs), mapped, strict=True))
        if self.shape == "entries":
            return dict(zip((asked for _, asked in self._keep_entries(argument)), mapped, strict=True))
        result: dict[Any, Any] = {}
        rows = self.source.argument == "rows"
        for (item, asked), value in zip(pairs, mapped, strict=True):
            key = item[self.other] if rows else value
            if self.shape == "group":
                result[key] = [*result.get(key, []), item]
            else:
                result[key] = result.get(key, 0) + (asked if self.shape == "total" else 1)
        return result

    def _keep_entries(self, argument: dict[str, int]) -> list[tuple[int, str]]:
        return [(v, k) for k, v in argument.items() if not self.condition or self.condition.mean(v)]

    def _list_pairs(self, argument: Any) -> list[tuple[Any, Any]]:
        """The items as pairs of what is taken and what the condition looks at."""
        if self.source.argument == "rows":
            if self.shape == "gather":
                return [(row[self.field], row[self.other]) for row in argument]
            return [(row, row[self.field]) for row in argument]
        if self.source.name == "keys by value":
            return list(argument.items())
        if self.source.name == "values" or self.shape == "entries":
            return [(value, value) for value in argument.values()]
        if self.source.name == "words of a text":
            return [(word, word) for word in argument.split(" ") if word]
        return [(item, item) for item in argument]


def draw_function(
    rng: random.Random, held_out: bool, name: str, parameters: Mapping[str, str], fields: Sequence[str]
) -> Function:
    """A function of a fresh composition; `parameters` names the parameter for each kind of argument.

    Half of the functions of evaluation are put together as no function of training is; their parts are all known.
    """
    new = held_out and rng.random() < 0.5
    while True:
        drawn = _draw_any(rng, held_out, name, parameters, fields)
        if drawn is not None and drawn.is_new == new:
            return drawn


def _draw_any(
    rng: random.Random, held_out: bool, name: str, parameters: Mapping[str, str], fields: Sequence[str]
) -> Function | None:
    shape = rng.choices(list(_SHAPES), [share for share, _ in _SHAPES.values()])[0]
    source = SOURCES[rng.choice(_SHAPES[shape][1])]
    rows = source.argument == "rows" and shape != "gather"
    condition = map_ = ending = None
    maps = list(MAPS[source.item].values())
    if shape == "text":
        ending = choose(rng.choice(list(TEXTS.values())), rng, held_out)
        if rng.random() < 0.5:
            map_ = choose(rng.choice([TEXTS[one] for one in TEXTS if one not in FINAL_TEXTS]), rng, held_out)
    elif rng.random() < 0.65:
        asked: Item = "number" if rows else source.kind
        condition = choose(rng.choice(list(CONDITIONS[asked].values())), rng, held_out)
    if shape == "gather":
        if maps and rng.random() < 0.5:
            map_ = choose(rng.choice(maps), rng, held_out)
        kind = map_.part.gives if map_ else None
        ending = choose(rng.choice(list(ENDINGS[kind or source.item].values())), rng, held_out)
    elif shape == "lookup" or (shape == "entries" and rng.random() < 0.5):
        map_ = choose(rng.choice(maps), rng, held_out)
    elif shape in ("group", "tally") and not rows and maps and (shape == "group" or rng.random() < 0.6):
        map_ = choose(rng.choice([part for part in maps if part.name in KEYS]), rng, held_out)
    plain = condition is None and map_ is None
    if source.name == "keys by value" and condition is None:
        return None
    if source.argument == "rows" and ending and ending.part.name == "count":
        return None
    if plain and (shape == "entries" or (shape == "gather" and ending and ending.part.name == "list")):
        return None
    if shape == "text" and map_ and ending and (map_.part.name, ending.part.name) in _SENSELESS:
        return None
    if map_ and ending and (map_.part.name == ending.part.name or (shape == "gather" and ending.part.name == "count")):
        return None
    field, other = fields[0], fields[1]
    if source.name == "names":
        field, other = other, field
    return Function(name, parameters[source.argument], shape, source, condition, map_, ending, field, other)
