"""Reasoning, second edition: questions whose answer takes two or three passages, each naming what the next is about.

The answer shows the chain, one step per passage, and cites the passages in the order of use. Beside the passages of one
chain stand those of another one with the same relations, so that no passage alone tells which of them is asked about.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experts.pocket.domains import reasoning as facts
from experts.pocket.domains.reasoning_family import draw_family
from experts.pocket.domains.reasoning_order import draw_order
from experts.pocket.domains.reasoning_schedule import draw_schedule
from experts.pocket.exercise import Asked, Exercise, Skill, Wanted
from experts.pocket.names import draw_names
from experts.pocket.records import Record
from experts.pocket.templates import Templates, read_templates
from experts.prompt import REFUSAL

# Of what each relation is said, how a step of an answer says it, how its object is called in a longer question (none
# where no chain goes on), and how it is asked for.
_STEPS: Mapping[str, str] = {
    "works": "{s} works at {o}",
    "job": "{s} works as {o}",
    "worker": "at {s} works {o}",
    "trains": "{s} trains at {o}",
    "lives": "{s} lives in {o}",
    "town": "{s} is in {o}",
    "opens": "{s} opens at {o}",
    "closes": "{s} closes at {o}",
    "closed": "{s} is closed on {o}",
    "mayor": "the mayor of {s} is {o}",
    "member": "{s} is in {o}",
    "leader": "{s} is led by {o}",
    "room": "{s} meets in {o}",
    "meets": "{s} meets at {o}",
}
OBJECTS: Mapping[str, Templates] = {
    "works": read_templates(
        "the workplace of {x}|the place where {x} works|{x}'s workplace", "the place at which {x} works"
    ),
    "trains": read_templates("the place where {x} trains|the place of {x}'s training", "the place at which {x} trains"),
    "lives": read_templates(
        "the home town of {x}|the town where {x} lives|{x}'s home town", "the town in which {x} lives"
    ),
    "town": read_templates("the town of {x}|the town where {x} is", "the town in which {x} is"),
    "member": read_templates("the team of {x}|{x}'s team|the team that {x} is in", "the team which {x} is in"),
    "leader": read_templates("the leader of {x}|the person who leads {x}|{x}'s leader", "the one who leads {x}"),
    "worker": read_templates("the person who works at {x}|the one working at {x}", "the one who works at {x}"),
}
QUESTIONS: Mapping[str, Templates] = {
    "works": read_templates(
        "Where does {x} work?|At which place does {x} work?|What is the workplace of {x}?|Tell me where {x} works.",
        "At what place does {x} work?|At which place is {x} working?",
    ),
    "job": read_templates(
        "What is the job of {x}?|What does {x} do for a living?|Which job does {x} have?|As what does {x} work?",
        "What job does {x} have?|Which profession does {x} have?",
    ),
    "lives": read_templates(
        "Where does {x} live?|In which town does {x} live?|What is the home town of {x}?|Tell me where {x} lives.",
        "In what town does {x} live?|Which town does {x} live in?",
    ),
    "town": read_templates(
        "In which town is {x}?|Which town is {x} in?|Where is {x}?|Tell me the town of {x}.",
        "In what town is {x}?|What town is {x} in?",
    ),
    "opens": read_templates(
        "When does {x} open?|At what time does {x} open?|What is the opening time of {x}?|Tell me when {x} opens.",
        "What time does {x} open?|From when is {x} open?",
    ),
    "closes": read_templates(
        "When does {x} close?|At what time does {x} close?|What is the closing time of {x}?|Tell me when {x} closes.",
        "What time does {x} close?|Until when is {x} open?",
    ),
    "closed": read_templates(
        "On which day is {x} closed?|Which day is {x} closed?|What is the closing day of {x}?",
        "On what day is {x} closed?|Which weekday is {x} closed?",
    ),
    "mayor": read_templates(
        "Who is the mayor of {x}?|What is the name of the mayor of {x}?|Tell me the mayor of {x}.",
        "Who is mayor of {x}?|Which person is the mayor of {x}?",
    ),
    "leader": read_templates(
        "Who leads {x}?|Who is the leader of {x}?|By whom is {x} led?",
        "Which person leads {x}?|Who is in charge of {x}?",
    ),
    "room": read_templates(
        "In which room does {x} meet?|Where does {x} meet?|Which room does {x} use?|What is the meeting room of {x}?",
        "In what room does {x} meet?|Which room does {x} meet in?",
    ),
    "meets": read_templates(
        "When does {x} meet?|At what time does {x} meet?|When is the meeting of {x}?",
        "At which time does {x} meet?|What time does {x} meet?",
    ),
}
CHAINS: Sequence[tuple[str, ...]] = (
    ("works", "town"),
    ("works", "opens"),
    ("works", "closes"),
    ("works", "closed"),
    ("trains", "town"),
    ("trains", "opens"),
    ("trains", "closes"),
    ("lives", "mayor"),
    ("town", "mayor"),
    ("member", "room"),
    ("member", "meets"),
    ("member", "leader"),
    ("leader", "works"),
    ("leader", "job"),
    ("leader", "lives"),
    ("worker", "lives"),
    ("works", "town", "mayor"),
    ("trains", "town", "mayor"),
    ("leader", "works", "town"),
    ("leader", "works", "opens"),
    ("leader", "works", "closes"),
    ("leader", "lives", "mayor"),
    ("member", "leader", "works"),
    ("member", "leader", "lives"),
    ("member", "leader", "job"),
)


@dataclass(frozen=True)
class Statement:
    """One passage and what it states: (relation, subject) to object."""

    record: Record
    says: Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Hops:
    """One chain of a question, looked up: the steps, and the passages' numbers; `missing` where a step is not said."""

    steps: Sequence[str]
    cited: Sequence[int]
    result: str
    missing: bool


