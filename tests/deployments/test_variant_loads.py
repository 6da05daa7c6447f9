"""What a gateway replica knows of its variants."""

import numpy as np
import pytest

from deployments.variant_loads import VariantLoads, Variants, count_capacity
from experts.fleet import Engine, Fleet, Replicas
from router.quality_training import QualityRow, train_quality
from tests.deployments.fakes import DIMENSIONS, WordEncoder, build_fleet


def test_what_is_held_is_counted_and_given_back_even_after_an_error() -> None:
    loads = VariantLoads()
    with loads.hold("small"), loads.hold("small"):
        assert (loads.queue("small"), loads.queue("large")) == (2, 0)

    def fail() -> None:
        with loads.hold("small"):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert loads.queue("small") == 0


def test_the_mean_time_follows_recent_answers() -> None:
    loads = VariantLoads()
    assert loads.answer_s("small") == 0
    loads.note_answer("small", 1.0)
    assert loads.answer_s("small") == 1.0
    for _ in range(100):
        loads.note_answer("small", 3.0)
    assert loads.answer_s("small") == pytest.approx(3.0, abs=0.01)


def test_capacity_is_what_the_replicas_that_always_run_take() -> None:
    assert count_capacity(Engine(model="a/b", max_num_seqs=8, replicas=Replicas(min=3, max=9))) == 24
    assert count_capacity(Engine(model="a/b", max_num_seqs=8, replicas=Replicas(min=0))) == 8


def test_variants_on_one_engine_share_its_queue() -> None:
    loads = VariantLoads()
    variants = Variants(build_fleet(), None, loads)
    vector = np.zeros(DIMENSIONS, np.float32)
    with loads.hold("small"):
        assert [option.queue for option in variants.options("finance", "what?", vector)] == [1, 0]
        assert [option.queue for option in variants.options("coding", "what?", vector)] == [1]


def test_a_trained_model_decides_between_variants_by_the_sub_query() -> None:
    encode = WordEncoder().embed_documents
    rows = []
    for at in range(600):
        hard = bool(at % 2)
        text = f"derive the integral {at}" if hard else f"add two numbers {at}"
        vector = encode([text])[0]
        rows += [
            QualityRow(text, vector, "finance/full", True),
            QualityRow(text, vector, "finance/quick", not hard),
        ]
    document = build_fleet().model_dump(mode="json")
    document["domains"]["finance"]["variants"]["full"]["cost"] = 10
    variants = Variants(Fleet.model_validate(document), train_quality(rows), VariantLoads())

    def choose(text: str) -> str:
        return variants.choose("finance", text, encode([text])[0], "balanced").variant

    assert choose("derive the integral 99") == "full"
    assert choose("add two numbers 99") == "quick"
