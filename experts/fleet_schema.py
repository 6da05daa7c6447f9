"""The fleet file's JSON schema, for editors. `python -m experts.fleet_schema` writes it, `--check` compares it."""

import json
import sys
from pathlib import Path
from typing import Any

from experts.fleet import Fleet

SCHEMA_FILE = Path(__file__).with_name("fleet.schema.json")


def build_schema() -> dict[str, Any]:
    """The schema of a whole fleet file (JSON Schema 2020-12)."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Fleet.model_json_schema()}
    _close_names(schema)
    return schema


def render_schema() -> str:
    """The text of `fleet.schema.json`."""
    return json.dumps(build_schema(), indent=2) + "\n"


def _close_names(node: Any) -> None:
    """Forbid names outside the pattern: pydantic rejects them, but writes only a `patternProperties`."""
    if isinstance(node, dict):
        if "patternProperties" in node:
            node["additionalProperties"] = False
        for inner in node.values():
            _close_names(inner)
    elif isinstance(node, list):
        for inner in node:
            _close_names(inner)


def main(arguments: list[str]) -> int:
    """Write the schema, or with `--check` say whether the file is up to date."""
    if arguments == ["--check"]:
        if SCHEMA_FILE.is_file() and SCHEMA_FILE.read_text(encoding="utf-8") == render_schema():
            return 0
        sys.stderr.write(f"{SCHEMA_FILE} is out of date; run python -m experts.fleet_schema\n")
        return 1
    if arguments:
        sys.stderr.write(f"unknown arguments: {' '.join(arguments)}; known: --check\n")
        return 2
    SCHEMA_FILE.write_text(render_schema(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
