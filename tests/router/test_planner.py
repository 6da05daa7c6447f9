"""Claims about plans: one embedding per question, needs that point back, reasons as data."""

import itertools
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.explain import explain_plan
from router.planner import RouterSnapshot, plan_query, plan_single
from router.question import Plan, Question, Reference, SubQuery, SubQueryId, Turn
from tests.router.fake_embed import FakeEncoder, build_fake_snapshot, embed_words
from tests.router.question_cases import TEXTS

TWO_PARTS = (
    "What was the revenue of Norvane Systems in Q2 2025, and which function of the pipeline loads the raw events?"
)


_SNAPSHOTS: dict[tuple[int, float], RouterSnapshot] = {}


def snapshot(max_sub_queries: int = 4, floor: float = 0.1) -> RouterSnapshot:
    """Trained once per test run: half a second each."""
    wanted = (max_sub_queries, floor)
    if wanted not in _SNAPSHOTS:
        _SNAPSHOTS[wanted] = build_fake_snapshot(*wanted)
    return _SNAPSHOTS[wanted]


def plan(text: str, *turns: Turn, whole: bool = False) -> Plan:
    ticks = itertools.count()
    return plan_query(Question(text, turns), snapshot(), FakeEncoder(), lambda: float(next(ticks)), whole=whole)


def test_two_questions_of_two_domains_are_two_sub_queries_encoded_at_once() -> None:
    encoder = FakeEncoder()
    made = plan_query(Question(TWO_PARTS), snapshot(), encoder, lambda: 0.0)
    assert [sub_query.domain for sub_query in made.sub_queries] == ["finance", "coding"]
    assert encoder.calls == [[TWO_PARTS], [sub_query.text for sub_query in made.sub_queries]]
    for sub_query in made.sub_queries:
        assert np.allclose(sub_query.vector, embed_words([sub_query.text])[0])
    assert "split into 2: each part asks on its own" in made.reasons


def test_a_question_of_one_part_is_encoded_once() -> None:
    encoder = FakeEncoder()
    plan_query(Question("What was the revenue of Norvane Systems in Q2 2025?"), snapshot(), encoder, lambda: 0.0)
    assert encoder.calls == [["What was the revenue of Norvane Systems in Q2 2025?"]]


def test_a_span_is_where_the_question_asks_and_there_is_none_where_it_was_completed() -> None:
    made = plan(f"Hello! {TWO_PARTS}")
    said = [made.question[part.span.start : part.span.end] for part in made.sub_queries if part.span is not None]
    assert said == [
        "What was the revenue of Norvane Systems in Q2 2025",
        "which function of the pipeline loads the raw events",
    ]
    completed = plan("And in Q3 2025?", Turn("user", "What was the revenue of Norvane Systems in Q2 2025?"))
    assert [part.span for part in completed.sub_queries] == [None]


def test_two_questions_of_one_domain_stay_two_sub_queries() -> None:
    made = plan("What was the revenue of Norvane Systems in Q2 2025? What was the net debt of Tidal Foods in Q1 2024?")
    assert [sub_query.domain for sub_query in made.sub_queries] == ["finance", "finance"]


def test_whole_keeps_a_question_in_one_sub_query_and_says_why() -> None:
    made = plan(TWO_PARTS, whole=True)
    assert [sub_query.text for sub_query in made.sub_queries] == [TWO_PARTS]
    assert made.reasons == ("kept whole: the request asks for one answer",)


def test_a_part_that_needs_an_answer_refers_to_the_earlier_sub_query() -> None:
    made = plan("Which function loads the raw events, and which module holds that function?")
    assert [sub_query.needs for sub_query in made.sub_queries] == [(), (1,)]


def test_a_follow_up_is_planned_in_full_and_the_reason_says_so() -> None:
    made = plan("And in Q3 2025?", Turn("user", "What was the revenue of Norvane Systems in Q2 2025?"))
    assert made.question == "And in Q3 2025?"
    assert made.sub_queries[0].text == "What was the revenue of Norvane Systems in Q3 2025?"
    assert made.reasons[0].startswith("completed from the question before")


