"""The fleet file's JSON schema is fresh and says of every key what it is for."""

from typing import Any, get_args

import jsonschema
import pytest
from pydantic import BaseModel

from experts.fleet import Fleet
from experts.fleet_schema import SCHEMA_FILE, build_schema, main, render_schema


def list_parts(annotation: Any) -> list[type[BaseModel]]:
    """The parts of the tree at and below a type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        below = [part for field in annotation.model_fields.values() for part in list_parts(field.annotation)]
        return [annotation, *below]
    return [part for argument in get_args(annotation) for part in list_parts(argument)]


def test_the_committed_schema_is_the_one_that_the_tree_gives() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == render_schema(), "run python -m experts.fleet_schema"
    assert main(["--check"]) == 0


def test_the_schema_is_a_valid_json_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(build_schema())


@pytest.mark.parametrize("part", sorted(set(list_parts(Fleet)), key=str))
def test_every_key_says_what_it_is_for(part: type[BaseModel]) -> None:
    assert [name for name, field in part.model_fields.items() if not field.description] == []
    assert part.__doc__


@pytest.mark.parametrize(
    ("key", "value"), [("name", "Bad Name"), ("nodes", {"Bad Name": {"cpus": 1, "memory_gib": 1}}), ("more", 1)]
)
def test_the_schema_rejects_what_the_tree_rejects(key: str, value: Any) -> None:
    good: dict[str, Any] = {
        "name": "office",
        "engines": {"small": {"model": "a/b"}},
        "domains": {"all": {"description": "Everything there is.", "variants": {"full": {"engine": "small"}}}},
        "generalist": "all",
        "nodes": {"one": {"cpus": 1, "memory_gib": 1}},
    }
    validator = jsonschema.Draft202012Validator(build_schema())
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, key: value})
