"""A version of an index: a folder of immutable files, written once, checked before use, mapped into memory.

passages.jsonl       one passage per line, the passages of a document together; the line's number is its row
passage_ends.npy     int64 (passages,)    where each line ends
documents.jsonl      one document per line: id, fingerprint, origin, first row, passages
document_ends.npy    int64 (documents,)   where each line ends
document_ids.npy     uint64 (2, documents) hashes of ids, ascending, and the line of each
metadata.jsonl       the different metadata that passages have, one per line
metadata_rows.npy    int32 (passages,)    which of them each passage has
vectors.f32          float32 (passages, dimensions), read only to write the next version
dense.faiss          retrieval.dense
lexical/             retrieval.lexical
manifest.json        what all of these must be; written last
"""

import hashlib
import json
import mmap
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from experts.errors import EncoderMismatch, IndexDamaged
from retrieval.held_files import raise_if_passing
from retrieval.passage import DocumentRecord, Metadata, Origin, Passage, parse_passage

if TYPE_CHECKING:
    from retrieval.dense import DenseIndex
    from retrieval.lexical import LexicalIndex

# Raise it when the files, or the text that is embedded for a passage, change.
FORMAT = 3

MANIFEST_FILE = "manifest.json"
PASSAGES_FILE = "passages.jsonl"
PASSAGE_ENDS_FILE = "passage_ends.npy"
DOCUMENTS_FILE = "documents.jsonl"
DOCUMENT_ENDS_FILE = "document_ends.npy"
DOCUMENT_IDS_FILE = "document_ids.npy"
METADATA_FILE = "metadata.jsonl"
METADATA_ROWS_FILE = "metadata_rows.npy"
VECTORS_FILE = "vectors.f32"
DENSE_FILE = "dense.faiss"
LEXICAL_FOLDER = "lexical"


