"""Claims about the shipped boundary head with the shipped encoder: all hand-written questions split as they should."""

from pathlib import Path

import pytest

from retrieval.encoder import SHIPPED_ENCODER
from retrieval.question_encoder import QuestionEncoder, load_question_encoder
from router.boundary_head import BoundaryHead, load_boundary_head
from router.boundary_split import split_with_head
from tests.router.question_cases import SPLITS, WHOLE


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> QuestionEncoder:
    return load_question_encoder(SHIPPED_ENCODER, tmp_path_factory.mktemp("data"), lambda line: None)


@pytest.fixture(scope="module")
def head() -> BoundaryHead:
    return load_boundary_head()


def split(text: str, encoder: QuestionEncoder, head: BoundaryHead) -> list[str]:
    encoded = encoder.encode_texts([text])
    return [part.text for part in split_with_head(text, encoded.states[0], encoded.offsets[0], head, 4)]


def test_the_head_is_for_the_shipped_encoder_and_says_what_it_was_trained_on(
    encoder: QuestionEncoder, head: BoundaryHead
) -> None:
    assert head.encoder == encoder.fingerprint
    assert {"seed", "sources", "composed", "questions"} <= head.metadata.keys()
    assert Path("router/weights/boundaries.safetensors").stat().st_size < 2 * 1024 * 1024


@pytest.mark.parametrize(("question", "parts"), SPLITS)
def test_a_question_with_several_asking_clauses_splits_into_them(
    question: str, parts: list[str], encoder: QuestionEncoder, head: BoundaryHead
) -> None:
    assert split(question, encoder, head) == parts


@pytest.mark.parametrize("question", WHOLE)
def test_a_question_without_a_second_asking_clause_stays_whole(
    question: str, encoder: QuestionEncoder, head: BoundaryHead
) -> None:
    assert split(question, encoder, head) == [question]


def test_a_connective_that_no_rule_knows_does_not_hide_a_part(encoder: QuestionEncoder, head: BoundaryHead) -> None:
    parts = split("how do i pay my visa bill, besides that can you book a table at six", encoder, head)
    assert [part.rstrip("?.") for part in parts] == ["how do i pay my visa bill", "can you book a table at six"]


@pytest.mark.parametrize(
    ("question", "parts"),
    [
        (
            "Wich team meets on Tuesday, how do I get the volume of a sphere, and compare the margins of Kelsing Labs "
            "and Halquist Bank?",
            ["Wich team meets on Tuesday?", "how do I get the volume of a sphere?", "compare the margins of Kelsing"],
        ),
        (
            "Hi there, quick one about our numbers: what was the revenue of Norvane Systems in Q2 2025, and who leads "
            "Orbit?",
            ["quick one about our numbers: what was the revenue of Norvane Systems in Q2 2025", "who leads Orbit?"],
        ),
    ],
)
def test_a_slip_or_an_introduction_hides_no_question(
    question: str, parts: list[str], encoder: QuestionEncoder, head: BoundaryHead
) -> None:
    found = split(question, encoder, head)
    assert len(found) == len(parts)
    assert all(part.startswith(begin) for part, begin in zip(found, parts, strict=True))
