"""A trained router as named arrays, and back."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from router.classify import DomainStack
from router.domain_head import Blend, DomainHead, LinearBlock, NgramBlock
from router.tiers import Calibration, ScopeGate, Thresholds
from router.training import Strengths, TrainedRouter, TrainingRows

Arrays = dict[str, npt.NDArray[Any]]


def render_heads(trained: TrainedRouter) -> Arrays:
    """What decides: blocks and the vectors that nearness is measured to."""
    head = trained.head
    arrays: Arrays = {
        "encoder.weights": head.encoder.weights,
        "encoder.bias": head.encoder.bias,
        "nearest.vectors": trained.stack.vectors,
        "nearest.rows": trained.stack.rows.astype(np.int32),
    }
    for name, block in (("words", head.words), ("chars", head.chars)):
        # Half precision moves a score by less than a thousandth.
        arrays |= {f"{name}.weights": block.weights.astype(np.float16), f"{name}.rarity": block.rarity}
    if head.static is not None:
        arrays |= {"static.weights": head.static.weights, "static.bias": head.static.bias}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def render_rows(trained: TrainedRouter) -> Arrays:
    """What it learned from, and what it said of it."""
    rows = trained.rows
    arrays: Arrays = {
        "targets": rows.targets.astype(np.int32),
        "vectors": rows.vectors.astype(np.float16),
        "static": rows.static.astype(np.float16),
    }
    for field in fields(Calibration):
        arrays[f"calibration.{field.name}"] = getattr(trained.calibration, field.name)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def read_trained(
    manifest: Mapping[str, Any],
    heads: Mapping[str, npt.NDArray[Any]],
    rows: Mapping[str, npt.NDArray[Any]],
    texts: tuple[str, ...],
) -> TrainedRouter:
    """What was rendered; raises KeyError, TypeError or ValueError where something does not belong together."""
    tables = manifest["tables"]
    labels = tuple(manifest["labels"])
    has_static = "static.weights" in heads
    head = DomainHead(
        labels,
        LinearBlock(heads["encoder.weights"], heads["encoder.bias"]),
        _read_ngrams("words", heads),
        _read_ngrams("chars", heads),
        Blend(**tables["full"]),
        LinearBlock(heads["static.weights"], heads["static.bias"]) if has_static else None,
        Blend(**tables["fast"]) if has_static else None,
    )
    stack = DomainStack(tuple(tables["nearest"]), heads["nearest.vectors"], heads["nearest.rows"].astype(np.intp))
    learned = TrainingRows(
        texts,
        rows["targets"].astype(np.intp),
        rows["vectors"].astype(np.float32),
        rows["static"].astype(np.float32),
    )
    widths = {head.encoder.weights.shape[1], head.words.weights.shape[1], head.chars.weights.shape[1]}
    if widths != {len(labels)} or len(texts) != len(learned.targets):
        raise ValueError(
            f"{len(labels)} labels, heads for {sorted(widths)}; {len(texts)} texts, {len(learned.targets)}"
        )
    calibration = Calibration(*(rows[f"calibration.{field.name}"] for field in fields(Calibration)))
    return TrainedRouter(
        head,
        stack,
        Thresholds(**manifest["thresholds"]),
        ScopeGate(**tables["gate"]) if tables["gate"] is not None else None,
        Strengths(**tables["strengths"]),
        calibration,
        learned,
        manifest["metrics"],
    )


def _read_ngrams(name: str, heads: Mapping[str, npt.NDArray[Any]]) -> NgramBlock:
    return NgramBlock(heads[f"{name}.weights"].astype(np.float32), heads[f"{name}.rarity"])
