"""Mistakes in names, types and ranges: pydantic's findings in the words of the fleet file."""

import json
import re
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError

from experts.fleet import Fleet
from experts.fleet_mistake import KeyPath, Mistake, choose_closest, plan_rename, show_names, show_value
from experts.fleet_schema import build_schema
from experts.settings import Settings

Part = TypeVar("Part", bound=Settings)

# difflib's ratio of `engine` to `engines` is 0.92, of `max_tokens` to `max_adapters` 0.64.
_SAME_WORD = 0.85

_NAMES = "a name of lower-case letters, digits and hyphens, a letter first, no hyphen last, 40 characters at most"


def parse_part(kind: type[Part], data: Any) -> Part | None:
    """One part of the tree, or None when it has mistakes. Strict: text is no number, and a number no text."""
    try:
        return kind.model_validate_json(json.dumps(data), strict=True)
    except ValidationError:
        return None


def observe_type_mistakes(data: dict[str, Any]) -> list[Mistake]:
    """Every unknown key, missing key, wrong type and value out of range in the whole tree."""
    try:
        Fleet.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        findings = error.errors(include_url=False, include_context=False)
    else:
        return []
    renamed = {closest for finding in findings if (closest := _closest_known(finding)) is not None}
    mistakes = []
    for finding in findings:
        key = tuple(str(part) for part in finding["loc"])
        # A misspelt key is one mistake: the key that it should have been is not missing as well.
        if finding["type"] != "missing" or key not in renamed:
            mistakes.append(_describe(finding["type"], key, finding["input"]))
    return mistakes


def _describe(kind: str, key: KeyPath, value: Any) -> Mistake:
    if kind == "extra_forbidden":
        return _describe_unknown_key(key)
    if kind == "missing":
        schema = _schema_at(key)
        meaning = schema.get("description") or _describe_schema(schema)
        return Mistake(key, "nothing", f"needed: {meaning.rstrip('.')}", f"add the key {key[-1]}")
    if key[-1] == "[key]":
        return Mistake(key[:-1], f"the name '{key[-2]}'", f"allowed: {_NAMES}", _plan_name(key[-2]))
    if kind == "string_pattern_mismatch":
        return Mistake(key, show_value(value), f"allowed: {_NAMES}", _plan_name(str(value)))
    if kind == "no_time_zone":
        known = "known: the names of the IANA time zone database"
        return Mistake(key, show_value(value), known, "write it as Europe/Berlin or UTC")
    if kind == "no_day":
        return Mistake(key, show_value(value), "allowed: days of the calendar", "correct the date")
    schema = _schema_at(key)
    if "enum" in schema and isinstance(value, str):
        next_step = plan_rename(value, schema["enum"], "choose one of them")
        return Mistake(key, show_value(value), _describe_schema(schema), next_step)
    found = show_value(value)
    if kind.endswith("_type") and isinstance(value, str):
        found += " (text)"
    elif kind in {"too_short", "string_too_short"} and value == "":
        found = "empty text"
    elif kind in {"string_too_long", "too_long"}:
        found = f"{len(value)} {'characters' if isinstance(value, str) else 'items'}"
    return Mistake(key, found, _describe_schema(schema), _plan_value(kind, key, value, schema))


def _describe_unknown_key(key: KeyPath) -> Mistake:
    known = _known_keys(key[:-1])
    closest = _choose_meant(key)
    next_step = f"did you mean '{closest}'?" if closest else "remove it or use one of these"
    if closest is None and (elsewhere := _places_of(key[-1])):
        next_step = f"move it: {key[-1]} is a key of {' and '.join(elsewhere)}"
    return Mistake(key, "an unknown key", f"known keys: {show_names(known)}", next_step)


def _choose_meant(key: KeyPath) -> str | None:
    """The key that an unknown one is a misspelling of; None if it is right, but in another part of the tree."""
    least_ratio = _SAME_WORD if _places_of(key[-1]) else 0.6
    return choose_closest(key[-1], _known_keys(key[:-1]), least_ratio)


def _closest_known(finding: Any) -> KeyPath | None:
    if finding["type"] != "extra_forbidden":
        return None
    key = tuple(str(part) for part in finding["loc"])
    closest = _choose_meant(key)
    return (*key[:-1], closest) if closest else None


