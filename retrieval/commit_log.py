"""The log of an index: numbered, immutable commits, each created by exactly one writer.

    <location>/log/0000000042.commit    magic, sha256 of the rest, length of the header, header (JSON), vectors

The state of an index is the fold of its log. A commit replaces or removes whole documents, or publishes a version that
holds everything up to the commit `through`; what came after `through` is applied on top of it. After the model of
Armbrust et al., "Delta Lake: High-Performance ACID Table Storage over Cloud Object Stores" (VLDB 2020).
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from experts.errors import IndexDamaged
from retrieval.held_files import raise_if_passing
from retrieval.passage import IndexedDocument, Passage, render_passage
from retrieval.storage import LOG, Storage

Reason = Literal["start", "add", "remove", "build", "compact", "rollback"]

_MAGIC = b"GHC1"
_CHECKED_FROM = len(_MAGIC) + hashlib.sha256().digest_size
_HEADER_FROM = _CHECKED_FROM + 4
_NAME = re.compile(r"(\d{10})\.commit")
# Enough to keep a remote store's connections busy, few enough to hold in memory.
_READ_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Published:
    """A version that is kept, and the commit that published it last.

    `through` is the last commit whose effect the version has; for a rollback it is the commit itself, which drops
    whatever came before.
    """

    version: str
    number: int
    through: int
    reason: Reason
    created: str


def _no_vectors() -> npt.NDArray[np.float32]:
    return np.zeros((0, 0), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Commit:
    """One change of an index, whole or not at all.

    `kept` is empty, or a version is published: then it comes first and the other versions that are kept follow,
    newest first. Otherwise `removed` goes first, then every document replaces the one of its id; `vectors` has a row
    for each of their passages in turn.
    """

    number: int
    reason: Reason
    created: str
    encoder_fingerprint: str
    dimensions: int
    kept: tuple[Published, ...] = ()
    removed: tuple[str, ...] = ()
    documents: tuple[IndexedDocument, ...] = ()
    vectors: npt.NDArray[np.float32] = field(default_factory=_no_vectors, compare=False)

    @property
    def published(self) -> Published | None:
        """What this commit publishes."""
        return self.kept[0] if self.kept else None


class CommitLog:
    """Reads and extends the log of one index."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def append(self, commit: Commit) -> bool:
        """Write the next commit durably; False when somebody else wrote one of this number, or later ones."""
        if not self._storage.create(_name(commit.number), render_commit(commit)):
            return False
        # Commits are removed oldest first. Where the one before is gone, this writer slept while the log went on, and
        # its commit stands where nobody looks. The first commit has no content that could be lost.
        if commit.number > 1 and not self._storage.exists(_name(commit.number - 1)):
            self._storage.remove(_name(commit.number))
            return False
        return True

    def has(self, number: int) -> bool:
        """Whether there is such a commit."""
        return self._storage.exists(_name(number))

    def read(self, number: int) -> Commit | None:
        """A commit, None where there is none; raises IndexDamaged."""
        try:
            data = self._storage.read(_name(number))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise_if_passing(_name(number), error)
            raise self._damaged(number, f"cannot be read: {error.strerror}") from error
        return self._parse(number, data)

    def read_each(self, numbers: Sequence[int]) -> list[Commit | IndexDamaged | None]:
        """Several commits in the order of `numbers`, each with what is wrong with it in its place."""
        found: list[Commit | IndexDamaged | None] = []
        for start in range(0, len(numbers), _READ_AT_ONCE):
            wanted = numbers[start : start + _READ_AT_ONCE]
            try:
                read = self._storage.read_many([_name(number) for number in wanted])
                found += [self._parse_or_tell(number, data) for number, data in zip(wanted, read, strict=True)]
            except OSError:  # One of them, which the slow way finds.
                found += [self._read_or_tell(number) for number in wanted]
        return found

    def numbers(self) -> list[int]:
        """The numbers of all commits, ascending."""
        return sorted(int(found[1]) for found in map(_NAME.fullmatch, self._storage.list(LOG)) if found)

    def remove_before(self, number: int) -> None:
        """Remove all older commits, the oldest first."""
        for old in self.numbers():
            if old < number:
                self._storage.remove(_name(old))

    def _read_or_tell(self, number: int) -> Commit | IndexDamaged | None:
        try:
            return self.read(number)
        except IndexDamaged as error:
            return error

    def _parse_or_tell(self, number: int, data: bytes) -> Commit | IndexDamaged:
        try:
            return self._parse(number, data)
        except IndexDamaged as error:
            return error

    def _parse(self, number: int, data: bytes) -> Commit:
        if data[: len(_MAGIC)] != _MAGIC:
            raise self._damaged(number, "is not a commit that this Guildhall reads")
        if data[len(_MAGIC) : _CHECKED_FROM] != hashlib.sha256(memoryview(data)[_CHECKED_FROM:]).digest():
            raise self._damaged(number, f"was changed or cut after it was written ({len(data)} bytes)")
        commit = parse_commit(data)
        if commit.number != number:
            raise self._damaged(number, f"is commit {commit.number}")
        return commit

    def _damaged(self, number: int, observed: str) -> IndexDamaged:
        return IndexDamaged(
            f"index file {self._storage.location}/{_name(number)} {observed}; run `guildhall index build DOMAIN`, "
            f"which keeps what the other commits hold"
        )


def render_commit(commit: Commit) -> bytes:
    """The bytes of a commit's file."""
    header = {
        "number": commit.number,
        "reason": commit.reason,
        "created": commit.created,
        "encoder_fingerprint": commit.encoder_fingerprint,
        "dimensions": commit.dimensions,
        "kept": [asdict(published) for published in commit.kept],
        "removed": commit.removed,
        "documents": [
            {
                "id": document.id,
                "fingerprint": document.fingerprint,
                "passages": [render_passage(passage) for passage in document.passages],
            }
            for document in commit.documents
        ],
    }
    rendered = json.dumps(header).encode()
    rendered += b" " * (-len(rendered) % 4)  # Aligns the vectors.
    body = len(rendered).to_bytes(4, "little") + rendered + np.ascontiguousarray(commit.vectors).tobytes()
    return _MAGIC + hashlib.sha256(body).digest() + body


def parse_commit(data: bytes) -> Commit:
    """The commit in a file's bytes, whose checksum was found to be right."""
    vectors_from = _HEADER_FROM + int.from_bytes(data[_CHECKED_FROM:_HEADER_FROM], "little")
    header: dict[str, Any] = json.loads(data[_HEADER_FROM:vectors_from])
    vectors = np.frombuffer(data, dtype=np.float32, offset=vectors_from)
    return Commit(
        **{
            **header,
            "kept": tuple(Published(**published) for published in header["kept"]),
            "removed": tuple(header["removed"]),
            "documents": tuple(
                IndexedDocument(
                    document["id"],
                    document["fingerprint"],
                    tuple(Passage(**passage) for passage in document["passages"]),
                )
                for document in header["documents"]
            ),
            "vectors": vectors.reshape(-1, header["dimensions"]) if vectors.size else _no_vectors(),
        }
    )


def _name(number: int) -> str:
    return f"{LOG}/{number:010d}.commit"
