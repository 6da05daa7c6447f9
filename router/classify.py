"""Classifying: how near a part is to each domain, and which domain takes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from router.question import DomainScore

Vectors = npt.NDArray[np.float32]
"""Embeddings: shape (texts, dimensions), L2-normalised rows."""

# Measured with all-MiniLM-L6-v2 on 31 invented questions of 4 domains (description + 10 examples each) and 10 that no
# domain owns: every blend from the plain maximum to the mean of 3 named all 31 domains. This one had the widest
# tenth-percentile margin to the second domain (0.119; plain maximum 0.101, mean of 3 0.104), the plain maximum the
# widest median margin (0.198; here 0.175): a small difference on a small set. What decides is that one stray example
# cannot win alone.
NEAREST_WEIGHT = 0.5
NEAREST_COUNT = 3


@dataclass(frozen=True, slots=True)
class DomainProfile:
    """The embeddings of a domain's description and examples, shape (n, dimensions), L2-normalised."""

    name: str
    vectors: Vectors = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class DomainStack:
    """All profiles in one matrix; `rows` (domains, widest) holds each domain's rows of it, filled up with -1."""

    names: tuple[str, ...]
    vectors: Vectors = field(repr=False, compare=False)
    rows: npt.NDArray[np.intp] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class DomainChoice:
    """The domain that answers, and why."""

    domain: str
    reason: str


def normalise(vectors: npt.ArrayLike) -> Vectors:
    """Rows of length 1 as float32; a row of zeros stays."""
    rows = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Vectors = (rows / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def stack_profiles(profiles: Sequence[DomainProfile]) -> DomainStack:
    """The profiles, each with at least one vector, as one matrix."""
    lengths = [len(profile.vectors) for profile in profiles]
    rows = np.full((len(profiles), max(lengths)), -1, dtype=np.intp)
    for at, (length, start) in enumerate(zip(lengths, np.cumsum([0, *lengths[:-1]]), strict=True)):
        rows[at, :length] = np.arange(start, start + length)
    vectors = np.concatenate([profile.vectors for profile in profiles]).astype(np.float32)
    vectors.setflags(write=False)
    rows.setflags(write=False)
    return DomainStack(tuple(profile.name for profile in profiles), vectors, rows)


def score_domains(vectors: Vectors, stack: DomainStack) -> tuple[tuple[DomainScore, ...], ...]:
    """For each row of `vectors` (parts, dimensions) every domain's score, best first; ties in fleet order.

    A score is NEAREST_WEIGHT of the best cosine similarity and the rest the mean of the best NEAREST_COUNT.
    """
    similarities = vectors @ stack.vectors.T
    padded = np.concatenate([similarities, np.full((len(vectors), 1), -np.inf, dtype=np.float32)], axis=1)
    by_domain = padded[:, stack.rows]
    count = min(NEAREST_COUNT, by_domain.shape[2])
    nearest = -np.sort(-by_domain, axis=2)[:, :, :count]
    present = np.isfinite(nearest)
    mean = np.where(present, nearest, 0).sum(axis=2) / present.sum(axis=2)
    scores = NEAREST_WEIGHT * nearest[:, :, 0] + (1 - NEAREST_WEIGHT) * mean
    order = np.argsort(-scores, axis=1, kind="stable")
    return tuple(
        tuple(DomainScore(stack.names[at], float(scores[part, at])) for at in ranked)
        for part, ranked in enumerate(order)
    )


def choose_domain(scores: Sequence[DomainScore], generalist: str, floor: float) -> DomainChoice:
    """The best domain, or the generalist where no domain reaches the floor."""
    best = scores[0]
    if best.score < floor:
        return DomainChoice(
            generalist, f"nearest is {best.domain} at {best.score:.2f}, below the floor of {floor:.2f}: the generalist"
        )
    second = next((score for score in scores[1:]), None)
    margin = f", then {second.domain} at {second.score:.2f}" if second else ""
    return DomainChoice(best.domain, f"nearest is {best.domain} at {best.score:.2f}{margin}")
