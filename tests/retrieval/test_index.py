"""Index versions on disk: what is built, what is found, what is noticed."""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from experts.errors import ConfigurationError, IndexDamaged
from retrieval.corpus import load_corpus
from retrieval.encoder import SHIPPED_ENCODER, load_encoder
from retrieval.index import (
    MANIFEST_FILE,
    PASSAGES_FILE,
    VECTORS_FILE,
    build_index,
    corpus_version,
    is_built,
    open_index,
    read_manifest,
)
from retrieval.passage import Passage

REPOSITORY = Path(__file__).parents[2]
BUILDER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from tests.retrieval.test_index import PASSAGES, HashEncoder
from retrieval.index import build_index
print(build_index(PASSAGES, HashEncoder(), Path(sys.argv[1])))
"""


class HashEncoder:
    """Vectors that depend on the text alone and cost nothing; the index does not care what they mean."""

    fingerprint = "hash-encoder-1"
    dimensions = 32

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = [
            np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])).normal(
                size=self.dimensions
            )
            for text in texts
        ]
        vectors = np.array(rows, dtype=np.float32).reshape(len(texts), self.dimensions)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


class DyingEncoder(HashEncoder):
    """Fails in the middle of a build."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        raise KeyboardInterrupt


PASSAGES = tuple(
    Passage(text=f"Text {number} é \u2028 \n end", title=f"T {number}", source=f"d.md#{number}")
    for number in range(300)
)


def vectors_of(passages: Sequence[Passage]) -> npt.NDArray[np.float32]:
    return HashEncoder().encode([f"{passage.title}\n{passage.text}" for passage in passages])


def names_in(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name != ".lock")


def test_search_finds_what_comparing_with_every_vector_finds(tmp_path: Path) -> None:
    index = open_index(tmp_path, build_index(PASSAGES, HashEncoder(), tmp_path))
    vectors = vectors_of(PASSAGES)
    for query in HashEncoder().encode([f"query {number}" for number in range(20)]):
        scores = vectors @ query
        best = np.argsort(-scores)[:7]
        result = index.search(query, 7)
        assert [hit.passage for hit in result.hits] == [PASSAGES[place] for place in best]
        assert np.allclose([hit.score for hit in result.hits], scores[best], atol=1e-5)
        assert result.version == index.version


def test_an_index_of_fewer_passages_than_asked_for_gives_them_all(tmp_path: Path) -> None:
    index = open_index(tmp_path, build_index(PASSAGES[:3], HashEncoder(), tmp_path))
    assert len(index.search(vectors_of(PASSAGES)[0], 10).hits) == 3


def test_an_empty_index_gives_no_hits(tmp_path: Path) -> None:
    version = build_index((), HashEncoder(), tmp_path)
    result = open_index(tmp_path, version).search(vectors_of(PASSAGES)[0], 4)
    assert result.hits == ()
    assert result.version == version


def test_a_vector_that_is_not_finite_gives_no_wrong_passage(tmp_path: Path) -> None:
    index = open_index(tmp_path, build_index(PASSAGES, HashEncoder(), tmp_path))
    assert index.search(np.full(32, np.nan, dtype=np.float32), 4).hits == ()


def test_a_vector_of_another_encoder_is_refused(tmp_path: Path) -> None:
    index = open_index(tmp_path, build_index(PASSAGES[:3], HashEncoder(), tmp_path))
    with pytest.raises(ConfigurationError, match=r"has shape \(384,\), index version \w+ takes \(32,\)"):
        index.search(np.zeros(384, dtype=np.float32), 4)
    with pytest.raises(ValueError, match="at least 1"):
        index.search(np.zeros(32, dtype=np.float32), 0)


def test_the_version_is_known_before_building_and_changes_with_all_that_decides_it(tmp_path: Path) -> None:
    version = build_index(PASSAGES, HashEncoder(), tmp_path)
    assert version == corpus_version(PASSAGES, HashEncoder.fingerprint)
    others = {
        corpus_version(PASSAGES[:-1], HashEncoder.fingerprint),
        corpus_version((replace(PASSAGES[0], title="other"), *PASSAGES[1:]), HashEncoder.fingerprint),
        corpus_version(PASSAGES[::-1], HashEncoder.fingerprint),
        corpus_version(PASSAGES, "another-encoder"),
    }
    assert len(others) == 4
    assert version not in others


