"""Claims about references: a part that speaks of another part's answer gets it as data."""

import numpy as np
import pytest

from experts.prompt import REFUSAL
from router.question import Failure, Reference, SubAnswer, SubQuery, SubQueryId
from router.reference import clean_answer, complete_sub_query, link_parts, missing_needs
from router.split import split_question

ONE, TWO = SubQueryId(1), SubQueryId(2)


def link(question: str) -> list[tuple[str, list[tuple[str, int]]]]:
    parts = link_parts(question, split_question(question))
    return [(p.text, [(p.text[r.start : r.end], r.sub_query) for r in p.references]) for p in parts]


@pytest.mark.parametrize(
    ("question", "text", "words"),
    [
        (
            "Which function loads the raw events, and which module holds that function?",
            "which module holds that function?",
            "that function",
        ),
        (
            "Who runs the bakery in Harrow, and when does that person take the train?",
            "when does that person take the train?",
            "that person",
        ),
        ("Who runs the Harrow Bakery, and where does he live?", "where does he live?", "he"),
        ("In which town does Mira Kell live, and who leads the team there?", "who leads the team there?", "there"),
        (
            "Which town does Mira Kell live in, and when does she take the train from that town?",
            "when does Mira Kell take the train from that town?",
            "that town",
        ),
        (
            "Which company makes the Velo engine, and what was that company's revenue in Q2 2025?",
            "what was that company's revenue in Q2 2025?",
            "that company's",
        ),
        ("Compute 12 * 9. Is the result larger than 100?", "Is the result larger than 100?", "the result"),
        ("Compute 12 * 9, then tell me what #1 plus 3 is.", "tell me what #1 plus 3 is.", "#1"),
        ("Which function loads the raw events, and where is it defined?", "where is it defined?", "it"),
        ("Where does Mira Kell work and when does it open?", "when does it open?", "it"),
        ("Which team does Mira Kell lead and in which room does it meet?", "in which room does it meet?", "it"),
        ("Who leads the Orbit team? Where does he or she live?", "Where does he or she live?", "he or she"),
    ],
)
def test_a_part_that_speaks_of_what_another_asks_for_refers_to_its_answer(question: str, text: str, words: str) -> None:
    parts = link(question)
    assert parts[0][1] == []
    assert parts[1] == (text, [(words, 1)])


@pytest.mark.parametrize(
    ("question", "second"),
    [
        (
            "What was the revenue of Norvane Systems in Q2 2025, and what was its net income?",
            "what was the net income of Norvane Systems in Q2 2025?",
        ),
        ("Who runs the Harrow Bakery, and when does it open?", "when does the Harrow Bakery open?"),
        ("Who is Mira Kell, and what is her job?", "what is the job of Mira Kell?"),
        ("Where does Mira Kell live? And Jon Pike?", "Where does Jon Pike live?"),
        ("Who leads the Orbit team? How about the Delta team?", "Who leads the Delta team?"),
        ("How long is the Aven? Oh, and who leads the Orbit team?", "who leads the Orbit team?"),
        ("What is the job of Mira Kell? Leader of the Orbit team?", "What is the Leader of the Orbit team?"),
        (
            "How many employees did Tidal Foods have in Q2 2025, and how many did Arden Motors have?",
            "how many employees did Arden Motors have in Q2 2025?",
        ),
        (
            "What was the revenue of Norvane Systems in Q1 2025 and what was it in Q2 2025?",
            "What was the revenue of Norvane Systems in Q2 2025?",
        ),
        (
            "What is the default of sep in parse_row, and the return type of load_rows?",
            "the return type of load_rows?",
        ),
        ("Which function removes rows, and which one saves the totals?", "which function saves the totals?"),
        (
            "What was the revenue of Tidal Foods in Q2 2025 and the headcount of Arden Motors?",
            "What was the headcount of Arden Motors in Q2 2025?",
        ),
        (
            "What was the revenue of Tidal Foods in Q2 2025 and the height of the Orl tower?",
            "the height of the Orl tower?",
        ),
        (
            "What is the formula for the volume of a cone and what does h mean in it?",
            "what does h mean in the formula for the volume of a cone?",
        ),
    ],
)
def test_a_part_that_speaks_of_a_name_gets_the_name_and_needs_nothing(question: str, second: str) -> None:
    assert link(question)[1] == (second, [])


