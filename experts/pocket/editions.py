"""What each edition of the pocket experts learns: the first copies stated facts, the second also computes."""

import random
from collections.abc import Callable, Mapping
from functools import partial

from experts.pocket import tasks
from experts.pocket.domains import coding_functions, finance_figures, math_steps, reasoning_hops
from experts.pocket.exercise import Exercise, Skill, Wanted

DrawExercise = Callable[[str, random.Random, Wanted], Exercise]


def draw_copying(domain: str, rng: random.Random, wanted: Wanted) -> Exercise:
    """An exercise of the first edition."""
    return tasks.draw_exercise(
        domain,
        rng,
        held_out=wanted.held_out,
        questions=wanted.questions,
        passages=wanted.passages,
        refusal_share=wanted.refusal_share,
    )


# The second edition's skills by domain. Copying stays among them: the shipped corpora are asked for stated facts.
SKILLS: Mapping[str, Mapping[str, Skill]] = {
    domain: {"copy": Skill(partial(draw_copying, domain), 1.5), **computing}
    for domain, computing in {
        "finance": finance_figures.SKILLS,
        "math": math_steps.SKILLS,
        "coding": coding_functions.SKILLS,
        "reasoning": reasoning_hops.SKILLS,
        "generalist": {},
    }.items()
}


def draw_skill(domain: str, rng: random.Random, wanted: Wanted) -> Exercise:
    """An exercise of the second edition, its skill by the skills' shares."""
    skills = SKILLS[domain]
    chosen = rng.choices(list(skills), [skill.share for skill in skills.values()])[0]
    return skills[chosen].draw(rng, wanted)


EDITIONS: Mapping[int, DrawExercise] = {1: draw_copying, 2: draw_skill}
