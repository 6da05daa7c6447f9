"""Claims about resolving: what a turn leaves to the conversation is filled in, and nothing is invented."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.clause import FUNCTION_WORDS
from router.question import Question, Turn
from router.resolve import resolve_part, resolve_question

REVENUE = "What was the revenue of Norvane Systems in Q2 2025?"


def ask(*said: str) -> str:
    """The last of several turns, resolved; what begins with 'A: ' an assistant said."""
    turns = [Turn("assistant", t.removeprefix("A: ")) if t.startswith("A: ") else Turn("user", t) for t in said[:-1]]
    return resolve_question(Question(said[-1], tuple(turns))).text


CONVERSATIONS = [
    ((REVENUE, "A: 12.4 million euros [1].", "And in Q3 2025?"), "What was the revenue of Norvane Systems in Q3 2025?"),
    ((REVENUE, "And in Q3?"), "What was the revenue of Norvane Systems in Q3 2025?"),
    ((REVENUE, "what about 2024?"), "What was the revenue of Norvane Systems in Q2 2024?"),
    ((REVENUE, "What about Tidal Foods?"), "What was the revenue of Tidal Foods in Q2 2025?"),
    ((REVENUE, "and the net income?"), "What was the net income of Norvane Systems in Q2 2025?"),
    ((REVENUE, "And Tidal Foods in Q3 2025?"), "What was the revenue of Tidal Foods in Q3 2025?"),
    (
        (REVENUE, "And in Q3?", "And the net income of Tidal Foods?"),
        "What was the net income of Tidal Foods in Q3 2025?",
    ),
    ((REVENUE, "what was its net income?"), "what was the net income of Norvane Systems in Q2 2025?"),
    ((REVENUE, "What is its headcount in Q1 2024?"), "What is the headcount of Norvane Systems in Q1 2024?"),
    ((REVENUE, "How many employees did that company have?"), "How many employees did Norvane Systems have in Q2 2025?"),
    (
        ("Who works at the Harrow bakery?", "A: Mira Kell [1].", "Where does she live?"),
        "Where does Mira Kell live?",
    ),
    (
        ("Who works at the Harrow bakery?", "A: Mira Kell [1].", "When does it open?"),
        "When does the Harrow bakery open?",
    ),
    (("When does the Harrow Bakery open?", "And on Sunday?"), "When does the Harrow Bakery open on Sunday?"),
    (("When does the Harrow Bakery open?", "And the museum?"), "When does the museum open?"),
    (("When does the Harrow Bakery open?", "Who works there?"), "Who works at the Harrow Bakery?"),
    (("How do I sort a list in Python?", "And in Rust?"), "How do I sort a list in Rust?"),
    (("What does `load_events` return?", "Which module holds that function?"), "Which module holds `load_events`?"),
    (("What does load_events return?", "Who wrote it?"), "Who wrote load_events?"),
    (
        ("What revenue did Norvane Systems report in Q2 2025?", "and the net income?"),
        "What net income did Norvane Systems report in Q2 2025?",
    ),
    (("What was Norvane's revenue in Q2 2025?", "and the net debt?"), "What was Norvane's net debt in Q2 2025?"),
    (("What is the VAT rate?", "And in France?"), "What is the VAT rate in France?"),
    ((REVENUE, "What was it in Q3 2024?"), "What was the revenue of Norvane Systems in Q3 2024?"),
    ((REVENUE, "and q3 2024?"), "What was the revenue of Norvane Systems in q3 2024?"),
    ((REVENUE, "How many employees did they have?"), "How many employees did Norvane Systems have in Q2 2025?"),
    ((REVENUE, "How many people worked there?"), "How many people worked at Norvane Systems in Q2 2025?"),
    (
        (f"{REVENUE} Who leads the Orbit team?", "And in Q3 2024?"),
        "What was the revenue of Norvane Systems in Q3 2024?",
    ),
    (
        ("what was the revenue of norvane systems in q2 2025", "what about tidal foods?"),
        "what was the revenue of tidal foods in q2 2025",
    ),
    (("who leads the orbit team", "and the delta team?"), "who leads the delta team"),
    (("How do I compute compound interest?", "And simple interest?"), "How do I compute simple interest?"),
    (("What is the area of a circle?", "and of a square?"), "What is the area of a square?"),
    (("How is the area of a circle computed?", "And that of a square?"), "How is the area of a square computed?"),
    (
        ("What is the formula for the area of a circle?", "And the volume of a sphere?"),
        "What is the formula for the volume of a sphere?",
    ),
    (("What is the default of limit in load_rows?", "and of sep?"), "What is the default of sep in load_rows?"),
    (
        ("What is the formula for the area of a circle?", "A: A = pi * r^2", "what does r mean in it?"),
        "what does r mean in the formula for the area of a circle?",
    ),
    (
        ("What is the formula for the area of a circle?", "A: A = pi * r^2", "what is r in that formula?"),
        "what is r in the formula for the area of a circle?",
    ),
    (("How high is the Orl tower?", "What is it made of?"), "What is the Orl tower made of?"),
    (("How high is the Orl tower?", "And the Harrow bridge?"), "How high is the Harrow bridge?"),
    (
        ("Where does Mira Kell work?", "A: the Harrow Library [1].", "When does it open?"),
        "When does the Harrow Library open?",
    ),
    (("Where does Mira Kell live?", "A: Harrow [1].", "What can I see there?"), "What can I see in Harrow?"),
    (("When does the Harrow Bakery open?", "which day is it closed?"), "which day is the Harrow Bakery closed?"),
    (("I am in Orland. Where is the museum?", "When does it open?"), "When does the museum open?"),
]

ALONE = [
    (REVENUE, "Thanks!"),
    (REVENUE, "Who leads the Orbit team?"),
    (REVENUE, "What time is it?"),
    (REVENUE, "Is it possible to fly to Mars?"),
    ("What does `load_events` return?", "I have a list. How do I sort it?"),
    (REVENUE, "When was Tidal Foods founded and who runs it?"),
    (REVENUE, "Is there a museum in Harrow?"),
    (REVENUE, "Translate `its income` into French."),
    (REVENUE, "and the quarter before?"),
    (REVENUE, "Hm, and who leads the Orbit team?"),
    (REVENUE, "What day is it?"),
]


@pytest.mark.parametrize(("said", "resolved"), CONVERSATIONS)
def test_what_a_turn_leaves_out_comes_from_the_turns_before(said: tuple[str, ...], resolved: str) -> None:
    assert ask(*said) == resolved


@pytest.mark.parametrize("said", ALONE)
def test_a_turn_that_stands_alone_is_left_as_it_is(said: tuple[str, str]) -> None:
    assert ask(*said) == said[1]
    assert resolve_question(Question(said[1], (Turn("user", said[0]),))).reason is None


def test_without_turns_nothing_is_resolved() -> None:
    assert resolve_question(Question("And in Q3 2025?")).text == "And in Q3 2025?"


def test_the_reason_says_what_a_pronoun_means() -> None:
    resolved = resolve_question(Question("What was its net income?", (Turn("user", REVENUE),)))
    assert resolved.reason == "'its' is Norvane Systems"


def test_a_part_takes_its_names_and_its_quarter_from_the_part_before() -> None:
    resolved = resolve_part("what was its net income?", [REVENUE], lambda pronoun: False)
    assert resolved.text == "what was the net income of Norvane Systems in Q2 2025?"


_SENTENCES = st.sampled_from([t for said, _ in CONVERSATIONS for t in said] + [t for pair in ALONE for t in pair])
_TEXTS = st.one_of(_SENTENCES, st.text(max_size=120), st.lists(_SENTENCES, max_size=3).map(" ".join))


@given(turns=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), _TEXTS), max_size=5), text=_TEXTS)
@settings(max_examples=300, deadline=None)
def test_every_content_word_comes_from_the_question_or_the_conversation(
    turns: list[tuple[str, str]], text: str
) -> None:
    question = Question(text, tuple(Turn("user" if role == "user" else "assistant", said) for role, said in turns))
    resolved = resolve_question(question)
    told = set(re.findall(r"\w+", " ".join([text, *(said for _, said in turns)]).lower()))
    said = set(re.findall(r"\w+", resolved.text.lower()))
    assert said - told <= FUNCTION_WORDS | {"s"}
    assert resolved.text == text or resolved.reason