class _World:
    """The names of one exercise, handed out one after another."""

    def __init__(self, rng: random.Random, held_out: bool) -> None:
        self.rng = rng
        self._names = draw_names(rng, held_out, 48)

    def draw(self, kind: str) -> str:
        """A fresh person, place, town or team."""
        name = self._names.pop()
        if kind == "person":
            return f"{name} {self._names.pop()}"
        if kind == "place":
            return f"the {name} {self.rng.choice(facts.PLACES)}"
        return f"the {name} team" if kind == "team" else name

    def draw_slot(self) -> str:
        return f"{facts.draw_time(self.rng)} on {self.rng.choice(facts.DAYS)}"

    def draw_address(self) -> str:
        return f"{self.rng.randint(1, 99)} {self._names.pop()} {self.rng.choice(facts.STREETS)}"


def _state_work(world: _World, person: str, place: str) -> Statement:
    job = world.rng.choice(facts.JOBS)
    record = facts.write_work(person, job, place, world.rng.randrange(4))
    return Statement(record, {("works", person): place, ("job", person): job, ("worker", place): person})


def _state_home(world: _World, person: str, town: str) -> Statement:
    record = facts.write_home(person, town, world.draw_address(), world.rng.randrange(4))
    return Statement(record, {("lives", person): town})


def _state_training(world: _World, person: str, place: str) -> Statement:
    sport = world.rng.choice(facts.SPORTS)
    record = facts.write_training(person, sport, world.draw_slot(), place, world.rng.randrange(4))
    return Statement(record, {("trains", person): place})


def _state_location(world: _World, place: str, town: str) -> Statement:
    record = facts.write_location(place, town, world.draw_address(), world.rng.randrange(4))
    return Statement(record, {("town", place): town})


def _state_hours(world: _World, place: str, _: str) -> Statement:
    opens, closes = facts.draw_time(world.rng), facts.draw_time(world.rng)
    day = world.rng.choice(facts.DAYS)
    record = facts.write_hours(place, opens, closes, day, world.rng.randrange(4))
    return Statement(record, {("opens", place): opens, ("closes", place): closes, ("closed", place): day})


def _state_meeting(world: _World, team: str, leader: str) -> Statement:
    name, room, slot = team.split()[1], world.draw("room"), world.draw_slot()
    form = world.rng.randrange(4)
    record = facts.write_meeting(name, room, slot, leader, form)
    says = {("room", team): f"room {room}", ("meets", team): slot, ("leader", team): leader}
    return Statement(record, says)


def _state_member(world: _World, person: str, team: str) -> Statement:
    texts = (
        f"{person} is a member of {team}.",
        f"{person} joined {team} two years ago.",
        f"One of the members of {team} is {person}.",
        f"In the office, {person} belongs to {team}.",
    )
    return Statement(Record(f"{person} - Team", world.rng.choice(texts), ()), {("member", person): team})


def _state_mayor(world: _World, town: str, person: str) -> Statement:
    texts = (
        f"The mayor of {town} is {person}.",
        f"{person} has been mayor of {town} for four years.",
        f"In {town}, {person} was elected mayor.",
        f"{town} is a small town. Its mayor is {person}.",
    )
    return Statement(Record(f"{town} - Town hall", world.rng.choice(texts), ()), {("mayor", town): person})


