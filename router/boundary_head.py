"""The boundary head: from the encoder's token states to which tokens begin a sub-query and which belong to none.

A tagger in the manner of Ramshaw and Marcus 1995 (outside, begins, inside) over states that the encoder has computed
anyway: a projection and two dilated convolutions (Strubell et al. 2017), because the states know what a clause means
but not where the last question mark, capital or line break was. It runs in numpy; `boundary_training` trains it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from experts.errors import ConfigurationError
from router.clause import find_quoted

Matrix = npt.NDArray[np.float32]

SHIPPED_BOUNDARIES = Path(__file__).parent / "weights" / "boundaries.safetensors"
OUTSIDE, BEGINS, INSIDE = 0, 1, 2
WIDTH = 5
DILATIONS = (1, 4)
"""A token sees 2 * (1 + 4) tokens on either side, beside what its state has seen."""

_MARKS = ".", "?!", ",", ";:", "\n", "\"'`“”«»", "()[]{}", "-–—*•", "0123456789"
_KIND_COUNT = len(_MARKS) + 3
SURFACE = 2 * _KIND_COUNT + 6
OPENING = 8
"""Tokens at the beginning that say what kind of request it is ('Translate the following')."""
_KINDS = np.ones(0x3000, dtype=np.int64)
"""What each character is: 0 a sign, 1 a letter, 2 a capital, then the marks; what lies beyond is a letter."""
for _code in range(0x250):
    _KINDS[_code] = 2 if chr(_code).isupper() else int(chr(_code).isalpha())
for _at, _mark in enumerate(_MARKS, start=3):
    for _character in _mark:
        _KINDS[ord(_character)] = _at


@dataclass(frozen=True, slots=True)
class Boundaries:
    """For each token of a text the probabilities that it is OUTSIDE, BEGINS or is INSIDE a part, and where it stands.

    `offsets` has shape (tokens, 2); `probabilities` (tokens, 3).
    """

    probabilities: Matrix
    offsets: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BoundaryHead:
    """Weights for the states of one encoder, named by its fingerprint.

    `threshold` is how probable a beginning must be; it and `metadata` (data, seed, figures) are what training found.
    """

    encoder: str
    threshold: float
    weights: Mapping[str, Matrix]
    metadata: Mapping[str, str]

    def find_boundaries(
        self,
        text: str,
        states: npt.NDArray[np.floating[Any]],
        offsets: npt.NDArray[np.int32],
        joints: Sequence[tuple[int, int]],
    ) -> Boundaries:
        """The tags of a text whose tokens have these `states` (tokens, dimensions) and `offsets` (tokens, 2).

        `joints` are where the rules would split: the characters between two parts.
        """
        if not len(states):
            return Boundaries(np.zeros((0, 3), dtype=np.float32), offsets)
        weights = self.weights
        states = states.astype(np.float32, copy=False)
        about = (
            np.concatenate([states.mean(axis=0), states[:OPENING].mean(axis=0)]) @ weights["about"] + weights["bias"]
        )
        hidden = np.maximum(
            states @ weights["states"] + read_surface(text, offsets, joints) @ weights["surface"] + about, 0
        )
        for layer, dilation in enumerate(DILATIONS):
            seen = _look_around(hidden, dilation) @ weights[f"around{layer}"] + weights[f"around{layer}_bias"]
            hidden = hidden + np.maximum(seen, 0)
        logits = hidden @ weights["tags"] + weights["tags_bias"]
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        return Boundaries((odds / odds.sum(axis=1, keepdims=True)).astype(np.float32), offsets)


def read_surface(text: str, offsets: npt.NDArray[np.int32], joints: Sequence[tuple[int, int]]) -> Matrix:
    """What is written at and before each token: marks, capitals, quotation, the rules' joints; (tokens, SURFACE)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _KINDS[np.minimum(codes, len(_KINDS) - 1)]
    starts = np.minimum(offsets[:, 0], len(text) - 1)
    spaces = (codes == 9) | (codes == 32) | (codes == 160)
    # The last character before each position that is no space; a position before the text has kind 0.
    last = np.maximum.accumulate(np.where(spaces, -1, np.arange(len(codes))))
    before = np.where(starts > 0, last[np.maximum(starts - 1, 0)], -1)
    wide = _KIND_COUNT
    surface = np.zeros((len(starts), SURFACE), dtype=np.float32)
    rows = np.arange(len(starts))
    surface[rows, kinds[starts]] = 1
    surface[rows, wide + np.where(before >= 0, kinds[np.maximum(before, 0)], 0)] = 1
    surface[:, 2 * wide] = (starts == 0) | spaces[np.maximum(starts - 1, 0)]
    surface[:, 2 * wide + 1] = np.frombuffer(find_quoted(text), dtype=np.uint8)[starts]
    surface[:, 2 * wide + 2] = before < 0
    surface[:, 2 * wide + 3] = bool(joints)
    for left, right in joints:
        first, begins = np.searchsorted(starts, (left, right))
        surface[first : begins + 1, 2 * wide + 4] = 1
        surface[begins : begins + 1, 2 * wide + 5] = 1
    return surface


def _look_around(hidden: Matrix, dilation: int) -> Matrix:
    """Each row beside its WIDTH - 1 neighbours at that distance, zeros beyond the ends."""
    reach = dilation * (WIDTH // 2)
    padded = np.pad(hidden, ((reach, reach), (0, 0)))
    return np.concatenate([padded[at * dilation : at * dilation + len(hidden)] for at in range(WIDTH)], axis=1)


def load_boundary_head(path: Path = SHIPPED_BOUNDARIES) -> BoundaryHead:
    """A head as `save_boundary_head` wrote it; raises ConfigurationError where the file is absent or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            weights = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
        return BoundaryHead(metadata["encoder"], float(metadata["threshold"]), weights, metadata)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ConfigurationError(
            f"'{path}' is no boundary head: {type(error).__name__}: {error}; train it again with "
            f"`python -m benchmarks.boundary_training`"
        ) from error


def save_boundary_head(head: BoundaryHead, path: Path) -> None:
    """Write a head as float16, aside first, then in the place of the file."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    said = {**head.metadata, "encoder": head.encoder, "threshold": repr(head.threshold)}
    save_file({name: weight.astype(np.float16) for name, weight in head.weights.items()}, aside, metadata=said)
    aside.replace(path)
