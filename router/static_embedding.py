"""Tier 1's view of a text: the weighted mean of its tokens' static embeddings, without any encoder."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.encoding import Tokens, Vectors


class StaticEmbedding:
    """Embeds tokenized texts by a table of token embeddings; safe to call from several threads.

    A token's embedding is its row of `codes` times its entry in `scales`, which carries its weight; the tokens with
    scale zero count for nothing.
    """

    def __init__(self, codes: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> None:
        self.dimensions = int(codes.shape[1])
        self._codes = codes
        self._scales = scales

    def embed(self, texts: Sequence[Tokens]) -> Vectors:
        """Shape (texts, dimensions), rows L2-normalised; zeros for a text of which no token is known."""
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, tokens in enumerate(texts):
            ids = list(tokens.ids)
            if ids:
                # The sum, not the mean: only the direction is kept.
                total = self._scales[ids] @ self._codes[ids].astype(np.float32)
                length = float(np.sqrt(total @ total))
                if length > 0:
                    vectors[row] = total / length
        return vectors
