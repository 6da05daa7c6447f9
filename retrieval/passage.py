"""What an index holds and what it returns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

MetadataValue = str | int | float | bool
Metadata = Mapping[str, MetadataValue]


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that stands alone.

    `source` is `<document>#<section>`, unique in an index. `position` counts the document's passages from 0.
    `fingerprint` is 16 hex digits of the document's content, title and metadata: the same for all its passages.
    """

    text: str
    title: str
    source: str
    document: str = ""
    position: int = 0
    fingerprint: str = ""
    metadata: Metadata = field(default_factory=dict, hash=False)


Origin = Literal["corpus", "added"]
"""Whether a document is declared by the fleet file's corpus or came on its own."""


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """A document as an index takes it: its passages in order, none for one without text."""

    id: str
    fingerprint: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """What an index knows of a document; `passages` counts them."""

    id: str
    fingerprint: str
    origin: Origin
    passages: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search found; a higher `score` is better, comparable within one result only."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one search, best first, all from the one state of an index that `version` names."""

    hits: tuple[Hit, ...]
    version: str


def render_passage(passage: Passage) -> dict[str, Any]:
    """A passage as JSON knows it."""
    return {
        "text": passage.text,
        "title": passage.title,
        "source": passage.source,
        "document": passage.document,
        "position": passage.position,
        "fingerprint": passage.fingerprint,
        "metadata": dict(passage.metadata),
    }


def parse_passage(line: bytes) -> Passage:
    """The passage of a line of JSON."""
    return Passage(**json.loads(line))


def searched_text(passage: Passage) -> str:
    """What is embedded, and what the lexical index reads, for a passage."""
    return f"{passage.title}\n{passage.text}"
