"""How good a router is: on rows left out while it was trained, and on labelled questions that it never saw."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from router.classify import measure_nearness
from router.domain_head import score_fast, score_full
from router.encoding import Vectors
from router.tiers import Calibration, Decision, Figures, Flags, Thresholds, decide_fast, decide_full

if TYPE_CHECKING:
    from router.training import TrainedRouter, TrainingRows

CONFIDENCE_BINS = 15
CONFUSIONS = 10


@dataclass(frozen=True, slots=True)
class Rules:
    """What a fleet file says of the choice."""

    generalist: str
    floor: float
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """What each tier would do with one text; `fast` None where tier 1 does not settle it."""

    fast: Decision | None
    full: Decision
    fast_label: str | None
    fast_confidence: float
    energy: float


def judge_texts(
    trained: "TrainedRouter", texts: Sequence[str], vectors: Vectors, static: Vectors, rules: Rules
) -> list[Judged]:
    """Both tiers on each text, as they would be asked one after the other."""
    labels = trained.head.labels
    judged = []
    for text, vector, static_vector in zip(texts, vectors, static, strict=True):
        fast = score_fast(trained.head, text, static_vector)
        full = score_full(trained.head, text, vector, fast)
        nearness = float(measure_nearness(vector[None], trained.stack).max())
        settled = decide_fast(fast.scores, labels, trained.thresholds, rules.refusals) if fast is not None else None
        decided = decide_full(full, nearness, labels, rules.generalist, rules.floor, trained.gate, rules.refusals)
        said = labels[fast.scores.best] if fast is not None else None
        judged.append(Judged(settled, decided, said, fast.scores.confidence if fast is not None else 0.0, full.energy))
    return judged


def evaluate_router(trained: "TrainedRouter", rows: "TrainingRows", rules: Rules) -> dict[str, Any]:
    """Accuracy of each tier and of both, calibration, and what is confused, on rows with targets.

    A row out of scope is right where it reaches the generalist.
    """
    labels = trained.head.labels
    wanted = [labels[target] if target >= 0 else None for target in rows.targets]
    judged = judge_texts(trained, rows.texts, rows.vectors, rows.static, rules)

    def right(decision: Decision, label: str | None) -> bool:
        return decision.label == (rules.generalist if label is None else label)

    inside = np.array([label is not None for label in wanted])
    full = np.array([right(one.full, label) for one, label in zip(judged, wanted, strict=True)])
    tiered = np.array([right(one.fast or one.full, label) for one, label in zip(judged, wanted, strict=True)])
    fast = np.array([one.fast_label == label for one, label in zip(judged, wanted, strict=True)])
    settled = np.array([one.fast is not None for one in judged])
    confidence = np.array([one.full.confidence for one in judged], dtype=np.float32)
    energy = np.array([one.energy for one in judged], dtype=np.float32)
    missed = Counter(
        (label or "out of scope", (one.fast or one.full).label)
        for one, label, good in zip(judged, wanted, tiered, strict=True)
        if not good
    )
    figures: dict[str, Any] = {
        "rows": int(inside.sum()),
        "tier_1_accuracy": _mean(fast[inside]),
        "tier_2_accuracy": _mean(full[inside]),
        "tiered_accuracy": _mean(tiered[inside]),
        "settled_by_tier_1": _mean(settled[inside]),
        "tier_2_calibration_error": observe_calibration_error(confidence[inside], full[inside]),
    }
    if not inside.all():
        figures |= {"out_of_scope_rows": int((~inside).sum()), "out_of_scope_found": _mean(tiered[~inside])}
        if inside.any():
            figures["out_of_scope_auroc"] = observe_auroc(energy[inside], energy[~inside])
    confused = [
        {"wanted": label, "routed": routed, "rows": count} for (label, routed), count in missed.most_common(CONFUSIONS)
    ]
    return _round(figures) | {"confused": confused}


def describe_calibration(calibration: Calibration, thresholds: Thresholds) -> dict[str, Any]:
    """What is expected of questions like the rows: accuracy of each tier and of both, and how much tier 1 settles."""
    settled = np.zeros(len(calibration.full_right), dtype=bool)
    if thresholds.confidence is not None:
        settled = (calibration.fast_confidence >= thresholds.confidence) & (
            calibration.fast_energy >= thresholds.energy
        )
    inside = calibration.in_scope
    figures: dict[str, Any] = {
        "rows": int(inside.sum()),
        "tier_2_accuracy": _mean(calibration.full_right[inside]),
        "tiered_accuracy": _mean(np.where(settled, calibration.fast_right, calibration.full_right)[inside]),
        "settled_by_tier_1": _mean(settled[inside]),
        "tier_2_calibration_error": observe_calibration_error(
            calibration.full_confidence[inside], calibration.full_right[inside]
        ),
    }
    if calibration.fast_confidence.any():
        figures["tier_1_accuracy"] = _mean(calibration.fast_right[inside])
        figures["tier_1_calibration_error"] = observe_calibration_error(
            calibration.fast_confidence[inside], calibration.fast_right[inside]
        )
    if not inside.all():
        figures["out_of_scope_rows"] = int((~inside).sum())
        figures["out_of_scope_auroc"] = observe_auroc(calibration.full_energy[inside], calibration.full_energy[~inside])
        figures["out_of_scope_found"] = _mean(np.where(settled, False, calibration.full_right)[~inside])
    return _round(figures)


def observe_calibration_error(confidence: Figures, right: Flags) -> float:
    """Expected calibration error over 15 bins of equal width (Guo et al., 2017)."""
    bins = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
    apart = [abs(float(confidence[bins == at].sum() - right[bins == at].sum())) for at in np.unique(bins)]
    return sum(apart) / max(len(confidence), 1)


def observe_auroc(inside: Figures, outside: Figures) -> float:
    """The probability that a row in scope scores above one out of scope; ties count half."""
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, side="left") + np.searchsorted(ordered, inside, side="right")
    return float(below.mean() / 2 / len(outside))


def _round(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def _mean(flags: Flags) -> float:
    return float(np.mean(flags)) if len(flags) else 0.0
