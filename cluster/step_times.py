"""Times of an engine's steps, looked up fast: what a simulation asks a million times."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from cluster.cost_model import Steps

_PREFILL_POINTS = 64
_CONTEXT_POINTS = 12


class StepTimes:
    """Seconds of steps on one share of an engine's GPUs or cores, from measured step times or a roofline.

    Between grid points linear; `longest` is the context length in tokens.
    """

    def __init__(self, steps: Steps, share: float, longest: int) -> None:
        self._steps = steps
        self._shares = np.array([share])
        tokens = np.unique(np.geomspace(1, max(2, 2 * longest), _PREFILL_POINTS).round())
        self._tokens = [float(count) for count in tokens]
        self._prefills = [float(steps.interpolate_prefill(self._shares, count)[0]) for count in self._tokens]
        self._contexts = [float(length) for length in np.unique(np.geomspace(1, longest, _CONTEXT_POINTS).round())]
        self._decodes: dict[int, list[float]] = {}
        # What a prefill costs whatever its length, its way to the engine among it; one that joins a decode step does
        # not pay it again.
        self._fixed_s = self._prefills[0]

    def measure_decode(self, batch: int, context: float) -> float:
        """Seconds of one decode step of `batch` sequences with `context` tokens each on average."""
        row = self._decodes.get(batch)
        if row is None:
            batches = np.array([float(batch)])
            row = self._decodes[batch] = [
                float(self._steps.interpolate_decode(self._shares, batches, length)[0, 0]) for length in self._contexts
            ]
        return _interpolate(context, self._contexts, row)

    def measure_step(self, batch: int, context: float, prefill_tokens: int) -> float:
        """Seconds of one step that decodes `batch` sequences and prefills `prefill_tokens` tokens of others."""
        prefill = _interpolate(prefill_tokens, self._tokens, self._prefills)
        if not batch:
            return prefill
        return self.measure_decode(batch, context) + max(0.0, prefill - self._fixed_s)


def _interpolate(at: float, known: Sequence[float], seconds: Sequence[float]) -> float:
    """Linear between points, and beyond the last one as between the last two."""
    if at <= known[0]:
        return seconds[0]
    right = min(bisect_right(known, at), len(known) - 1)
    left = right - 1
    return seconds[left] + (seconds[right] - seconds[left]) * (at - known[left]) / (known[right] - known[left])