@dataclass(frozen=True, slots=True)
class FileCheck:
    """What a file must be."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version is and what its files must be."""

    format: int
    version: str
    encoder_fingerprint: str
    dimensions: int
    documents: int
    passages: int
    dense_kind: str
    created: str
    files: dict[str, FileCheck]


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document of a version with its rows."""

    record: DocumentRecord
    first: int

    @property
    def rows(self) -> slice:
        """Where its passages and vectors are."""
        return slice(self.first, self.first + self.record.passages)


class OpenVersion:
    """One version, each of its files checked when it is first used; safe to use from several threads.

    Whatever was not opened before may raise IndexDamaged when it is used.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.name = manifest.version
        self.encoder_fingerprint = manifest.encoder_fingerprint
        self.dimensions = manifest.dimensions
        self.passages = manifest.passages
        self.documents = manifest.documents
        self.dense_kind = manifest.dense_kind
        self.created = manifest.created
        self._folder = folder
        self._manifest = manifest
        self._opening = threading.RLock()
        self._parts: dict[str, Any] = {}

    def open_documents(self) -> None:
        """Check and map what looking up documents and their passages needs."""
        if self.documents:
            _ = self._document_lines, self._document_ids
        if self.passages:
            _ = self._passage_lines

    def open_search(self) -> None:
        """Check and map all that searching needs, which is everything but the vectors."""
        self.open_documents()
        if self.passages:
            _ = self.dense, self.lexical
            # Parsed by the first filter only: it may have an object for every document.
            self._checked(METADATA_FILE)
            self._checked(METADATA_ROWS_FILE)

    def check_search(self) -> None:
        """Raise IndexDamaged unless all that searching needs is what was written; opens none of it."""
        for name in self._manifest.files:
            if name != VECTORS_FILE:
                self._checked(name)

    def check_vectors(self) -> None:
        """Raise IndexDamaged unless the vectors are what was written; reads all of them."""
        if self.passages:
            _ = self.vectors

    @property
    def dense(self) -> "DenseIndex":
        """The index of vectors; there is none in a version without passages."""
        return self._part("dense", self._open_dense)

    @property
    def lexical(self) -> "LexicalIndex":
        """The index of words; there is none in a version without passages."""
        return self._part("lexical", self._open_lexical)

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """Shape (passages, dimensions), mapped."""
        return self._part("vectors", self._open_vectors)

    def passage(self, row: int) -> Passage:
        """The passage of a row."""
        return parse_passage(self._passage_lines[row])

    def passage_line(self, row: int) -> bytes:
        """The passage of a row as it is stored."""
        return self._passage_lines[row]

    def find(self, document: str) -> StoredDocument | None:
        """The document of an id."""
        if not self.documents:
            return None
        hashes, lines = self._document_ids
        wanted = np.uint64(_hash(document))
        place = int(np.searchsorted(hashes, wanted))
        while place < len(hashes) and hashes[place] == wanted:
            stored = self._document(int(lines[place]))
            if stored.record.id == document:
                return stored
            place += 1
        return None

    def iterate(self) -> Iterator[StoredDocument]:
        """All documents, by row."""
        for line in range(self.documents):
            yield self._document(line)

    def metadata(self) -> tuple[tuple[Metadata, ...], npt.NDArray[np.int32]]:
        """The different metadata of passages, and which of them each row has."""
        if not self.passages:
            return (), np.zeros(0, dtype=np.int32)
        return self._metadata

    @property
    def _passage_lines(self) -> "_Lines":
        return self._part("passages", lambda: self._open_lines(PASSAGES_FILE, PASSAGE_ENDS_FILE, self.passages))

    @property
    def _document_lines(self) -> "_Lines":
        return self._part("documents", lambda: self._open_lines(DOCUMENTS_FILE, DOCUMENT_ENDS_FILE, self.documents))

    @property
    def _document_ids(self) -> npt.NDArray[np.uint64]:
        return self._part("ids", lambda: self._open_array(DOCUMENT_IDS_FILE, (2, self.documents)))

    @property
    def _metadata(self) -> tuple[tuple[Metadata, ...], npt.NDArray[np.int32]]:
        return self._part("metadata", self._open_metadata)

    def _document(self, line: int) -> StoredDocument:
        raw = json.loads(self._document_lines[line])
        record = DocumentRecord(raw["id"], raw["fingerprint"], raw["origin"], raw["passages"])
        return StoredDocument(record, raw["first"])

    def _part(self, name: str, opens: Any) -> Any:
        part = self._parts.get(name)
        if part is None:
            with self._opening:
                part = self._parts.get(name)
                if part is None:
                    part = self._parts[name] = opens()
        return part

    def _open_lines(self, name: str, ends_name: str, count: int) -> "_Lines":
        return _Lines(self._checked(name), self._open_array(ends_name, (count,)))

    def _open_array(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        path = self._checked(name)
        # A plain array on the map: np.memmap makes every slice a Python object with attributes to copy.
        array = np.load(path, mmap_mode="r").view(np.ndarray)
        if array.shape != shape:
            raise damaged(path, f"has shape {array.shape}, the manifest says {shape}")
        return array

    def _open_metadata(self) -> tuple[tuple[Metadata, ...], npt.NDArray[np.int32]]:
        lines = self._checked(METADATA_FILE).read_bytes().splitlines()
        return tuple(json.loads(line) for line in lines), self._open_array(METADATA_ROWS_FILE, (self.passages,))

    def _open_vectors(self) -> npt.NDArray[np.float32]:
        shape = (self.passages, self.dimensions)
        return np.memmap(self._checked(VECTORS_FILE), dtype=np.float32, mode="r", shape=shape).view(np.ndarray)

    def _open_dense(self) -> "DenseIndex":
        from retrieval.dense import open_dense

        path = self._checked(DENSE_FILE)
        try:
            dense = open_dense(path)
        except RuntimeError as error:
            raise damaged(path, f"is not an index that this FAISS reads: {error}") from error
        if (dense.count, dense.dimensions) != (self.passages, self.dimensions):
            raise damaged(
                path,
                f"has {dense.count} vectors of {dense.dimensions} dimensions, the manifest says {self.passages} of "
                f"{self.dimensions}",
            )
        return dense

    def _open_lexical(self) -> "LexicalIndex":
        from retrieval.lexical import open_lexical

        for name in self._manifest.files:
            if name.startswith(f"{LEXICAL_FOLDER}/"):
                self._checked(name)
        path = self._folder / LEXICAL_FOLDER
        try:
            lexical = open_lexical(path)
        except (OSError, ValueError) as error:
            raise damaged(path, f"is not a lexical index that this Guildhall reads: {error}") from error
        if lexical.count != self.passages:
            raise damaged(path, f"has {lexical.count} rows, the manifest says {self.passages}")
        return lexical

    def _checked(self, name: str) -> Path:
        path = self._folder / name
        expected = self._manifest.files.get(name)
        if expected is None:
            raise damaged(path, "is not in the manifest")
        observed = check_file(path)
        if observed != expected:
            raise damaged(path, f"is {observed}, the manifest says {expected}")
        return path


def open_version(folder: Path, version: str) -> OpenVersion:
    """Open a version by its manifest, which must be whole; raises IndexDamaged. Nothing else is read yet."""
    return OpenVersion(folder, read_manifest(folder, version))


def check_encoder(location: str, version: str, found: str, wanted: str) -> None:
    """Raise EncoderMismatch unless an index's vectors are of the encoder asked for; both are fingerprints."""
    if found != wanted:
        raise EncoderMismatch(
            f"index at {location}, version {version}: its vectors are of encoder {found}, the one asked for is "
            f"{wanted}; run `guildhall index build DOMAIN` to embed its documents again"
        )


def empty_version(encoder_fingerprint: str, dimensions: int) -> OpenVersion:
    """What an index is before anything was published; `created` is empty."""
    return OpenVersion(Path(), Manifest(FORMAT, "empty", encoder_fingerprint, dimensions, 0, 0, "flat", "", {}))


def read_manifest(folder: Path, version: str) -> Manifest:
    """The manifest of a version; raises IndexDamaged when it is not as it was written."""
    path = folder / MANIFEST_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise_if_passing(path, error)
        raise damaged(path, f"cannot be read: {error.strerror}") from error
    return parse_manifest(path, data, version)


def parse_manifest(path: Path, data: bytes, version: str) -> Manifest:
    """The manifest in a file's bytes; `path` is what an error names."""
    try:
        body = json.loads(data)["manifest"]
        manifest = Manifest(**{**body, "files": {name: FileCheck(**file) for name, file in body["files"].items()}})
        whole = render_manifest(manifest) == data
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, f"is not a manifest: {error}") from error
    # Rendering again covers the manifest's own checksum and every byte between its values.
    if not whole:
        raise damaged(path, "was changed after it was written")
    if manifest.format != FORMAT:
        raise damaged(path, f"has format {manifest.format}, this Guildhall reads {FORMAT}")
    if manifest.version != version:
        raise damaged(path, f"is the manifest of version {manifest.version}")
    return manifest


