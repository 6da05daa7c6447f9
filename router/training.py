"""Training the router: from a fleet's descriptions and examples, labelled questions and corrections to an artifact.

With ten examples per domain the head works at once; each further row makes it better. N-grams are learned from few
rows too, and the blend gives them their weight: on the pocket fleet (55 rows, 156 questions to test) 98.1 % with them,
96.8 % without and by the nearest examples. A domain that is added later is
learned beside the rows that are kept of the others, so that they are not unlearned.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from experts.errors import ConfigurationError
from experts.fleet import Fleet
from router.classify import (
    DomainProfile,
    DomainStack,
    choose_prototypes,
    measure_nearness,
    normalise,
    stack_profiles,
)
from router.domain_head import Blend, DomainHead, LabelTable, LinearBlock, NgramBlock
from router.encoding import Vectors
from router.evaluation import describe_calibration
from router.head_training import (
    NgramRows,
    Targets,
    choose_strength,
    fit_blend,
    fit_linear,
    fit_ngrams,
    fold_rows,
    predict_ngrams,
    read_ngrams,
)
from router.ngrams import hash_chars, hash_words
from router.tiers import DEFAULT_TARGET_ERROR, Calibration, Figures, Flags, ScopeGate, Thresholds, choose_thresholds

Embedding = Callable[[Sequence[str]], Vectors]
OnProgress = Callable[[str], object]

OUT_OF_SCOPE_LABEL = "oos"
"""The label of rows that no domain owns, unless a domain has this name."""
# Adding a domain to more rows than this keeps blend and thresholds instead of choosing them anew, which takes minutes.
REFIT_WHOLE_ROWS = 3000
# Nearness reads all of them for each question: 1,024 vectors of 384 dimensions are 1.5 MB.
PROTOTYPES = 1024
BATCH = 256


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text and the domain, the refusal, or `OUT_OF_SCOPE_LABEL`, that it belongs to."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Rows with their vectors; a target is an index into the labels, -1 out of scope. `static` may have no columns."""

    texts: tuple[str, ...]
    targets: Targets = field(repr=False, compare=False)
    vectors: Vectors = field(repr=False, compare=False)
    static: Vectors = field(repr=False, compare=False)

    def take(self, rows: Sequence[int] | Targets) -> "TrainingRows":
        """Some of the rows."""
        chosen = np.asarray(rows, dtype=np.intp)
        texts = tuple(self.texts[at] for at in chosen)
        return TrainingRows(texts, self.targets[chosen], self.vectors[chosen], self.static[chosen])


@dataclass(frozen=True, slots=True)
class Strengths:
    """How weakly each linear block is held back; see `head_training`."""

    static: float
    encoder: float


@dataclass(frozen=True, slots=True)
class TrainedRouter:
    """What the router decides by, with the rows that it learned from."""

    head: DomainHead
    stack: DomainStack
    thresholds: Thresholds
    gate: ScopeGate | None
    strengths: Strengths
    calibration: Calibration
    rows: TrainingRows = field(repr=False)
    metrics: dict[str, Any] = field(default_factory=dict)


def list_labels(fleet: Fleet) -> tuple[str, ...]:
    """The labels of a fleet: its domains, then its refusals.

    Raises ConfigurationError where a refusal has a domain's name.
    """
    both = [name for name in fleet.router.refusals if name in fleet.domains]
    if both:
        raise ConfigurationError(
            f"'{both[0]}' names a domain and a refusal of fleet '{fleet.name}'; rename router.refusals.{both[0]}"
        )
    return (*fleet.domains, *fleet.router.refusals)


def read_fleet_texts(fleet: Fleet) -> tuple[LabelledText, ...]:
    """What the fleet file itself says: descriptions and examples of domains and refusals."""
    domains = {name: (domain.description, *domain.examples) for name, domain in fleet.domains.items()}
    refusals = {name: (refusal.description, *refusal.examples) for name, refusal in fleet.router.refusals.items()}
    return tuple(LabelledText(text, name) for name, said in {**domains, **refusals}.items() for text in said)


def embed_rows(
    texts: Sequence[LabelledText],
    labels: Sequence[str],
    encode: Embedding,
    static: Embedding | None,
    on_progress: OnProgress = lambda _: None,
) -> TrainingRows:
    """Rows for training; a text that is given twice counts once, with the label given last."""
    last = {said.text: said.label for said in texts}
    at = {label: index for index, label in enumerate(labels)}
    unknown = sorted(set(last.values()) - at.keys() - {OUT_OF_SCOPE_LABEL})
    if unknown:
        raise ConfigurationError(
            f"labels name {', '.join(unknown[:5])}, and the fleet has {', '.join(labels)}; correct the labels, or use "
            f"'{OUT_OF_SCOPE_LABEL}' for what no domain owns"
        )
    kept = tuple(last)
    vectors = embed_batches(kept, encode, on_progress)
    columns = static(kept) if static is not None else np.zeros((len(kept), 0), dtype=np.float32)
    targets = np.array([at.get(last[text], -1) for text in kept], dtype=np.intp)
    return TrainingRows(kept, targets, vectors, np.asarray(columns, dtype=np.float32))


