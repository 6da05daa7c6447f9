"""Writes the files of a version, document by document, in bounded memory; see retrieval.version for the files."""

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from retrieval.dense import write_dense
from retrieval.lexical import write_lexical
from retrieval.passage import DocumentRecord, Passage, render_passage, searched_text
from retrieval.version import (
    DENSE_FILE,
    DOCUMENT_ENDS_FILE,
    DOCUMENT_IDS_FILE,
    DOCUMENTS_FILE,
    FORMAT,
    LEXICAL_FOLDER,
    MANIFEST_FILE,
    METADATA_FILE,
    METADATA_ROWS_FILE,
    PASSAGE_ENDS_FILE,
    PASSAGES_FILE,
    VECTORS_FILE,
    Manifest,
    check_file,
    hash_ids,
    render_manifest,
    stored_line,
)


class VersionWriter:
    """Takes documents in order, then writes what is made of all of them together."""

    def __init__(self, folder: Path, version: str, encoder_fingerprint: str, dimensions: int) -> None:
        self._folder = folder
        self._manifest = Manifest(FORMAT, version, encoder_fingerprint, dimensions, 0, 0, "flat", "", {})
        self._ids: list[str] = []
        self._metadata: dict[str, int] = {}
        self._metadata_rows = array("i")
        self._passage_ends = array("q")
        self._document_ends = array("q")

    def __enter__(self) -> "VersionWriter":
        self._passages = _create(self._folder / PASSAGES_FILE)
        self._documents = _create(self._folder / DOCUMENTS_FILE)
        self._vectors = _create(self._folder / VECTORS_FILE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._passages, self._documents, self._vectors):
            file.close()

    @property
    def rows(self) -> int:
        """Passages taken so far."""
        return len(self._passage_ends)

    def append(self, record: DocumentRecord, passages: Sequence[Passage], vectors: npt.NDArray[np.float32]) -> None:
        """Take a document with the vectors of its passages, shape (passages, dimensions)."""
        line = stored_line(record.id, record.fingerprint, record.origin, self.rows, len(passages))
        self._document_ends.append(_write_line(self._documents, json.dumps(line)))
        self._ids.append(record.id)
        for passage in passages:
            rendered = render_passage(passage)
            # ASCII JSON: a line ends only at the newline that ends it, whatever characters a passage has.
            self._passage_ends.append(_write_line(self._passages, json.dumps(rendered)))
            metadata = json.dumps(rendered["metadata"], sort_keys=True)
            self._metadata_rows.append(self._metadata.setdefault(metadata, len(self._metadata)))
        self._vectors.write(np.ascontiguousarray(vectors, dtype=np.float32).data)

    def vector(self, row: int) -> npt.NDArray[np.float32]:
        """The vector of a row taken before."""
        size = 4 * self._manifest.dimensions
        end = self._vectors.tell()
        self._vectors.seek(row * size)
        found = self._vectors.read(size)
        self._vectors.seek(end)
        return np.frombuffer(found, dtype=np.float32)

    def finish(self) -> Manifest:
        """Write everything else, the manifest last. Syncing the files is the storage's part."""
        for file in (self._passages, self._documents, self._vectors):
            file.flush()
        folder, rows = self._folder, self.rows
        kind = "flat"
        if rows:
            np.save(folder / PASSAGE_ENDS_FILE, np.asarray(self._passage_ends, dtype=np.int64))
            np.save(folder / METADATA_ROWS_FILE, np.asarray(self._metadata_rows, dtype=np.int32))
            shape = (rows, self._manifest.dimensions)
            vectors = np.memmap(folder / VECTORS_FILE, dtype=np.float32, mode="r", shape=shape)
            kind = write_dense(vectors, folder / DENSE_FILE)
            write_lexical(self._searched_texts(), folder / LEXICAL_FOLDER)
        (folder / METADATA_FILE).write_text("".join(f"{metadata}\n" for metadata in self._metadata))
        np.save(folder / DOCUMENT_ENDS_FILE, np.asarray(self._document_ends, dtype=np.int64))
        np.save(folder / DOCUMENT_IDS_FILE, hash_ids(self._ids))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        manifest = replace(
            self._manifest,
            documents=len(self._ids),
            passages=rows,
            dense_kind=kind,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            files={path.relative_to(folder).as_posix(): check_file(path) for path in files},
        )
        (folder / MANIFEST_FILE).write_bytes(render_manifest(manifest))
        return manifest

    def _searched_texts(self) -> Iterator[str]:
        with (self._folder / PASSAGES_FILE).open("rb") as lines:
            for line in lines:
                yield searched_text(Passage(**json.loads(line)))


def _create(path: Path) -> BinaryIO:
    return path.open("x+b")


def _write_line(file: BinaryIO, line: str) -> int:
    file.write(f"{line}\n".encode())
    return file.tell()
