"""Planning: from a question to its sub-queries, their domains and their order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from experts.fleet import Fleet
from router.classify import (
    DomainChoice,
    DomainProfile,
    DomainStack,
    Vectors,
    choose_domain,
    normalise,
    score_domains,
    stack_profiles,
)
from router.question import DomainScore, Plan, Question, SubQuery, SubQueryId, Vector
from router.reference import LinkedPart, link_parts
from router.resolve import Resolved, resolve_question
from router.split import split_question

MAX_SPLIT_CHARS = 20_000
"""Longer questions are documents with a request in front; they stay whole, which bounds the time of a plan."""

REFERENCE_MARGIN = 0.05
"""A part that speaks of another's answer leaves that part's domain only for one that is nearer by this much."""

Clock = Callable[[], float]
"""Seconds from any fixed moment, as time.perf_counter gives them."""


class Embed(Protocol):
    """The sentence encoder: one row per text, shape (texts, dimensions)."""

    def __call__(self, texts: Sequence[str], /) -> Vectors: ...


@dataclass(frozen=True, slots=True)
class RouterSnapshot:
    """What the router knows of a fleet: built once, read by every plan."""

    stack: DomainStack
    generalist: str
    confidence_floor: float
    max_sub_queries: int


def build_snapshot(fleet: Fleet, embed: Embed) -> RouterSnapshot:
    """A fleet's domains as the embeddings of their descriptions and examples."""
    texts = {name: (domain.description, *domain.examples) for name, domain in fleet.domains.items()}
    vectors = normalise(embed([text for said in texts.values() for text in said]))
    profiles = []
    start = 0
    for name, said in texts.items():
        profiles.append(DomainProfile(name, vectors[start : start + len(said)]))
        start += len(said)
    router = fleet.router
    return RouterSnapshot(stack_profiles(profiles), fleet.generalist, router.confidence_floor, router.max_sub_queries)


def plan_query(
    question: Question, snapshot: RouterSnapshot, embed: Embed, clock: Clock, *, whole: bool = False
) -> Plan:
    """The plan of a question; `whole` keeps it in one sub-query, for an answer in one prescribed format.

    `embed` is called once with all parts; its vectors classify and, on each sub-query, search.
    """
    began = clock()
    resolved = resolve_question(question)
    after_resolve = clock()
    linked, reasons = _split(resolved, snapshot.max_sub_queries, whole)
    after_split = clock()
    vectors = normalise(embed([part.text for part in linked]))
    after_embed = clock()
    sub_queries: list[SubQuery] = []
    for at, (part, scores) in enumerate(zip(linked, score_domains(vectors, snapshot.stack), strict=True)):
        choice = choose_domain(scores, snapshot.generalist, snapshot.confidence_floor)
        if part.references:
            choice = _stay_with(sub_queries[part.references[0].sub_query - 1], scores, choice)
        sub_queries.append(
            SubQuery(
                SubQueryId(at + 1),
                part.text,
                choice.domain,
                _freeze(vectors[at]),
                scores,
                choice.reason,
                part.references,
            )
        )
    ended = clock()
    timings_s = {
        "resolve": after_resolve - began,
        "split": after_split - after_resolve,
        "embed": after_embed - after_split,
        "classify": ended - after_embed,
        "total": ended - began,
    }
    return Plan(question.text, tuple(sub_queries), reasons, timings_s)


def _stay_with(needed: SubQuery, scores: Sequence[DomainScore], choice: DomainChoice) -> DomainChoice:
    """The domain of the part whose answer this one contains, unless another is clearly nearer.

    'where is it defined?' says little by itself; what it speaks of is known where the part before was answered.
    """
    own = next((score.score for score in scores if score.domain == needed.domain), None)
    if own is None or needed.domain == choice.domain or scores[0].score - own >= REFERENCE_MARGIN:
        return choice
    return DomainChoice(needed.domain, f"{choice.reason}; too close: stays with sub-query {needed.id}")


def plan_single(
    question: Question, domain: str, snapshot: RouterSnapshot, embed: Embed, clock: Clock, *, retrieve: bool
) -> Plan:
    """The plan that asks one domain's expert the whole question.

    Without `retrieve` (the domain has no index) nothing is embedded: the sub-query's vector has shape (0,) and it has
    no candidates.
    """
    began = clock()
    resolved = resolve_question(question)
    after_resolve = clock()
    vectors = normalise(embed([resolved.text])) if retrieve else np.zeros((1, 0), dtype=np.float32)
    after_embed = clock()
    scores = score_domains(vectors, snapshot.stack)[0] if retrieve else ()
    choice = DomainChoice(domain, "the request names this expert")
    sub_query = SubQuery(SubQueryId(1), resolved.text, choice.domain, _freeze(vectors[0]), scores, choice.reason)
    ended = clock()
    timings_s = {
        "resolve": after_resolve - began,
        "split": 0.0,
        "embed": after_embed - after_resolve,
        "classify": ended - after_embed,
        "total": ended - began,
    }
    reasons = (*_said(resolved), "kept whole: the request names one expert")
    return Plan(question.text, (sub_query,), reasons, timings_s)


def _split(resolved: Resolved, limit: int, whole: bool) -> tuple[tuple[LinkedPart, ...], tuple[str, ...]]:
    """The parts said in full, and why there are as many."""
    if whole:
        return (LinkedPart(resolved.text, (), ()),), (*_said(resolved), "kept whole: the request asks for one answer")
    if len(resolved.text) > MAX_SPLIT_CHARS:
        why = f"kept whole: it has {len(resolved.text)} characters, over {MAX_SPLIT_CHARS}"
        return (LinkedPart(resolved.text, (), ()),), (*_said(resolved), why)
    parts = split_question(resolved.text, limit)
    linked = link_parts(resolved.text, parts)
    if len(parts) == 1:
        why = "kept whole: it has no second clause that asks"
    elif len(linked) == 1:
        why = f"kept whole: its {len(parts)} clauses belong together"
    else:
        why = f"split into {len(linked)}: each part asks on its own"
    details = [
        f"sub-query {number}: {reason}" for number, part in enumerate(linked, start=1) for reason in part.reasons
    ]
    return linked, (*_said(resolved), why, *details)


def _said(resolved: Resolved) -> tuple[str, ...]:
    return (f"{resolved.reason}: '{resolved.text}'",) if resolved.reason else ()


def _freeze(vector: Vector) -> Vector:
    """A copy of its own, so that a sub-query does not keep the whole batch and nobody changes it."""
    own = vector.copy()
    own.setflags(write=False)
    return own
