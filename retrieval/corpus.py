"""A folder of documents to passages. Nothing of a corpus is executed."""

import ast
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from experts.errors import ConfigurationError
from retrieval.passage import Passage

# all-MiniLM-L6-v2 reads 256 tokens, about 1,100 characters of English: a longer passage is found by its beginning only.
PASSAGE_CHARS = 1200

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^(#{1,2})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n)+")


@dataclass(frozen=True, slots=True)
class _Section:
    """A titled part of one document, not yet cut to a passage's length."""

    title: str
    anchor: str
    text: str


def load_corpus(folder: Path) -> tuple[Passage, ...]:
    """The passages of every .md, .py and .txt file under a folder, by path and then by place in the file.

    Hidden files and folders are left out, links to folders are not followed. Raises ConfigurationError naming the file
    when one cannot be read whole.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"corpus folder {folder} does not exist; correct domains.<name>.index.corpus")
    passages: list[Passage] = []
    for path in _find_documents(folder):
        document = path.relative_to(folder).as_posix()
        taken: set[str] = set()
        for section in _SPLITTERS[path.suffix](_read(path), path):
            for text in split_text(section.text):
                source = _choose_source(f"{document}#{section.anchor}", taken)
                passages.append(Passage(text=text, title=section.title, source=source))
    return tuple(passages)


def split_text(text: str, limit: int = PASSAGE_CHARS) -> tuple[str, ...]:
    """A text in pieces of at most `limit` characters, cut between paragraphs, else lines, else words, else anywhere."""
    return tuple(_pack(text, limit, ("\n\n", "\n", " ")))


def _pack(text: str, limit: int, separators: tuple[str, ...]) -> Iterator[str]:
    text = text.strip("\n") if separators else text
    if len(text) <= limit:
        if text.strip():
            yield text
        return
    if not separators:
        yield from (text[start : start + limit] for start in range(0, len(text), limit))
        return
    separator, finer = separators[0], separators[1:]
    parts = _BLANK_LINES.split(text) if separator == "\n\n" else text.split(separator)
    gathered = ""
    for part in parts:
        joined = f"{gathered}{separator}{part}" if gathered else part
        if len(joined) <= limit:
            gathered = joined
            continue
        if gathered.strip():
            yield gathered
        gathered = ""
        if len(part) <= limit:
            gathered = part
        else:
            yield from _pack(part, limit, finer)
    if gathered.strip():
        yield gathered


def _find_documents(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise ConfigurationError(f"corpus folder {error.filename} cannot be read: {error.strerror}; make it readable")

    found = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".") and Path(name).suffix in _SPLITTERS]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"corpus file {path} is not UTF-8: {error.reason} at byte {error.start}; convert or remove it"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"corpus file {path} cannot be read: {error.strerror}; make it readable or remove it"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _split_markdown(text: str, path: Path) -> Iterator[_Section]:
    document_title, section, lines = path.stem, "", list[str]()
    fence = ""

    def gathered() -> _Section:
        title = f"{document_title} - {section}" if section else document_title
        return _Section(title, _slug(section or document_title), "\n".join(lines))

    for line in text.split("\n"):
        opened = _FENCE.match(line)
        if opened and not fence:
            fence = opened[1]
        elif opened and opened[1].startswith(fence) and not line.strip(" \t`~"):
            fence = ""
        heading = None if fence or opened else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        yield gathered()
        lines = []
        if heading[1] == "#":
            document_title, section = heading[2] or path.stem, ""
        else:
            section = heading[2]
    yield gathered()


def _split_python(text: str, path: Path) -> Iterator[_Section]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigurationError(
            f"corpus file {path} is not Python that can be parsed: {error}; mend it or rename it to .txt"
        ) from error
    # Not str.splitlines: it also ends lines at form feeds and other characters that Python's own line numbers ignore.
    lines = text.split("\n")
    definitions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    if not definitions:
        yield _Section(path.name, path.stem, text)
    for node in definitions:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        yield _Section(f"{path.name} - {node.name}", node.name, "\n".join(lines[first - 1 : node.end_lineno]))


def _split_plain(text: str, path: Path) -> Iterator[_Section]:
    for number, piece in enumerate(split_text(text), start=1):
        yield _Section(path.stem, str(number), piece)


_SPLITTERS = {".md": _split_markdown, ".py": _split_python, ".txt": _split_plain}


def _slug(heading: str) -> str:
    words = re.sub(r"[^\w\s-]", "", heading.lower())
    return re.sub(r"\s+", "-", words.strip()) or "section"


def _choose_source(wanted: str, taken: set[str]) -> str:
    source, number = wanted, 1
    while source in taken:
        number += 1
        source = f"{wanted}-{number}"
    taken.add(source)
    return source
