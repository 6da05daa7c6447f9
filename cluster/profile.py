"""Measured step times: the profile CSV `model,gpu,tp,sm_percent,batch,seq_len,prefill_ms,decode_ms`.

A row has the time of a prefill of `batch` prompts of `seq_len` tokens, and of one decode step of `batch` sequences
that have `seq_len` tokens each, on `sm_percent` of each of `tp` GPUs; an empty or negative time was not measured.
After the cost files of MuxServe (arXiv 2404.02015).
"""

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experts.errors import ConfigurationError

COLUMNS = ("model", "gpu", "tp", "sm_percent", "batch", "seq_len", "prefill_ms", "decode_ms")
Floats = NDArray[np.float64]
_Key = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Curve:
    """Seconds over one quantity, ascending; beyond what was measured the last slope goes on."""

    at: Floats
    seconds: Floats

    def interpolate(self, at: float) -> float:
        if at > self.at[-1]:
            # From a single point on, in proportion: what was not measured is not taken for free.
            before, earlier = (self.at[-2], self.seconds[-2]) if len(self.at) > 1 else (0.0, 0.0)
            slope = (self.seconds[-1] - earlier) / (self.at[-1] - before)
            return float(self.seconds[-1] + max(slope, 0.0) * (at - self.at[-1]))
        return float(np.interp(at, self.at, self.seconds))


@dataclass(frozen=True, slots=True)
class SharedTimes:
    """Step times on one share of the SMs: prefill over tokens, decode over context length for each batch."""

    prefill: Curve
    decode: Mapping[int, Curve]


@dataclass(frozen=True, slots=True)
class MeasuredSteps:
    """Step times of one model on one kind and number of GPUs, by share of the SMs."""

    by_share: Mapping[float, SharedTimes]

    @property
    def largest_batch(self) -> int:
        """No batch above it was measured at every share."""
        return min(max(times.decode) for times in self.by_share.values())

    def interpolate_prefill(self, shares: Floats, tokens: float) -> Floats:
        """Seconds of one prefill, shape (shares,)."""
        return self._over_shares(shares, [times.prefill.interpolate(tokens) for _, times in self._sorted()])

    def interpolate_decode(self, shares: Floats, batches: Floats, context: float) -> Floats:
        """Seconds of one decode step, shape (shares, batches)."""
        rows = []
        for _, times in self._sorted():
            known = sorted(times.decode)
            rows.append(np.interp(batches, known, [times.decode[batch].interpolate(context) for batch in known]))
        return np.stack(
            [self._over_shares(shares, [float(row[column]) for row in rows]) for column in range(len(batches))], axis=1
        )

    def _sorted(self) -> list[tuple[float, SharedTimes]]:
        return sorted(self.by_share.items())

    def _over_shares(self, shares: Floats, seconds: list[float]) -> Floats:
        """Between shares linear; below the smallest one as if time went with the inverse of the share."""
        known = [share for share, _ in self._sorted()]
        return np.interp(shares, known, seconds) * np.maximum(1.0, known[0] / shares)


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything that was measured, by model, GPU type (`cpu` without one) and number of GPUs."""

    steps: Mapping[tuple[str, str, int], MeasuredSteps]


def load_profile(path: Path) -> Profile:
    """The profile of a CSV file; raises ConfigurationError with the line that is wrong."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return _read_rows(csv.DictReader(file), path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror}); name a profile CSV") from error


def _read_rows(reader: "csv.DictReader[str]", path: Path) -> Profile:
    if tuple(reader.fieldnames or ()) != COLUMNS:
        found = ",".join(reader.fieldnames or ("nothing",))
        raise ConfigurationError(f"{path}: line 1 is {found}; a profile begins with the line {','.join(COLUMNS)}")
    prefill: dict[_Key, dict[float, dict[int, list[float]]]] = _nest()
    decode: dict[_Key, dict[float, dict[tuple[int, int], list[float]]]] = _nest()
    for row in reader:
        try:
            key = (row["model"], row["gpu"], int(row["tp"]))
            share, batch, length = float(row["sm_percent"]) / 100, int(row["batch"]), int(row["seq_len"])
            times = [float(row[name] or -1) / 1000 for name in ("prefill_ms", "decode_ms")]
            if not (0 < share <= 1 and batch > 0 and length > 0 and key[2] > 0):
                raise ValueError("sm_percent is above 0 and at most 100, tp, batch and seq_len are above 0")
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}: line {reader.line_num} is no measurement ({error}); mend it") from error
        if times[0] > 0:
            prefill[key][share][batch * length].append(times[0])
        if times[1] > 0:
            decode[key][share][batch, length].append(times[1])
    steps = {}
    for key in prefill.keys() | decode.keys():
        shares = prefill[key].keys() & decode[key].keys()
        if not shares:
            raise ConfigurationError(
                f"{path}: {' '.join(map(str, key))} has no sm_percent with both prefill_ms and decode_ms; measure both"
            )
        steps[key] = MeasuredSteps(
            {share: SharedTimes(_draw(prefill[key][share]), _by_batch(decode[key][share])) for share in shares}
        )
    return Profile(steps)


def _nest() -> Any:
    return defaultdict(lambda: defaultdict(lambda: defaultdict(list)))


def _draw(points: Mapping[int, list[float]]) -> Curve:
    at = sorted(points)
    return Curve(np.array(at, float), np.array([np.mean(points[place]) for place in at]))


def _by_batch(points: Mapping[tuple[int, int], list[float]]) -> dict[int, Curve]:
    batches: dict[int, dict[int, list[float]]] = defaultdict(dict)
    for (batch, length), times in points.items():
        batches[batch][length] = times
    return {batch: _draw(lengths) for batch, lengths in batches.items()}
