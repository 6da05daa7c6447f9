"""Reads the fields of a JSON body one by one; every mistake says what, observed, limit and next step."""

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from experts.errors import BadRequest, Unsupported

# Observed values are quoted in error messages, cut to what helps.
QUOTE_CHARS = 60

_UNCARRIABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPED = re.compile(r"\\u(?:0000|[dD][89abAB-fF])")


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a request body; raises BadRequest with the place of the mistake."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}; send UTF-8") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise BadRequest(
            f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno} (character {error.pos})"
        ) from None
    except RecursionError:
        raise BadRequest("the body is JSON nested too deeply; send the fields of the API only") from None
    except ValueError:
        # Python refuses integers of more than 4,300 digits.
        raise BadRequest("the body has a number that is too long; send numbers that a float can hold") from None
    if not isinstance(value, dict):
        raise BadRequest(f"the body is {describe_type(value)}, expected a JSON object")
    if "\x00" in text or _ESCAPED.search(text):
        _check_text(value, "")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"the body has the number {name}, which JSON does not know; send a finite number")


def _check_text(value: Any, path: str) -> None:
    """Raise BadRequest for NUL or a lone surrogate anywhere: no tokenizer or log can carry them."""
    waiting = [(value, path)]
    while waiting:
        node, where = waiting.pop()
        if isinstance(node, dict):
            waiting += [(item, f"{where}.{key}" if where else key) for key, item in node.items()]
            waiting += [(key, where) for key in node]
        elif isinstance(node, list):
            waiting += [(item, f"{where}[{position}]") for position, item in enumerate(node)]
        elif isinstance(node, str):
            found = _UNCARRIABLE.search(node)
            if found is not None:
                kind = "NUL" if found[0] == "\x00" else "a lone surrogate"
                name = printable(where)
                raise BadRequest(
                    f"{name or 'a key'} has {kind} (U+{ord(found[0]):04X}) at character {found.start()}; remove it",
                    name or None,
                )


def printable(text: str) -> str:
    """Text that a response can carry: at most QUOTE_CHARS characters, the unprintable ones escaped."""
    cut = text if len(text) <= QUOTE_CHARS else text[:QUOTE_CHARS] + "…"
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in cut)


def quote(value: Any) -> str:
    """A value as an error message shows it."""
    if isinstance(value, str):
        return f"'{printable(value)}'"
    if isinstance(value, dict | list):
        return describe_type(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int) and value.bit_length() > 128:
        return "an integer of more than 128 bits"
    return str(value)


def describe_type(value: Any) -> str:
    """The JSON type of a value, with its article."""
    if isinstance(value, bool):
        return "a boolean"
    for python_type, name in ((str, "a string"), (dict, "an object"), (list, "an array"), (int | float, "a number")):
        if isinstance(value, python_type):
            return name
    return "null"


class Fields:
    """The fields of one JSON object; null counts as absent, as it does at OpenAI."""

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path

    def name(self, key: str) -> str:
        """The full name of a field, as errors give it."""
        return f"{self._path}.{key}" if self._path else key

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def fail(self, key: str, message: str) -> NoReturn:
        raise BadRequest(f"{self.name(key)} {message}", self.name(key))

    def text(self, key: str) -> str | None:
        value = self.get(key)
        if value is not None and not isinstance(value, str):
            self.fail(key, f"is {describe_type(value)}, expected a string")
        return value

    def required_text(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            self.fail(key, "is missing; it is a required string")
        return value

    def flag(self, key: str) -> bool | None:
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            self.fail(key, f"is {describe_type(value)}, expected true or false")
        return value

    def number(self, key: str, low: float, high: float, *, above_low: bool = False) -> float | None:
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(key, f"is {describe_type(value)}, expected a number from {low:g} to {high:g}")
        if not low <= value <= high or (above_low and value == low) or not math.isfinite(value):
            bounds = f"above {low:g} and up to {high:g}" if above_low else f"from {low:g} to {high:g}"
            self.fail(key, f"is {quote(value)}, expected a number {bounds}")
        return float(value)

    def integer(self, key: str, low: int, high: int) -> int | None:
        value = self.get(key)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            observed = quote(value) if isinstance(value, float) else describe_type(value)
            self.fail(key, f"is {observed}, expected an integer from {low} to {high}")
        if not low <= value <= high:
            self.fail(key, f"is {quote(value)}, expected an integer from {low} to {high}")
        return value

    def object(self, key: str) -> "Fields | None":
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.fail(key, f"is {describe_type(value)}, expected an object")
        return Fields(value, self.name(key))

    def array(self, key: str) -> list[Any] | None:
        value = self.get(key)
        if value is not None and not isinstance(value, list):
            self.fail(key, f"is {describe_type(value)}, expected an array")
        return value

    def choice(self, key: str, allowed: Iterable[str]) -> str | None:
        value = self.text(key)
        options = tuple(allowed)
        if value is not None and value not in options:
            self.fail(key, f"is {quote(value)}, expected one of {', '.join(options)}")
        return value

    def check_unsupported(self, unsupported: Mapping[str, tuple[tuple[Any, ...], str]]) -> None:
        """Raise Unsupported for a field whose value is none of the neutral ones; the text says what to do instead."""
        for key, (neutral, next_step) in unsupported.items():
            value = self.get(key)
            if value is None or any(type(value) is type(plain) and value == plain for plain in neutral):
                continue
            accepted = " or ".join(quote(plain) if plain not in ({}, []) else "empty" for plain in neutral)
            limit = f"only {accepted} is served" if accepted else "the parameter is not served"
            raise Unsupported(f"{self.name(key)} is {quote(value)}; {limit}; {next_step}", self.name(key))

    def check_known(self, known: Iterable[str]) -> None:
        """Raise BadRequest for a field that is not known, naming the nearest one that is."""
        names = sorted(known)
        for key in self._values:
            if key in names:
                continue
            near = difflib.get_close_matches(key[:QUOTE_CHARS], names, n=1, cutoff=0.0)
            raise BadRequest(
                f"{printable(self.name(key))} is not a field of this request; the nearest known is "
                f"'{near[0] if near else names[0]}'; remove it or mend its name",
                printable(self.name(key)),
            )
