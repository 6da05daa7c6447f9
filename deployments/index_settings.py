"""What a replica must know of a domain's index, as it stands in Serve's `user_config`."""

from dataclasses import dataclass

from experts.search_mode import SearchMode

COPIES_FOLDER = "copies"
"""Where, in a node's data folder, copies of indexes that lie elsewhere are."""


@dataclass(frozen=True, slots=True)
class IndexSource:
    """Which index it is: the folder or URL where it lies, and the fingerprint of the encoder that built it."""

    location: str
    encoder: str


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """An index and how its domain is searched; the fields after the first two are those of `experts.fleet.Index`."""

    location: str
    encoder: str
    passages: int
    search: SearchMode = "hybrid"
    dense_weight: float | None = None
    reranker: str | None = None

    @property
    def source(self) -> IndexSource:
        return IndexSource(self.location, self.encoder)