# How a relation is stated, and the kinds of its subject and object. Relations of one passage share its statement.
_STATED: Mapping[str, tuple[Callable[[_World, str, str], Statement], str, str]] = {
    "works": (_state_work, "person", "place"),
    "job": (_state_work, "person", "place"),
    "trains": (_state_training, "person", "place"),
    "lives": (_state_home, "person", "town"),
    "town": (_state_location, "place", "town"),
    "opens": (_state_hours, "place", ""),
    "closes": (_state_hours, "place", ""),
    "closed": (_state_hours, "place", ""),
    "mayor": (_state_mayor, "town", "person"),
    "member": (_state_member, "person", "team"),
    "leader": (_state_meeting, "team", "person"),
    "room": (_state_meeting, "team", "person"),
    "meets": (_state_meeting, "team", "person"),
}


def follow(chain: Sequence[str], start: str, shown: Sequence[Statement]) -> Hops:
    """Look a chain up in passages numbered from 1."""
    steps: list[str] = []
    cited: list[int] = []
    subject = start
    for relation in chain:
        numbers = [number for number, one in enumerate(shown, start=1) if (relation, subject) in one.says]
        if not numbers:
            return Hops(steps, cited, "", True)
        found = shown[numbers[0] - 1].says[relation, subject]
        steps.append(_STEPS[relation].format(s=subject, o=found))
        cited.append(numbers[0])
        subject = found
    return Hops(steps, cited, subject, False)


def state_chain(world: _World, chain: Sequence[str]) -> tuple[str, list[Statement]]:
    """Fresh passages that state one chain, and where it starts."""
    statements = []
    if chain[0] == "worker":
        start, subject = world.draw("place"), world.draw("person")
        statements.append(_state_work(world, subject, start))
        rest = chain[1:]
    else:
        start = subject = world.draw(_STATED[chain[0]][1])
        rest = chain
    for relation in rest:
        state, _, kind = _STATED[relation]
        found = world.draw(kind) if kind else ""
        statements.append(state(world, subject, found))
        subject = found
    return start, statements


def ask_chain(chain: Sequence[str], start: str, rng: random.Random, held_out: bool) -> str:
    """One way to ask for the end of a chain."""
    named = start
    for relation in chain[:-1]:
        named = OBJECTS[relation].draw(rng, held_out, x=named)
    return QUESTIONS[chain[-1]].draw(rng, held_out, x=named)


def draw_hops(rng: random.Random, wanted: Wanted) -> Exercise:
    """Chains over up to four passages; refused where a passage of the chain is not shown."""
    chain = rng.choice(CHAINS)
    world = _World(rng, wanted.held_out)
    start, statements = state_chain(world, chain)
    other_start, others = state_chain(world, chain)
    # One more than the chain, so that there is something to take for its end; fewer only where training begins.
    fewest = len(statements) + (1 if max(wanted.passages) > 2 else 0)
    count = max(rng.choice(wanted.passages), fewest)
    # Now and then a passage of the chain is left out, and one of the other chain stands in its place.
    dropped = rng.random() < 0.35 and count > 1
    kept = rng.sample(statements, len(statements) - 1) if dropped else statements
    # Where the other chain ends comes first, so that the kind of passage that a question ends in tells nothing.
    *links, end = others
    beside = [end, *rng.sample(links, len(links))]
    if rng.random() < 0.5:
        beside.insert(1, state_chain(world, chain)[1][-1])
    shown = [*kept, *beside[: count - len(kept)]]
    rng.shuffle(shown)
    same_kind = [one for one in CHAINS if _kind_of_start(one) == _kind_of_start(chain)]
    asked, near, far = [], [], []
    for begin in (start, other_start):
        for one in same_kind:
            hops = follow(one, begin, shown)
            if not hops.missing:
                asked.append((one, begin, hops))
            elif hops.steps:
                near.append((one, begin, hops))
            elif one == chain:
                far.append((one, begin, hops))
    questions = []
    for _ in range(wanted.questions):
        refused = near if near and (not far or rng.random() < 0.8) else far
        # Someone whom no passage names is easy to refuse, and asked about less often.
        share = wanted.refusal_share if near else wanted.refusal_share / 3
        missing = refused and (not asked or rng.random() < share)
        one, begin, hops = rng.choice(refused if missing else asked)
        question = ask_chain(one, begin, rng, wanted.held_out)
        task = "two hops" if len(one) == 2 else "three hops"
        if hops.missing:
            questions.append(Asked(question, REFUSAL, task=task))
        else:
            answer = "; ".join(hops.steps)
            questions.append(Asked(question, answer, tuple(hops.cited), task, "result", True, hops.result))
    return Exercise("reasoning", [one.record for one in shown], questions)


def _kind_of_start(chain: Sequence[str]) -> str:
    return "place" if chain[0] == "worker" else _STATED[chain[0]][1]


SKILLS: Mapping[str, Skill] = {
    "hops": Skill(draw_hops, 3.0),
    "order": Skill(draw_order, 1.2),
    "schedule": Skill(draw_schedule, 1.5),
    "family": Skill(draw_family, 1.5),
}
