"""Fitting the blocks of a head and the weights that blend them; every result is the same for the same rows.

Few rows and many need about the same strength here: the penalty is 1 / (2C) of the squared weights beside the sum of
the losses. All-MiniLM-L6-v2 on CLINC150's 150 intents: 92.2, 92.2, 92.1, 92.1 % with ten examples each and 96.9, 96.8,
96.8, 96.9 % with 96, for C = 10, 30, 100, 300; on MMLU-Pro's 14 categories (4,800 rows) 75.1, 76.1, 74.8 % for C = 1,
3, 10. So C is chosen of a few by cross-validation, on at most CHOICE_ROWS rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from router.domain_head import LabelTable, LinearBlock, NgramBlock
from router.encoding import Vectors
from router.ngrams import BUCKETS, Buckets

# SciPy is imported where it is used: a process that serves a trained router goes without it.
if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Targets = npt.NDArray[np.intp]
"""Each row's label, as its index."""
Rows = npt.NDArray[np.intp]

STRENGTHS = (3.0, 10.0, 30.0, 100.0)
CHOICE_ROWS = 3000
# What a label's unseen n-grams count, in units of a row's weight. MMLU-Pro: 79.6 % with 0.03, 80.2 % with 0.1, which
# 1,200 rows cannot tell apart; CLINC150 97.8 % with 0.03.
SMOOTHING = 0.03
MAX_ITERATIONS = 100
LEAVE_ONE_OUT_ROWS = 30
TEN_PARTS_ROWS = 300
SEED = 5


@dataclass(frozen=True, slots=True)
class NgramRows:
    """Rows as bags of n-grams; `matrix` (rows, BUCKETS) has 1 where a row has the bucket."""

    matrix: "csr_matrix"

    def take(self, rows: Rows) -> "NgramRows":
        """Some of the rows."""
        return NgramRows(self.matrix[rows])


def read_ngrams(texts: Sequence[str], hashed: Callable[[str], Buckets]) -> NgramRows:
    """The n-grams of texts."""
    from scipy.sparse import csr_matrix

    found = [hashed(text) for text in texts]
    ends = np.cumsum([0, *(len(buckets) for buckets in found)])
    indices = np.concatenate(found) if found else np.zeros(0, dtype=np.intp)
    return NgramRows(csr_matrix((np.ones(ends[-1], np.float32), indices, ends), shape=(len(found), BUCKETS)))


def fold_rows(targets: Targets) -> Iterator[tuple[Rows, Rows]]:
    """Rows to learn from and rows to predict: leaving one out where there are few, else ten, five or three parts.

    Each label is spread over all parts. A row that is alone is learned and predicted.
    """
    rows = len(targets)
    if rows == 1:
        yield np.zeros(1, dtype=np.intp), np.zeros(1, dtype=np.intp)
        return
    count = rows if rows <= LEAVE_ONE_OUT_ROWS else 10 if rows <= TEN_PARTS_ROWS else 5 if rows <= CHOICE_ROWS else 3
    order = shuffled(rows)
    by_label = order[np.argsort(targets[order], kind="stable")]
    part = np.empty(rows, dtype=np.intp)
    part[by_label] = np.arange(rows) % count
    for at in range(count):
        yield np.flatnonzero(part != at), np.flatnonzero(part == at)


def shuffled(count: int) -> Rows:
    """Row numbers in an order that is always the same."""
    return np.random.default_rng(SEED).permutation(count)


def fit_linear(vectors: Vectors, targets: Targets, labels: int, strength: float) -> LinearBlock:
    """Multinomial logistic regression in which every label weighs the same, whatever its number of rows."""
    from scipy.optimize import minimize

    rows, dimensions = vectors.shape
    counts = np.bincount(targets, minlength=labels)
    weights = (1 / np.maximum(counts, 1) / max(int(np.count_nonzero(counts)), 1))[targets].astype(np.float32)
    penalty = 1 / (strength * rows)
    at = np.arange(rows)

    def observe(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        table = flat.astype(np.float32).reshape(dimensions + 1, labels)
        logits = vectors @ table[:-1] + table[-1]
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        total = shares.sum(axis=1, keepdims=True)
        loss = float(weights @ (np.log(total[:, 0]) - logits[at, targets]))
        shares /= total
        shares[at, targets] -= 1
        shares *= weights[:, None]
        slope = np.empty_like(table)
        slope[:-1] = vectors.T @ shares + penalty * table[:-1]
        slope[-1] = shares.sum(axis=0)
        return loss + penalty / 2 * float((table[:-1] ** 2).sum()), slope.ravel().astype(np.float64)

    found = minimize(
        observe,
        np.zeros((dimensions + 1) * labels),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_ITERATIONS, "ftol": 1e-9, "gtol": 1e-5},
    )
    table = found.x.astype(np.float32).reshape(dimensions + 1, labels)
    return LinearBlock(table[:-1], table[-1])


