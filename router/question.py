"""The data of one question on its way: question, sub-query, plan, sub-answer, answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType

import numpy as np
import numpy.typing as npt

from router.variant import VariantChoice

SubQueryId = NewType("SubQueryId", int)
Tier = Literal["static", "encoder", "planner", "request"]
"""What chose a domain: static token embeddings, the encoder, the generalist as planner, or the request itself."""
Vector = npt.NDArray[np.float32]
"""One embedding: shape (dimensions,), L2-normalised."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier message of the conversation."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What the user asks now, and the turns before it, oldest first."""

    text: str
    turns: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class Reference:
    """The characters [start, end) of a sub-query's text that stand for the answer of an earlier sub-query."""

    start: int
    end: int
    sub_query: SubQueryId


@dataclass(frozen=True, slots=True)
class DomainScore:
    """How near a sub-query is to a domain: its nearest cosine similarities to the description and examples, blended."""

    domain: str
    score: float


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a question."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SubQuery:
    """One part of a question that one expert can answer.

    `needs` names only earlier sub-queries, so that a plan cannot have a cycle. `vector` is the embedding of `text`
    that classified it and is the search vector too; its shape is (0,) where nothing is searched. `candidates` are the
    domains by score, best first; `reason` says in words why `domain` was taken, `confidence` is the calibrated
    probability that it is right and `tier` what decided. `refusal` is the answer where no expert is to be asked.
    `span` is where the question asks it, None where the question was completed from the conversation or planned anew.
    """

    id: SubQueryId
    text: str
    domain: str
    vector: Vector = field(repr=False, compare=False)
    candidates: tuple[DomainScore, ...]
    reason: str
    references: tuple[Reference, ...] = ()
    confidence: float = 1.0
    tier: Tier = "request"
    refusal: str | None = None
    span: Span | None = None

    @property
    def needs(self) -> tuple[SubQueryId, ...]:
        """The sub-queries whose answers this one contains, in order, each once."""
        return tuple(dict.fromkeys(reference.sub_query for reference in self.references))


@dataclass(frozen=True, slots=True)
class Plan:
    """The sub-queries of one question in the order of the question; `timings_s` is seconds per stage.

    Raises ValueError where ids do not rise, a reference is not to an earlier sub-query, or references overlap.
    """

    question: str
    sub_queries: tuple[SubQuery, ...]
    reasons: tuple[str, ...]
    timings_s: Mapping[str, float]

    def __post_init__(self) -> None:
        earlier: list[SubQueryId] = []
        for sub_query in self.sub_queries:
            if earlier and sub_query.id <= earlier[-1]:
                raise ValueError(f"sub-query {sub_query.id} follows {earlier[-1]}; ids rise in a plan")
            at = 0
            for reference in sub_query.references:
                if reference.sub_query not in earlier:
                    raise ValueError(f"sub-query {sub_query.id} needs {reference.sub_query}, which is not before it")
                if not at <= reference.start < reference.end <= len(sub_query.text):
                    raise ValueError(
                        f"sub-query {sub_query.id} has a reference at [{reference.start}, {reference.end})"
                    )
                at = reference.end
            earlier.append(sub_query.id)


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer cites by `number`; `version` is the state of the index that returned it.

    `document` and `position` (from 0) say where it stands: `guildhall index search` shows the same.
    """

    number: int
    domain: str
    title: str
    source: str
    text: str
    score: float
    version: str
    document: str = ""
    position: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a sub-query has no answer, as data, so that the others lose nothing."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or several generations."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class EscalationRecord:
    """What became of a scored answer: `code` and `reason` of the decision, and who was asked again, if anybody.

    `score` is the first answer's probability of being right, `second_score` that of the one which it was asked again
    for; `second` is "domain/variant". `kept` says which of both the user reads.
    """

    first: str
    score: float
    code: str
    reason: str
    second: str | None = None
    second_score: float | None = None
    kept: Literal["first", "second"] = "first"


@dataclass(frozen=True, slots=True)
class SubAnswer:
    """What one expert said to one sub-query; `citations` keep the numbers that stand in `text`.

    `domain` and `variant` are what answered: after an escalation not what was chosen. `choice` says which variant was
    chosen and why, `escalation` what scoring the answer led to; `usage` counts every variant that was asked.
    """

    sub_query: SubQueryId
    domain: str
    text: str
    citations: tuple[Citation, ...] = ()
    failure: Failure | None = None
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage = Usage()
    timings_s: Mapping[str, float] = field(default_factory=dict)
    variant: str | None = None
    choice: VariantChoice | None = None
    escalation: EscalationRecord | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The fused answer: `text` cites `citations` by numbers counted once over all sub-answers."""

    text: str
    citations: tuple[Citation, ...]
    sub_answers: tuple[SubAnswer, ...]
