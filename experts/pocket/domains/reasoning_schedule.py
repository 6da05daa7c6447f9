"""Schedules: which meetings overlap, when a room is free, when a place opens next."""

import random
from collections.abc import Sequence
from itertools import pairwise

from experts.pocket.alternatives import split_alternatives
from experts.pocket.domains.reasoning import DAYS, PLACES
from experts.pocket.exercise import Asked, Exercise, Wanted
from experts.pocket.names import draw_names
from experts.pocket.records import Record
from experts.pocket.templates import read_templates
from experts.prompt import REFUSAL

OVERLAP = read_templates(
    "Which team meets at the same time as {a}?|Which meeting overlaps with that of {a}?|Does another team meet while "
    "{a} meets?|With which team does the meeting of {a} overlap?|Which team's meeting is in conflict with that of "
    "{a}?",
    "Which team has a meeting at the same time as {a}?|Which meeting is in conflict with that of {a}?|While {a} "
    "meets, which other team meets?",
)
FREE = read_templates(
    "When is {r} free between {s} and {e}?|From when to when is {r} free between {s} and {e}?|Between {s} and {e}, "
    "when is nobody in {r}?|I need {r} between {s} and {e}. When is it free?",
    "At what time is {r} free between {s} and {e}?|Between {s} and {e}, when can I have {r}?",
)
NEXT = read_templates(
    "It is {d} night. On which day does {p} open next?|After {d}, which is the next day that {p} opens?|On which day "
    "after {d} does {p} open next?|I missed {p} on {d}. On which day does it open again?",
    "It is {d} evening. When does {p} open again?|Which is the next day after {d} on which {p} opens?",
)
NONE = "no other team"
_MEETINGS = split_alternatives(
    "{c} meets on {d} from {s} to {e}.|On {d}, {a} meets from {s} until {e}.|The meeting of {a} is on {d}. It begins "
    "at {s} and ends at {e}.|From {s} to {e} on {d}, {a} holds its meeting."
)
_BOOKINGS = split_alternatives(
    "{r} is booked from {s} to {e} by {a}.|From {s} until {e}, {a} uses {r}.|{c} has booked {r} from {s} to "
    "{e}.|Booking of {r}: {a}, from {s} to {e}."
)
_DAYS_OPEN = split_alternatives(
    "{c} opens on {d}.|{c} can be visited on {d}.|The days when {p} opens are {d}.|On {d} the doors of {p} open."
)


def draw_schedule(rng: random.Random, wanted: Wanted) -> Exercise:
    """An exercise of one of the three kinds."""
    return rng.choice((_draw_overlap, _draw_free, _draw_next))(rng, wanted)


def write_clock(minutes: int) -> str:
    """Minutes after midnight as a time of day."""
    return f"{minutes // 60}:{minutes % 60:02}"


def do_overlap(first: tuple[str, int, int], second: tuple[str, int, int]) -> bool:
    """Whether two meetings, each a day, a beginning and an end, share a minute."""
    return first[0] == second[0] and first[1] < second[2] and second[1] < first[2]


def _draw_meeting(rng: random.Random, days: Sequence[str]) -> tuple[str, int, int]:
    begins = rng.randrange(8 * 60, 17 * 60, 15)
    return rng.choice(days), begins, begins + rng.choice((30, 45, 60, 75, 90, 120))


def _draw_overlap(rng: random.Random, wanted: Wanted) -> Exercise:
    count = max(rng.choice(wanted.passages), 2)
    teams = [f"the {name} team" for name in draw_names(rng, wanted.held_out, count + 1)]
    days = rng.sample(DAYS, 2)
    while True:
        meetings = [_draw_meeting(rng, days) for _ in range(count)]
        clashes = [
            [other for other in range(count) if other != one and do_overlap(meetings[one], meetings[other])]
            for one in range(count)
        ]
        if max(map(len, clashes)) == 1:
            break
    passages = []
    for team, (day, begins, ends) in zip(teams, meetings, strict=False):
        slots = {"d": day, "s": write_clock(begins), "e": write_clock(ends), "a": team, "c": "T" + team[1:]}
        passages.append(Record(f"{team.removeprefix('the ')} - Meeting", rng.choice(_MEETINGS).format(**slots), ()))

    def say(number: int) -> str:
        day, begins, ends = meetings[number]
        return f"{teams[number]} meets on {day} from {write_clock(begins)} to {write_clock(ends)}"

    # Who meets alone is asked about half as often: else "no other team" would be the best guess.
    clashing = [one for one in range(count) if clashes[one]]
    alone = [one for one in range(count) if not clashes[one]]
    asked = []
    for _ in range(wanted.questions):
        if rng.random() < wanted.refusal_share:
            question = OVERLAP.draw(rng, wanted.held_out, a=teams[count])
            asked.append(Asked(question, REFUSAL, task="schedules"))
            continue
        one = rng.choice(alone if alone and rng.random() < 0.25 else clashing)
        question = OVERLAP.draw(rng, wanted.held_out, a=teams[one])
        used = [one, *clashes[one]]
        found = teams[clashes[one][0]] if clashes[one] else NONE
        answer = "; ".join([*map(say, used), found])
        cited = tuple(number + 1 for number in used)
        asked.append(Asked(question, answer, cited, "schedules", "result", True, found))
    return Exercise("reasoning", passages, asked)


