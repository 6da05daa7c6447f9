"""What the router asks of a sentence encoder, which the deployment brings."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
"""Embeddings: shape (texts, dimensions), L2-normalised rows."""


class Tokens(Protocol):
    """A text as the encoder reads it, special tokens left out.

    `offsets` has shape (tokens, 2): the characters [start, end) of each token.
    """

    @property
    def ids(self) -> Sequence[int]: ...

    @property
    def offsets(self) -> npt.NDArray[np.int32]: ...


class Encoded(Protocol):
    """Texts after one pass through the encoder, in order; `states` are each one's last layer, (tokens, dimensions)."""

    @property
    def vectors(self) -> Vectors: ...

    @property
    def states(self) -> Sequence[npt.NDArray[np.float32]]: ...


class Encoder(Protocol):
    """Tokens once, for all tiers; then one forward pass, for what needs it."""

    def tokenize(self, text: str) -> Tokens: ...

    def encode(self, texts: Sequence[Tokens], /) -> Encoded: ...
