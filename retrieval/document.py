"""What a document is before it is cut into passages, and the limits on one."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from retrieval.passage import Metadata, MetadataValue

# A shelf of 100 novels is 50 MB of text. A document is held in memory whole, up to ten times its size while parsed.
DOCUMENT_BYTES = 50_000_000
# One row of CSV or JSONL. Rows are parsed in the reading process, and `[{},{},…]` becomes objects of 24 times its size.
ROW_BYTES = 10_000_000
# A book of ten thousand pages has fewer. Keeps a file of empty headings from becoming millions of records.
SECTIONS = 100_000
# Both stand in every passage of a document, as its metadata does, so that they multiply.
TITLE_CHARS = 300
METADATA_CHARS = 4096
ID_CHARS = 512

# Raise it when the same file gives other passages than before: every document gets a new fingerprint.
_FORMAT = 1

BlockKind = Literal["text", "heading", "code", "table"]


class CannotRead(ValueError):
    """Why something is not a document; readers turn it into an `Unreadable`, it reaches no user as an exception."""


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines that belong together; a table's rows are lines, its header the first two, as Markdown writes them."""

    kind: BlockKind
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part of a document; its text is its blocks joined by line ends.

    `anchor` names it within the document; None lets its passages be counted instead.
    """

    title: str
    anchor: str | None
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What a parser finds in a file."""

    title: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read; `fingerprint` is 16 hex digits of title, content and metadata."""

    id: str
    title: str
    sections: tuple[Section, ...]
    metadata: Metadata
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that gave no document; `reason` continues the sentence that `source` begins, with the next step."""

    source: str
    reason: str


def build_document(id: str, text: str, title: str = "", metadata: Mapping[str, object] | None = None) -> Document:
    """A document of plain text; raises CannotRead when its parts are beyond the limits or no text."""
    title = clip_title(title)
    return identify(id, Content(title, (Section(title, None, (Block("text", normalize_lines(text)),)),)), metadata)


def identify(id: str, content: Content, metadata: Mapping[str, object] | None = None) -> Document:
    """A document of what a parser found; raises CannotRead when it is beyond the limits or has no text."""
    _check_id(id)
    kept = _check_metadata(metadata or {})
    if not any(block.text.strip() for section in content.sections for block in section.blocks):
        raise CannotRead("has no text; give it some or leave it out")
    return Document(id, content.title, content.sections, kept, _fingerprint(content, kept))


def normalize_lines(text: str) -> str:
    """Line ends of every system as one `\\n`."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def clip_title(title: str) -> str:
    """A title on one line, cut to the limit."""
    title = " ".join(title[: 4 * TITLE_CHARS].split())
    return title if len(title) <= TITLE_CHARS else f"{title[: TITLE_CHARS - 1]}…"


def _check_id(id: str) -> None:
    if not id.strip():
        raise CannotRead("has an empty id; name it")
    if len(id) > ID_CHARS:
        raise CannotRead(f"has an id of {len(id)} characters, limit {ID_CHARS}; shorten it")
    if not id.isprintable():
        raise CannotRead(f"has an id with characters that cannot be shown, {id!a}; rename it")


def _check_metadata(metadata: Mapping[str, object]) -> Metadata:
    kept: dict[str, MetadataValue] = {}
    for name, value in metadata.items():
        if value is None:
            continue
        if not isinstance(value, str | int | float | bool):
            kind = "a list" if isinstance(value, list) else "an object"
            raise CannotRead(f"has {kind} as metadata {name!a}; give text, a number or true or false")
        if isinstance(value, float) and not math.isfinite(value):
            raise CannotRead(f"has {value} as metadata {name!a}; give a finite number")
        kept[name] = value
    size = len(json.dumps(kept, ensure_ascii=False)) if kept else 0
    if size > METADATA_CHARS:
        raise CannotRead(
            f"has {size} characters of metadata, limit {METADATA_CHARS}, since every passage carries it; "
            "keep what you filter by, put the rest into the text"
        )
    return kept


def _fingerprint(content: Content, metadata: Metadata) -> str:
    digest = sha256()
    try:
        for part in _parts(content, metadata):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(8))
            digest.update(encoded)
    except UnicodeEncodeError as error:
        raise CannotRead("holds half a surrogate pair, which is not text; write it again as UTF-8") from error
    return digest.hexdigest()[:16]


def _parts(content: Content, metadata: Metadata) -> Iterator[str]:
    yield str(_FORMAT)
    yield content.title
    yield json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False)
    for section in content.sections:
        yield section.title
        yield section.anchor or ""
        for block in section.blocks:
            yield block.kind
            yield block.text