def test_what_is_near_no_domain_goes_to_the_generalist() -> None:
    (sub_query,) = plan("zzz qqq xxx").sub_queries
    assert sub_query.domain == "generalist"
    assert "below the floor of 0.10" in sub_query.reason
    assert sub_query.tier == "encoder"


def test_a_document_stays_whole_and_the_reason_says_how_long_it_is() -> None:
    made = plan("What is it? Who are you? " * 1000)
    assert len(made.sub_queries) == 1
    assert made.reasons == ("kept whole: it has 25000 characters, over 20000",)


def test_timings_name_every_stage_by_the_clock_given() -> None:
    stages = {"resolve": 1, "tokenize": 1, "encode": 2, "split": 1, "classify": 1, "total": 6}
    assert plan(TWO_PARTS).timings_s == stages


def test_one_expert_asked_directly_gets_the_whole_question() -> None:
    encoder = FakeEncoder()
    made = plan_single(Question(TWO_PARTS), "coding", snapshot(), encoder, lambda: 0.0, embed=True)
    assert [(s.text, s.domain, s.vector.shape) for s in made.sub_queries] == [(TWO_PARTS, "coding", (1024,))]
    assert len(encoder.calls) == 1


def test_one_expert_without_an_index_is_asked_without_embedding() -> None:
    encoder = FakeEncoder()
    turns = (Turn("user", "What was the revenue of Norvane Systems in Q2 2025?"),)
    made = plan_single(Question("And in Q3?", turns), "finance", snapshot(), encoder, lambda: 0.0, embed=False)
    assert encoder.calls == []
    assert made.sub_queries[0].vector.shape == (0,)
    assert made.sub_queries[0].text == "What was the revenue of Norvane Systems in Q3 2025?"


def test_a_plan_whose_needs_do_not_point_back_cannot_be_made() -> None:
    vector = np.zeros(0, dtype=np.float32)
    first = SubQuery(SubQueryId(1), "where is it", "coding", vector, (), "", (Reference(0, 5, SubQueryId(2)),))
    second = SubQuery(SubQueryId(2), "which function", "coding", vector, (), "")
    with pytest.raises(ValueError, match="sub-query 1 needs 2, which is not before it"):
        Plan("q", (first, second), (), {})
    with pytest.raises(ValueError, match="ids rise"):
        Plan("q", (second, first), (), {})


@given(text=st.one_of(TEXTS, st.text(min_size=5000, max_size=10_000)), limit=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_whatever_the_text_a_plan_is_valid_and_explained_without_vectors(text: str, limit: int) -> None:
    made = plan_query(Question(text, (Turn("user", "Who is Mira Kell?"),)), snapshot(limit), FakeEncoder(), lambda: 0.0)
    assert 1 <= len(made.sub_queries) <= limit
    for sub_query in made.sub_queries:
        assert all(need < sub_query.id for need in sub_query.needs)
        assert sub_query.text.strip() or not text.strip()
        assert sub_query.span is None or 0 <= sub_query.span.start <= sub_query.span.end <= len(text)
    explained = explain_plan(made)
    assert json.loads(json.dumps(explained)) == explained
    fields = {"id", "text", "span", "domain", "reason", "tier", "confidence", "candidates", "needs", "refusal"}
    assert set(explained["sub_queries"][0]) == fields


@pytest.mark.parametrize("pattern", ["it ", "who is it, and where is it? ", "Norvane Systems, its ", "that town "])
def test_pronouns_without_end_do_not_slow_a_plan_down(pattern: str) -> None:
    def seconds(length: int) -> float:
        question = Question((pattern * length)[:length], (Turn("user", (pattern * length)[:length]),))
        best = float("inf")
        known = snapshot()
        for _ in range(2):
            began = time.perf_counter()
            plan_query(question, known, FakeEncoder(), lambda: 0.0)
            best = min(best, time.perf_counter() - began)
        return best

    assert seconds(20_000) < 60 * max(seconds(2000), 1e-3)
