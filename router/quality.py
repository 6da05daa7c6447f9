"""Predicted quality: the probability that a variant answers a sub-query right, before it is asked.

One logistic model for all variants, on the sub-query's vector and a few counts of its text. Its weights are a shared
part, how hard a sub-query is for anybody, plus each variant's own difference from it, which is what choosing lives on.
`router.quality_training` fits it; here are the model and its use, microseconds of numpy.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import digits
from typing import Any

import numpy as np
import numpy.typing as npt

from experts.fleet import Domain
from router.question import Vector

UNKNOWN_ACCURACY = 0.5
"""A variant of which nothing is known: neither sure to be right nor sure to be wrong."""

COUNTED_CHARS = 2000
"""Text beyond this is not counted, which bounds the time: 0.02 ms for a question, 0.4 ms for a page."""

_WORDS = re.compile(r"[^\W\d_]+")
_FIGURES = re.compile(r"\d+(?:[.,]\d+)*")
_OPTIONS = re.compile(r"(?m)^ ?[(\[]?[A-J][.):]")
_SENTENCES = re.compile(r"[.!?](?:\s|$)")
_CAPITALS = re.compile(r"[A-Z]")
_SYMBOLS = "=+-*/^\\{}_$<>|"
_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve twenty thirty dozen hundred half third quarter "
    "twice double triple times percent fraction"
)
_COMPARING_WORDS = "more less fewer than remaining left rest each every per total average ratio"
_CLAUSE_WORDS = "if then after before when but and first second"
_NEGATING_WORDS = "not except least never false incorrect"
_NUMBERS = frozenset(_NUMBER_WORDS.split())
_COMPARISONS = frozenset(_COMPARING_WORDS.split())
_CLAUSES = frozenset(_CLAUSE_WORDS.split())
_NEGATIONS = frozenset(_NEGATING_WORDS.split())
_LONG_WORD = 10

TEXT_FEATURES = 16
"""Length of what `observe_text` gives."""

TEXT_SCALE = 0.5
"""Standard deviation of a text count beside a vector's of sqrt(10) in all dimensions together.

