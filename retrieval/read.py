"""Documents from folders, files, patterns and standard input, one at a time; a bad one is told and the rest goes on."""

import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from retrieval.document import (
    DOCUMENT_BYTES,
    ROW_BYTES,
    CannotRead,
    Document,
    Unreadable,
    build_document,
    identify,
)
from retrieval.formats.jsonl import parse_object, read_jsonl
from retrieval.formats.plain import decode_text
from retrieval.formats.rows import BadRow, Row, read_lines
from retrieval.formats.table import read_table
from retrieval.parser_process import ParserProcess
from retrieval.parsing import FOREIGN_SUFFIXES, SUFFIXES, check_signature, parse_content

STDIN = "-"
# Markdown and Python of this size are parsed here: at worst 100 MB and a second, and a child's answer costs more than
# an ordinary page's parsing.
PARSED_HERE_BYTES = 1 << 16

_HEAD_BYTES = 1024


@dataclass(frozen=True, slots=True)
class _File:
    """A file to read; `id` is its document's, `source` what a user calls it."""

    path: Path
    id: str
    source: str


@dataclass(frozen=True, slots=True)
class _Read:
    """A document and where it came from."""

    source: str
    document: Document


def read_documents(sources: Sequence[str], base: Path | None = None) -> Iterator[Document | Unreadable]:
    """The documents of folders, files, patterns (`reports/**/*.pdf`) and, for `-`, standard input, in that order.

    A folder is read by path with its folders; hidden files, links to folders and files of other kinds are left out. A
    document's id is its path below the folder given, a file's name, or what its row says. A second document of one id
    is unreadable. Relative sources start at `base`. One document at a time is in memory, whatever its file's size.
    """
    seen: set[str] = set()
    with ParserProcess() as parser:
        for read in chain.from_iterable(_read_source(source, base, parser) for source in sources):
            if isinstance(read, Unreadable):
                yield read
            elif read.document.id in seen:
                yield Unreadable(
                    read.source,
                    f"has the doubled id {read.document.id!r}: a document before it has the same, and is kept; "
                    "give each its own",
                )
            else:
                seen.add(read.document.id)
                yield read.document


def parse_document(name: str, data: bytes) -> Iterator[Document | Unreadable]:
    """The document of a file that was sent, or the documents of its rows; `name` is its id and tells its format."""
    with ParserProcess() as parser:
        for read in _guard(_showable(name), _read_stream(io.BytesIO(data), len(data), name, _showable(name), parser)):
            yield read.document if isinstance(read, _Read) else read


def _read_source(source: str, base: Path | None, parser: ParserProcess) -> Iterator[_Read | Unreadable]:
    if source == STDIN:
        yield from _guard("standard input", _read_stdin(sys.stdin.buffer))
        return
    path = (base or Path()) / source
    try:
        if path.is_dir():
            files = _walk(path)
        elif not path.exists() and any(mark in source for mark in "*?["):
            files = _find_matches(path)
        else:
            files = iter((_File(path, path.name, str(path)),))
        yield from _read_files(files, parser)
    except (OSError, ValueError) as error:  # Names that no file can have.
        yield Unreadable(_showable(source), f"cannot be read: {error}; correct it")


def _read_files(files: Iterable[_File | Unreadable], parser: ParserProcess) -> Iterator[_Read | Unreadable]:
    for file in files:
        if isinstance(file, Unreadable):
            yield file
        else:
            yield from _guard(_showable(file.source), _read_file(file, parser))


def _guard(source: str, reading: Iterator[_Read | Unreadable]) -> Iterator[_Read | Unreadable]:
    """What a reading gives, its end by an error included."""
    try:
        yield from reading
    except CannotRead as error:
        yield Unreadable(source, str(error))
    except OSError as error:
        yield Unreadable(source, f"cannot be read: {error.strerror or error}; make it readable or leave it out")
    except MemoryError:
        yield Unreadable(source, "takes more memory than this machine has free; split it")


def _walk(folder: Path) -> Iterator[_File | Unreadable]:
    locked: list[Unreadable] = []

    def note(error: OSError) -> None:
        locked.append(Unreadable(_showable(str(error.filename)), f"cannot be read: {error.strerror}; make it readable"))

    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    yield from locked
    yield from _choose_files(folder, found)


def _find_matches(pattern: Path) -> Iterator[_File | Unreadable]:
    """The files of a pattern, and of the folders among its matches, with ids below the pattern's fixed part."""
    parts = pattern.parts
    fixed = next(place for place, part in enumerate(parts) if any(mark in part for mark in "*?["))
    root = Path(*parts[:fixed])
    # Of pathlib, not glob: its `**` follows no links, so that a link to itself is no endless folder.
    found: set[Path] = set()
    for match in root.glob("/".join(parts[fixed:])):
        if match.is_dir():
            found |= {Path(parent, name) for parent, _, names in os.walk(match) for name in names}
        else:
            found.add(match)
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not shown:
        yield Unreadable(_showable(str(pattern)), "matches no file; correct the pattern")
    yield from _choose_files(root, shown)


