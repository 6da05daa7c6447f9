"""Contract with the real encoder: all-MiniLM-L6-v2 as shipped, in int8, with the shipped boundary head."""

import pytest

from deployments.router_loading import load_router
from router.planner import RouterSnapshot, plan_query
from router.question import Question
from tests.encoder_files import load_shipped_encoder
from tests.router.fake_embed import make_fleet


@pytest.fixture(scope="module")
def snapshot() -> RouterSnapshot:
    return load_router(make_fleet(), load_shipped_encoder())


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
def test_parts_reach_their_domains(question: str, domains: list[str], snapshot: RouterSnapshot) -> None:
    plan = plan_query(Question(question), snapshot, load_shipped_encoder(), lambda: 0.0)
    assert [sub_query.domain for sub_query in plan.sub_queries] == domains


def test_the_shipped_boundary_head_is_for_the_shipped_encoder(snapshot: RouterSnapshot) -> None:
    assert snapshot.boundaries is not None
