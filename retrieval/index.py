"""Index versions on disk: one folder of immutable files per version, built aside, checked when opened.

    <root>/<version>/passages.jsonl   one passage per line, in the order of the vectors
                     vectors.faiss    FAISS index, inner product
                     manifest.json    what the other two must be; written last

`<version>` is a hash of what the index was built from, so the same content always has the same name.
"""

import fcntl
import hashlib
import json
import mmap
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from experts.errors import ConfigurationError, IndexDamaged
from retrieval.passage import Hit, Passage, SearchResult

# Raise it when the files, or the text that is embedded for a passage, change: every version gets a new name.
FORMAT = 1
PASSAGES_FILE = "passages.jsonl"
VECTORS_FILE = "vectors.faiss"
MANIFEST_FILE = "manifest.json"
BATCH = 64

_BUILDING = ".building-"
_DISCARDED = ".discarded-"

OnProgress = Callable[[int, int], None]
"""Called with passages embedded so far and passages in all."""


class TextEncoder(Protocol):
    """What building an index needs of an encoder; `retrieval.encoder.Encoder` is the real one."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version is and what its files must be."""

    format: int
    version: str
    encoder_fingerprint: str
    corpus_fingerprint: str  # sha256 of the passages file
    count: int
    dimensions: int
    created: str
    vectors_sha256: str


def corpus_version(passages: Sequence[Passage], encoder_fingerprint: str) -> str:
    """The name of the version that these passages and this encoder give; reads no file and loads no model."""
    return _version(_corpus_fingerprint(passages), encoder_fingerprint)


def build_index(
    passages: Sequence[Passage], encoder: TextEncoder, root: Path, on_progress: OnProgress | None = None
) -> str:
    """Build the version of these passages under `root` and return its name; does nothing when it is already there.

    Builders of one root run one after another, in any number of processes. A version that is damaged is replaced; the
    files of an open version are never written to.
    """
    version = corpus_version(passages, encoder.fingerprint)
    root.mkdir(parents=True, exist_ok=True)
    with _builders_turn(root):
        if is_built(root, version):
            return version
        # Holding the lock, what lies here was left by builders that died.
        for leftover in [*root.glob(f"{_BUILDING}*"), *root.glob(f"{_DISCARDED}*")]:
            shutil.rmtree(leftover, ignore_errors=True)
        aside = root / f"{_BUILDING}{uuid.uuid4().hex}"
        aside.mkdir()
        try:
            _write_version(passages, encoder, version, aside, on_progress)
            _publish(aside, root / version)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return version


def is_built(root: Path, version: str) -> bool:
    """Whether the version is there and undamaged; reads its files whole, loads neither FAISS nor a model."""
    try:
        read_manifest(root, version)
    except IndexDamaged:
        return False
    return True


def read_manifest(root: Path, version: str) -> Manifest:
    """The manifest of a version, after its files were found to be what it says; raises IndexDamaged when not."""
    folder = root / version
    manifest = _parse_manifest(folder, version)
    for name, expected in ((PASSAGES_FILE, manifest.corpus_fingerprint), (VECTORS_FILE, manifest.vectors_sha256)):
        try:
            with (folder / name).open("rb") as file:
                observed = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _damaged(folder / name, f"cannot be read: {error.strerror}") from error
        if observed != expected:
            raise _damaged(folder / name, f"has sha256 {observed}, its manifest says {expected}")
    return manifest


class OpenIndex:
    """One version, its files mapped into memory; search may be called from several threads."""

    def __init__(
        self, manifest: Manifest, vectors: Any, passages: "_PassageFile", set_threads: Callable[[int], None]
    ) -> None:
        self.version = manifest.version
        self.count = manifest.count
        self.dimensions = manifest.dimensions
        self._vectors = vectors
        self._passages = passages
        self._set_threads: Callable[[int], None] = set_threads

    def search(self, vector: npt.NDArray[np.float32], k: int) -> SearchResult:
        """The k passages of highest inner product with one vector of shape (dimensions,), best first, exactly.

        Fewer when the index has fewer. Raises ConfigurationError for a vector of another length.
        """
        if vector.shape != (self.dimensions,):
            raise ConfigurationError(
                f"search vector has shape {vector.shape}, index version {self.version} takes ({self.dimensions},); "
                f"search with the encoder that built the index, or build it again"
            )
        if k < 1:
            raise ValueError(f"k is {k}, must be at least 1")
        if not self.count:
            return SearchResult(hits=(), version=self.version)
        # Holds for the calling thread only. One query over 10,000 vectors on busy cores: 20 ms with OpenMP's own number
        # of threads, which wait for each other, 0.6 ms with one.
        self._set_threads(1)
        query = np.ascontiguousarray(vector, dtype=np.float32).reshape(1, -1)
        scores, places = self._vectors.search(query, min(k, self.count))
        # FAISS fills up with place -1 where it found nothing, for example with a vector that is not finite.
        hits = tuple(
            Hit(passage=self._passages[int(place)], score=float(score))
            for score, place in zip(scores[0], places[0], strict=True)
            if place >= 0
        )
        return SearchResult(hits=hits, version=self.version)