def _draw_free(rng: random.Random, wanted: Wanted) -> Exercise:
    count = max(rng.choice(wanted.passages), 2)
    *names, room, other, unknown = draw_names(rng, wanted.held_out, count + 3)
    rooms = [f"room {name}" for name in (room, other, unknown)]
    decoys = 1 if count > 2 else 0
    # Bookings one after another, with one gap.
    gap = rng.randrange(1, count - decoys)
    edges = [rng.randrange(7 * 60, 11 * 60, 15)]
    for _ in range(count - decoys + 1):
        edges.append(edges[-1] + rng.choice((30, 45, 60, 75, 90)))
    spans = list(pairwise(edges))
    free = spans.pop(gap)
    begins = rng.randrange(7 * 60, 12 * 60, 15)
    booked = [(rooms[0], span) for span in spans] + [(rooms[1], (begins, begins + 60))] * decoys
    order = rng.sample(range(count), count)
    passages = []
    for number in order:
        where, (start, end) = booked[number]
        team = f"the {names[number]} team"
        slots = {"r": where, "s": write_clock(start), "e": write_clock(end), "a": team, "c": "T" + team[1:]}
        text = rng.choice(_BOOKINGS).format(**slots)
        passages.append(Record(f"R{where[1:]} - Booking", text[0].upper() + text[1:], ()))
    listed = ", ".join(f"{write_clock(start)} to {write_clock(end)}" for start, end in spans)
    result = f"{write_clock(free[0])} to {write_clock(free[1])}"
    cited = tuple(order.index(number) + 1 for number in range(len(spans)))
    times = {"s": write_clock(edges[0]), "e": write_clock(edges[-1])}
    asked = []
    for _ in range(wanted.questions):
        if rng.random() < wanted.refusal_share:
            question = FREE.draw(rng, wanted.held_out, r=rooms[2], **times)
            asked.append(Asked(question, REFUSAL, task="schedules"))
        else:
            question = FREE.draw(rng, wanted.held_out, r=rooms[0], **times)
            answer = f"booked from {listed}; free from {result}"
            asked.append(Asked(question, answer, cited, "schedules", "result", True, result))
    return Exercise("reasoning", passages, asked)


def _draw_next(rng: random.Random, wanted: Wanted) -> Exercise:
    count = rng.choice(wanted.passages)
    places = [f"the {name} {rng.choice(PLACES)}" for name in draw_names(rng, wanted.held_out, count + 1)]
    opened = [sorted(rng.sample(range(7), rng.choice((2, 3, 3, 4)))) for _ in range(count)]
    passages = []
    for place, days in zip(places, opened, strict=False):
        text = rng.choice(_DAYS_OPEN).format(p=place, c="T" + place[1:], d=list_days(days))
        passages.append(Record(f"{place.removeprefix('the ')} - Open days", text, ()))
    asked = []
    for _ in range(wanted.questions):
        today = rng.randrange(7)
        if rng.random() < wanted.refusal_share:
            question = _ask_next(rng, wanted.held_out, today, places[count])
            asked.append(Asked(question, REFUSAL, task="schedules"))
            continue
        number = rng.randrange(count)
        days = opened[number]
        found = DAYS[min(days, key=lambda day: (day - today - 1) % 7)]
        question = _ask_next(rng, wanted.held_out, today, places[number])
        answer = f"{places[number]} opens on {list_days(days)}; after {DAYS[today]} comes {found}"
        asked.append(Asked(question, answer, (number + 1,), "schedules", "result", False, found))
    return Exercise("reasoning", passages, asked)


def _ask_next(rng: random.Random, held_out: bool, today: int, place: str) -> str:
    question = NEXT.draw(rng, held_out, d=DAYS[today], p=place)
    return question[0].upper() + question[1:]


def list_days(days: Sequence[int]) -> str:
    """Days of the week as an enumeration."""
    names = [DAYS[day] for day in days]
    return f"{', '.join(names[:-1])} and {names[-1]}"
