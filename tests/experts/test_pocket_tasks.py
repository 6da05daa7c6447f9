"""The exercises the pocket experts learn from."""

import random

import pytest

from experts.pocket import names
from experts.pocket.domains import coding, math
from experts.pocket.domains.finance import draw_scene
from experts.pocket.exercise import Exercise
from experts.pocket.shipped import SHIPPED
from experts.pocket.tasks import DOMAINS, TASKS, draw_exercise
from experts.prompt import REFUSAL


def draw_many(domain: str, held_out: bool, count: int = 150) -> list[Exercise]:
    rng = random.Random(5)
    return [draw_exercise(domain, rng, held_out=held_out) for _ in range(count)]


@pytest.mark.parametrize("domain", DOMAINS)
def test_exercises_are_the_same_for_the_same_seed(domain: str) -> None:
    assert draw_many(domain, False, 20) == draw_many(domain, False, 20)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("held_out", [False, True])
def test_every_answer_stands_verbatim_in_every_passage_that_it_may_cite(domain: str, held_out: bool) -> None:
    for exercise in draw_many(domain, held_out):
        for asked in exercise.asked:
            for number in asked.cited:
                passage = exercise.passages[number - 1]
                assert asked.answer in f"{passage.title}: {passage.text}"


@pytest.mark.parametrize("domain", DOMAINS)
def test_unanswerable_questions_get_the_refusal_without_citation(domain: str) -> None:
    asked = [one for exercise in draw_many(domain, False) for one in exercise.asked]
    refused = [one for one in asked if not one.cited]
    assert all(one.target == REFUSAL for one in refused)
    assert 0.05 < len(refused) / len(asked) < 0.3


@pytest.mark.parametrize("domain", DOMAINS)
def test_questions_of_training_and_evaluation_never_meet(domain: str) -> None:
    trained = {one.question for exercise in draw_many(domain, False) for one in exercise.asked}
    held_out = {one.question for exercise in draw_many(domain, True) for one in exercise.asked}
    assert not trained & held_out


@pytest.mark.parametrize("domain", DOMAINS)
def test_held_out_phrasings_are_not_among_the_training_phrasings(domain: str) -> None:
    for phrasings in TASKS[domain].phrasings.values():
        assert not set(phrasings.cores) & set(phrasings.held_out_cores)
        assert not set(phrasings.direct) & set(phrasings.held_out_direct)
        assert phrasings.held_out_direct or phrasings.held_out_cores


def test_names_fall_on_one_side_of_the_split_and_never_on_a_corpus_name() -> None:
    rng = random.Random(1)
    trained = {names.draw_name(rng, held_out=False) for _ in range(3000)}
    held_out = {names.draw_name(rng, held_out=True) for _ in range(1000)}
    assert not trained & held_out
    assert not (trained | held_out) & names.RESERVED


def test_training_shows_no_company_person_place_or_function_of_a_corpus() -> None:
    rng = random.Random(2)
    shown = " ".join(
        f"{record.title} {record.text}"
        for domain in DOMAINS
        for _ in range(400)
        for record in TASKS[domain].draw_scene(rng, False)
    )
    words = set(shown.replace(".", " ").replace(",", " ").split())
    assert not words & names.RESERVED
    assert not words & coding.RESERVED
    assert not [quantity for quantity in math.RESERVED if f"{quantity} is" in shown]


def test_the_shipped_corpora_use_reserved_names_only() -> None:
    for domain in ("finance", "reasoning"):
        for record in SHIPPED[domain]:
            assert set(record.title.split()) & names.RESERVED, record.title
    functions = {record.title.split(" - ")[1] for record in SHIPPED["coding"]}
    assert functions - {"run_pipeline"} <= coding.RESERVED


def test_a_scene_confuses_companies_and_quarters() -> None:
    titles = [record.title for record in draw_scene(random.Random(3), False)]
    assert len(set(titles)) == len(titles) == 6
    assert len({title.split(" - ")[0] for title in titles}) < len(titles)