def embed_batches(texts: Sequence[str], encode: Embedding, on_progress: OnProgress = lambda _: None) -> Vectors:
    """The vectors of texts, at least one, in batches that are told as they are done."""
    vectors = []
    for start in range(0, len(texts), BATCH):
        vectors.append(normalise(encode(texts[start : start + BATCH])))
        on_progress(f"{min(start + BATCH, len(texts))} of {len(texts)} questions embedded")
    return np.concatenate(vectors)


def train_rows(
    labels: tuple[str, ...],
    rows: TrainingRows,
    target_error: float = DEFAULT_TARGET_ERROR,
    on_progress: OnProgress = lambda _: None,
) -> TrainedRouter:
    """A router for rows: blocks, blends, gate and thresholds, all of it measured on rows left out."""
    inside = rows.take(np.flatnonzero(rows.targets >= 0))
    outside = rows.take(np.flatnonzero(rows.targets < 0))
    on_progress("choosing the strength of the linear blocks")
    count = len(labels)
    strengths = Strengths(
        choose_strength(inside.static, inside.targets, count) if inside.static.shape[1] else 1.0,
        choose_strength(inside.vectors, inside.targets, count),
    )
    grams, outside_grams = _read_grams(inside.texts), _read_grams(outside.texts)
    tables: dict[str, LabelTable] = {}
    outside_tables: dict[str, LabelTable] = {}
    nearness = np.zeros(len(inside.texts), dtype=np.float32)
    for number, (learn, predict) in enumerate(fold_rows(inside.targets), start=1):
        on_progress(f"cross-validating, part {number}")
        blocks = _fit_blocks(inside.take(learn), grams.take(learn), count, strengths)
        for name, scores in _predict(blocks, inside.take(predict), grams.take(predict)).items():
            tables.setdefault(name, np.zeros((len(inside.texts), count), dtype=np.float32))[predict] = scores
        stack = _stack(labels, inside.take(learn))
        nearness[predict] = _nearest(inside.vectors[predict], stack)
        if number == 1 and len(outside.texts):
            outside_tables = _predict(blocks, outside, outside_grams)
    on_progress("blending")
    fast = _blend(tables, inside.targets, ("static", "words")) if "static" in tables else None
    full = _blend(tables, inside.targets, ("static", "encoder", "words", "chars"))
    on_progress("fitting all rows")
    head = _make_head(labels, _fit_blocks(inside, grams, count, strengths), fast, full)
    stack = _stack(labels, inside)
    calibration, gate = _calibrate(
        _join(tables, outside_tables),
        rows_of(inside, outside),
        np.concatenate([nearness, _nearest(outside.vectors, stack)]),
        fast,
        full,
    )
    thresholds = choose_thresholds(calibration, target_error)
    trained = TrainedRouter(head, stack, thresholds, gate, strengths, calibration, rows_of(inside, outside))
    return replace(trained, metrics=describe_calibration(calibration, thresholds))


def add_domains(trained: TrainedRouter, labels: tuple[str, ...], rows: TrainingRows) -> TrainedRouter:
    """A router for other labels: rows of those that stay are learned again beside the new `rows`.

    `rows` has targets by `labels`. Blend and thresholds are chosen anew where the rows are few, and kept otherwise.
    """
    at = {label: index for index, label in enumerate(labels)}
    moved = np.array([at.get(label, -2) for label in trained.head.labels] + [-1], dtype=np.intp)
    kept = replace(trained.rows, targets=moved[trained.rows.targets])
    both = rows_of(kept.take(np.flatnonzero(kept.targets > -2)), rows)
    if len(both.texts) <= REFIT_WHOLE_ROWS:
        return train_rows(labels, both, trained.thresholds.target_error)
    inside = both.take(np.flatnonzero(both.targets >= 0))
    blocks = _fit_blocks(inside, _read_grams(inside.texts), len(labels), trained.strengths)
    head = _make_head(labels, blocks, trained.head.fast, trained.head.full)
    return replace(trained, head=head, stack=_stack(labels, inside), rows=both)


