"""Predicting which variant answers right: RouteLLM's protocol on its two files, and five real models on MMLU-Pro.

RouteLLM's pair is Mixtral-8x7B (weak) and GPT-4 (strong); a strong call costs ten weak ones here, the ratio of their
active parameters as far as it is known. Labels are only ever those of the training rows.
"""

import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality_data import Judged, is_available, load_pair
from benchmarks.result import save_result, summarize
from benchmarks.router_quality_many import measure_many
from experts.fleet import Domain
from router.quality import QualityModel, predict_quality
from router.quality_training import fit_quality
from router.routing_metrics import GapCurve, compute_calibration_error, compute_gap_curve
from router.variant import BALANCED_PRICE, VariantOption, choose_variant

LABELS = (100, 250, 500, 1000, 1500)
SEEDS = 5
FOLDS = 5
NEIGHBOURS = 100
STRONG_COST = 10.0
PRICES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
LIMITS = {"mmlu": 0.622, "gsm8k": 0.603}
"""The APGR to reach; the best that RouteLLM publishes for MMLU is 0.603."""

Values = npt.NDArray[np.float64]


def main() -> None:
    if not is_available():
        sys.exit("the routing data are not there: expected ../shared/data/routing beside the checkout")
    mmlu, gsm8k = load_pair("mmlu"), load_pair("gsm8k")
    figures = {
        "mmlu": _measure_mmlu(mmlu),
        "gsm8k": _measure_gsm8k(gsm8k),
        "many": measure_many(),
        "microseconds": _measure_time(mmlu),
    }
    path = save_result("router_quality", figures)
    print(f"{path}: MMLU APGR {figures['mmlu']['ours']['apgr'].median:.3f}", flush=True)


def _measure_mmlu(data: Judged) -> dict[str, Any]:
    """At most 1,500 labels; every row that is not learnt from is held out."""
    runs: dict[str, list[GapCurve]] = {
        name: [] for name in ("length", "random", "subject_mean", "knn", "ours", "oracle")
    }
    by_labels: dict[int, list[float]] = {labels: [] for labels in LABELS}
    calibration: list[float] = []
    held_gains: list[Values] = []
    held_right: list[Values] = []
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(data.texts))
        held = order[max(LABELS) :]
        for labels in LABELS:
            model = fit_quality(data.raw[order[:labels]], data.right[order[:labels]], data.models)
            predicted = _predict(model, data, held)
            by_labels[labels].append(_curve(predicted[:, 1] - predicted[:, 0], data, held).apgr)
        learn = order[: max(LABELS)]
        scores = _baselines(data, learn, held, seed) | {"ours": predicted[:, 1] - predicted[:, 0]}
        for name, score in scores.items():
            runs[name].append(_curve(score, data, held))
        calibration.append(compute_calibration_error(predicted, data.right[held]))
        held_gains.append(predicted[:, 1] - predicted[:, 0])
        held_right.append(data.right[held].astype(np.float64))
    everything = np.arange(len(data.texts))
    in_sample = _curve(_subject_means(data, everything, everything, 0), data, everything).apgr
    return {
        "questions": len(data.texts),
        "labels": max(LABELS),
        "seeds": SEEDS,
        "apgr_limit": LIMITS["mmlu"],
        "quality": _quality(data),
        **{name: _describe(curves) for name, curves in runs.items()},
        "subject_mean_all_labels_in_sample_apgr": in_sample,
        "ours_apgr_by_labels": {str(labels): summarize(apgrs) for labels, apgrs in by_labels.items()},
        "calibration_error": summarize(calibration),
        "cascade": _describe_cascade(runs["ours"], data),
        "balanced_price": _describe_prices(held_gains, held_right),
    }


def _measure_gsm8k(data: Judged) -> dict[str, Any]:
    """658 rows are too few to set 1,500 aside: five folds, each judged by a model of the other four."""
    runs: dict[str, list[GapCurve]] = {name: [] for name in ("length", "random", "knn", "ours", "oracle")}
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(data.texts))
        scores = {name: np.zeros(len(order)) for name in runs}
        for held in np.array_split(order, FOLDS):
            learn = np.setdiff1d(order, held)
            predicted = _predict(fit_quality(data.raw[learn], data.right[learn], data.models), data, held)
            scores["ours"][held] = predicted[:, 1] - predicted[:, 0]
            for name, score in _baselines(data, learn, held, seed).items():
                if name in scores:
                    scores[name][held] = score
        for name, score in scores.items():
            runs[name].append(_curve(score, data, np.arange(len(order))))
    return {
        "questions": len(data.texts),
        "labels": len(data.texts) * (FOLDS - 1) // FOLDS,
        "seeds": SEEDS,
        "apgr_limit": LIMITS["gsm8k"],
        "quality": _quality(data),
        **{name: _describe(curves) for name, curves in runs.items()},
        "apgr_standard_error": _standard_error(data),
        "cascade": _describe_cascade(runs["ours"], data),
    }


def _predict(model: QualityModel, data: Judged, rows: npt.NDArray[np.int64]) -> Values:
    odds = model.scale_features(data.raw[rows]) @ model.weights + model.bias
    probabilities: Values = 1 / (1 + np.exp(-odds.astype(np.float64)))
    return probabilities


