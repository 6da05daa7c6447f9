"""What `guildhall up` does about indexes: builds what changed, waits for who serves it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from deployments import index_build, up
from deployments.cli_progress import Progress
from deployments.client import GatewayClient
from deployments.index_build import build_indexes
from deployments.up import await_versions
from experts.errors import ConfigurationError, EncoderMismatch, Unavailable
from experts.fleet import Fleet
from tests.deployments.fakes import build_fleet

DIMENSIONS = 384


class CountingEncoder:
    """Vectors of no meaning, and how many texts were embedded."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.texts += texts
        return np.full((len(texts), DIMENSIONS), DIMENSIONS**-0.5, dtype=np.float32)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    encoder = CountingEncoder()
    monkeypatch.setattr(index_build, "load_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr(index_build, "observe_encoder_fingerprint", lambda name: f"fingerprint of {name}")
    monkeypatch.setattr(index_build, "observe_encoder_dimensions", lambda _: DIMENSIONS)
    return encoder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "one.md").write_text("# One\n\nThe first document.\n")
    (folder / "two.md").write_text("# Two\n\nThe second document.\n")
    return folder


def make_fleet(corpus: Path | None, encoder: str = "first", **index: Any) -> Fleet:
    body = build_fleet().model_dump(mode="json")
    body["domains"]["finance"]["index"] = {"corpus": str(corpus) if corpus is not None else None, **index}
    body["router"]["encoder"] = encoder
    return Fleet.model_validate(body)


def test_only_what_changed_is_embedded_and_nothing_is_committed_without_a_change(
    tmp_path: Path, corpus: Path, encoder: CountingEncoder
) -> None:
    fleet = make_fleet(corpus)
    with Progress() as progress:
        source, first = build_indexes(fleet, tmp_path / "data", progress)["finance"]
        assert (first.changed, first.added, len(encoder.texts)) == (True, 2, 2)
        assert source.location == str(tmp_path / "data/indexes/test/finance")
        _, second = build_indexes(fleet, tmp_path / "data", progress)["finance"]
        assert (second.changed, second.version, len(encoder.texts)) == (False, first.version, 2)
        (corpus / "two.md").write_text("# Two\n\nThe second document, changed.\n")
        _, third = build_indexes(fleet, tmp_path / "data", progress)["finance"]
        assert (third.changed, third.replaced, third.unchanged, len(encoder.texts)) == (True, 1, 1, 3)


def test_an_unreadable_document_is_said_and_the_rest_goes_on(
    tmp_path: Path, corpus: Path, encoder: CountingEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "broken.pdf").write_bytes(b"nonsense")
    with Progress() as progress:
        _, change = build_indexes(make_fleet(corpus), tmp_path / "data", progress)["finance"]
    assert (change.added, len(change.unreadable)) == (2, 1)
    assert "broken.pdf" in capsys.readouterr().err


def test_a_corpus_without_a_readable_document_empties_no_index(
    tmp_path: Path, corpus: Path, encoder: CountingEncoder
) -> None:
    fleet = make_fleet(corpus)
    with Progress() as progress:
        build_indexes(fleet, tmp_path / "data", progress)
        for path in corpus.iterdir():
            path.unlink()
        with pytest.raises(ConfigurationError, match="the index is as it was"):
            build_indexes(fleet, tmp_path / "data", progress)
        (corpus / "one.md").write_text("# One\n\nThe first document.\n")
        _, change = build_indexes(fleet, tmp_path / "data", progress)["finance"]
        assert (change.removed, change.unchanged) == (1, 1)


def test_an_index_without_a_corpus_is_there_to_be_added_to(tmp_path: Path, encoder: CountingEncoder) -> None:
    location = str(tmp_path / "elsewhere")
    with Progress() as progress:
        source, change = build_indexes(make_fleet(None, location=location), tmp_path / "data", progress)["finance"]
    assert source.location == location
    assert change.version
    assert encoder.texts == []


def test_another_encoder_is_refused_with_the_way_to_rebuild(
    tmp_path: Path, corpus: Path, encoder: CountingEncoder
) -> None:
    with Progress() as progress:
        build_indexes(make_fleet(corpus), tmp_path / "data", progress)
        with pytest.raises(EncoderMismatch, match="guildhall index build finance"):
            build_indexes(make_fleet(corpus, encoder="second"), tmp_path / "data", progress)


class ScriptedFleet(GatewayClient):
    """A gateway whose replicas of 'law' serve one version after the other."""

    def __init__(self, *versions: tuple[str | None, ...]) -> None:
        super().__init__("http://127.0.0.1:1")
        self.versions = list(versions)

    def observe_fleet(self) -> dict[str, Any]:
        served = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
        states = [{"index_version": version} for version in served]
        line = {"domain": "law", "replica_states": states, "index_version": str(served[:1]), "index_problem": "torn"}
        return {"domains": [line]}


@pytest.mark.parametrize("last", [("new.7", "new.7"), ("new.8", "newer.9"), ()])
def test_up_waits_until_every_replica_serves_what_was_built_or_something_later(last: tuple[str, ...]) -> None:
    # The commit that publishes a version has its number before the version is open.
    fleet = ScriptedFleet(("old.6", "old.6"), ("old.7", "new.7"), (None, "new.7"), last)
    await_versions({"law": "new.7"}, fleet, Progress())
    assert fleet.versions == [last]


def test_a_replica_that_never_takes_it_up_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "FOLLOW_TIMEOUT_S", 0.2)
    with pytest.raises(Unavailable, match=r"not at new\.7 .* torn"):
        await_versions({"law": "new.7"}, ScriptedFleet(("old.6",)), Progress())
