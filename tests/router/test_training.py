"""Claims about training: few rows are enough, more are better, new domains cost the old ones nothing."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from experts.errors import ConfigurationError
from experts.fleet import Domain, Refusal, Variant
from router.classify import DomainProfile, choose_prototypes, measure_nearness, normalise
from router.domain_head import score_fast, score_full
from router.evaluation import Rules, evaluate_router, observe_auroc, observe_calibration_error
from router.training import (
    OUT_OF_SCOPE_LABEL,
    LabelledText,
    TrainedRouter,
    add_domains,
    embed_rows,
    fingerprint_rows,
    list_labels,
    read_fleet_texts,
    train_rows,
)
from tests.router.labelled_rows import embed_static, embed_words, make_fleet, make_rows, train


def measure(trained: TrainedRouter, texts: Sequence[LabelledText]) -> dict[str, float]:
    rows = embed_rows(texts, trained.head.labels, embed_words, embed_static)
    return evaluate_router(trained, rows, Rules(trained.head.labels[0], 0.0))


def test_ten_examples_a_domain_are_enough_to_work_at_once_and_too_few_for_tier_1_to_settle() -> None:
    fleet = make_fleet()
    labels = list_labels(fleet)
    trained = train(read_fleet_texts(fleet), labels)
    assert measure(trained, make_rows(labels, 40, 5))["tier_2_accuracy"] > 0.9
    assert trained.thresholds.confidence is None
    assert trained.metrics["settled_by_tier_1"] == 0


def test_the_same_rows_give_the_same_router() -> None:
    rows = make_rows(("weather", "music"), 15, 1)
    first, second = train(rows, ("weather", "music")), train(rows, ("weather", "music"))
    assert np.array_equal(first.head.encoder.weights, second.head.encoder.weights)
    assert (first.head.full, first.thresholds, first.metrics) == (second.head.full, second.thresholds, second.metrics)


def test_many_rows_let_tier_1_settle_most_within_the_target_error() -> None:
    trained = train(make_rows(("weather", "music"), 300, 1), ("weather", "music"))
    figures = measure(trained, make_rows(("weather", "music"), 100, 2))
    assert figures["settled_by_tier_1"] > 0.5
    assert figures["tiered_accuracy"] >= figures["tier_2_accuracy"] - 0.01
    assert figures["tier_2_accuracy"] > 0.97


def test_a_domain_added_with_ten_examples_is_routed_to_and_the_others_lose_nothing() -> None:
    old = ("weather", "music")
    trained = train(make_rows(old, 100, 1), old)
    held_out = make_rows(old, 100, 2)
    before = measure(trained, held_out)["tier_2_accuracy"]
    labels = (*old, "cooking")
    grown = add_domains(trained, labels, embed_rows(make_rows(("cooking",), 10, 3), labels, embed_words, embed_static))
    assert measure(grown, held_out)["tier_2_accuracy"] >= before
    assert measure(grown, make_rows(("cooking",), 50, 4))["tier_2_accuracy"] > 0.9


def test_a_domain_added_to_many_rows_keeps_blend_and_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.training.REFIT_WHOLE_ROWS", 50)
    old = ("weather", "music")
    trained = train(make_rows(old, 100, 1), old)
    labels = ("music", "cooking")
    grown = add_domains(trained, labels, embed_rows(make_rows(("cooking",), 10, 3), labels, embed_words, embed_static))
    assert (grown.head.labels, grown.head.full, grown.thresholds) == (labels, trained.head.full, trained.thresholds)
    figures = measure(grown, make_rows(labels, 50, 4))
    assert figures["tier_2_accuracy"] > 0.9


def test_rows_out_of_scope_teach_what_no_domain_owns() -> None:
    labels = ("weather", "music")
    outside = make_rows((OUT_OF_SCOPE_LABEL,), 40, 9)
    trained = train([*make_rows(labels, 100, 1), *outside[:20]], labels)
    assert trained.gate is not None
    figures = measure(trained, [*make_rows(labels, 50, 2), *outside[20:]])
    assert figures["out_of_scope_found"] > 0.8
    assert figures["tier_2_accuracy"] > 0.9
    assert train(make_rows(labels, 20, 1), labels).gate is None


def test_a_router_without_a_static_embedding_has_one_tier() -> None:
    labels = ("weather", "music")
    trained = train_rows(labels, embed_rows(make_rows(labels, 20, 1), labels, embed_words, None))
    assert trained.head.fast is None
    assert score_fast(trained.head, "rain", np.zeros(0, dtype=np.float32)) is None
    text = "what about rain and snow"
    assert labels[score_full(trained.head, text, embed_words([text])[0], None).best] == "weather"


def test_a_text_given_twice_counts_once_with_the_last_label() -> None:
    labels = ("weather", "music")
    rows = embed_rows(
        [LabelledText("rain", "music"), LabelledText("rain", "weather")], labels, embed_words, embed_static
    )
    assert (rows.texts, rows.targets.tolist()) == (("rain",), [0])


def test_labels_that_the_fleet_does_not_have_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"labels name law, and the fleet has weather, music; .*'oos'"):
        embed_rows([LabelledText("rain", "law")], ("weather", "music"), embed_words, embed_static)


def test_a_refusal_is_a_label_of_its_own_and_may_not_have_a_domains_name() -> None:
    refusal = Refusal(description="Advice on medicine and health.", examples=("Am I ill?",), answer="Ask a doctor.")
    fleet = make_fleet(refusals={"medicine": refusal})
    assert list_labels(fleet) == ("weather", "music", "cooking", "medicine")
    assert LabelledText("Am I ill?", "medicine") in read_fleet_texts(fleet)
    with pytest.raises(ConfigurationError, match="names a domain and a refusal"):
        list_labels(make_fleet(refusals={"music": refusal}))


def test_a_domain_with_only_a_description_is_routed_to() -> None:
    fleet = make_fleet()
    lone = Domain(description="Tides, harbours and ferries.", variants={"full": Variant(engine="tiny")})
    fleet = fleet.model_copy(update={"domains": {**fleet.domains, "sea": lone}})
    labels = list_labels(fleet)
    trained = train(read_fleet_texts(fleet), labels)
    text = "Tides and ferries of harbours"
    scores = score_full(
        trained.head, text, embed_words([text])[0], score_fast(trained.head, text, embed_static([text])[0])
    )
    assert labels[scores.best] == "sea"


def test_prototypes_keep_centre_and_edge() -> None:
    vectors = normalise(np.stack([np.cos(np.linspace(0, 1, 50)), np.sin(np.linspace(0, 1, 50))], axis=1))
    kept = choose_prototypes(DomainProfile("d", vectors), 5).vectors
    assert len(kept) == 5
    assert any(np.allclose(row, vectors[-1]) or np.allclose(row, vectors[0]) for row in kept)


def test_nearness_does_not_depend_on_the_other_rows() -> None:
    trained = train(read_fleet_texts(make_fleet()), list_labels(make_fleet()))
    vectors = embed_words(["rain and snow", "zzz"])
    both = measure_nearness(vectors, trained.stack)
    assert np.allclose(both[0], measure_nearness(vectors[:1], trained.stack)[0])


def test_the_fingerprint_of_rows_does_not_depend_on_their_order() -> None:
    rows = make_rows(("weather",), 5, 1)
    assert fingerprint_rows(rows) == fingerprint_rows(rows[::-1])
    assert fingerprint_rows(rows) != fingerprint_rows([*rows[:-1], replace(rows[-1], label="music")])


def test_auroc_and_calibration_error_by_their_definitions() -> None:
    inside, outside = np.array([3.0, 2.0], np.float32), np.array([1.0, 2.0], np.float32)
    assert observe_auroc(inside, outside) == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    confidence = np.array([0.95, 0.95, 0.95, 0.95], np.float32)
    assert observe_calibration_error(confidence, np.array([True, True, True, False])) == pytest.approx(0.2, abs=1e-6)


def test_what_serves_a_trained_router_imports_neither_torch_nor_scipy_nor_scikit_learn() -> None:
    script = "import json, sys; import router.artifact; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not {"torch", "scipy", "sklearn", "transformers"} & set(json.loads(done.stdout))
