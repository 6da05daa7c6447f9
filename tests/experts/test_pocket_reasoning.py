"""Reasoning of the second edition: every answer found again in another way, and no way around the reasoning."""

import random
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from experts.pocket.domains.reasoning import DAYS
from experts.pocket.domains.reasoning_family import QUESTIONS as FAMILY_QUESTIONS
from experts.pocket.domains.reasoning_hops import CHAINS, OBJECTS, QUESTIONS, SKILLS
from experts.pocket.domains.reasoning_order import COURSES, read_moment
from experts.pocket.domains.reasoning_schedule import FREE, NEXT, NONE, OVERLAP
from experts.pocket.exercise import Asked, Exercise, Wanted
from experts.prompt import REFUSAL

WORD = r"[A-Z][a-z]+"


def draw_exercises(skill: str, held_out: bool = False, count: int = 80, **wanted: Any) -> list[Exercise]:
    rng = random.Random(11)
    return [SKILLS[skill].draw(rng, Wanted(held_out=held_out, **wanted)) for _ in range(count)]


def list_answered(skill: str, count: int = 150) -> Iterator[tuple[Exercise, Asked]]:
    for exercise in draw_exercises(skill, count=count):
        yield from ((exercise, asked) for asked in exercise.asked if not asked.refused)


@pytest.mark.parametrize("skill", SKILLS)
def test_the_same_seed_draws_the_same_exercises(skill: str) -> None:
    assert draw_exercises(skill, True, 20) == draw_exercises(skill, True, 20)


@pytest.mark.parametrize("skill", SKILLS)
def test_training_and_evaluation_share_no_question_and_no_name(skill: str) -> None:
    sides = []
    for held_out in (False, True):
        exercises = draw_exercises(skill, held_out)
        questions = {asked.question for exercise in exercises for asked in exercise.asked}
        titles = {re.findall(WORD, p.title)[0] for exercise in exercises for p in exercise.passages} - {"Room"}
        sides.append((questions, titles))
    assert not sides[0][0] & sides[1][0]
    assert not sides[0][1] & sides[1][1]


def test_held_out_phrasings_are_not_among_those_of_training() -> None:
    courses = [templates for course in COURSES for templates in course.questions.values()]
    for templates in (
        *OBJECTS.values(),
        *QUESTIONS.values(),
        *FAMILY_QUESTIONS.values(),
        *courses,
        OVERLAP,
        FREE,
        NEXT,
    ):
        assert not set(templates.trained) & set(templates.held_out)
        assert templates.held_out


@pytest.mark.parametrize("skill", SKILLS)
def test_refusals_are_about_one_in_six_and_cite_nothing(skill: str) -> None:
    asked = [one for exercise in draw_exercises(skill, count=200) for one in exercise.asked]
    refused = [one for one in asked if one.answer == REFUSAL]
    assert all(one.target == REFUSAL for one in refused)
    assert 0.08 < len(refused) / len(asked) < 0.32


@pytest.mark.parametrize("skill", SKILLS)
def test_answers_end_in_their_result_and_cite_passages_that_are_shown(skill: str) -> None:
    for exercise, asked in list_answered(skill):
        assert asked.result
        assert asked.answer == asked.result or asked.answer.endswith(f" {asked.result}")
        assert len(set(asked.cited)) == len(asked.cited)
        assert all(1 <= number <= len(exercise.passages) for number in asked.cited)
        assert len(exercise.passages) <= 4


def test_each_step_is_said_by_the_passage_it_cites_and_leads_to_the_next() -> None:
    for exercise, asked in list_answered("hops"):
        steps = asked.answer.split("; ")
        assert len(steps) == len(asked.cited) == (3 if asked.task == "three hops" else 2)
        for step, number in zip(steps, asked.cited, strict=True):
            passage = exercise.passages[number - 1]
            names = re.findall(rf"{WORD}(?: {WORD})*|\d+:\d+", step)
            said = f"{passage.title}: {passage.text}"
            assert len(names) >= 1
            assert all(name in said for name in names), (step, said)
        for step, following in pairwise(steps):
            named = [set(re.findall(rf"{WORD}(?: {WORD}| team)?", text)) for text in (step, following)]
            assert named[0] & named[1], (step, following)


def test_no_hop_question_names_what_the_last_passage_is_about() -> None:
    for exercise, asked in list_answered("hops"):
        last = exercise.passages[asked.cited[-1] - 1].title.split(" - ")[0]
        assert last not in asked.question
        assert asked.result not in asked.question


def test_one_passage_does_not_give_the_answer_to_a_hop_question() -> None:
    """Two readers who use one passage: of most words in common, and any of the kind that the answer stands in."""
    found = guessed = 0.0
    cases = list(list_answered("hops", 400))
    for exercise, asked in cases:
        words = set(re.findall(r"\w+", asked.question))
        nearest = max(exercise.passages, key=lambda p: len(words & set(re.findall(r"\w+", f"{p.title} {p.text}"))))
        found += asked.result in f"{nearest.title}: {nearest.text}"
        kind = exercise.passages[asked.cited[-1] - 1].title.split(" - ")[1]
        guessed += 1 / sum(passage.title.endswith(f" - {kind}") for passage in exercise.passages)
    assert found / len(cases) < 0.25
    assert guessed / len(cases) < 0.6


def test_most_refused_hop_questions_are_near_misses() -> None:
    near = total = 0
    for exercise in draw_exercises("hops", count=300):
        shown = " ".join(f"{p.title} {p.text}" for p in exercise.passages)
        for asked in exercise.asked:
            if asked.refused:
                total += 1
                near += any(name in shown for name in re.findall(rf"{WORD} (?:{WORD}|team)", asked.question))
    assert near > 0.7 * total