def _known_keys(key: KeyPath) -> list[str]:
    return list(_schema_at(key).get("properties", {}))


def _plan_name(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").lstrip("0123456789-")[:40].rstrip("-")
    return f"rename it, for example to '{slug}'" if slug else "give it such a name"


def _plan_value(kind: str, key: KeyPath, value: Any, schema: dict[str, Any]) -> str:
    name = key[-1]
    wanted = schema.get("type")
    if value is None:
        return f"give {name} a value or remove the key"
    if "enum" in schema:
        return "choose one of them"
    if wanted == "string" and isinstance(value, bool | int | float):
        return f'write it in quotes: "{show_value(value)}"'
    if wanted in {"integer", "number"} and isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d+)?", value):
        return f"write {value} without quotes"
    if wanted == "array" and isinstance(value, str):
        return "write each item on a line of its own after a hyphen"
    if wanted == "object" and not isinstance(value, dict):
        return "put its keys on indented lines below it"
    if kind in {"less_than_equal", "less_than"}:
        return f"lower {name} to {schema.get('maximum')} at most"
    if kind in {"greater_than_equal", "greater_than"}:
        least = schema.get("minimum")
        return f"raise {name} to {least} at least" if least is not None else f"raise {name} above 0"
    if kind in {"too_short", "string_too_short"}:
        return "add at least one" if wanted in {"object", "array"} else "write more"
    if kind in {"too_long", "string_too_long"}:
        return "shorten it"
    return f"replace it with what {name} may be"


def _describe_schema(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return f"known: {show_names(schema['enum'])}"
    return "allowed: " + _describe_kind(schema)


def _describe_kind(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if kind in {"integer", "number"}:
        noun = "a whole number" if kind == "integer" else "a number"
        least, above, most = (schema.get(limit) for limit in ("minimum", "exclusiveMinimum", "maximum"))
        parts = [noun]
        if least is not None:
            parts.append(f"from {least:g}" if most is not None else f"of at least {least:g}")
        if above is not None:
            parts.append(f"above {above:g}")
        if most is not None:
            parts.append(f"{'up ' if least is None else ''}to {most:.10g}")
        return " ".join(parts)
    if kind == "string":
        least, most = schema.get("minLength"), schema.get("maxLength")
        if least and most:
            return f"text of {least} to {most} characters"
        return "text that is not empty" if least else "text"
    if kind == "array":
        most = f", {schema['maxItems']} at most" if "maxItems" in schema else ""
        return f"a list of {_describe_kind(schema['items'])}{most}"
    if "properties" in schema:
        return f"a mapping with the keys {show_names(schema['properties'])}"
    return "a mapping with at least one name"


@cache
def _schema() -> dict[str, Any]:
    return build_schema()


def _schema_at(key: KeyPath) -> dict[str, Any]:
    """The schema of one key; a name that the tree leaves open (an engine's, a domain's) leads to its part."""
    schema = _schema()
    for part in key:
        if part == "[key]":
            continue
        if "properties" in schema:
            schema = schema["properties"].get(part, {})
        elif "patternProperties" in schema:
            schema = next(iter(schema["patternProperties"].values()))
        else:
            schema = schema.get("items", {})
        schema = _resolve(schema)
    return schema


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        target = _schema()["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
        return {**target, **{name: value for name, value in schema.items() if name != "$ref"}}
    # Only optional values are alternatives here: the one that is not null is what the key is for.
    alternatives = [_resolve(inner) for inner in schema.get("anyOf", []) if inner.get("type") != "null"]
    if alternatives:
        return {**alternatives[0], **{name: value for name, value in schema.items() if name != "anyOf"}}
    return schema | {"enum": [schema["const"]]} if "const" in schema else schema


@cache
def _places_of(name: str) -> tuple[str, ...]:
    """Where in the tree a key of this name is known, as a reader would write the path."""
    places: list[str] = []

    def visit(schema: dict[str, Any], path: str) -> None:
        schema = _resolve(schema)
        if name in schema.get("properties", {}):
            places.append(path or "the whole file")
        for inner_name, inner in schema.get("properties", {}).items():
            visit(inner, f"{path}.{inner_name}".lstrip("."))
        for inner in schema.get("patternProperties", {}).values():
            visit(inner, f"{path}.NAME")

    visit(_schema(), "")
    return tuple(places)
