"""Training the predicted quality: from answers known to be right or wrong to one model of all variants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import numpy.typing as npt

from router.quality import TEXT_FEATURES, TEXT_SCALE, Floats, QualityModel, observe_features, standardise
from router.question import Vector

VECTOR_VARIANCE = 10.0
"""Variance of a scaled vector over all its dimensions, so that the penalties mean the same for every encoder."""

SHARED_PENALTIES = (30.0, 100.0)
OWN_PENALTIES = (30.0, 60.0, 120.0, 240.0)
"""What is tried. On RouteLLM's MMLU file, 1,500 labels, (30, 30) to (100, 200) give an APGR of 0.640 to 0.647."""

FOLDS = 5
BIAS_ANSWERS = 4.0
"""A stated accuracy weighs as this many answers."""
MAX_STEPS = 300


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """A question, the variant ("domain/variant") that answered it, and whether it was right."""

    text: str
    variant: str
    correct: bool


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One answer known to be right or wrong; `variant` is "domain/variant", `vector` the embedding of `text`."""

    text: str
    vector: Vector = field(repr=False, compare=False)
    variant: str
    correct: bool


def train_quality(rows: Sequence[QualityRow], accuracies: Mapping[str, float] | None = None) -> QualityModel:
    """A model from rows of any variants; `accuracies` are those that the fleet file states, by "domain/variant".

    Rows with the same text are one question. Raises ValueError without rows.
    """
    if not rows:
        raise ValueError("no answer to learn from; give at least one row per variant")
    questions: dict[str, int] = {}
    firsts: list[QualityRow] = []
    for row in rows:
        if row.text not in questions:
            questions[row.text] = len(firsts)
            firsts.append(row)
    variants = tuple(sorted({row.variant for row in rows}))
    columns = {variant: position for position, variant in enumerate(variants)}
    right = np.full((len(firsts), len(variants)), np.nan, dtype=np.float32)
    for row in rows:
        right[questions[row.text], columns[row.variant]] = float(row.correct)
    raw = observe_features([row.text for row in firsts], np.stack([row.vector for row in firsts]))
    return fit_quality(raw, right, variants, accuracies)


def fit_quality(
    raw: Floats, right: Floats, variants: Sequence[str], accuracies: Mapping[str, float] | None = None
) -> QualityModel:
    """A model from raw features (questions, features) and `right` (questions, variants), NaN where nobody knows.

    The penalties are chosen by cross-validation within these rows, for the difference between variants, which choosing
    lives on, and for each variant's own probability.
    """
    stated = accuracies or {}
    prior = np.array([stated.get(variant, np.nan) for variant in variants], dtype=np.float64)
    mean, scale = _observe_scale(raw)
    scaled = standardise(raw, mean, scale).astype(np.float64)
    shared_penalty, own_penalty = _choose_penalties(scaled, right.astype(np.float64), prior)
    shared, own, bias = _fit(scaled, right.astype(np.float64), prior, shared_penalty, own_penalty)
    return QualityModel(
        tuple(variants),
        mean,
        scale,
        shared.astype(np.float32),
        (shared[:, None] + own).astype(np.float32),
        bias.astype(np.float32),
    )


def _observe_scale(raw: Floats) -> tuple[Floats, Floats]:
    mean = raw.mean(axis=0)
    spread = raw.std(axis=0)
    total = float(np.sqrt((spread[:-TEXT_FEATURES] ** 2).sum()))
    scale = np.full(raw.shape[1], np.sqrt(VECTOR_VARIANCE) / max(total, 1e-6), dtype=np.float32)
    # A count that never varies would divide by zero, and says nothing.
    counts = spread[-TEXT_FEATURES:]
    scale[-TEXT_FEATURES:] = np.where(counts > 1e-6, TEXT_SCALE / np.maximum(counts, 1e-6), 0.0)
    return mean.astype(np.float32), scale


def _choose_penalties(
    scaled: npt.NDArray[np.float64], right: npt.NDArray[np.float64], prior: npt.NDArray[np.float64]
) -> tuple[float, float]:
    questions = len(scaled)
    pairs = list(product(SHARED_PENALTIES, OWN_PENALTIES))
    if questions < 2 * FOLDS:
        return pairs[-1]
    # Fixed, so that the same rows give the same model.
    fold_of = np.random.default_rng(0).permutation(questions) % FOLDS
    losses = np.zeros(len(pairs))
    for fold in range(FOLDS):
        held = fold_of == fold
        for position, (shared_penalty, own_penalty) in enumerate(pairs):
            shared, own, bias = _fit(scaled[~held], right[~held], prior, shared_penalty, own_penalty)
            losses[position] += _loss(_sigmoid(scaled[held] @ (shared[:, None] + own) + bias), right[held])
    return pairs[int(np.argmin(losses))]


def _loss(predicted: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> float:
    """Squared error of what a question's variants differ by; of the probability where one variant alone is known."""
    error = np.where(np.isnan(right), np.nan, predicted - right)
    known = (~np.isnan(right)).sum(axis=1)
    several, single = error[known > 1], error[known == 1]
    differences = several - np.nanmean(several, axis=1, keepdims=True) if len(several) else several
    return float(np.nansum(differences**2) + np.nansum(single**2))


def _fit(
    scaled: npt.NDArray[np.float64],
    right: npt.NDArray[np.float64],
    prior: npt.NDArray[np.float64],
    shared_penalty: float,
    own_penalty: float,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Shared weights, each variant's own, and biases, by penalised maximum likelihood (L-BFGS).

    The penalty on a shared and an own part is a Gaussian process prior over (sub-query, variant) with a rank-one task
    covariance plus a diagonal: multi-task learning after Evgeniou and Pontil (KDD 2004).
    """
    from scipy.optimize import minimize  # Only here, so that serving does not load it.

    features, count = scaled.shape[1], right.shape[1]
    known = ~np.isnan(right)
    target = np.nan_to_num(right)
    observed = (target.sum(axis=0) + 1) / (known.sum(axis=0) + 2)
    centre = np.where(np.isnan(prior), observed, np.clip(prior, 0.01, 0.99))
    start_bias = np.log(centre / (1 - centre))

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        shared = flat[:features]
        own = flat[features:-count].reshape(features, count)
        bias = flat[-count:]
        odds = scaled @ (shared[:, None] + own) + bias
        loss = (np.logaddexp(0, odds) - target * odds)[known].sum()
        residual = np.where(known, _sigmoid(odds) - target, 0.0)
        gradient = scaled.T @ residual
        off = bias - start_bias
        loss += 0.5 * (shared_penalty * shared @ shared + own_penalty * (own**2).sum() + BIAS_ANSWERS / 4 * off @ off)
        return float(loss), np.concatenate(
            [
                gradient.sum(axis=1) + shared_penalty * shared,
                (gradient + own_penalty * own).ravel(),
                residual.sum(axis=0) + BIAS_ANSWERS / 4 * off,
            ]
        )

    start = np.concatenate([np.zeros(features * (count + 1)), start_bias])
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_STEPS}).x
    return found[:features], found[features:-count].reshape(features, count), found[-count:]


def _sigmoid(odds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