def test_every_chain_is_drawn() -> None:
    rng, seen = random.Random(2), set()
    for _ in range(600):
        for asked in SKILLS["hops"].draw(rng, Wanted()).asked:
            seen.add((asked.task, re.sub(rf"{WORD}|\d", "", asked.answer)))
    assert len(seen) >= len(CHAINS)


def read_dates(exercise: Exercise) -> dict[str, tuple[str, int]]:
    """Name to the moment that its passage gives, and the passage's number; what has no moment is missing."""
    dates = {}
    for number, passage in enumerate(exercise.passages, start=1):
        moment = re.search(r"\d+:\d\d|\b\d{4}\b", passage.text)
        if moment:
            dates[passage.title.split(" - ")[0]] = (moment[0], number)
    return dates


def test_orderings_are_those_of_the_dates_in_the_passages() -> None:
    for exercise, asked in list_answered("order"):
        dates = read_dates(exercise)
        named = [name for name in dates if name in asked.question]
        compared = named if len(named) == 2 else list(dates)
        line = sorted(compared, key=lambda name: read_moment(dates[name][0]))
        question = asked.question.lower()
        if len(named) == 1:
            at = line.index(named[0])
            wanted = line[at + 1] if "after" in question else line[at - 1]
        else:
            last = any(word in question for word in ("last", "later", "latest", "after the other"))
            wanted = line[-1] if last else line[0]
        assert asked.result.removeprefix("the ") == wanted
        assert asked.cited == tuple(dates[name][1] for name in line)


def test_no_refused_ordering_could_be_answered() -> None:
    for exercise in draw_exercises("order", count=150):
        dates = read_dates(exercise)
        for asked in exercise.asked:
            named = [name for name in dates if name in asked.question]
            if asked.refused:
                assert len(named) < (2 if " or " in asked.question or asked.question.startswith("Of") else 1)


def read_minutes(text: str) -> set[int]:
    begins, ends = (read_moment(moment) for moment in re.findall(r"\d+:\d\d", text))
    return set(range(begins, ends))


def test_schedules_are_right_minute_by_minute() -> None:
    kinds = set()
    for exercise, asked in list_answered("schedule", 250):
        texts = {passage.title.split(" - ")[0]: passage.text for passage in exercise.passages}
        kind = exercise.passages[0].title.split(" - ")[1]
        kinds.add(kind)
        if kind == "Meeting":
            team = next(name for name in texts if name in asked.question)
            day = re.search("|".join(DAYS), texts[team])
            assert day
            overlapping = [
                f"the {name}"
                for name, text in texts.items()
                if name != team and day[0] in text and read_minutes(text) & read_minutes(texts[team])
            ]
            assert (overlapping or [NONE]) == [asked.result]
        elif kind == "Booking":
            room = next(name for name in texts if name.lower() in asked.question.lower())
            booked = [read_minutes(p.text) for p in exercise.passages if p.title.startswith(f"{room} - ")]
            left = read_minutes(asked.question) - set().union(*booked)
            assert left == read_minutes(asked.result)
            assert len(asked.cited) == len(booked)
        else:
            place = next(name for name in texts if name in asked.question)
            today = next(day for day in DAYS if day in asked.question)
            following = [DAYS[(DAYS.index(today) + step) % 7] for step in range(1, 8)]
            assert asked.result == next(day for day in following if day in texts[place])
    assert kinds == {"Meeting", "Booking", "Open days"}


def test_a_meeting_without_overlap_is_asked_about_now_and_then() -> None:
    results = [asked.result for _, asked in list_answered("schedule", 400) if "meets" in asked.answer]
    assert 0.1 < results.count(NONE) / len(results) < 0.4


def read_children(exercise: Exercise) -> dict[str, set[str]]:
    families = {}
    for passage in exercise.passages:
        parent = passage.title.split(" - ")[0]
        families[parent] = set(re.findall(r"[A-Z][a-z]{2,}", passage.text)) - {parent, "The"}
    return families


def find_relatives(kind: str, person: str, children: dict[str, set[str]]) -> set[str]:
    """By walking up and down as often as the relation is far."""
    up = {"grandparent": 2, "sibling": 1, "aunt": 2, "cousin": 2}[kind]
    down = {"grandparent": 0, "sibling": 1, "aunt": 1, "cousin": 2}[kind]
    line, people = [person], {person}
    for _ in range(up):
        people = {parent for parent, born in children.items() if born & people}
        line += people
    for _ in range(down):
        people = {child for parent in people for child in children.get(parent, ())} - set(line)
    return people


def test_relatives_are_those_of_the_stated_families() -> None:
    for exercise in draw_exercises("family", count=200):
        children = read_children(exercise)
        for asked in exercise.asked:
            kind = next(
                kind
                for kind, word in (
                    ("grandparent", "grand"),
                    ("aunt", "aunt|niece"),
                    ("cousin", "cousin"),
                    ("sibling", "sibling|brother"),
                )
                if re.search(word, asked.question)
            )
            person = next(
                name
                for name in {*children, *(child for born in children.values() for child in born)}
                if name in asked.question
            )
            relatives = find_relatives(kind, person, children)
            if asked.refused:
                assert len(relatives) != 1, (asked, children)
            else:
                assert relatives == {asked.result}
                assert {exercise.passages[number - 1].title.split(" - ")[0] for number in asked.cited} <= set(children)
