"""The arrays that searches exchange."""

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Ranking = tuple[Scores, Rows]
"""Scores and rows of one search, best first."""
Mask = npt.NDArray[np.bool_]
"""Which rows may be found."""
