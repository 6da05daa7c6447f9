"""Exercises for every domain: passages as a retriever would return them, questions, and the answers with citation.

A scene is a handful of confusable records of one domain. An exercise shows up to four of them and asks for facts that
they state, or for facts of the records that it leaves out: those are the refusals, always near misses.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from experts.pocket.domains import coding, finance, generalist, math, reasoning
from experts.pocket.exercise import Asked, Exercise
from experts.pocket.records import Fact, Phrasings, Record, phrase_question
from experts.prompt import REFUSAL

DOMAINS = ("finance", "math", "coding", "reasoning", "generalist")

# A retriever returns four passages at most, and a refusal is wanted about once in seven questions.
MAX_PASSAGES = 4
REFUSAL_SHARE = 0.16
_STRANGER_SHARE = 0.08


@dataclass(frozen=True)
class DomainTask:
    """What one domain module offers."""

    draw_scene: Callable[[random.Random, bool], list[Record]]
    phrasings: Mapping[str, Phrasings]
    vary_slots: Callable[[dict[str, str], random.Random], dict[str, str]]


TASKS: Mapping[str, DomainTask] = {
    "finance": DomainTask(finance.draw_scene, finance.PHRASINGS, finance.vary_slots),
    "math": DomainTask(math.draw_scene, math.PHRASINGS, math.vary_slots),
    "coding": DomainTask(coding.draw_scene, coding.PHRASINGS, coding.vary_slots),
    "reasoning": DomainTask(reasoning.draw_scene, reasoning.PHRASINGS, reasoning.vary_slots),
    "generalist": DomainTask(generalist.draw_scene, generalist.PHRASINGS, generalist.vary_slots),
}


def draw_exercise(
    domain: str,
    rng: random.Random,
    *,
    held_out: bool = False,
    questions: int = 6,
    passages: Sequence[int] = (3, 4),
    refusal_share: float = REFUSAL_SHARE,
) -> Exercise:
    """One exercise; `passages` are the passage counts to choose from."""
    task = TASKS[domain]
    scene = task.draw_scene(rng, held_out)
    count = min(rng.choice(passages), len(scene))
    order = rng.sample(range(len(scene)), len(scene))
    shown, hidden = [scene[i] for i in order[:count]], [scene[i] for i in order[count:]]
    strangers = rng.random() < _STRANGER_SHARE and count > 1
    if strangers:
        other = rng.choice([name for name in DOMAINS if name != domain])
        stranger = rng.choice(TASKS[other].draw_scene(rng, held_out))
        hidden.append(shown[0])
        shown[0] = stranger
        rng.shuffle(shown)
    stated = _index_facts(shown, stranger if strangers else None)
    answerable = list(stated.values())
    missing = [fact for record in hidden for fact in record.facts if fact.key not in stated]
    missing += [fact for record in shown for fact in record.left_out if fact.key not in stated]
    missing = [fact for fact in missing if fact.kind in task.phrasings]
    asked: list[Asked] = []
    for _ in range(questions):
        if missing and (rng.random() < refusal_share or not answerable):
            asked.append(Asked(_ask(rng.choice(missing), task, rng, held_out), REFUSAL, task="refusal"))
        elif answerable:
            fact, cited = rng.choice(answerable)
            asked.append(Asked(_ask(fact, task, rng, held_out), fact.answer, tuple(cited)))
    return Exercise(domain, shown, asked)


def _index_facts(shown: Sequence[Record], stranger: Record | None) -> dict[tuple[str, ...], tuple[Fact, list[int]]]:
    """Every fact that the passages state, with the numbers of the passages; contradictions are left out."""
    stated: dict[tuple[str, ...], tuple[Fact, list[int]]] = {}
    contradicted = set()
    for number, record in enumerate(shown, start=1):
        if record is stranger:
            continue
        for fact in record.facts:
            known = stated.setdefault(fact.key, (fact, []))
            if known[0].answer != fact.answer:
                contradicted.add(fact.key)
            if number not in known[1]:
                known[1].append(number)
    return {key: value for key, value in stated.items() if key not in contradicted}


def _ask(fact: Fact, task: DomainTask, rng: random.Random, held_out: bool) -> str:
    varied = Fact(fact.kind, task.vary_slots(dict(fact.slots), rng), fact.answer)
    return phrase_question(varied, task.phrasings[fact.kind], rng, held_out)