def _baselines(data: Judged, learn: npt.NDArray[np.int64], held: npt.NDArray[np.int64], seed: int) -> dict[str, Values]:
    gain = (data.right[:, 1] - data.right[:, 0]).astype(np.float64)
    near = np.argpartition(-(data.vectors[held] @ data.vectors[learn].T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return {
        "length": np.array([float(len(data.texts[at])) for at in held]),
        "random": np.random.default_rng(1000 + seed).random(len(held)),
        "subject_mean": _subject_means(data, learn, held, 20),
        "knn": gain[learn][near].mean(axis=1),
        "oracle": gain[held],
    }


def _subject_means(data: Judged, learn: npt.NDArray[np.int64], held: npt.NDArray[np.int64], smoothing: float) -> Values:
    """The mean gain of a question's true subject, which serving does not know; `smoothing` is in answers."""
    gain = data.right[:, 1] - data.right[:, 0]
    overall, groups = float(gain[learn].mean()), np.array(data.groups)
    means = {}
    for group in set(data.groups):
        rows = gain[learn][groups[learn] == group]
        means[group] = (float(rows.sum()) + smoothing * overall) / max(len(rows) + smoothing, 1)
    return np.array([means[group] for group in groups[held]])


def _curve(score: Values, data: Judged, rows: npt.NDArray[np.int64]) -> GapCurve:
    return compute_gap_curve(score, data.right[rows, 0], data.right[rows, 1])


def _describe(curves: list[GapCurve]) -> dict[str, Any]:
    return {
        "apgr": summarize([curve.apgr for curve in curves]),
        "cpt_50": summarize([curve.calls_for(0.5) for curve in curves]),
        "cpt_80": summarize([curve.calls_for(0.8) for curve in curves]),
    }


def _describe_cascade(curves: list[GapCurve], data: Judged) -> dict[str, Any]:
    """Quality of weak-first escalation by the predicted gain alone, as a share of the strong model's, at its costs.

    These files hold no answers, so nothing is scored after answering; the weak call is paid for where it is made.
    """
    weak, strong = (float(value) for value in data.right.mean(axis=0))
    by_cost: dict[str, float] = {}
    for share in SHARES:
        calls = (share - 1 / STRONG_COST) / (1 - 1 / STRONG_COST)
        recovered = [curve.recovered[int(calls * (len(curve.recovered) - 1))] for curve in curves]
        by_cost[f"{share:.1f}"] = round((weak + (strong - weak) * float(np.median(recovered))) / strong, 4)
    full = [curve.calls_for(1.0) for curve in curves]
    return {
        "strong_cost_in_weak_calls": STRONG_COST,
        "share_of_strong_quality_by_share_of_strong_cost": by_cost,
        "strong_calls_for_strong_quality": summarize(full),
    }


def _describe_prices(gains: list[Values], right: list[Values]) -> dict[str, dict[str, float]]:
    """What each price of `balanced` buys, with BALANCED_PRICE among them."""
    described: dict[str, dict[str, float]] = {}
    for price in sorted({*PRICES, BALANCED_PRICE}):
        called, recovered = [], []
        for gain, outcome in zip(gains, right, strict=True):
            strong = gain > price * (1 - 1 / STRONG_COST)
            difference = outcome[:, 1] - outcome[:, 0]
            called.append(float(strong.mean()))
            recovered.append(float(difference[strong].sum() / difference.sum()))
        described[f"{price:g}"] = {
            "strong_calls": round(float(np.median(called)), 4),
            "gap_recovered": round(float(np.median(recovered)), 4),
        }
    return described


def _quality(data: Judged) -> dict[str, float]:
    return dict(zip(data.models, data.right.mean(axis=0, dtype=np.float64).round(4).tolist(), strict=True))


def _standard_error(data: Judged) -> float:
    """Of a random choice's APGR on this many rows, by resampling: what a difference has to be seen against."""
    generator = np.random.default_rng(0)
    everything = np.arange(len(data.texts))
    return float(np.std([_curve(generator.random(len(everything)), data, everything).apgr for _ in range(200)]))


def _measure_time(data: Judged) -> dict[str, Any]:
    """Predicting for a domain of two variants, and choosing between them."""
    model = fit_quality(data.raw[:500], data.right[:500], ("law/full", "law/quick"))
    variants = {"full": {"engine": "a", "cost": 10}, "quick": {"engine": "b"}}
    domain = Domain.model_validate({"description": "Laws and courts.", "variants": variants})
    short, long = "How long may a landlord keep the deposit?", max(data.texts, key=len)
    options = [VariantOption("full", 0.8, 10.0), VariantOption("quick", 0.7, 1.0)]
    return {
        "predict_short": _time(lambda: predict_quality(model, "law", domain, short, data.vectors[0])),
        "predict_longest": _time(lambda: predict_quality(model, "law", domain, long, data.vectors[0])),
        "choose": _time(lambda: choose_variant(options, "balanced", 2.0)),
    }


def _time(work: Any) -> Any:
    seconds = []
    for _ in range(500):
        started = time.perf_counter()
        work()
        seconds.append((time.perf_counter() - started) * 1e6)
    return summarize(seconds)


if __name__ == "__main__":
    main()