def choose_strength(vectors: Vectors, targets: Targets, labels: int) -> float:
    """The C of STRENGTHS whose predictions for rows left out are best, by log loss at their best temperature."""
    rows = shuffled(len(targets))[:CHOICE_ROWS]
    learn, predict = rows[: len(rows) * 2 // 3], rows[len(rows) * 2 // 3 :]
    if len(np.unique(targets[learn])) < 2 or not len(predict):
        return STRENGTHS[-1]
    losses = []
    for strength in STRENGTHS:
        block = fit_linear(vectors[learn], targets[learn], labels, strength)
        scores = vectors[predict] @ block.weights + block.bias
        losses.append(fit_blend([scores], targets[predict])[1])
    return STRENGTHS[int(np.argmin(losses))]


def fit_ngrams(rows: NgramRows, targets: Targets, labels: int) -> NgramBlock:
    """Naive Bayes on n-grams weighted by how rare they are, each row of length 1."""
    from scipy.sparse import csr_matrix

    matrix = rows.matrix
    count = np.bincount(matrix.indices, minlength=BUCKETS)
    rarity = (np.log((matrix.shape[0] + 1) / (count + 1)) + 1).astype(np.float32)
    weighted = _weigh(matrix, rarity)
    of_label = csr_matrix(
        (np.ones(len(targets), np.float32), (targets, np.arange(len(targets)))), (labels, len(targets))
    )
    said = (of_label @ weighted).toarray() + SMOOTHING
    weights = np.log(said / said.sum(axis=1, keepdims=True))
    return NgramBlock(np.ascontiguousarray((weights - weights.mean(axis=0)).T, dtype=np.float32), rarity)


def predict_ngrams(block: NgramBlock, rows: NgramRows) -> LabelTable:
    """What `NgramBlock.score` gives for each row."""
    scores: LabelTable = _weigh(rows.matrix, block.rarity) @ block.weights
    return scores


def _weigh(matrix: "csr_matrix", rarity: npt.NDArray[np.float32]) -> Any:
    from scipy.sparse import csr_matrix

    lengths = np.sqrt(matrix @ rarity**2)
    values = rarity[matrix.indices] / np.repeat(np.maximum(lengths, 1e-9), np.diff(matrix.indptr))
    return csr_matrix((values.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def fit_blend(scores: Sequence[LabelTable], targets: Targets) -> tuple[npt.NDArray[np.float64], float]:
    """The weights, none negative, whose sum of scores has the least log loss, and that loss.

    At most CHOICE_ROWS rows are looked at: there are four weights to find. The targets are not quite 1 and 0 (Platt,
    "Probabilistic Outputs for Support Vector Machines", 1999), so that a few rows that are all predicted right do not
    make a head that is always sure.
    """
    from scipy.optimize import minimize

    chosen = shuffled(len(targets))[:CHOICE_ROWS]
    scores, targets = [table[chosen] for table in scores], targets[chosen]
    rows, labels = scores[0].shape
    at = np.arange(rows)
    doubt = 1 / (rows + 2)
    wanted = np.full((rows, labels), doubt / max(labels - 1, 1))
    wanted[at, targets] = 1 - doubt

    def observe(weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        logits = np.sum([weight * table for weight, table in zip(weights, scores, strict=True)], axis=0)
        logits -= logits.max(axis=1, keepdims=True)
        shares = np.exp(logits)
        total = shares.sum(axis=1, keepdims=True)
        loss = float((np.log(total[:, 0]) - (wanted * logits).sum(axis=1)).mean())
        apart = shares / total - wanted
        return loss, np.array([float((apart * table).sum(axis=1).mean()) for table in scores])

    found = minimize(observe, np.full(len(scores), 0.5), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(scores))
    return found.x, float(found.fun)
