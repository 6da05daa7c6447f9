"""`guildhall router` on real files, as a user runs it, with an encoder that counts words."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deployments.cli_router import router_app
from deployments.feedback import FEEDBACK_FOLDER, AnsweredRequest, FeedbackStore, RatedSubQuery
from retrieval.encoder import SHIPPED_ENCODER, observe_encoder_fingerprint
from router.encoding import Vectors
from tests.conftest import write_fleet
from tests.router.labelled_rows import embed_static, embed_words, make_fleet, make_rows

Run = Callable[..., Result]


@dataclass(frozen=True)
class Tokens:
    text: str
    ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Encoded:
    vectors: Vectors


class WordStatic:
    def embed(self, tokens: list[Tokens]) -> Vectors:
        return embed_static([one.text for one in tokens])


class WordEncoder:
    static = WordStatic()

    def __init__(self) -> None:
        self.fingerprint = observe_encoder_fingerprint(SHIPPED_ENCODER)

    def tokenize(self, text: str) -> Tokens:
        return Tokens(text)

    def encode(self, tokens: list[Tokens]) -> Encoded:
        return Encoded(embed_words([one.text for one in tokens]))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fleet file, labels to train on, others to measure with, and an empty data folder."""
    fleet = make_fleet()
    document = fleet.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    document["router"] = {"artifact": "router", "confidence_floor": 0.1}
    document["engines"]["tiny"]["model"] = "tiny"
    write_fleet(tmp_path / "fleet.yaml", document)
    for name, seed, count in (("labels", 1, 150), ("others", 2, 30)):
        rows = make_rows((*fleet.domains, "oos"), count, seed)
        lines = [json.dumps({"text": row.text, "domain": row.label}) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("GUILDHALL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("deployments.fleet_encoder.load_fleet_encoder", lambda name, data_dir: WordEncoder())
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    def run(command: str, *arguments: str) -> Result:
        return CliRunner().invoke(router_app, [command, str(folder / "fleet.yaml"), *arguments])

    return run


def read_json(done: Result, code: int = 0) -> dict[str, Any]:
    assert done.exit_code == code, done.output
    body: dict[str, Any] = json.loads(done.stdout)
    return body


def test_train_evaluate_calibrate_and_rollback_as_a_user_does_it(folder: Path, run: Run) -> None:
    data, others = str(folder / "labels.jsonl"), str(folder / "others.jsonl")
    trained = read_json(run("train", "--data", data, "--json"))
    assert (trained["number"], trained["folder"]) == (1, str(folder / "router"))
    assert trained["labels"] == ["weather", "music", "cooking"]
    assert trained["rows"]["oos"] > 20
    assert (folder / "router/0001/manifest.json").is_file()
    measured = read_json(run("evaluate", "--data", others, "--json"))
    assert measured["artifact"] == 1
    assert measured["tier_2_accuracy"] > 0.9
    assert measured["out_of_scope_rows"] > 0
    shown = run("evaluate", "--data", others)
    assert "both tiers right" in shown.stdout
    calibrated = read_json(run("calibrate", "--target-error", "0.2", "--json"))
    assert (calibrated["number"], calibrated["thresholds"]["target_error"]) == (2, 0.2)
    assert calibrated["metrics"]["settled_by_tier_1"] >= trained["metrics"]["settled_by_tier_1"]
    assert read_json(run("rollback", "--json")) == {"artifact": 3, "folder": str(folder / "router")}
    assert read_json(run("evaluate", "--data", others, "--json"))["artifact"] == 3


def test_without_labels_the_fleet_file_is_enough_and_it_says_that_tier_1_settles_nothing(run: Run) -> None:
    done = run("train")
    assert done.exit_code == 0, done.output
    assert "tier 1 settles nothing: 33 rows are too few" in done.stdout.replace("\n", " ") or "too few" in done.stdout


def test_feedback_teaches_what_was_corrected_or_rated_well(folder: Path, run: Run) -> None:
    store = FeedbackStore(folder / "data", folder / "memory")
    for number, (text, domain, correction, score) in enumerate(
        (
            ("why does gruyere need fondue", "music", "cooking", 0.0),
            ("is mistral like sirocco today", "weather", None, 1.0),
            ("tell me of nothing", "music", None, 0.0),
            ("what about laws", "music", "law", 0.0),
        )
    ):
        answered = AnsweredRequest(f"r{number}", "", text, (RatedSubQuery(1, text, domain),))
        store.record(answered, score, {1: correction} if correction else {}, None)
    store.close()
    done = run("train", "--feedback", str(folder / "data" / FEEDBACK_FOLDER), "--json")
    assert read_json(done)["rows"] == {"weather": 12, "music": 11, "cooking": 12, "oos": 0}
    assert "1 labels of feedback name domains that the fleet no longer has" in done.stderr


def test_one_wrong_line_and_nothing_is_trained(folder: Path, run: Run) -> None:
    (folder / "wrong.jsonl").write_text('{"text": "rain", "domain": "weather"}\n{"text": "rain", "domain": "law"}\n')
    done = run("train", "--data", str(folder / "wrong.jsonl"))
    assert done.exit_code == 2
    assert 'line 2: domain "law" is none of this fleet' in done.stderr
    assert not (folder / "router").exists()


def test_mistakes_say_the_next_step(folder: Path, run: Run) -> None:
    for arguments, words in (
        (("evaluate", "--data", str(folder / "others.jsonl")), "guildhall router train"),
        (("evaluate",), "--data"),
        (("calibrate", "--target-error", "0.1"), "guildhall router train"),
        (("rollback",), "it has no artifact"),
        (("train", "--feedback", str(folder / "nothing")), "GUILDHALL_DATA_DIR/feedback"),
        (("train", "--data", str(folder / "nothing")), "cannot be read"),
    ):
        done = run(*arguments)
        assert done.exit_code == 2, done.output
        assert words in done.stderr.replace("\n", " "), done.stderr
    assert run("train", "--data", str(folder / "labels.jsonl")).exit_code == 0
    again = run("evaluate", "--data", str(folder / "labels.jsonl"))
    assert again.exit_code == 2
    assert "were trained on" in again.stderr