def open_index(root: Path, version: str) -> OpenIndex:
    """Open a version for searching after checking every byte of it; raises IndexDamaged."""
    import faiss

    manifest = read_manifest(root, version)
    path = root / version / VECTORS_FILE
    try:
        # Maps the vectors instead of copying them: processes of one node share the pages.
        vectors = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise _damaged(path, f"is not an index that FAISS {faiss.__version__} reads: {error}") from error
    passages = _PassageFile(root / version / PASSAGES_FILE)
    observed = (vectors.ntotal, len(passages), vectors.d)
    if observed != (manifest.count, manifest.count, manifest.dimensions):
        raise _damaged(
            path,
            f"has {observed[0]} vectors of {observed[2]} dimensions for {observed[1]} passages, its manifest says "
            f"{manifest.count} of {manifest.dimensions}",
        )
    return OpenIndex(manifest, vectors, passages, faiss.omp_set_num_threads)


class _PassageFile:
    """The lines of a passages file by number, mapped into memory and parsed when asked for."""

    def __init__(self, path: Path) -> None:
        self._map: mmap.mmap | None = None
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size:  # An empty file cannot be mapped.
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = np.frombuffer(self._map, dtype=np.uint8) if self._map is not None else np.zeros(0, dtype=np.uint8)
        self._ends = np.flatnonzero(data == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place: int) -> Passage:
        assert self._map is not None
        start = int(self._ends[place - 1]) + 1 if place else 0
        return Passage(**json.loads(self._map[start : int(self._ends[place])]))


def _write_version(
    passages: Sequence[Passage], encoder: TextEncoder, version: str, folder: Path, on_progress: OnProgress | None
) -> None:
    import faiss

    vectors = faiss.IndexFlatIP(encoder.dimensions)
    for start in range(0, len(passages), BATCH):
        batch = passages[start : start + BATCH]
        vectors.add(encoder.encode([f"{passage.title}\n{passage.text}" for passage in batch]))
        if on_progress is not None:
            on_progress(start + len(batch), len(passages))
    lines = _passage_lines(passages)
    flat = bytes(faiss.serialize_index(vectors))
    manifest = Manifest(
        format=FORMAT,
        version=version,
        encoder_fingerprint=encoder.fingerprint,
        corpus_fingerprint=hashlib.sha256(lines).hexdigest(),
        count=len(passages),
        dimensions=encoder.dimensions,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        vectors_sha256=hashlib.sha256(flat).hexdigest(),
    )
    _write_durably(folder / PASSAGES_FILE, lines)
    _write_durably(folder / VECTORS_FILE, flat)
    _write_durably(folder / MANIFEST_FILE, _render_manifest(manifest))
    _sync_folder(folder)


def _publish(aside: Path, final: Path) -> None:
    """Give a finished version its name; a damaged one that has the name is put away first."""
    if final.exists():
        discarded = final.parent / f"{_DISCARDED}{uuid.uuid4().hex}"
        final.rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)
    aside.rename(final)
    _sync_folder(final.parent)


@contextmanager
def _builders_turn(root: Path) -> Iterator[None]:
    """Holds the root's lock; the kernel gives it back when a builder dies."""
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # Some network file systems cannot sync a folder; the files in it are synced.
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _passage_lines(passages: Sequence[Passage]) -> bytes:
    # ASCII JSON: a line ends only at the newline that ends it, whatever characters a passage has.
    return "".join(json.dumps(asdict(passage), sort_keys=True) + "\n" for passage in passages).encode()


def _corpus_fingerprint(passages: Sequence[Passage]) -> str:
    return hashlib.sha256(_passage_lines(passages)).hexdigest()


def _version(corpus_fingerprint: str, encoder_fingerprint: str) -> str:
    return hashlib.sha256(f"{FORMAT} {corpus_fingerprint} {encoder_fingerprint}".encode()).hexdigest()[:16]


def _render_manifest(manifest: Manifest) -> bytes:
    body = asdict(manifest)
    checksum = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return (json.dumps({"manifest": body, "sha256": checksum}, indent=2, sort_keys=True) + "\n").encode()


def _parse_manifest(folder: Path, version: str) -> Manifest:
    path = folder / MANIFEST_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read: {error.strerror}") from error
    try:
        manifest = Manifest(**json.loads(data)["manifest"])
        whole = _render_manifest(manifest) == data
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(path, f"is not a manifest: {error}") from error
    # Rendering again covers the manifest's own checksum and every byte between its values.
    if not whole:
        raise _damaged(path, "was changed after it was written")
    if manifest.format != FORMAT:
        raise _damaged(path, f"has format {manifest.format}, this Guildhall reads {FORMAT}")
    if manifest.version != version or version != _version(manifest.corpus_fingerprint, manifest.encoder_fingerprint):
        raise _damaged(path, f"is the manifest of version {manifest.version}")
    return manifest


def _damaged(path: Path, observed: str) -> IndexDamaged:
    return IndexDamaged(f"index file {path} {observed}; run `guildhall up` to build the index again")
