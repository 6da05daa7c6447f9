"""Predicted quality: what is learnt from answers, and what is said where nothing was learnt."""

import numpy as np
import pytest

from experts.fleet import Domain
from router.quality import TEXT_FEATURES, QualityModel, observe_text, predict_quality
from router.quality_training import QualityRow, train_quality
from router.question import Vector

DIMENSIONS = 8


def build_vector(topic: int, noise: np.random.Generator) -> Vector:
    vector = noise.normal(0, 0.2, DIMENSIONS).astype(np.float32)
    vector[topic] += 1
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def build_rows(count: int = 400) -> list[QualityRow]:
    """Two variants of `law`: `full` is right on both topics, `quick` only on the first."""
    noise = np.random.default_rng(7)
    rows = []
    for at in range(count):
        topic = at % 2
        vector = build_vector(topic, noise)
        text = f"question {at} about topic {'ab'[topic]}"
        rows.append(QualityRow(text, vector, "law/full", bool(noise.random() < 0.9)))
        rows.append(QualityRow(text, vector, "law/quick", bool(noise.random() < (0.9, 0.2)[topic])))
    return rows


def build_domain(**accuracies: float | None) -> Domain:
    variants = {name: {"engine": "small", "accuracy": accuracy} for name, accuracy in accuracies.items()}
    return Domain.model_validate({"description": "Laws and courts.", "variants": variants})


@pytest.fixture(scope="module")
def model() -> QualityModel:
    return train_quality(build_rows())


def test_it_learns_where_the_quick_variant_is_enough(model: QualityModel) -> None:
    noise = np.random.default_rng(1)
    domain = build_domain(full=None, quick=None)
    easy = predict_quality(model, "law", domain, "question about topic a", build_vector(0, noise))
    hard = predict_quality(model, "law", domain, "question about topic b", build_vector(1, noise))
    assert easy["quick"] > 0.7
    assert hard["quick"] < 0.45
    assert min(easy["full"], hard["full"]) > 0.75


def test_one_and_many_give_the_same_probability(model: QualityModel) -> None:
    vector = build_vector(0, np.random.default_rng(2))
    single = predict_quality(model, "law", build_domain(full=None, quick=None), "what?", vector)
    assert model.predict(["what?"], vector)[0] == pytest.approx([single["full"], single["quick"]], abs=1e-6)


def test_without_a_model_the_stated_accuracy_is_predicted() -> None:
    domain = build_domain(full=0.9, quick=0.6, other=None)
    predicted = predict_quality(None, "law", domain, "what?", np.zeros(DIMENSIONS, np.float32))
    assert predicted == {"full": 0.9, "quick": 0.6, "other": 0.9}
    assert predict_quality(None, "law", build_domain(full=None), "x", np.zeros(0, np.float32)) == {"full": 0.5}


def test_a_vector_that_the_model_cannot_read_falls_back_to_the_stated_accuracy(model: QualityModel) -> None:
    assert predict_quality(model, "law", build_domain(full=0.7), "x", np.zeros(0, np.float32)) == {"full": 0.7}


def test_an_unknown_variant_is_judged_by_its_accuracy_and_the_questions_hardness(model: QualityModel) -> None:
    noise = np.random.default_rng(3)
    domain = build_domain(new=0.6)
    easy = predict_quality(model, "law", domain, "question about topic a", build_vector(0, noise))["new"]
    hard = predict_quality(model, "law", domain, "question about topic b", build_vector(1, noise))["new"]
    assert hard < easy
    assert 0.2 < hard < easy < 0.9


def test_a_stated_accuracy_outweighs_a_handful_of_answers() -> None:
    rows = [row for row in build_rows(2) if row.variant == "law/full"]
    wrong = [QualityRow(row.text, row.vector, row.variant, False) for row in rows]
    vector = wrong[0].vector
    domain = build_domain(full=0.9)
    told = predict_quality(train_quality(wrong, {"law/full": 0.9}), "law", domain, "x", vector)["full"]
    untold = predict_quality(train_quality(wrong), "law", domain, "x", vector)["full"]
    assert told > 0.5 > untold


def test_single_labels_and_questions_of_one_kind_train_without_a_warning() -> None:
    rows = [QualityRow("same?", np.ones(DIMENSIONS, np.float32), "law/full", True)] * 30
    assert np.isfinite(train_quality(rows).predict(["same?"], np.ones((1, DIMENSIONS), np.float32))).all()


def test_it_survives_the_artifact_and_a_damaged_one_is_refused(model: QualityModel) -> None:
    arrays = model.to_arrays()
    vector = build_vector(0, np.random.default_rng(4))
    loaded = QualityModel.from_arrays(arrays, model.variants)
    assert (loaded.predict(["x"], vector) == model.predict(["x"], vector)).all()
    with pytest.raises(ValueError, match="train it again"):
        QualityModel.from_arrays(arrays, ["law/full"])
    with pytest.raises(ValueError, match=r"quality\.bias"):
        QualityModel.from_arrays({name: array for name, array in arrays.items() if "bias" not in name}, model.variants)


def test_nothing_to_learn_from_says_so() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        train_quality([])


@pytest.mark.parametrize("text", ["", " ", "\n\n", "?", "ß" * 50_000, "A. yes\nB. no", "\x00😀"])
def test_any_text_has_finite_counts(text: str) -> None:
    counts = observe_text(text)
    assert len(counts) == TEXT_FEATURES
    assert np.isfinite(counts).all()