def render_manifest(manifest: Manifest) -> bytes:
    """The bytes of the manifest's file, with a checksum of itself."""
    body = asdict(manifest)
    checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({"manifest": body, "sha256": checksum}, indent=2, sort_keys=True) + "\n").encode()


def check_file(path: Path) -> FileCheck:
    """Length and checksum of a file; raises IndexDamaged when it cannot be read."""
    try:
        with path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            return FileCheck(file.tell(), checksum)
    except OSError as error:
        raise_if_passing(path, error)
        raise damaged(path, f"cannot be read: {error.strerror}") from error


def damaged(path: Path, observed: str) -> IndexDamaged:
    """The error for a file of a version that is not what it was."""
    return IndexDamaged(f"index file {path} {observed}; run `guildhall index build DOMAIN` to write a new version")


def stored_line(document: str, fingerprint: str, origin: Origin, first: int, passages: int) -> dict[str, Any]:
    """A line of documents.jsonl."""
    return {"id": document, "fingerprint": fingerprint, "origin": origin, "first": first, "passages": passages}


def hash_ids(documents: list[str]) -> npt.NDArray[np.uint64]:
    """What document_ids.npy holds for the ids of all lines."""
    hashes = np.fromiter(map(_hash, documents), dtype=np.uint64, count=len(documents))
    order = np.argsort(hashes, kind="stable")
    return np.stack([hashes[order], order.astype(np.uint64)])


def _hash(document: str) -> int:
    return int.from_bytes(hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class _Lines:
    """The lines of a file by number, mapped into memory."""

    def __init__(self, path: Path, ends: npt.NDArray[np.int64]) -> None:
        self._ends = ends
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __getitem__(self, number: int) -> bytes:
        start = int(self._ends[number - 1]) if number else 0
        return self._map[start : int(self._ends[number])]
