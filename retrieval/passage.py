"""What an index returns."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that stands alone; `source` is `<document>#<section>`, the path relative to the corpus."""

    text: str
    title: str
    source: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that a search found; `score` is the cosine similarity, higher is nearer."""

    passage: Passage
    score: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The hits of one search, best first, all from the one index version named."""

    hits: tuple[Hit, ...]
    version: str
