"""Claims about plans: one embedding per question, needs that point back, reasons as data."""

import itertools
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.classify import DomainProfile, choose_domain, normalise, score_domains, stack_profiles
from router.explain import explain_plan
from router.planner import RouterSnapshot, build_snapshot, plan_query, plan_single
from router.question import DomainScore, Plan, Question, Reference, SubQuery, SubQueryId, Turn
from tests.router.fake_embed import FakeEmbed, make_fleet
from tests.router.question_cases import TEXTS

TWO_PARTS = (
    "What was the revenue of Norvane Systems in Q2 2025, and which function of the pipeline loads the raw events?"
)


def snapshot(max_sub_queries: int = 4, floor: float = 0.1) -> RouterSnapshot:
    return build_snapshot(make_fleet(max_sub_queries, floor), FakeEmbed())


def plan(text: str, *turns: Turn, whole: bool = False) -> Plan:
    ticks = itertools.count()
    return plan_query(Question(text, turns), snapshot(), FakeEmbed(), lambda: float(next(ticks)), whole=whole)


def test_two_questions_of_two_domains_are_two_sub_queries_embedded_at_once() -> None:
    embed = FakeEmbed()
    made = plan_query(Question(TWO_PARTS), snapshot(), embed, lambda: 0.0)
    assert [sub_query.domain for sub_query in made.sub_queries] == ["finance", "coding"]
    assert embed.calls == [[sub_query.text for sub_query in made.sub_queries]]
    for sub_query in made.sub_queries:
        assert np.allclose(sub_query.vector, normalise(FakeEmbed()([sub_query.text]))[0])
    assert "split into 2: each part asks on its own" in made.reasons


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


def test_a_document_stays_whole_and_the_reason_says_how_long_it_is() -> None:
    made = plan("What is it? Who are you? " * 1000)
    assert len(made.sub_queries) == 1
    assert made.reasons == ("kept whole: it has 25000 characters, over 20000",)


def test_timings_name_every_stage_by_the_clock_given() -> None:
    assert plan(TWO_PARTS).timings_s == {"resolve": 1, "split": 1, "embed": 1, "classify": 1, "total": 4}


def test_one_expert_asked_directly_gets_the_whole_question() -> None:
    embed = FakeEmbed()
    made = plan_single(Question(TWO_PARTS), "coding", snapshot(), embed, lambda: 0.0, retrieve=True)
    assert [(s.text, s.domain, s.vector.shape) for s in made.sub_queries] == [(TWO_PARTS, "coding", (1024,))]
    assert len(embed.calls) == 1


def test_one_expert_without_an_index_is_asked_without_embedding() -> None:
    embed = FakeEmbed()
    turns = (Turn("user", "What was the revenue of Norvane Systems in Q2 2025?"),)
    made = plan_single(Question("And in Q3?", turns), "finance", snapshot(), embed, lambda: 0.0, retrieve=False)
    assert embed.calls == []
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
    made = plan_query(Question(text, (Turn("user", "Who is Mira Kell?"),)), snapshot(limit), FakeEmbed(), lambda: 0.0)
    assert 1 <= len(made.sub_queries) <= limit
    for sub_query in made.sub_queries:
        assert all(need < sub_query.id for need in sub_query.needs)
        assert sub_query.text.strip() or not text.strip()
    explained = explain_plan(made)
    assert json.loads(json.dumps(explained)) == explained
    assert set(explained["sub_queries"][0]) == {"id", "text", "domain", "reason", "candidates", "needs"}


def test_scores_are_best_first_and_do_not_depend_on_the_other_domains() -> None:
    near, far = normalise([[1.0, 0.1], [1.0, 0.2]]), normalise([[0.0, 1.0]])
    vectors = normalise([[1.0, 0.0], [0.0, 1.0]])
    both = score_domains(vectors, stack_profiles([DomainProfile("far", far), DomainProfile("near", near)]))
    alone = score_domains(vectors, stack_profiles([DomainProfile("near", near)]))
    assert [[score.domain for score in scores] for scores in both] == [["near", "far"], ["far", "near"]]
    assert both[0][0] == alone[0][0]


def test_one_stray_example_does_not_win_against_several_near_ones() -> None:
    stray = normalise([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    steady = normalise([[1.0, 0.1, 0.0], [1.0, 0.1, 0.0], [1.0, 0.1, 0.0]])
    stack = stack_profiles([DomainProfile("stray", stray), DomainProfile("steady", steady)])
    assert score_domains(normalise([[1.0, 0.0, 0.0]]), stack)[0][0].domain == "steady"


def test_the_choice_names_its_domain_and_the_runner_up() -> None:
    choice = choose_domain((DomainScore("law", 0.61), DomainScore("finance", 0.4)), "generalist", 0.3)
    assert (choice.domain, choice.reason) == ("law", "nearest is law at 0.61, then finance at 0.40")


@pytest.mark.parametrize("pattern", ["it ", "who is it, and where is it? ", "Norvane Systems, its ", "that town "])
def test_pronouns_without_end_do_not_slow_a_plan_down(pattern: str) -> None:
    def seconds(length: int) -> float:
        question = Question((pattern * length)[:length], (Turn("user", (pattern * length)[:length]),))
        best = float("inf")
        known = snapshot()
        for _ in range(2):
            began = time.perf_counter()
            plan_query(question, known, FakeEmbed(), lambda: 0.0)
            best = min(best, time.perf_counter() - began)
        return best

    assert seconds(20_000) < 60 * max(seconds(2000), 1e-3)
