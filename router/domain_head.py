"""The head that classifies: what the tiers know of a text, blended into one calibrated probability per label.

Four blocks score each label: a linear one on the static embedding, a linear one on the encoder's vector, and naive
Bayes on hashed words and on hashed characters (term weights after Rennie et al., "Tackling the Poor Assumptions of
Naive Bayes Text Classifiers", ICML 2003). A tier adds the scores of its blocks, each times a weight fitted on
predictions for texts that the blocks had not seen (Wolpert, "Stacked Generalization", 1992); so the weights are also
the temperature (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from router.ngrams import Buckets, hash_chars, hash_words
from router.question import Vector

LabelRow = npt.NDArray[np.float32]
"""One figure per label: shape (labels,)."""
LabelTable = npt.NDArray[np.float32]
"""Shape (rows, labels)."""


@dataclass(frozen=True, slots=True)
class LinearBlock:
    """Multinomial logistic regression: weights (dimensions, labels), bias (labels,)."""

    weights: LabelTable = field(repr=False, compare=False)
    bias: LabelRow = field(repr=False, compare=False)

    def score(self, vector: Vector) -> LabelRow:
        """The score of each label."""
        scores: LabelRow = vector @ self.weights + self.bias
        return scores


@dataclass(frozen=True, slots=True)
class NgramBlock:
    """Naive Bayes: each label's log-likelihood per bucket less the mean of all labels, and how rare a bucket is."""

    weights: LabelTable = field(repr=False, compare=False)
    rarity: npt.NDArray[np.float32] = field(repr=False, compare=False)

    def score(self, buckets: Buckets) -> LabelRow:
        """The score of each label; zeros for a text of which no n-gram is known."""
        rarity = self.rarity[buckets]
        length = float(np.sqrt(rarity @ rarity))
        scores: LabelRow = (rarity @ self.weights[buckets]) / np.float32(length or 1.0)
        return scores


@dataclass(frozen=True, slots=True)
class Blend:
    """The weight of each block's score in a tier; 0 where the tier goes without the block."""

    static: float = 0.0
    encoder: float = 0.0
    words: float = 0.0
    chars: float = 0.0


@dataclass(frozen=True, slots=True)
class LabelScores:
    """The probability of each label, calibrated, and the energy: the logarithm of the sum of their exponentials.

    What no label owns has a low energy (Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020).
    """

    probabilities: LabelRow = field(repr=False)
    energy: float

    @property
    def best(self) -> int:
        """The most probable label."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """The probability that the most probable label is right."""
        return float(self.probabilities.max())


@dataclass(frozen=True, slots=True)
class FastScores:
    """Tier 1's scores, and those of its blocks, which tier 2 goes on with."""

    scores: LabelScores
    static: LabelRow = field(repr=False)
    words: LabelRow = field(repr=False)


@dataclass(frozen=True, slots=True)
class DomainHead:
    """Both tiers over the same labels; `static` and `fast` are None where there is no static embedding."""

    labels: tuple[str, ...]
    encoder: LinearBlock
    words: NgramBlock
    chars: NgramBlock
    full: Blend
    static: LinearBlock | None = None
    fast: Blend | None = None


def score_fast(head: DomainHead, text: str, static_vector: Vector) -> FastScores | None:
    """Tier 1: static embedding and words; None where the head has no such tier."""
    if head.static is None or head.fast is None:
        return None
    static = head.static.score(static_vector)
    words = head.words.score(hash_words(text))
    return FastScores(_settle(head.fast.static * static + head.fast.words * words), static, words)


def score_full(head: DomainHead, text: str, vector: Vector, fast: FastScores | None) -> LabelScores:
    """Tier 2: the encoder's vector and characters, and what tier 1 found, if it was asked."""
    blend = head.full
    words = fast.words if fast is not None else head.words.score(hash_words(text))
    logits = blend.encoder * head.encoder.score(vector) + blend.words * words
    logits += blend.chars * head.chars.score(hash_chars(text))
    if fast is not None:
        logits += blend.static * fast.static
    return _settle(logits)


def _settle(logits: LabelRow) -> LabelScores:
    top = logits.max()
    raised = np.exp(logits - top)
    total = raised.sum()
    return LabelScores((raised / total).astype(np.float32), float(top + np.log(total)))