def test_building_the_same_content_again_touches_nothing(tmp_path: Path) -> None:
    version = build_index(PASSAGES, HashEncoder(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in [tmp_path / version, *(tmp_path / version).iterdir()]}
    calls: list[tuple[int, int]] = []
    assert build_index(PASSAGES, HashEncoder(), tmp_path, lambda done, total: calls.append((done, total))) == version
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert calls == []


def test_progress_is_told_up_to_the_last_passage(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    build_index(PASSAGES, HashEncoder(), tmp_path, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (300, 300)
    assert calls == sorted(calls)


def test_versions_stand_side_by_side_and_an_open_one_goes_on(tmp_path: Path) -> None:
    old = open_index(tmp_path, build_index(PASSAGES[:10], HashEncoder(), tmp_path))
    new = open_index(tmp_path, build_index(PASSAGES, HashEncoder(), tmp_path))
    query = vectors_of(PASSAGES)[5]
    assert old.search(query, 1).version != new.search(query, 1).version
    assert old.search(query, 1).hits[0].passage == new.search(query, 1).hits[0].passage == PASSAGES[5]


def test_a_build_that_dies_leaves_no_version_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_index(PASSAGES, DyingEncoder(), tmp_path)
    assert names_in(tmp_path) == []
    (tmp_path / ".building-killed").mkdir()
    (tmp_path / ".building-killed" / VECTORS_FILE).write_bytes(b"half")
    version = build_index(PASSAGES, HashEncoder(), tmp_path)
    assert names_in(tmp_path) == [version]


@pytest.mark.parametrize("name", [MANIFEST_FILE, PASSAGES_FILE, VECTORS_FILE])
def test_any_flipped_byte_is_noticed_and_building_again_mends_it(tmp_path: Path, name: str) -> None:
    version = build_index(PASSAGES[:4], HashEncoder(), tmp_path)
    path = tmp_path / version / name
    whole = path.read_bytes()
    for place in sorted({*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1}):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(IndexDamaged, match="run `guildhall up` to build the index again"):
            open_index(tmp_path, version)
    assert not is_built(tmp_path, version)
    assert build_index(PASSAGES[:4], HashEncoder(), tmp_path) == version
    assert open_index(tmp_path, version).search(vectors_of(PASSAGES)[2], 1).hits[0].passage == PASSAGES[2]
    assert names_in(tmp_path) == [version]


@pytest.mark.parametrize("name", [MANIFEST_FILE, PASSAGES_FILE, VECTORS_FILE])
def test_a_missing_or_cut_file_is_noticed(tmp_path: Path, name: str) -> None:
    version = build_index(PASSAGES[:4], HashEncoder(), tmp_path)
    path = tmp_path / version / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IndexDamaged, match=name):
        open_index(tmp_path, version)
    path.unlink()
    with pytest.raises(IndexDamaged, match="cannot be read"):
        open_index(tmp_path, version)


def test_a_version_under_the_name_of_another_is_noticed(tmp_path: Path) -> None:
    version = build_index(PASSAGES[:4], HashEncoder(), tmp_path)
    (tmp_path / version).rename(tmp_path / "0123456789abcdef")
    with pytest.raises(IndexDamaged, match=f"is the manifest of version {version}"):
        open_index(tmp_path, "0123456789abcdef")


def test_a_missing_version_is_not_built(tmp_path: Path) -> None:
    assert not is_built(tmp_path, "0123456789abcdef")
    with pytest.raises(IndexDamaged):
        open_index(tmp_path, "0123456789abcdef")


def test_builders_in_several_processes_end_with_one_whole_version(tmp_path: Path) -> None:
    root = tmp_path / "indexes"
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", BUILDER, str(root), str(REPOSITORY)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    versions = {builder.communicate(timeout=60)[0].strip() for builder in builders}
    assert [builder.returncode for builder in builders] == [0, 0, 0]
    assert names_in(root) == sorted(versions) == [corpus_version(PASSAGES, HashEncoder.fingerprint)]
    assert open_index(root, versions.pop()).count == len(PASSAGES)


def test_the_manifest_says_what_the_version_was_built_from(tmp_path: Path) -> None:
    manifest = read_manifest(tmp_path, build_index(PASSAGES, HashEncoder(), tmp_path))
    assert (manifest.count, manifest.dimensions, manifest.encoder_fingerprint) == (300, 32, "hash-encoder-1")


def test_a_question_finds_the_section_that_answers_it_with_the_real_encoder(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "finance.md").write_text(
        "# Finance\n\n## Compound interest\n\nInterest is added to the principal and earns interest itself.\n\n"
        "## Bonds\n\nA bond pays coupons until it matures.\n\n## Inflation\n\nPrices rise and money buys less.\n"
    )
    encoder = load_encoder(SHIPPED_ENCODER)
    root = tmp_path / "indexes"
    index = open_index(root, build_index(load_corpus(tmp_path / "corpus"), encoder, root))
    hits = index.search(encoder.encode(["Why does my money lose value every year?"])[0], 3).hits
    assert hits[0].passage.title == "Finance - Inflation"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