def _choose_files(folder: Path, paths: Iterable[Path]) -> Iterator[_File | Unreadable]:
    """Those that are documents by their name, by path."""
    whole = folder.resolve()
    for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix()):
        suffix = path.suffix.lower()
        if suffix in FOREIGN_SUFFIXES:
            yield Unreadable(_showable(str(path)), _describe_foreign(suffix))
        elif suffix in SUFFIXES:
            # Whoever fills a folder shall not have it show what lies elsewhere; Kubernetes links within it.
            if path.is_symlink() and path.exists() and not path.resolve().is_relative_to(whole):
                yield Unreadable(_showable(str(path)), "is a link to a file outside its folder; put the file there")
            else:
                yield _File(path, path.relative_to(folder).as_posix(), str(path))


def _describe_foreign(suffix: str) -> str:
    return f"ends in {suffix!r}, which is not read; convert it to one of {', '.join(SUFFIXES)}"


def _read_file(file: _File, parser: ParserProcess) -> Iterator[_Read | Unreadable]:
    # Without waiting: a pipe or device that is named like a document would never answer.
    with open(os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
        observed = os.fstat(opened.fileno())
        if not stat.S_ISREG(observed.st_mode):
            raise CannotRead("is not a file but a pipe, socket or device; leave it out")
        yield from _read_stream(opened, observed.st_size, file.id, _showable(file.source), parser)


def _read_stream(
    stream: BinaryIO, size: int, name: str, source: str, parser: ParserProcess
) -> Iterator[_Read | Unreadable]:
    """The documents of a seekable stream of `size` bytes whose name tells what it is."""
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES:
        raise CannotRead(_describe_foreign(suffix))
    head = stream.read(_HEAD_BYTES)
    if not head:
        raise CannotRead("is empty (0 bytes); fill it or leave it out")
    check_signature(suffix, head)
    stream.seek(0)
    if suffix in (".csv", ".jsonl"):
        lines = read_lines(stream)
        yield from _read_rows(read_table(lines) if suffix == ".csv" else read_jsonl(lines), source)
        return
    data = _read_whole(stream, size)
    here = suffix == ".txt" or (suffix in (".md", ".py") and len(data) <= PARSED_HERE_BYTES)
    parse = parse_content if here else parser.parse
    yield _Read(source, identify(name, parse(suffix, data, Path(name).name)))


def _read_whole(stream: BinaryIO, size: int, before: bytes = b"") -> bytes:
    if size <= DOCUMENT_BYTES:
        data = before + stream.read(DOCUMENT_BYTES + 1 - len(before))
        size = max(size, len(data))
        if len(data) <= DOCUMENT_BYTES:
            return data
    raise CannotRead(
        f"is {size / 1e6:,.1f} MB, limit {DOCUMENT_BYTES / 1e6:g} MB for one document; split it, or give its parts as "
        "rows of a .jsonl file, which may be of any size"
    )


def _read_stdin(stream: BinaryIO) -> Iterator[_Read | Unreadable]:
    """Objects, where the first line is one, else a text."""
    head, number = b"", 0
    while not head.strip():
        head = stream.readline(ROW_BYTES)
        number += 1
        if not head:
            raise CannotRead("is empty; pipe a text or JSONL into it")
    if _is_object(head):
        yield from _read_rows(read_jsonl(chain([(number, head)], read_lines(stream, number))), "standard input")
    else:
        text = decode_text(_read_whole(stream, 0, head))
        yield _Read("standard input", build_document("stdin", text, "stdin"))


def _is_object(line: bytes) -> bool:
    try:
        parse_object(line.decode("utf-8-sig"))
    except ValueError:
        return False
    return True


def _read_rows(rows: Iterator[Row | BadRow], source: str) -> Iterator[_Read | Unreadable]:
    for row in rows:
        where = f"{source} line {row.line}"
        if isinstance(row, BadRow):
            yield Unreadable(where, row.reason)
            continue
        try:
            yield _Read(where, _build_row(row.fields))
        except CannotRead as error:
            yield Unreadable(where, str(error))


def _build_row(fields: dict[str, object]) -> Document:
    """A row's document; keys other than id, text, title and metadata are metadata too."""
    named = dict(fields)
    id, text, title, metadata = (named.pop(name, None) for name in ("id", "text", "title", "metadata"))
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    for name, value, required in (("id", id, True), ("text", text, True), ("title", title, False)):
        if value is None and required:
            raise CannotRead(f"has no {name!r}; give it one")
        if value is not None and not isinstance(value, str):
            raise CannotRead(f"has {name!r} that is not text but {type(value).__name__}; correct it")
    if metadata is not None and not isinstance(metadata, dict):
        raise CannotRead(f"has 'metadata' that is not an object but {type(metadata).__name__}; correct it")
    assert isinstance(id, str)
    assert isinstance(text, str)
    return build_document(id, text, title if isinstance(title, str) else "", {**named, **(metadata or {})})


def _showable(name: str) -> str:
    """A name that can be printed, whatever bytes a file system or a client put into it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
