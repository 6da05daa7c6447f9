"""CSV: a header, then one document in a row; other columns than `id`, `text` and `title` are metadata."""

import csv
import re
from collections.abc import Iterable, Iterator

from retrieval.document import ROW_BYTES, CannotRead
from retrieval.formats.rows import TOO_LONG, BadRow, Row, decode_line

REQUIRED = ("id", "text")
COLUMNS = (*REQUIRED, "title")
# No leading zeros, and few enough digits to be exact: a postal code or an account number stays text.
_INTEGER = re.compile(r"-?(?:0|[1-9]\d{0,14})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9]\d{0,14})\.\d{1,15}", re.ASCII)


class _Lines:
    """Hands lines to the csv module and knows where its row began and how long it is."""

    def __init__(self, lines: Iterable[tuple[int, bytes | None]]) -> None:
        self._lines = iter(lines)
        self.row = 0
        self.lost = False  # Whether a quote was open so long that nobody knows where the next row begins.
        self._fed = 0

    def begin_row(self) -> None:
        self._fed = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        if not self._fed:
            self.row = number
        self._fed += 1 if line is None else len(line)
        if line is None or self._fed > ROW_BYTES:
            self.lost = self.row != number
            raise CannotRead(f"{TOO_LONG}, or close its quote; what follows is not read" if self.lost else TOO_LONG)
        return decode_line(line, number)


def read_table(lines: Iterable[tuple[int, bytes | None]]) -> Iterator[Row | BadRow]:
    """The rows under the header, one at a time; raises CannotRead when the header does not do."""
    csv.field_size_limit(ROW_BYTES)  # The module's own is 131,072 characters; it has one for the whole process.
    fed = _Lines(lines)
    reader = csv.reader(fed, strict=True)
    header = _read_header(reader)
    while True:
        fed.begin_row()
        try:
            values = next(reader)
        except StopIteration:
            return
        except (csv.Error, CannotRead) as error:
            reason = str(error) if isinstance(error, CannotRead) else f"is not CSV: {error}; correct its quotes"
            yield BadRow(fed.row, reason)
            if fed.lost:
                return
            continue
        if not values:
            continue
        if len(values) != len(header):
            yield BadRow(fed.row, f"has {len(values)} fields, its header {len(header)}; correct its commas and quotes")
            continue
        yield Row(fed.row, _name_fields(header, values))


def _read_header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = [name.strip() for name in next(reader)]
    except StopIteration:
        raise CannotRead("has no header; name its columns id, text and perhaps title") from None
    except csv.Error as error:
        raise CannotRead(f"has a header that is not CSV: {error}; correct it") from error
    missing = [name for name in REQUIRED if name not in header]
    seen = ", ".join(ascii(name) for name in header[:10])
    if missing:
        raise CannotRead(f"has no column {' and no column '.join(missing)}; its columns are {seen[:300]}; rename them")
    if len(set(header)) < len(header):
        raise CannotRead(f"has two columns of one name; its columns are {seen[:300]}; rename one")
    return header


def _name_fields(header: list[str], values: list[str]) -> dict[str, object]:
    named = dict(zip(header, values, strict=True))
    fields: dict[str, object] = {name: named.pop(name) for name in COLUMNS if name in named}
    fields["metadata"] = {name: _read_value(value) for name, value in named.items() if value.strip()}
    return fields


def _read_value(value: str) -> str | int | float:
    """A number where it is written as one, so that filters can compare it."""
    value = value.strip()
    if _INTEGER.fullmatch(value):
        return int(value)
    return float(value) if _DECIMAL.fullmatch(value) else value
