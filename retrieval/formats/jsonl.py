"""JSONL: one object in a line, with `id`, `text`, and perhaps `title` and `metadata`."""

import json
from collections.abc import Iterable, Iterator

from retrieval.document import CannotRead
from retrieval.formats.rows import TOO_LONG, BadRow, Row, decode_line


def read_jsonl(lines: Iterable[tuple[int, bytes | None]]) -> Iterator[Row | BadRow]:
    """The objects of a file, line by line; empty lines say nothing."""
    for number, line in lines:
        if line is None:
            yield BadRow(number, TOO_LONG)
        elif line.strip():
            try:
                yield Row(number, parse_object(decode_line(line, number)))
            except CannotRead as error:
                yield BadRow(number, str(error))


def parse_object(line: str) -> dict[str, object]:
    """A JSON object; raises CannotRead."""
    try:
        found = json.loads(line)
    except RecursionError as error:
        raise CannotRead("is nested too deeply; flatten it") from error
    except ValueError as error:
        raise CannotRead(f"is not JSON: {error}; correct it") from error
    if not isinstance(found, dict):
        raise CannotRead('is JSON but not an object; write {"id": …, "text": …}')
    return found