On RouteLLM's MMLU file, 1,500 labels and four seeds, 0.5 and 1.0 give an APGR of 0.641 and 0.639.
"""

Floats = npt.NDArray[np.float32]


def observe_text(text: str) -> tuple[float, ...]:
    """The TEXT_FEATURES counts of a text: its length, and what in it makes a question hard."""
    counted = text[:COUNTED_CHARS]
    chars = max(1, len(counted))
    spaced = max(1, len(counted.split()))
    words = _WORDS.findall(counted.lower())
    counts = (
        len(text),
        spaced,
        len(_FIGURES.findall(counted)),
        counted.count("\n"),
        len(_OPTIONS.findall(counted)),
        counted.count("?"),
        len(_SENTENCES.findall(counted)),
        sum(word in _NUMBERS for word in words) + counted.count("%"),
        sum(word in _COMPARISONS for word in words),
        sum(word in _CLAUSES for word in words) + counted.count(","),
    )
    return (
        *(math.log1p(count) for count in counts),
        chars / spaced,
        sum(len(word) >= _LONG_WORD for word in words) / spaced,
        sum(map(counted.count, digits)) / chars,
        sum(map(counted.count, _SYMBOLS)) / chars,
        len(_CAPITALS.findall(counted)) / chars,
        float(not _NEGATIONS.isdisjoint(words)),
    )


def observe_features(texts: Sequence[str], vectors: npt.ArrayLike) -> Floats:
    """Raw features: vector, then text counts; shape (texts, dimensions + TEXT_FEATURES)."""
    rows = np.asarray(vectors, dtype=np.float32).reshape(len(texts), -1)
    counts = np.array([observe_text(text) for text in texts], dtype=np.float32).reshape(len(texts), TEXT_FEATURES)
    return np.hstack([rows, counts])


def name_variant(domain: str, variant: str) -> str:
    """How a variant is named in the model and in the rows that train it."""
    return f"{domain}/{variant}"


@dataclass(frozen=True, slots=True)
class QualityModel:
    """A trained model; `variants` name the columns of `weights` (features, variants) and of `bias`.

    Features are clipped to three standard deviations after `(raw - mean) * scale`. `shared` (features,) judges a
    variant that the model was not trained on, around its own accuracy.
    """

    variants: tuple[str, ...]
    mean: Floats = field(repr=False)
    scale: Floats = field(repr=False)
    shared: Floats = field(repr=False)
    weights: Floats = field(repr=False)
    bias: Floats = field(repr=False)

    def __post_init__(self) -> None:
        features = len(self.mean)
        shapes = [array.shape for array in (self.mean, self.scale, self.shared, self.weights, self.bias)]
        count = len(self.variants)
        expected = [(features,), (features,), (features,), (features, count), (count,)]
        if shapes != expected or features <= TEXT_FEATURES:
            raise ValueError(f"the quality model's arrays have shapes {shapes}, expected {expected}; train it again")

    @property
    def dimensions(self) -> int:
        """Dimensions of the vectors that it reads."""
        return len(self.mean) - TEXT_FEATURES

    def scale_features(self, raw: Floats) -> Floats:
        """Features as the weights read them."""
        return standardise(raw, self.mean, self.scale)

    def predict(self, texts: Sequence[str], vectors: npt.ArrayLike) -> Floats:
        """Probability of a right answer, shape (texts, variants)."""
        scaled = self.scale_features(observe_features(texts, vectors))
        return 1 / (1 + np.exp(-(scaled @ self.weights + self.bias)))

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What the router artifact stores; the names of the variants go into its manifest."""
        return {
            "quality.mean": self.mean,
            "quality.scale": self.scale,
            "quality.shared": self.shared,
            "quality.weights": self.weights,
            "quality.bias": self.bias,
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, npt.NDArray[Any]], variants: Sequence[str]) -> "QualityModel":
        """The model of an artifact; raises ValueError where its arrays do not fit each other."""
        names = ("mean", "scale", "shared", "weights", "bias")
        missing = [name for name in names if f"quality.{name}" not in arrays]
        if missing:
            raise ValueError(f"the artifact has no quality.{missing[0]}; train it again")
        loaded = (np.ascontiguousarray(arrays[f"quality.{name}"], dtype=np.float32) for name in names)
        return QualityModel(tuple(variants), *loaded)


def standardise(raw: Floats, mean: Floats, scale: Floats) -> Floats:
    """Centred and scaled features; text counts, the last TEXT_FEATURES, at most three standard deviations away."""
    scaled = (raw - mean) * scale
    bound = 3 * TEXT_SCALE
    np.clip(scaled[:, -TEXT_FEATURES:], -bound, bound, out=scaled[:, -TEXT_FEATURES:])
    return scaled


def predict_quality(
    model: QualityModel | None, name: str, domain: Domain, text: str, vector: Vector
) -> dict[str, float]:
    """Probability of a right answer of each variant of the domain `name`, in the fleet file's order.

    Without a model, or without a vector that it can read, it is each variant's accuracy in the fleet file.
    """
    stated = {variant: settings.accuracy for variant, settings in domain.variants.items()}
    known = [accuracy for accuracy in stated.values() if accuracy is not None]
    typical = max(known) if known else UNKNOWN_ACCURACY
    accuracies = {variant: typical if accuracy is None else accuracy for variant, accuracy in stated.items()}
    if model is None or len(vector) != model.dimensions:
        return accuracies
    scaled = model.scale_features(observe_features([text], vector))[0]
    columns = {variant: position for position, variant in enumerate(model.variants)}
    hardness = float(scaled @ model.shared)
    predicted: dict[str, float] = {}
    for variant, accuracy in accuracies.items():
        column = columns.get(name_variant(name, variant))
        if column is None:
            odds = _log_odds(accuracy) + hardness
        else:
            odds = float(scaled @ model.weights[:, column]) + float(model.bias[column])
        predicted[variant] = 1 / (1 + math.exp(-odds))
    return predicted


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, 0.01), 0.99)
    return math.log(bounded / (1 - bounded))