@pytest.mark.parametrize(
    ("question", "second"),
    [
        (
            "For Norvane Systems, what was the revenue in Q2 2025 and what was the headcount?",
            "For Norvane Systems, what was the headcount?",
        ),
        ("About Tidal Foods: what was the net debt, and who is the founder?", "About Tidal Foods, who is the founder?"),
        ("For Acme, what was the debt, and what is the height of Mount Orl?", "what is the height of Mount Orl?"),
        ("For my trip to Orland, what should I pack, and what is a tuple?", "what is a tuple?"),
    ],
)
def test_a_leading_topic_is_said_of_a_part_that_names_nothing_else(question: str, second: str) -> None:
    assert link(question)[1] == (second, [])


@pytest.mark.parametrize(
    "question",
    [
        "How do I read a file, and how do I write it?",
        "How are shares taxed, and when do they expire?",
        "Write a script that reads a CSV, then explain how it works.",
        "What was Norvane's revenue in Q2 2025, and how does that compare to Q1?",
    ],
)
def test_a_part_that_leans_on_the_one_before_without_a_name_stays_with_it(question: str) -> None:
    assert link(question) == [(question, [])]


def test_a_chain_of_parts_speaks_of_what_the_first_asked_for() -> None:
    parts = link("What function saves the totals, where is it defined, and what does it return?")
    assert [references for _, references in parts] == [[], [("it", 1)], [("it", 1)]]


def test_a_part_asked_twice_is_asked_once_and_later_parts_refer_to_it() -> None:
    parts = link("Who leads the Orbit team? Who leads the Orbit team? Where does that person live?")
    assert parts == [("Who leads the Orbit team?", []), ("Where does that person live?", [("that person", 1)])]


def sub_query(text: str, words: str) -> SubQuery:
    start = f" {text}".index(f" {words}")
    references = (Reference(start, start + len(words), ONE),)
    return SubQuery(TWO, text, "reasoning", np.zeros(0, dtype=np.float32), (), "", references)


def answer(text: str, failure: Failure | None = None) -> dict[SubQueryId, SubAnswer]:
    return {ONE: SubAnswer(ONE, "coding", text, failure=failure)}


@pytest.mark.parametrize(
    ("text", "words", "said", "completed"),
    [
        ("which module holds that function?", "that function", " load_events [2].", "which module holds load_events?"),
        ("where does he live?", "he", "Mira Kell [1][2].", "where does Mira Kell live?"),
        ("what is his address?", "his", "Mira Kell [1].", "what is Mira Kell's address?"),
        ("who works there?", "there", "Harrow.", "who works in Harrow?"),
        ("who works there?", "there", "At the Harrow mill.", "who works At the Harrow mill?"),
        ("what was sold in that year?", "that year", "In 2012 [1].", "what was sold in 2012?"),
        ("is that value ok?", "that value", r"\1 {0} %s \g<0> ${x}", r"is \1 {0} %s \g<0> ${x} ok?"),
        ("is that value ok?", "that value", "3.14\n\n and  more", "is 3.14 and more ok?"),
    ],
)
def test_an_answer_is_put_in_the_place_of_its_reference_as_data(
    text: str, words: str, said: str, completed: str
) -> None:
    assert complete_sub_query(sub_query(text, words), answer(said)) == completed


def test_a_long_answer_is_cut_at_a_word() -> None:
    assert len(clean_answer("word " * 1000)) <= 400
    assert clean_answer("word " * 1000).endswith("word")


def test_a_need_that_failed_refused_or_is_absent_is_missing() -> None:
    asking = sub_query("where does he live?", "he")
    assert missing_needs(asking, answer("Mira Kell [1].")) == ()
    assert missing_needs(asking, {}) == (ONE,)
    assert missing_needs(asking, answer(f" {REFUSAL} [1]")) == (ONE,)
    assert missing_needs(asking, answer(" [1]")) == (ONE,)
    assert missing_needs(asking, answer("Mira", Failure("timeout", "too slow", True))) == (ONE,)
