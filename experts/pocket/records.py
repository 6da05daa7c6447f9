"""What the tasks are made of: records of invented facts, rendered as passages, and phrased questions."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experts.pocket.alternatives import split_alternatives

# Slots that dress a question up and do not decide its answer.
_DETAILS = frozenset({"job", "sport", "package"})


@dataclass(frozen=True)
class Fact:
    """Something that one passage says: the kind of question, what the question names, and the answer verbatim."""

    kind: str
    slots: Mapping[str, str]
    answer: str

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for two facts that answer the same question."""
        return (self.kind, *(f"{name}={self.slots[name]}" for name in sorted(self.slots) if name not in _DETAILS))


@dataclass(frozen=True)
class Record:
    """One passage, the facts it states and nearby facts that it leaves out."""

    title: str
    text: str
    facts: Sequence[Fact]
    left_out: Sequence[Fact] = field(default=())


@dataclass(frozen=True)
class Phrasings:
    """The ways to ask one kind of question.

    `cores` are noun phrases that follow any lead ("Tell me ..."), `direct` are whole questions. The held-out ones
    are used in evaluation only.
    """

    cores: Sequence[str]
    direct: Sequence[str]
    held_out_cores: Sequence[str]
    held_out_direct: Sequence[str]


@dataclass(frozen=True)
class Wordings:
    """Whole templates of a question: those of training, and the held-out ones for evaluation only."""

    trained: Sequence[str]
    held_out: Sequence[str]

    def choose(self, rng: random.Random, held_out: bool, **slots: object) -> str:
        """One of them, filled in."""
        return rng.choice(self.held_out if held_out else self.trained).format(**slots)


_LEADS = split_alternatives(
    "What is {}?|What was {}?|What is {}?|Tell me {}.|Give me {}.|Please tell me {}.|Can you tell me {}?|Do you know "
    "{}?|I want to know {}.|State {}.|Find {}.|Show me {}.|Please give {}.|I need {}.|{}?|{}|Look up {}.|And {}?|{}, "
    "please."
)
_HELD_OUT_LEADS = ("I would like to know {}.", "Could you please give me {}?", "Let me know {}.", "What might {} be?")

_PREFIXES = split_alternatives(
    "And |and |Please tell me: |Tell me, |Also, |Then, |I wonder: |Question: |Next: |First, |Quick question: |so, "
)
_HELD_OUT_PREFIXES = ("Could you say: ", "but ", "One more thing: ")


def phrase_question(fact: Fact, phrasings: Phrasings, rng: random.Random, held_out: bool) -> str:
    """One way to ask for a fact, from the phrasings of training or from the held-out ones."""
    cores = phrasings.held_out_cores if held_out else phrasings.cores
    direct = phrasings.held_out_direct if held_out else phrasings.direct
    if cores and (not direct or rng.random() < 0.5):
        leads: Sequence[str] = _HELD_OUT_LEADS if held_out and rng.random() < 0.5 else _LEADS
        question = rng.choice(leads).format(rng.choice(cores).format(**fact.slots))
    else:
        question = rng.choice(direct).format(**fact.slots)
        if rng.random() < 0.25:
            prefix = rng.choice(_HELD_OUT_PREFIXES if held_out else _PREFIXES)
            question = prefix + lower_first(question)
    if rng.random() < 0.06:
        question = question.rstrip("?.")
    if rng.random() < 0.04:
        question = question.lower()
    elif rng.random() < 0.06:
        question = lower_first(question)
    return question


def lower_first(question: str) -> str:
    """The question with a small first letter, unless it opens with a name."""
    opening = question.split(" ", 1)[0]
    if opening in _OPENINGS:
        return question[0].lower() + question[1:]
    return question


_OPENINGS = frozenset(
    split_alternatives(
        "What|Which|Who|Where|When|How|In|At|Tell|Give|Please|Can|Could|Do|I|State|Find|Show|Look|And|For|On|By|Name|"
        "Is|Let|Of|To|From|Into|Does|Did|The|During|Until|Under|Whose|Why|If|Say|Explain"
    )
)
