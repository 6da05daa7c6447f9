"""Planning: from a question to its sub-queries, their domains and their order.

The cheapest tier that is sure decides each domain: static token embeddings first, then the encoder. What both leave
open is marked as such, and the deployment may ask the generalist for a plan (`plan_planned`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experts.fleet import Fleet
from router.artifact import RouterArtifact
from router.boundary_head import BoundaryHead
from router.boundary_split import split_with_head
from router.classify import measure_nearness
from router.domain_head import FastScores, LabelScores, score_fast, score_full
from router.encoding import Encoder, Tokens
from router.planned import PlannedPart
from router.quality import QualityModel
from router.question import DomainScore, Plan, Question, Reference, Span, SubQuery, SubQueryId, Tier, Vector
from router.reference import LinkedPart, link_parts
from router.resolve import Resolved, resolve_question
from router.split import split_question
from router.static_embedding import StaticEmbedding
from router.tiers import Decision, decide_fast, decide_full
from router.training import TrainedRouter

MAX_SPLIT_CHARS = 20_000
"""Longer questions are documents with a request in front; they stay whole, which bounds the time of a plan."""

REFERENCE_MARGIN = 0.5
"""A part that speaks of another's answer leaves that part's domain only for one that is likelier by this much."""

OPEN_BELOW = 0.5
"""A sub-query is open where no domain is likelier than all others together."""

Clock = Callable[[], float]
"""Seconds from any fixed moment, as time.perf_counter gives them."""

_TIERS: Mapping[int, Tier] = {1: "static", 2: "encoder"}
_NO_VECTOR: Vector = np.zeros(0, dtype=np.float32)
_NO_VECTOR.setflags(write=False)
# What any split needs: a mark or a line inside the text, or one of the words that join questions.
_JOINT = re.compile(
    r"[.?!,;:&+/\n؟？。](?=.*\w)|\b(?:and|also|then|plus|as well|but|or|while|after|besides)\b", re.I | re.S
)


@dataclass(frozen=True, slots=True)
class RouterSnapshot:
    """What the router knows of a fleet: built once, read by every plan.

    `searched` are the domains whose sub-queries need a vector: to search an index, or to choose among variants.
    `refusals` has the answer to each label that is not a domain. `boundaries` is None with an encoder that no boundary
    head was trained for; rules alone split then.
    """

    trained: TrainedRouter
    static: StaticEmbedding | None
    boundaries: BoundaryHead | None
    generalist: str
    confidence_floor: float
    max_sub_queries: int
    searched: frozenset[str]
    refusals: Mapping[str, str]
    quality: QualityModel | None


def build_snapshot(
    fleet: Fleet, artifact: RouterArtifact, static: StaticEmbedding | None, boundaries: BoundaryHead | None
) -> RouterSnapshot:
    """A fleet's router; a boundary head of another encoder is left out."""
    fits = boundaries is not None and boundaries.encoder == artifact.encoder_fingerprint
    settings = fleet.router
    return RouterSnapshot(
        trained=artifact.trained,
        static=static,
        boundaries=boundaries if fits else None,
        generalist=fleet.generalist,
        confidence_floor=settings.confidence_floor,
        max_sub_queries=settings.max_sub_queries,
        searched=frozenset(
            name for name, domain in fleet.domains.items() if domain.index is not None or len(domain.variants) > 1
        ),
        refusals={name: refusal.answer for name, refusal in settings.refusals.items()},
        quality=artifact.quality,
    )


