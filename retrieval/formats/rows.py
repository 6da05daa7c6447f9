"""What CSV and JSONL share: lines of bounded length from a file of any length."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from retrieval.document import ROW_BYTES, CannotRead
from retrieval.formats.plain import UTF_16

TOO_LONG = f"is longer than {ROW_BYTES // 10**6} MB, the limit of a row; split its document"


@dataclass(frozen=True, slots=True)
class Row:
    """A document of a file with many; `fields` are its columns or keys."""

    line: int
    fields: dict[str, object]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that gives no document, and why."""

    line: int
    reason: str


def read_lines(file: BinaryIO, number: int = 0) -> Iterator[tuple[int, bytes | None]]:
    """Lines with their numbers and ends, `number` lines read before; None for one over the limit, never held whole."""
    while line := file.readline(ROW_BYTES + 1):
        number += 1
        if len(line) <= ROW_BYTES:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(ROW_BYTES)
        yield number, None


def decode_line(line: bytes, number: int) -> str:
    """UTF-8, without the byte order mark that a first line may have; raises CannotRead."""
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        what = "UTF-16" if number == 1 and line.startswith(UTF_16) else "not UTF-8"
        raise CannotRead(f"is {what}: {error.reason} at byte {error.start}; convert it") from error
