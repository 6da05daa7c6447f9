"""Claims about consistency: what contradicts is found, what differs for a reason is not, evidence settles."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.consistency import Contradiction, describe_contradiction, find_contradictions
from router.question import Citation, Failure, SubAnswer, SubQuery, SubQueryId
from tests.router.contradiction_cases import AGREEING, CONTRADICTING, Case


def ask(number: int, text: str, domain: str = "finance") -> SubQuery:
    return SubQuery(SubQueryId(number), text, domain, np.zeros(0, dtype=np.float32), (), "")


def say(number: int, text: str, *citations: Citation, domain: str = "finance") -> SubAnswer:
    return SubAnswer(SubQueryId(number), domain, text, citations)


def cite(number: int, text: str, title: str = "Report") -> Citation:
    return Citation(number, "finance", title, f"{title}.md", text, 0.5, "v1")


def find(case: Case) -> tuple[Contradiction, ...]:
    queries = (ask(1, case.first[0]), ask(2, case.second[0], "general"))
    return find_contradictions(queries, (say(1, case.first[1]), say(2, case.second[1], domain="general")))


@pytest.mark.parametrize("case", CONTRADICTING, ids=lambda case: f"{case.first[1]} | {case.second[1]}")
def test_what_contradicts_is_found(case: Case) -> None:
    found = find(case)
    assert [contradiction.kind for contradiction in found] == [case.kind]
    assert [claim.sub_query for claim in found[0].claims] == [1, 2]


@pytest.mark.parametrize("case", AGREEING, ids=lambda case: f"{case.first[1]} | {case.second[1]}")
def test_what_agrees_or_is_of_something_else_raises_no_alarm(case: Case) -> None:
    assert find(case) == ()


def test_rounding_and_order_of_the_sub_answers_do_not_matter() -> None:
    for case in CONTRADICTING:
        queries = (ask(1, case.first[0]), ask(2, case.second[0], "general"))
        answers = (say(1, case.first[1]), say(2, case.second[1], domain="general"))
        assert find_contradictions(queries, answers) == find_contradictions(queries[::-1], answers[::-1])
        swapped = find_contradictions(
            (ask(1, case.second[0]), ask(2, case.first[0])), (say(1, case.second[1]), say(2, case.first[1]))
        )
        assert [found.kind for found in swapped] == [case.kind]


QUERIES = (ask(1, "What was Acme's revenue in 2023?"), ask(2, "What was Acme's revenue in 2023?", "general"))
RIGHT = say(1, "Acme's revenue in 2023 was 412.5 million euros [1].", cite(1, "In 2023 Acme's revenue was €412.5m."))
WRONG = say(2, "It was 421.5 million euros [2].", cite(2, "Acme is listed in Harrow."), domain="general")


def test_the_claim_that_its_passage_states_is_settled_on() -> None:
    (found,) = find_contradictions(QUERIES, (RIGHT, WRONG))
    assert found.settled == 1
    assert [claim.supported for claim in found.claims] == [True, False]
    assert found.subject == ("Acme", "revenue", "2023")
    assert describe_contradiction(found) == (
        "Contradiction: finance says 412.5 million euros [1], general says 421.5 million euros [2]; "
        "[1] states 412.5 million euros, [2] does not state the other"
    )


def test_a_claim_without_a_passage_loses_to_one_with() -> None:
    (found,) = find_contradictions(QUERIES, (RIGHT, replace(WRONG, citations=())))
    assert found.settled == 1
    assert describe_contradiction(found).endswith("[1] states 412.5 million euros, the other cites no passage")


def test_two_claims_that_cite_one_passage_are_settled_by_it() -> None:
    second = say(2, "421.5 million euros [1]", RIGHT.citations[0], domain="general")
    (found,) = find_contradictions(QUERIES, (RIGHT, second))
    assert found.settled == 1
    assert found.reason == "[1] states 412.5 million euros and not the other"


def test_passages_that_contradict_each_other_leave_it_open() -> None:
    second = replace(WRONG, citations=(cite(2, "Acme's revenue: 421,500,000 euros in 2023"),))
    (found,) = find_contradictions(QUERIES, (RIGHT, second))
    assert found.settled is None
    assert found.reason == "both cited passages say what is claimed, so this stays open"


def test_without_evidence_it_stays_open() -> None:
    (found,) = find_contradictions(QUERIES, (replace(RIGHT, citations=()), replace(WRONG, citations=())))
    assert (found.settled, found.claims[0].citation) == (None, None)
    assert found.reason == "no cited passage states either, so this stays open"


def test_a_passage_of_something_else_with_the_same_figure_is_no_evidence() -> None:
    second = replace(WRONG, citations=(cite(2, "Bolt sold goods for 421.5 million euros."),))
    (found,) = find_contradictions(QUERIES, (replace(RIGHT, citations=()), second))
    assert found.settled is None


def test_yes_and_no_are_settled_by_a_passage_that_says_so() -> None:
    queries = (ask(1, "Is the ferry to Calder free?"), ask(2, "Is the ferry to Calder free?", "general"))
    no = say(2, "No [2].", cite(2, "Calder. The ferry to Calder is not free."), domain="general")
    (found,) = find_contradictions(queries, (say(1, "Yes."), no))
    assert found.settled == 2


def test_a_cited_document_says_what_short_answers_are_about() -> None:
    queries = (ask(1, "What does it cost?"), ask(2, "What does it cost?", "general"))
    first = say(1, "It costs 5 coins [1].", cite(1, "", "Ferry to Calder"))
    second = say(2, "It costs 7 coins [2].", cite(2, "", "Ferry to Calder"), domain="general")
    other = say(2, "It costs 7 coins [2].", cite(2, "", "Museum of Harrow"), domain="general")
    assert len(find_contradictions(queries, (first, second))) == 1
    assert find_contradictions(queries, (first, other)) == ()


def test_parts_that_failed_or_were_refused_claim_nothing() -> None:
    failed = replace(WRONG, failure=Failure("expert_unavailable", "down", True))
    assert find_contradictions(QUERIES, (RIGHT, failed)) == ()
    refused = (QUERIES[0], replace(QUERIES[1], refusal="Nobody answers that."))
    assert find_contradictions(refused, (RIGHT, WRONG)) == ()


def test_a_sub_answer_that_names_both_figures_contradicts_nobody() -> None:
    both = say(2, "Acme's revenue in 2023 was 421.5 million euros. Acme's revenue in 2023 was 412.5 million euros.")
    assert find_contradictions(QUERIES, (RIGHT, both)) == ()


def test_two_parts_of_one_domain_are_told_apart() -> None:
    queries = (QUERIES[0], replace(QUERIES[1], domain="finance"))
    (found,) = find_contradictions(queries, (RIGHT, replace(WRONG, domain="finance")))
    assert "finance (part 1) says" in describe_contradiction(found)


_WORDS = (
    "Acme Bolt revenue was is not no Yes, 412.5 million euros [1] [2]. € 5 % 1.234 in 2023 Q2 3 May 1990 May founded "
    "and ; ( ) ` ``` twelve hundred about over km m per hour 1,000,000 999999999999999 . ? It costs - :"
)
_PIECES = st.lists(st.sampled_from([*_WORDS.split(), "\n"]), max_size=30).map(" ".join)
_ANY = st.one_of(st.text(max_size=200), _PIECES)


@given(st.lists(st.tuples(_ANY, _ANY, _ANY), min_size=2, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_and_the_order_of_answers_changes_nothing(parts: list[tuple[str, str, str]]) -> None:
    queries = [ask(number, question, f"d{number}") for number, (question, _, _) in enumerate(parts)]
    answers = [say(number, text, cite(1, passage)) for number, (_, text, passage) in enumerate(parts)]
    found = find_contradictions(queries, answers)
    assert found == find_contradictions(queries[::-1], answers[::-1])
    for contradiction in found:
        assert "\n" not in describe_contradiction(contradiction)


@given(_ANY, _ANY)
@settings(max_examples=200, deadline=None)
def test_nobody_contradicts_themselves(question: str, text: str) -> None:
    assert find_contradictions((ask(1, question), ask(2, question)), (say(1, text), say(2, text))) == ()


@pytest.mark.parametrize(
    "text",
    [
        "Acme's revenue in 2023 was 412.5 million euros. " * 4000,
        "Acme " * 40_000,
        "1," * 100_000,
        "[1" * 100_000,
        "(" * 100_000,
        "two hundred and " * 20_000,
        "`" * 100_000,
        "Yes. " * 40_000,
        "Acme and Bolt and " * 10_000,
        "5 m, " * 40_000,
        " ".join(f"Acme{number} costs {number} euros." for number in range(10_000)),
    ],
    ids=range(11),
)
def test_a_long_text_is_read_within_bounds(text: str) -> None:
    queries = [ask(number, "What does Acme cost in 2023?" + text) for number in range(4)]
    answers = [say(number, f"{number} " + text, cite(1, text)) for number in range(4)]
    started = time.process_time()
    find_contradictions(queries, answers)
    assert time.process_time() - started < 2