def fingerprint_rows(texts: Sequence[LabelledText]) -> str:
    """Names the rows, whatever their order."""
    lines = sorted(f"{len(said.label)}:{said.label}{said.text}" for said in texts)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def rows_of(*parts: TrainingRows) -> TrainingRows:
    """The rows of all parts, in order."""
    return TrainingRows(
        tuple(text for part in parts for text in part.texts),
        np.concatenate([part.targets for part in parts]),
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.static for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class _Grams:
    words: NgramRows
    chars: NgramRows

    def take(self, rows: Targets) -> "_Grams":
        return _Grams(self.words.take(rows), self.chars.take(rows))


@dataclass(frozen=True, slots=True)
class _Blocks:
    encoder: LinearBlock
    static: LinearBlock | None
    words: NgramBlock
    chars: NgramBlock


def _read_grams(texts: Sequence[str]) -> _Grams:
    return _Grams(read_ngrams(texts, hash_words), read_ngrams(texts, hash_chars))


def _fit_blocks(rows: TrainingRows, grams: _Grams, labels: int, strengths: Strengths) -> _Blocks:
    has_static = rows.static.shape[1] > 0
    return _Blocks(
        fit_linear(rows.vectors, rows.targets, labels, strengths.encoder),
        fit_linear(rows.static, rows.targets, labels, strengths.static) if has_static else None,
        fit_ngrams(grams.words, rows.targets, labels),
        fit_ngrams(grams.chars, rows.targets, labels),
    )


def _predict(blocks: _Blocks, rows: TrainingRows, grams: _Grams) -> dict[str, LabelTable]:
    tables = {"encoder": rows.vectors @ blocks.encoder.weights + blocks.encoder.bias}
    if blocks.static is not None:
        tables["static"] = rows.static @ blocks.static.weights + blocks.static.bias
    tables["words"] = predict_ngrams(blocks.words, grams.words)
    tables["chars"] = predict_ngrams(blocks.chars, grams.chars)
    return tables


def _blend(tables: dict[str, LabelTable], targets: Targets, names: Sequence[str]) -> Blend:
    present = [name for name in names if name in tables]
    weights, _ = fit_blend([tables[name] for name in present], targets)
    return Blend(**dict(zip(present, map(float, weights), strict=True)))


def _make_head(labels: tuple[str, ...], blocks: _Blocks, fast: Blend | None, full: Blend) -> DomainHead:
    return DomainHead(labels, blocks.encoder, blocks.words, blocks.chars, full, blocks.static, fast)


def _stack(labels: tuple[str, ...], rows: TrainingRows) -> DomainStack:
    limit = max(1, PROTOTYPES // len(labels))
    profiles = [
        choose_prototypes(DomainProfile(label, rows.vectors[rows.targets == at]), limit)
        for at, label in enumerate(labels)
    ]
    return stack_profiles([profile for profile in profiles if len(profile.vectors)])


def _nearest(vectors: Vectors, stack: DomainStack) -> Figures:
    parts = [
        measure_nearness(vectors[start : start + BATCH], stack).max(axis=1) for start in range(0, len(vectors), BATCH)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def _join(inside: dict[str, LabelTable], outside: dict[str, LabelTable]) -> dict[str, LabelTable]:
    return {name: np.concatenate([table, outside[name]]) if outside else table for name, table in inside.items()}


def _calibrate(
    tables: dict[str, LabelTable], rows: TrainingRows, nearness: Figures, fast: Blend | None, full: Blend
) -> tuple[Calibration, ScopeGate | None]:
    fast_confidence, fast_energy, fast_best = _observe_blend(tables, fast)
    full_confidence, full_energy, full_best = _observe_blend(tables, full)
    inside = rows.targets >= 0
    gate = None if inside.all() else _fit_gate(full_energy, nearness, inside)
    rejected = np.zeros(len(inside), dtype=bool)
    if gate is not None:
        rejected = gate.energy * full_energy + gate.nearness * nearness + gate.bias > 0
    full_right = np.where(inside, (full_best == rows.targets) & ~rejected, rejected)
    calibration = Calibration(
        fast_confidence,
        fast_energy,
        fast_best == rows.targets,
        full_confidence,
        full_energy,
        full_right,
        nearness,
        inside,
    )
    return calibration, gate


def _observe_blend(tables: dict[str, LabelTable], blend: Blend | None) -> tuple[Figures, Figures, Targets]:
    """Confidence, energy and label of each row; label -2 where there is no such tier."""
    rows = len(tables["encoder"])
    if blend is None:
        zeros = np.zeros(rows, dtype=np.float32)
        return zeros, zeros, np.full(rows, -2, dtype=np.intp)
    weights = {"static": blend.static, "encoder": blend.encoder, "words": blend.words, "chars": blend.chars}
    logits = np.sum([weights[name] * table for name, table in tables.items() if weights[name]], axis=0)
    top = logits.max(axis=1)
    energy = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return np.exp(top - energy).astype(np.float32), energy.astype(np.float32), logits.argmax(axis=1)


def _fit_gate(energy: Figures, nearness: Figures, inside: Flags) -> ScopeGate:
    """Logistic regression in which the rows in scope weigh as much as those out of it."""
    features = np.stack([energy, nearness], axis=1).astype(np.float32)
    middle, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    block = fit_linear((features - middle) / spread, (~inside).astype(np.intp), 2, 1.0)
    weights = (block.weights[:, 1] - block.weights[:, 0]) / spread
    bias = float(block.bias[1] - block.bias[0] - weights @ middle)
    return ScopeGate(float(weights[0]), float(weights[1]), bias)
