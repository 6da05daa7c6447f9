"""Claims about fusion: plan order, citations numbered once, invented marks gone, streamed or not."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.fuse import FusionStream, fuse
from router.question import Citation, Failure, Plan, SubAnswer, SubQuery, SubQueryId


def plan_of(*domains: str) -> Plan:
    vector = np.zeros(0, dtype=np.float32)
    asked = tuple(SubQuery(SubQueryId(i), f"q{i}", name, vector, (), "") for i, name in enumerate(domains, start=1))
    return Plan("q", asked, (), {})


def cite(number: int, domain: str, source: str) -> Citation:
    return Citation(number, domain, source, source, "text", 0.5, "v1")


FINANCE = (cite(1, "finance", "a.md"), cite(2, "finance", "b.md"), cite(3, "finance", "a.md"))
CODING = (cite(1, "coding", "a.md"), cite(2, "coding", "c.py"))
LOST = Failure("expert_unavailable", "no replica answered", True)


def said(number: int, text: str, citations: tuple[Citation, ...] = (), failure: Failure | None = None) -> SubAnswer:
    return SubAnswer(SubQueryId(number), "any", text, citations, failure)


def test_one_sub_answer_is_the_answer_with_only_the_cited_passages() -> None:
    answer = fuse(plan_of("finance"), [said(1, "It was 12 [2].", FINANCE)])
    assert answer.text == "It was 12 [1]."
    assert [(c.number, c.source) for c in answer.citations] == [(1, "b.md")]


def test_several_are_paragraphs_in_plan_order_with_citations_numbered_once() -> None:
    answers = [said(2, "load [2][1].", CODING), said(1, " 12 [2], 13 [1] and 14 [3].\n", FINANCE)]
    answer = fuse(plan_of("finance", "coding"), answers)
    assert answer.text == "finance: 12 [1], 13 [2] and 14 [2].\n\ncoding: load [3][4]."
    assert [(c.number, c.domain, c.source) for c in answer.citations] == [
        (1, "finance", "b.md"),
        (2, "finance", "a.md"),
        (3, "coding", "c.py"),
        (4, "coding", "a.md"),
    ]
    assert [a.sub_query for a in answer.sub_answers] == [1, 2]


@pytest.mark.parametrize(
    ("text", "fused"),
    [
        ("Paris [7].", "Paris."),
        ("Paris[7] and [9] Rome [1]", "Paris and Rome [1]"),
        ("Paris [1, 9]", "Paris [1]"),
        ("Paris [2, 1]", "Paris [1][2]"),
        ("Paris [1, 3]", "Paris [1]"),
        ("sorted: [30, 10]", "sorted: [30, 10]"),
        ("a[0] is not cited", "a[0] is not cited"),
        ("use `rows[7]` here [1]", "use `rows[7]` here [1]"),
        ("```\nrows[7]\n``` [2]", "```\nrows[7]\n``` [1]"),
        ("open ` tick\nthen [7] gone", "open ` tick\nthen gone"),
        ("[link](x) [", "[link](x) ["),
        ("an unfinished [1", "an unfinished [1"),
    ],
)
def test_a_mark_that_names_no_citation_is_removed_and_other_brackets_stay(text: str, fused: str) -> None:
    assert fuse(plan_of("finance"), [said(1, text, FINANCE)]).text == fused


def test_a_failed_part_is_marked_and_loses_nothing_of_the_others() -> None:
    plan = plan_of("finance", "coding", "reasoning")
    answer = fuse(plan, [said(1, "12 [1]", FINANCE), said(2, "", failure=LOST), said(3, "Harrow.")])
    assert answer.text.split("\n\n") == [
        "finance: 12 [1]",
        "coding: could not answer this part: no replica answered (it may be retried)",
        "reasoning: Harrow.",
    ]


def test_a_part_that_fails_after_some_text_keeps_the_text() -> None:
    answer = fuse(plan_of("finance", "coding"), [said(1, "12 so f", failure=LOST), said(2, "ok")])
    assert answer.text.startswith("finance: 12 so f\n\nfinance: could not answer this part: no replica")


def test_an_absent_sub_answer_is_marked_as_failed() -> None:
    assert "coding: could not answer this part" in fuse(plan_of("finance", "coding"), [said(1, "12")]).text


def test_a_retry_is_not_offered_where_it_cannot_help() -> None:
    failure = Failure("prompt_too_long", "prompt has 900 tokens, limit 512", False)
    assert fuse(plan_of("finance"), [said(1, "", failure=failure)]).text.endswith("limit 512")


def test_sub_answers_cite_by_the_numbers_of_the_answer() -> None:
    first, second = fuse(
        plan_of("finance", "coding"), [said(1, "12 [2][9]", FINANCE), said(2, "load [2], 12 [1]", CODING)]
    ).sub_answers
    assert (first.text, second.text) == ("12 [1]", "load [2], 12 [3]")
    assert [(c.number, c.source) for c in second.citations] == [(2, "c.py"), (3, "a.md")]


def test_contradictions_are_told_at_the_end_and_no_sub_answer_is_changed() -> None:
    vector = np.zeros(0, dtype=np.float32)
    question = "What was Acme's revenue in 2023?"
    asked = tuple(SubQuery(SubQueryId(i), question, name, vector, (), "") for i, name in enumerate("ab", start=1))
    plan = Plan(question, asked, (), {})
    stated = replace(cite(1, "finance", "a.md"), text="Acme's revenue in 2023: 12 million euros")
    answers = [
        replace(said(1, "Revenue was 12 million euros [1].", (stated,)), domain="a"),
        replace(said(2, "Revenue was 21 million euros [2].", FINANCE), domain="b"),
    ]
    answer = fuse(plan, answers)
    assert answer.text.split("\n\n") == [
        "a: Revenue was 12 million euros [1].",
        "b: Revenue was 21 million euros [2].",
        "Contradiction: a says 12 million euros [1], b says 21 million euros [2]; "
        "[1] states 12 million euros, [2] does not state the other",
    ]


def test_a_stream_out_of_plan_order_is_refused() -> None:
    stream = FusionStream(plan_of("finance", "coding"))
    with pytest.raises(ValueError, match="cannot start"):
        stream.start(SubQueryId(2))


_TEXTS = st.one_of(
    st.text(alphabet=list("[]0123, ab\n`.\t"), max_size=60),
    st.lists(st.sampled_from(["[1]", " [2]", "[9]", "[1", "2]", "```", "`", "\n", " x", "[1, 2]"]), max_size=12).map(
        "".join
    ),
)


@given(
    texts=st.lists(st.tuples(_TEXTS, st.booleans()), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 60), max_size=10),
)
@settings(max_examples=400, deadline=None)
def test_any_chunking_of_the_text_gives_what_fuse_gives(texts: list[tuple[str, bool]], cuts: list[int]) -> None:
    plan = plan_of(*["finance", "coding", "reasoning"][: len(texts)])
    answers = [said(i, t, FINANCE, LOST if lost else None) for i, (t, lost) in enumerate(texts, start=1)]
    stream = FusionStream(plan)
    shown = ""
    for sub_answer in answers:
        stream.start(sub_answer.sub_query, sub_answer.citations)
        for start, end in pairwise(sorted({0, len(sub_answer.text), *(c for c in cuts if c < len(sub_answer.text))})):
            shown += stream.feed(sub_answer.text[start:end])
        shown += stream.end(sub_answer)
    shown += stream.conclude()
    assert stream.answer() == fuse(plan, answers)
    assert shown == stream.answer().text
