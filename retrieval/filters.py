"""Filters on metadata: which passages a search may find.

    {"year": {"gte": 2020}, "language": ["en", "de"], "draft": false}

A field matches one value, any of a list, or a range with `gte`, `gt`, `lte`, `lt`; every field named must match. A
passage without the field never does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt

from experts.errors import BadRequest

Value = str | int | float | bool

FIELDS_LIMIT = 32
VALUES_LIMIT = 1000

_RANGE: Mapping[str, Callable[..., bool]] = {"gte": ge, "gt": gt, "lte": le, "lt": lt}


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field has one of these values; 1 and 1.0 are equal, 1 and true are not."""

    field: str
    values: frozenset[tuple[bool, Value]]

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        value = metadata.get(self.field)
        return value is not None and (isinstance(value, bool), value) in self.values


@dataclass(frozen=True, slots=True)
class Range:
    """The field is within bounds of its own kind: numbers compare with numbers, text with text."""

    field: str
    bounds: tuple[tuple[str, str | int | float], ...]

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        value = metadata.get(self.field)
        if value is None or isinstance(value, bool):
            return False
        return all(
            isinstance(value, str) == isinstance(bound, str) and _RANGE[name](value, bound)
            for name, bound in self.bounds
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all must hold; hashable, equal filters are equal whatever order they were written in."""

    conditions: frozenset[OneOf | Range]

    def matches(self, metadata: Mapping[str, Value]) -> bool:
        """Whether a passage with this metadata may be found."""
        return all(condition.matches(metadata) for condition in self.conditions)


def parse_filter(raw: object) -> Filter | None:
    """A filter from decoded JSON; None for null and for an empty mapping. Raises BadRequest naming the field."""
    if raw is None:
        return None
    if not isinstance(raw, Mapping):
        raise _refuse("", f"is {_kind(raw)}, expected a mapping of fields to values")
    if len(raw) > FIELDS_LIMIT:
        raise _refuse("", f"names {len(raw)} fields, limit {FIELDS_LIMIT}")
    if not raw:
        return None
    return Filter(frozenset(_parse_field(field, wanted) for field, wanted in raw.items()))


def _parse_field(field: object, wanted: object) -> OneOf | Range:
    if not isinstance(field, str) or not field:
        raise _refuse("", f"has the field name {field!r}, expected text")
    if isinstance(wanted, Mapping):
        return Range(field, _parse_bounds(field, wanted))
    listed = wanted if isinstance(wanted, list | tuple) else [wanted]
    if not listed or len(listed) > VALUES_LIMIT:
        raise _refuse(field, f"lists {len(listed)} values, expected 1 to {VALUES_LIMIT}")
    values = set[tuple[bool, Value]]()
    for value in listed:
        if not isinstance(value, str | int | float) or value != value:
            raise _refuse(field, f"asks for {_kind(value)}, expected text, a number, true or false, or a list of them")
        values.add((isinstance(value, bool), value))
    return OneOf(field, frozenset(values))


def _parse_bounds(field: str, wanted: Mapping[object, object]) -> tuple[tuple[str, str | int | float], ...]:
    bounds: list[tuple[str, str | int | float]] = []
    for name, bound in wanted.items():
        if name not in _RANGE:
            raise _refuse(field, f"has the bound {name!r}, expected {', '.join(_RANGE)}")
        if isinstance(bound, bool) or not isinstance(bound, str | int | float) or bound != bound:
            raise _refuse(field, f"has {_kind(bound)} as its bound {name}, expected text or a number")
        bounds.append((str(name), bound))
    if not bounds:
        raise _refuse(field, f"has no bound, expected one of {', '.join(_RANGE)}")
    return tuple(sorted(bounds))


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return "NaN" if value != value else f"a {type(value).__name__}"


def _refuse(field: str, observed: str) -> BadRequest:
    path = f"filter.{field}" if field else "filter"
    return BadRequest(f"{path} {observed}; correct it in the request", param=path)
