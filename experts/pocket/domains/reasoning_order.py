"""Ordering: which of several dated things comes first, last, right before or right after another.

The answer lists what it compares in order of time, then names the result, and cites every passage compared.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experts.pocket.alternatives import split_alternatives
from experts.pocket.domains.reasoning import JOBS, PLACES, draw_time
from experts.pocket.exercise import Asked, Exercise, Wanted
from experts.pocket.names import draw_names, draw_until_split
from experts.pocket.records import Record
from experts.pocket.templates import Templates, read_templates
from experts.prompt import REFUSAL


def _draw_year(rng: random.Random, held_out: bool) -> str:
    return draw_until_split(lambda: str(rng.randint(1700, 2020)), held_out)


def _draw_time(rng: random.Random, held_out: bool) -> str:
    del held_out  # Quarters of an hour are too few to split.
    return draw_time(rng)


def read_moment(moment: str) -> int:
    """A year, or a time of day in minutes."""
    hours, _, minutes = moment.partition(":")
    return int(hours) * 60 + int(minutes) if minutes else int(hours)


@dataclass(frozen=True)
class Course:
    """One kind of dated thing: how passages date it, what one without the date says, and how it is asked for."""

    title: str
    people: bool
    draw: Callable[[random.Random, bool], str]
    dated: Sequence[str]
    undated: Sequence[str]
    questions: Mapping[str, Templates]


def _ask(verb: str, who: str, thing: str) -> dict[str, Templates]:
    """The questions about one verb, as `was opened`; `who` asks for one of the things, `thing` names their kind."""
    return {
        "first of two": read_templates(
            f"{who} {verb} first, {{a}} or {{b}}?|{who} {verb} earlier, {{a}} or {{b}}?|Of {{a}} and {{b}}, "
            f"{who.lower()} {verb} first?",
            f"{who} {verb} before the other, {{a}} or {{b}}?|Of {{a}} and {{b}}, {who.lower()} {verb} earlier?",
        ),
        "last of two": read_templates(
            f"{who} {verb} last, {{a}} or {{b}}?|{who} {verb} later, {{a}} or {{b}}?|Of {{a}} and {{b}}, "
            f"{who.lower()} {verb} later?",
            f"{who} {verb} after the other, {{a}} or {{b}}?|Of {{a}} and {{b}}, {who.lower()} {verb} last?",
        ),
        "first": read_templates(
            f"{who} {verb} first of all?|Which {thing} {verb} first?|{who} {verb} earliest?",
            f"Which {thing} {verb} earliest?|Of all, {who.lower()} {verb} first?",
        ),
        "last": read_templates(
            f"{who} {verb} last of all?|Which {thing} {verb} last?|{who} {verb} latest?",
            f"Which {thing} {verb} latest?|Of all, {who.lower()} {verb} last?",
        ),
        "after": read_templates(
            f"{who} {verb} right after {{a}}?|Which {thing} {verb} next after {{a}}?|After {{a}}, {who.lower()} {verb} "
            "next?",
            f"Which {thing} {verb} right after {{a}}?|{who} {verb} next after {{a}}?",
        ),
        "before": read_templates(
            f"{who} {verb} right before {{a}}?|Which {thing} {verb} just before {{a}}?",
            f"Which {thing} {verb} right before {{a}}?|{who} {verb} just before {{a}}?",
        ),
    }


COURSES: Sequence[Course] = (
    Course(
        "History",
        False,
        _draw_year,
        split_alternatives(
            "{c} was opened in {m}.|In {m}, {a} was opened.|The year in which {a} was opened is {m}.|{c} has stood "
            "since it was opened in {m}."
        ),
        split_alternatives("{c} was opened by a mayor.|Two architects built {a}.|{c} has three floors."),
        _ask("was opened", "What", "place"),
    ),
    Course(
        "Arrival",
        True,
        _draw_time,
        split_alternatives(
            "{c} arrived at {m}.|At {m}, {a} arrived.|The guard wrote down {m} when {a} arrived.|{c} came by train "
            "and arrived at {m}."
        ),
        split_alternatives("{c} arrived by train.|{c} arrived with two bags.|A friend met {a} at the gate."),
        _ask("arrived", "Who", "person"),
    ),
    Course(
        "Life",
        True,
        _draw_year,
        split_alternatives(
            "{c} was born in {m}.|In {m}, {a} was born.|The year of birth of {a} is {m}.|{c}, {j}, was born in {m}."
        ),
        split_alternatives("{c} works as {j}.|{c} has two brothers.|The birthday of {a} is in May."),
        _ask("was born", "Who", "person"),
    ),
)


def draw_order(rng: random.Random, wanted: Wanted) -> Exercise:
    """Questions over two to four dated passages; refused where a date is not said."""
    course = rng.choice(COURSES)
    count = max(rng.choice(wanted.passages), 2)
    names = draw_names(rng, wanted.held_out, 12)
    if course.people:
        things = [f"{names.pop()} {names.pop()}" for _ in range(count + 1)]
    else:
        things = [f"the {names.pop()} {rng.choice(PLACES)}" for _ in range(count + 1)]
    moments = _draw_apart(course, count, rng, wanted.held_out)
    undated = count - 1 if count > 2 and rng.random() < 0.3 else count
    order = rng.sample(range(count), count)
    passages: list[Record] = [Record("", "", ())] * count
    for place, number in enumerate(order):
        text = rng.choice(course.dated if number < undated else course.undated)
        named = {"a": things[number], "c": things[number][0].upper() + things[number][1:], "m": moments[number]}
        title = f"{things[number].removeprefix('the ')} - {course.title}"
        passages[place] = Record(title, text.format(j=rng.choice(JOBS), **named), ())
    dated = sorted(range(undated), key=lambda number: read_moment(moments[number]))
    # Among the dated, `first` and its like would count one without a date as if it were not there.
    kinds = list(course.questions) if undated == count else ["first of two", "last of two"]
    asked = []
    for _ in range(wanted.questions):
        kind = rng.choice(kinds)
        if rng.random() < wanted.refusal_share:
            unknown = things[rng.randrange(undated, count + 1)]
            kind = rng.choice(("first of two", "last of two", "after", "before"))
            pair = [unknown, things[rng.choice(dated)]]
            rng.shuffle(pair)
            a, b = pair if "two" in kind else (unknown, "")
            question = course.questions[kind].draw(rng, wanted.held_out, a=a, b=b)
            asked.append(Asked(question, REFUSAL, task="ordering"))
            continue
        compared = sorted(rng.sample(dated, 2), key=dated.index) if "two" in kind else dated
        at = rng.randrange(1, len(compared))
        a, b = (things[number] for number in rng.sample(compared, 2))
        if kind in ("after", "before"):
            a = things[compared[at - 1 if kind == "after" else at]]
            found = compared[at if kind == "after" else at - 1]
        else:
            found = compared[0 if "first" in kind else -1]
        question = course.questions[kind].draw(rng, wanted.held_out, a=a, b=b)
        listed = ", ".join(f"{things[number]} {moments[number]}" for number in compared)
        cited = tuple(order.index(number) + 1 for number in compared)
        asked.append(Asked(question, f"{listed}; {things[found]}", cited, "ordering", "result", True, things[found]))
    return Exercise("reasoning", passages, asked)


def _draw_apart(course: Course, count: int, rng: random.Random, held_out: bool) -> list[str]:
    moments: list[str] = []
    while len(moments) < count:
        moment = course.draw(rng, held_out)
        if moment not in moments:
            moments.append(moment)
    return moments
