"""Tiers: whether tier 1 settles a text, and what is decided after tier 2.

A threshold is chosen on predictions for rows that the head had not seen: as many texts as possible are settled by tier
1 while the share of errors that this adds stays, by an upper bound, under a target.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from router.domain_head import LabelScores

Flags = npt.NDArray[np.bool_]
Figures = npt.NDArray[np.float32]

# Half of the point that tier 1 may cost at most: with 0.01, MMLU-Pro's held-out fifth lost 1.2 points (77 % settled).
DEFAULT_TARGET_ERROR = 0.005
# One-sided 95 %.
BOUND = 1.645
# Tier 1 leaves to tier 2 what looks less like its domains than nineteen of twenty questions that it answers right:
# with its confidence, that lets it settle 15 % of CLINC150's out-of-scope requests (3 to 8 % after ten examples each).
ENERGY_SHARE = 0.05
# A refusal takes the place of an answer, so it must be likelier than all domains together.
REFUSAL_CONFIDENCE = 0.5
OUT_OF_SCOPE = 0.5


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When tier 1 settles a text; `confidence` None: never, because the rows are too few to show that it may."""

    confidence: float | None
    energy: float
    target_error: float


@dataclass(frozen=True, slots=True)
class ScopeGate:
    """The logit that no domain owns a text, from its energy in tier 2 and its nearness to any example."""

    energy: float
    nearness: float
    bias: float

    def probability(self, energy: float, nearness: float) -> float:
        """That no domain owns it."""
        logit = self.energy * energy + self.nearness * nearness + self.bias
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What both tiers said of rows that they had not seen; arrays of one length.

    A row out of scope is right in tier 2 where the gate or the floor says so, and never in tier 1.
    """

    fast_confidence: Figures = field(repr=False)
    fast_energy: Figures = field(repr=False)
    fast_right: Flags = field(repr=False)
    full_confidence: Figures = field(repr=False)
    full_energy: Figures = field(repr=False)
    full_right: Flags = field(repr=False)
    nearness: Figures = field(repr=False)
    in_scope: Flags = field(repr=False)


@dataclass(frozen=True, slots=True)
class Decision:
    """The label that takes a text, which tier said so, how sure it is, and why in words.

    `out_of_scope`: no domain owns it, so it goes to the generalist.
    """

    label: str
    tier: Literal[1, 2]
    confidence: float
    out_of_scope: bool
    reason: str


def choose_thresholds(calibration: Calibration, target_error: float) -> Thresholds:
    """The thresholds under which tier 1 settles most while tier 2's errors grow by at most `target_error`."""
    fast_right, full_right = calibration.fast_right, calibration.full_right
    known = calibration.fast_energy[fast_right]
    energy = float(np.quantile(known, ENERGY_SHARE)) if len(known) else math.inf
    order = np.argsort(-calibration.fast_confidence, kind="stable")
    order = order[calibration.fast_energy[order] >= energy]
    lost = np.cumsum(full_right[order] & ~fast_right[order])
    won = np.cumsum(fast_right[order] & ~full_right[order])
    # Both counts are Poisson, so their difference has the variance of their sum; one more error may always be due.
    bound = lost - won + BOUND * np.sqrt(lost + won + 1)
    confidences = calibration.fast_confidence[order]
    # Rows of one confidence are settled together.
    is_last = np.append(confidences[1:] != confidences[:-1], True)[: len(order)]
    allowed = np.flatnonzero(is_last & (bound <= target_error * len(full_right)))
    confidence = float(confidences[allowed[-1]]) if len(allowed) else None
    return Thresholds(confidence, energy, target_error)


def decide_fast(
    scores: LabelScores, labels: tuple[str, ...], thresholds: Thresholds, refusals: Collection[str] = ()
) -> Decision | None:
    """What tier 1 settles; None for what tier 2 must see, which everything is that may be refused."""
    if thresholds.confidence is None or scores.energy < thresholds.energy:
        return None
    best = scores.best
    confidence = float(scores.probabilities[best])
    if confidence < thresholds.confidence or labels[best] in refusals:
        return None
    return Decision(labels[best], 1, confidence, False, f"{_say(scores, labels)} by tier 1")


def decide_full(
    scores: LabelScores,
    nearness: float,
    labels: tuple[str, ...],
    generalist: str,
    floor: float,
    gate: ScopeGate | None = None,
    refusals: Collection[str] = (),
) -> Decision:
    """What tier 2 decides; `nearness` is the text's cosine to the nearest domain, as `classify` blends it.

    Below the floor, or where the gate that was trained says so, no domain owns the text.
    """
    if nearness < floor:
        why = f"nearest domain at cosine {nearness:.2f}, below the floor of {floor:.2f}: the generalist"
        return Decision(generalist, 2, scores.confidence, True, why)
    label = labels[scores.best]
    if label in refusals and scores.confidence >= REFUSAL_CONFIDENCE:
        return Decision(label, 2, scores.confidence, False, f"{_say(scores, labels)}: refused")
    outside = gate.probability(scores.energy, nearness) if gate is not None else 0.0
    if outside > OUT_OF_SCOPE:
        return Decision(generalist, 2, outside, True, f"out of scope with probability {outside:.2f}: the generalist")
    if label in refusals:
        order = np.argsort(-scores.probabilities, kind="stable")
        best = next((int(at) for at in order if labels[at] not in refusals), None)
        if best is None:
            return Decision(generalist, 2, scores.confidence, True, f"{_say(scores, labels)}, too unsure to refuse")
        why = f"{_say(scores, labels)}, too unsure to refuse"
        return Decision(labels[best], 2, float(scores.probabilities[best]), False, why)
    return Decision(label, 2, scores.confidence, False, f"{_say(scores, labels)} by tier 2")


def _say(scores: LabelScores, labels: tuple[str, ...]) -> str:
    if len(labels) == 1:
        return labels[0]
    others = scores.probabilities.copy()
    first = int(others.argmax())
    confidence, others[first] = float(others[first]), -1
    second = int(others.argmax())
    return f"{labels[first]} at {confidence:.2f}, then {labels[second]} at {float(others[second]):.2f}"