class _Stopwatch:
    """Seconds per stage, in the order of the stages."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._spent: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        now = self._clock()
        self._spent[stage] = self._spent.get(stage, 0.0) + now - self._last
        self._last = now

    def timings_s(self) -> Mapping[str, float]:
        return {**self._spent, "total": self._last - self._began}


def plan_query(
    question: Question, snapshot: RouterSnapshot, encoder: Encoder, clock: Clock, *, whole: bool = False
) -> Plan:
    """The plan of a question; `whole` keeps it in one sub-query, for an answer in one prescribed format.

    A question that cannot split, that tier 1 is sure of and that nothing is searched for is never encoded. Any other
    goes through the encoder once, and its parts, where it has several, once more; these vectors classify and search.
    What the first pass made of a part's tokens would name domains as well (exact set 55.5 % against 54.8 of composed
    questions) and spare half of the time, but finds less: nDCG@10 of SciFact's claims beside another question falls
    from 0.647 to between 0.548 and 0.644.
    """
    watch = _Stopwatch(clock)
    resolved = resolve_question(question)
    watch.mark("resolve")
    text = resolved.text
    tokens = encoder.tokenize(text)
    watch.mark("tokenize")
    stays_whole = whole or len(text) > MAX_SPLIT_CHARS or not _JOINT.search(text)
    fast: FastScores | None = None
    if stays_whole:
        fast = _score_fast(text, tokens, snapshot)
        settled = _settle(fast, snapshot)
        watch.mark("static")
        if settled is not None and settled.label not in snapshot.searched:
            sub_query = _build(1, _keep_whole(text, question), settled, _NO_VECTOR, (), snapshot)
            why = _why_whole(text, whole)
            return Plan(question.text, (sub_query,), (*_said(resolved), why), watch.timings_s())
    encoded = encoder.encode([tokens])
    watch.mark("encode")
    linked: tuple[LinkedPart, ...] = (_keep_whole(text, question),)
    reasons: tuple[str, ...] = (_why_whole(text, whole),)
    if not stays_whole:
        linked, reasons = _split(text, encoded.states[0], tokens.offsets, snapshot)
        if text != question.text:
            linked = tuple(replace(part, span=None) for part in linked)
    watch.mark("split")
    # An unchanged question is not encoded twice.
    same = len(linked) == 1 and linked[0].text == text
    parts = [tokens] if same else [encoder.tokenize(part.text) for part in linked]
    vectors = encoded.vectors if same else encoder.encode(parts).vectors
    watch.mark("encode")
    sub_queries: list[SubQuery] = []
    for number, (part, part_tokens, vector) in enumerate(zip(linked, parts, vectors, strict=True), start=1):
        if not stays_whole:
            fast = _score_fast(part.text, part_tokens, snapshot)
        decision, scores = _decide(part.text, vector, fast, snapshot)
        if part.references:
            decision = _stay_with(sub_queries[part.references[0].sub_query - 1], scores, decision)
        sub_queries.append(_build(number, part, decision, vector, scores, snapshot))
    watch.mark("classify")
    return Plan(question.text, tuple(sub_queries), (*_said(resolved), *reasons), watch.timings_s())


def plan_single(
    question: Question, domain: str, snapshot: RouterSnapshot, encoder: Encoder, clock: Clock, *, embed: bool
) -> Plan:
    """The plan that asks one domain's expert the whole question.

    Without `embed` (nothing is searched) the sub-query's vector has shape (0,) and it has no candidates.
    """
    watch = _Stopwatch(clock)
    resolved = resolve_question(question)
    watch.mark("resolve")
    vector = _NO_VECTOR
    scores: tuple[DomainScore, ...] = ()
    if embed:
        tokens = encoder.tokenize(resolved.text)
        vector = encoder.encode([tokens]).vectors[0]
        watch.mark("encode")
        scores = _decide(resolved.text, vector, _score_fast(resolved.text, tokens, snapshot), snapshot)[1]
        watch.mark("classify")
    sub_query = SubQuery(SubQueryId(1), resolved.text, domain, _freeze(vector), scores, "the request names this expert")
    reasons = (*_said(resolved), "kept whole: the request names one expert")
    return Plan(question.text, (sub_query,), reasons, watch.timings_s())


def plan_planned(
    plan: Plan, parts: Sequence[PlannedPart], reason: str, snapshot: RouterSnapshot, encoder: Encoder, clock: Clock
) -> Plan:
    """The plan that the generalist made of an open one; its time is added to that of the plan that it replaces."""
    watch = _Stopwatch(clock)
    tokens = [encoder.tokenize(part.text) for part in parts]
    vectors = encoder.encode(tokens).vectors
    sub_queries: list[SubQuery] = []
    for number, (part, part_tokens, vector) in enumerate(zip(parts, tokens, vectors, strict=True), start=1):
        decision, scores = _decide(part.text, vector, _score_fast(part.text, part_tokens, snapshot), snapshot)
        linked = LinkedPart(part.text, part.references, ())
        # A planner, or a question that sways it, undoes no refusal.
        if decision.label not in snapshot.refusals:
            confidence = next((score.score for score in scores if score.domain == part.domain), 0.0)
            decision = Decision(part.domain, decision.tier, confidence, False, "the planner's choice")
        sub_queries.append(replace(_build(number, linked, decision, vector, scores, snapshot), tier="planner"))
    watch.mark("planned")
    spent = watch.timings_s()
    timings_s = {**plan.timings_s, "planned": spent["planned"], "total": plan.timings_s["total"] + spent["total"]}
    return Plan(plan.question, tuple(sub_queries), (*plan.reasons, reason), timings_s)


def is_open(plan: Plan) -> bool:
    """Whether the router is unsure of a sub-query, so that a planner is worth asking."""
    return any(
        part.tier == "encoder" and part.refusal is None and part.confidence < OPEN_BELOW for part in plan.sub_queries
    )


def _score_fast(text: str, tokens: Tokens, snapshot: RouterSnapshot) -> FastScores | None:
    """What tier 1 gives each label, None without one."""
    if snapshot.static is None:
        return None
    return score_fast(snapshot.trained.head, text, snapshot.static.embed([tokens])[0])


def _settle(fast: FastScores | None, snapshot: RouterSnapshot) -> Decision | None:
    """What tier 1 says, where it is sure."""
    trained = snapshot.trained
    return decide_fast(fast.scores, trained.head.labels, trained.thresholds, snapshot.refusals) if fast else None


def _decide(
    text: str, vector: Vector, fast: FastScores | None, snapshot: RouterSnapshot
) -> tuple[Decision, tuple[DomainScore, ...]]:
    """Who takes a part whose vector is there, and the probability of each label, best first."""
    trained = snapshot.trained
    labels = trained.head.labels
    settled = _settle(fast, snapshot)
    if fast is not None and settled is not None:
        return settled, _rank(fast.scores, labels)
    full = score_full(trained.head, text, vector, fast)
    nearness = float(measure_nearness(vector[None], trained.stack).max())
    decision = decide_full(
        full, nearness, labels, snapshot.generalist, snapshot.confidence_floor, trained.gate, snapshot.refusals
    )
    return decision, _rank(full, labels)


def _rank(scores: LabelScores, labels: Sequence[str]) -> tuple[DomainScore, ...]:
    order = np.argsort(-scores.probabilities, kind="stable")
    return tuple(DomainScore(labels[at], float(scores.probabilities[at])) for at in order)


def _stay_with(needed: SubQuery, scores: Sequence[DomainScore], decision: Decision) -> Decision:
    """The domain of the part whose answer this one contains, unless another is clearly likelier.

    'where is it defined?' says little by itself; what it speaks of is known where the part before was answered.
    """
    own = next((score.score for score in scores if score.domain == needed.domain), None)
    if own is None or needed.domain == decision.label:
        return decision
    if not decision.out_of_scope and scores[0].score - own >= REFERENCE_MARGIN:
        return decision
    return replace(
        decision,
        label=needed.domain,
        confidence=own,
        out_of_scope=False,
        reason=f"{decision.reason}; too close: stays with sub-query {needed.id}",
    )


def _build(
    number: int,
    part: LinkedPart,
    decision: Decision,
    vector: Vector,
    scores: tuple[DomainScore, ...],
    snapshot: RouterSnapshot,
) -> SubQuery:
    refusal = snapshot.refusals.get(decision.label)
    references: tuple[Reference, ...] = part.references
    return SubQuery(
        id=SubQueryId(number),
        text=part.text,
        domain=decision.label if refusal is None else snapshot.generalist,
        vector=_freeze(vector),
        candidates=scores,
        reason=decision.reason,
        references=references,
        confidence=decision.confidence,
        tier=_TIERS[decision.tier],
        refusal=refusal,
        span=part.span,
    )


def _split(
    text: str, states: np.ndarray, offsets: np.ndarray, snapshot: RouterSnapshot
) -> tuple[tuple[LinkedPart, ...], tuple[str, ...]]:
    """The parts said in full, and why there are as many."""
    limit = snapshot.max_sub_queries
    if snapshot.boundaries is None:
        parts = split_question(text, limit)
    else:
        parts = split_with_head(text, states, offsets, snapshot.boundaries, limit)
    linked = link_parts(text, parts)
    if len(parts) == 1:
        why = "kept whole: nothing in it asks a second time"
    elif len(linked) == 1:
        why = f"kept whole: its {len(parts)} clauses belong together"
    else:
        why = f"split into {len(linked)}: each part asks on its own"
    by = ("split by rules: no boundary head was trained for this encoder",) if snapshot.boundaries is None else ()
    details = [
        f"sub-query {number}: {reason}" for number, part in enumerate(linked, start=1) for reason in part.reasons
    ]
    return linked, (why, *by, *details)


def _keep_whole(text: str, question: Question) -> LinkedPart:
    return LinkedPart(text, (), (), Span(0, len(text)) if text == question.text else None)


def _why_whole(text: str, whole: bool) -> str:
    if whole:
        return "kept whole: the request asks for one answer"
    if len(text) > MAX_SPLIT_CHARS:
        return f"kept whole: it has {len(text)} characters, over {MAX_SPLIT_CHARS}"
    return "kept whole: nothing in it asks a second time"


def _said(resolved: Resolved) -> tuple[str, ...]:
    return (f"{resolved.reason}: '{resolved.text}'",) if resolved.reason else ()


def _freeze(vector: Vector) -> Vector:
    """A copy of its own, so that a sub-query does not keep the whole batch and nobody changes it."""
    own = vector.copy()
    own.setflags(write=False)
    return own
