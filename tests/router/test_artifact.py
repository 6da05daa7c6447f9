"""Claims about artifacts: what is loaded is what was saved, and nothing else is."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experts.errors import BadRequest, ConfigurationError, EncoderMismatch
from experts.fleet import Fleet
from router.artifact import (
    RouterArtifact,
    adapt_router,
    load_router_artifact,
    recalibrate_router,
    roll_back,
    save_router_artifact,
    train_router,
)
from router.domain_head import score_fast, score_full
from router.labels import read_answers, read_labels
from router.training import LabelledText
from tests.router.labelled_rows import embed_static, embed_words, make_fleet, make_rows

ENCODER = "0123456789abcdef"


def make_artifact(fleet: Fleet, rows: int = 30) -> RouterArtifact:
    labelled = (*make_rows(tuple(fleet.domains), rows, 1), *make_rows(("oos",), 5, 1))
    return train_router(fleet, labelled, embed_words, embed_static, ENCODER, "2026-01-01T00:00:00+00:00", 0.01)


@pytest.fixture(scope="module")
def artifact() -> RouterArtifact:
    return make_artifact(make_fleet())


def read_best(artifact: RouterArtifact, text: str) -> tuple[str, float]:
    head = artifact.trained.head
    fast = score_fast(head, text, embed_static([text])[0])
    scores = score_full(head, text, embed_words([text])[0], fast)
    return head.labels[scores.best], scores.confidence


def test_a_fleet_of_one_domain_that_is_only_described_has_a_router() -> None:
    fleet = make_fleet()
    name = fleet.generalist
    alone = fleet.model_copy(update={"domains": {name: fleet.domains[name].model_copy(update={"examples": ()})}})
    trained = train_router(alone, (), embed_words, embed_static, ENCODER, "2026-01-01T00:00:00+00:00", 0.01)
    assert read_best(trained, "anything at all") == (name, 1.0)


def test_what_is_loaded_decides_as_what_was_saved(artifact: RouterArtifact, tmp_path: Path) -> None:
    saved = save_router_artifact(artifact, tmp_path / "router")
    loaded = load_router_artifact(tmp_path / "router", ENCODER, make_fleet())
    assert loaded.describe() == saved.describe()
    assert (loaded.number, loaded.trained.thresholds, loaded.trained.gate) == (
        1,
        artifact.trained.thresholds,
        artifact.trained.gate,
    )
    for said in make_rows(tuple(make_fleet().domains), 5, 3):
        before, after = read_best(artifact, said.text), read_best(loaded, said.text)
        assert before[0] == after[0]
        assert before[1] == pytest.approx(after[1], abs=0.01)
    assert [path.name for path in (tmp_path / "router").iterdir()] == ["0001"]


def test_the_highest_sound_number_serves_and_says_what_it_skipped(artifact: RouterArtifact, tmp_path: Path) -> None:
    for _ in range(3):
        save_router_artifact(artifact, tmp_path)
    heads = tmp_path / "0003/heads.safetensors"
    data = bytearray(heads.read_bytes())
    data[len(data) // 2] ^= 1
    heads.write_bytes(data)
    (tmp_path / "0004").mkdir()
    (tmp_path / "0004/manifest.json").write_text("{")
    loaded = load_router_artifact(tmp_path, ENCODER, make_fleet())
    assert loaded.number == 2
    assert [Path(line.split(":")[0]).name for line in loaded.skipped] == ["0004", "0003"]
    assert "heads.safetensors is not what was written" in loaded.skipped[1]
    assert load_router_artifact(tmp_path / "0001", ENCODER, make_fleet()).number == 1


@pytest.mark.parametrize("name", ["manifest.json", "heads.safetensors", "rows.safetensors", "rows.jsonl"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut"])
def test_a_damaged_artifact_is_refused_with_the_next_step(
    artifact: RouterArtifact, tmp_path: Path, name: str, damage: str
) -> None:
    save_router_artifact(artifact, tmp_path)
    path = tmp_path / "0001" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-10])
    with pytest.raises(ConfigurationError, match=r"no router artifact that can be used .*guildhall router train"):
        load_router_artifact(tmp_path, ENCODER, make_fleet())


def test_an_artifact_of_another_format_is_refused(artifact: RouterArtifact, tmp_path: Path) -> None:
    save_router_artifact(artifact, tmp_path)
    manifest = tmp_path / "0001/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    with pytest.raises(ConfigurationError, match="it has format 99, this Guildhall reads 1"):
        load_router_artifact(tmp_path, ENCODER, make_fleet())


def test_another_encoder_and_another_fleet_are_refused(artifact: RouterArtifact, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no numbered folder"):
        load_router_artifact(tmp_path / "nothing", ENCODER, make_fleet())
    save_router_artifact(artifact, tmp_path)
    with pytest.raises(EncoderMismatch, match=r"trained with encoder 0123456789abcdef.*guildhall router train"):
        load_router_artifact(tmp_path, "other", make_fleet())
    fleet = make_fleet()
    renamed = {f"{name}-x": domain for name, domain in fleet.domains.items()}
    with pytest.raises(ConfigurationError, match="knows weather, music, cooking, and no domain of fleet 'test'"):
        load_router_artifact(tmp_path, ENCODER, fleet.model_copy(update={"domains": renamed}))


def test_an_artifact_follows_a_fleet_that_gains_and_loses_domains() -> None:
    artifact = make_artifact(make_fleet(("weather", "music")))
    assert adapt_router(artifact, make_fleet(("weather", "music")), embed_words, embed_static) is artifact
    adapted = adapt_router(artifact, make_fleet(("music", "cooking")), embed_words, embed_static)
    assert adapted.labels == ("music", "cooking")
    assert read_best(adapted, "tell me of bread with butter")[0] == "cooking"
    assert read_best(adapted, "tell me of piano with violin")[0] == "music"


def test_calibrating_anew_changes_thresholds_alone(artifact: RouterArtifact) -> None:
    loose = recalibrate_router(artifact, 0.5, "now")
    assert loose.trained.head is artifact.trained.head
    assert loose.trained.thresholds.confidence is not None
    assert loose.trained.metrics["settled_by_tier_1"] > artifact.trained.metrics["settled_by_tier_1"]


def test_rolling_back_publishes_the_older_one_again(artifact: RouterArtifact, tmp_path: Path) -> None:
    save_router_artifact(artifact, tmp_path)
    save_router_artifact(replace(artifact, created="later"), tmp_path)
    assert roll_back(tmp_path) == 3
    assert load_router_artifact(tmp_path, ENCODER, make_fleet()).created == artifact.created
    assert roll_back(tmp_path, 2) == 4
    assert load_router_artifact(tmp_path, ENCODER, make_fleet()).created == "later"
    with pytest.raises(ConfigurationError, match=r"no number 9; it has 1, 2, 3, 4"):
        roll_back(tmp_path, 9)
    with pytest.raises(ConfigurationError, match="nothing before its newest; it has no artifact"):
        roll_back(tmp_path / "nothing")


def test_the_fleets_own_examples_win_over_labels_that_contradict_them() -> None:
    fleet = make_fleet()
    example = fleet.domains["music"].examples[0]
    trained = train_router(fleet, (LabelledText(example, "cooking"),), embed_words, None, ENCODER, "", 0.01).trained
    at = trained.rows.texts.index(example)
    assert trained.head.labels[int(trained.rows.targets[at])] == "music"


def test_judged_answers_teach_which_variant_is_right(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    known = ("weather/full", "weather/quick")
    said = make_rows(("weather",), 40, 5)
    judged = [
        {"text": row.text, "variant": variant, "correct": variant == "weather/full" or at % 4 == 0}
        for at, row in enumerate(said)
        for variant in known
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in judged))
    answers = read_answers(path, known)
    assert len(answers) == 80
    artifact = train_router(
        make_fleet(), (), embed_words, embed_static, ENCODER, "2026-01-01T00:00:00+00:00", 0.01, answers=answers
    )
    save_router_artifact(artifact, tmp_path / "router")
    loaded = load_router_artifact(tmp_path / "router", ENCODER, make_fleet())
    assert loaded.quality is not None
    assert loaded.quality.variants == known
    full, quick = loaded.quality.predict([said[1].text], embed_words([said[1].text]))[0]
    assert full > quick
    path.write_text('{"text": "rain", "variant": "weather/none", "correct": true}\n{"text": "a", "variant": 1}\n')
    with pytest.raises(BadRequest) as caught:
        read_answers(path, known)
    assert 'line 1: variant "weather/none" is none of this fleet' in str(caught.value)
    assert "line 2: it has text, variant; needed are correct, text, variant alone" in str(caught.value)


def test_a_text_with_any_line_separator_is_loaded_as_it_was(tmp_path: Path) -> None:
    odd = LabelledText("rain\u2028and\x85hail", "weather")
    fleet = make_fleet()
    made = train_router(fleet, (odd,), embed_words, None, ENCODER, "2026-01-01T00:00:00+00:00", 0.01)
    save_router_artifact(made, tmp_path)
    assert odd.text in load_router_artifact(tmp_path, ENCODER, fleet).trained.rows.texts


def test_every_line_that_is_not_a_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    rows = [
        '{"text": "rain", "domain": "weather"}',
        "",
        "nonsense",
        '{"text": "rain"}',
        '{"text": " ", "domain": "oos"}',
    ]
    path.write_text("\n".join([*rows, '{"text": "rain", "domain": "law"}', "[" * 5000]))
    with pytest.raises(BadRequest) as caught:
        read_labels(path, ("weather", "music"))
    message = str(caught.value)
    assert "5 line(s) cannot be learned from, and nothing was trained; domains are weather, music" in message
    for expected in (
        "line 3: not JSON",
        "line 4: it has text;",
        "line 5: text is empty",
        'line 6: domain "law" is none',
    ):
        assert expected in message
    assert "line 7: not JSON" in message
    path.write_text('{"text": "fog", "domain": "weather"}\n{"text": "\\ud800", "domain": "oos"}\n')
    assert read_labels(path, ("weather",)) == (LabelledText("fog", "weather"), LabelledText("?", "oos"))
    path.write_text("")
    with pytest.raises(BadRequest, match="has no rows"):
        read_labels(path, ("weather",))
    with pytest.raises(BadRequest, match="cannot be read"):
        read_labels(tmp_path / "missing", ("weather",))


def test_a_disk_that_takes_nothing_leaves_what_was_there(artifact: RouterArtifact, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        save_router_artifact(artifact, file)
    assert np.array_equal(sorted(path.name for path in tmp_path.iterdir()), ["file"])
