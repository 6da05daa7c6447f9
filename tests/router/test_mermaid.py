"""Claims about the picture of a plan: its lines are Mermaid's, and what the user wrote stays text."""

import html
import re
from functools import cache

import pytest
from hypothesis import given, settings

from router.explain import explain_plan
from router.mermaid import TEXT_CHARS, draw_plan
from router.planner import plan_query
from router.question import Question
from tests.router.adversarial import adversarial_questions
from tests.router.fake_embed import FakeEncoder, build_fake_snapshot
from tests.router.question_cases import TEXTS

LABEL = r'"(?:[^"#<>&`\[\](){}|%;\\\n\r]|#\d+;|(?<=[a-z0-9])<br/>)*"'
LINES = re.compile(
    rf"flowchart TD|  question\(\[{LABEL}\]\)|  s\d+\[{LABEL}\]|  s\d+\{{\{{{LABEL}\}}\}}"
    r"|  question --> s\d+|  s\d+ -->\|answer\| s\d+"
)


build_router = cache(build_fake_snapshot)


def draw(text: str) -> str:
    plan = plan_query(Question(text), build_router(), FakeEncoder(), lambda: 0.0)
    drawn = draw_plan(explain_plan(plan))
    assert all(LINES.fullmatch(line) for line in drawn.splitlines()), drawn
    return drawn


def read_label(drawn: str, node: str) -> str:
    """A node's label as a browser shows it."""
    found = re.search(rf"^  {node}[\[(]*\"(.*)\"", drawn, re.MULTILINE)
    assert found
    return html.unescape(re.sub(r"#(\d+);", r"&#\1;", found[1]))


def test_a_plan_of_two_steps_is_drawn_with_what_the_second_needs() -> None:
    first = {"id": 1, "text": "Which function loads the raw events?", "domain": "coding"}
    second = {"id": 2, "text": "which module holds that function?", "domain": "coding", "needs": [1]}
    asked = "Which function loads the raw events, and which module holds that function?"
    assert draw_plan({"question": asked, "sub_queries": [first, second]}) == (
        "flowchart TD\n"
        '  question(["Which function loads the raw events, and which module holds that function?"])\n'
        '  s1["1 coding<br/>Which function loads the raw events?"]\n'
        "  question --> s1\n"
        '  s2["2 coding<br/>which module holds that function?"]\n'
        "  question --> s2\n"
        "  s1 -->|answer| s2\n"
    )


def test_variant_confidence_tier_and_refusal_are_shown_where_given() -> None:
    part = {"id": 1, "text": "Who?", "domain": "law", "variant": "fp8", "confidence": 0.934, "tier": "static"}
    assert '  s1["1 law/fp8 0.93 static<br/>Who?"]\n' in draw_plan({"question": "Who?", "sub_queries": [part]})
    refused = {**part, "refusal": "No.", "variant": None}
    assert '  s1{{"1 refused 0.93 static<br/>Who?"}}\n' in draw_plan({"question": "Who?", "sub_queries": [refused]})


NASTY = [
    '"] --> evil["gotcha"]\n  click evil "javascript:alert(1)"',
    "`**bold** [link](javascript:alert(1))`",
    "<img src=x onerror=alert(1)> &lt;b&gt;",
    "%%{init: {'theme':'dark'}}%%",
    "#quot; #35; #9829; &quot;",
    "end\nsubgraph x\nend",
    "1. a list? 2) - [x] task",
    "- what is it",
    "a|b --- c -.-> d ==> e ;;; f:::classy @{shape: rect}",
    "$$\\frac{1}{2}$$ \\n \\u202e",
    "\u202edrawkcab\u2066 \u200b\ufeff\u2028\x00\x1b[31m red",
    "ما هي عاصمة فرنسا؟ नमस्ते สวัสดี 👩‍👩‍👧‍👦",
    "é\u0301\u0301\u0301 ﬁ ² ½",
]


@pytest.mark.parametrize("text", NASTY)
def test_nasty_texts_stay_text(text: str) -> None:
    shown = read_label(draw(text), "question")
    visible = [letter for letter in text if letter.isprintable() and not letter.isspace()]
    assert [letter for letter in shown if not letter.isspace()] == visible


def test_a_long_text_is_cut() -> None:
    assert len(read_label(draw("word " * 5000), "question")) <= TEXT_CHARS


@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_whatever_the_text_every_line_is_a_node_or_an_arrow(text: str) -> None:
    draw(text)


def test_adversarial_questions_are_drawn() -> None:
    for question in adversarial_questions(300, seed=4):
        draw(question.text[:2000])
