"""What has arrived at an engine, and what is predicted to arrive when a replica started now would be ready.

The method is the seasonal naive one on a smoothed level, and Holt's damped trend where no earlier day is known (R. J.
Hyndman, G. Athanasopoulos, "Forecasting: Principles and Practice", 3rd ed., sections 5.2 and 8.2): the level of the
last minutes times what the same hour of earlier days did from there. Its error is held against that of the naive
forecast (the present level goes on), which is what scaling without one assumes; section 5.8 calls the ratio MASE.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

BUCKET_S = 10.0
SLOT_S = 300.0
SLOTS = int(86_400 / SLOT_S)
# Half of the level is of the last 14 s, half of the trend of the last 35 s.
_LEVEL = 0.4
_TREND = 0.2
# A trend is believed for about seven buckets: summed, 0.85 + 0.85² + … is 5.7 of them.
_DAMPING = 0.85
# Weight of yesterday against the days before it.
_NEWEST_DAY = 0.4
# Earlier days may say that the rate grows fourfold from here; beyond that the level was too small to be scaled.
_MOST_GROWTH = 4.0
# Errors are forgotten over ten minutes, and judged once five minutes of them are known.
_NEWEST_ERROR = 1 / 60
_ERRORS_KNOWN = 30


@dataclass(frozen=True, slots=True)
class Forecast:
    """Arrivals per second at `horizon_s` from now; `error` and `naive_error` are mean absolute ones, per second.

    `spread` is what arrivals exceed the forecast by, as mean absolute errors, at the quantile that was asked for.
    """

    rate: float
    horizon_s: float
    error: float
    naive_error: float
    judged: bool
    spread: float

    @property
    def helps(self) -> bool:
        """Whether it has been seen to be better than none."""
        return self.judged and self.error < self.naive_error


@dataclass(slots=True)
class _Pending:
    bucket: int
    forecast: float
    naive: float


class ArrivalHistory:
    """The arrivals of one engine: buckets of 10 s of the last minutes, slots of 5 minutes of earlier days.

    Whoever owns it calls `observe` with a clock that does not go back; seconds are of the Unix epoch, so that slots of
    a day are those of UTC.
    """

    def __init__(self) -> None:
        self._bucket: int | None = None
        self._count = 0.0
        self._level = 0.0
        self._trend = 0.0
        self._closed = 0
        self._slot_sum = 0.0
        self._slot_buckets = 0
        self._profile: list[float | None] = [None] * SLOTS
        self._pending: deque[_Pending] = deque()
        self._errors = _Errors()

    @property
    def rate(self) -> float:
        """Arrivals per second now, smoothed; at least what the open bucket says already, so that a spike is seen."""
        return max(self._level, self._count / BUCKET_S)

    def observe(self, at_s: float, arrived: float, horizon_s: float) -> None:
        """Count what arrived since the call before; closed buckets are judged and predicted `horizon_s` ahead."""
        bucket = floor(at_s / BUCKET_S)
        if self._bucket is None:
            self._bucket = bucket
        # What lies further back than the smoothing remembers is skipped, however long nobody looked.
        missed = bucket - self._bucket
        if missed > 360:
            self._bucket, self._count = bucket, 0.0
        while self._bucket < bucket:
            self._close(horizon_s)
        self._count += arrived

    def forecast(self, horizon_s: float, quantile: float) -> Forecast:
        """What is predicted for `horizon_s` from the last closed bucket."""
        rate = self._predict(self._bucket or 0, horizon_s)
        errors = self._errors
        return Forecast(
            rate, horizon_s, errors.forecast, errors.naive, errors.seen >= _ERRORS_KNOWN, errors.spread(quantile)
        )

    def dump_profile(self) -> list[float | None]:
        """Mean arrivals per second of each 5 minutes of the day, UTC; None where no day has been seen."""
        return list(self._profile)

    def load_profile(self, profile: Sequence[float | None]) -> None:
        """Take over what `dump_profile` gave earlier."""
        if len(profile) == SLOTS:
            self._profile = list(profile)

    def _close(self, horizon_s: float) -> None:
        assert self._bucket is not None
        rate = self._count / BUCKET_S
        self._judge(self._bucket, rate)
        if self._closed:
            before = self._level
            expected = before + _DAMPING * self._trend
            self._level = max(0.0, _LEVEL * rate + (1 - _LEVEL) * expected)
            self._trend = _TREND * (self._level - before) + (1 - _TREND) * _DAMPING * self._trend
        else:
            self._level = rate
        self._closed += 1
        self._slot_sum += rate
        self._slot_buckets += 1
        self._bucket += 1
        self._count = 0.0
        slot = _slot_of(self._bucket - 1)
        if slot != _slot_of(self._bucket):
            self._learn(slot)
        ahead = max(1, ceil(horizon_s / BUCKET_S))
        self._pending.append(_Pending(self._bucket + ahead, self._predict(self._bucket, horizon_s), self._level))

    def _learn(self, slot: int) -> None:
        mean, before = self._slot_sum / self._slot_buckets, self._profile[slot]
        # Half a slot at least: the first one after a start is cut short.
        if self._slot_buckets * BUCKET_S >= SLOT_S / 2:
            self._profile[slot] = mean if before is None else _NEWEST_DAY * mean + (1 - _NEWEST_DAY) * before
        self._slot_sum, self._slot_buckets = 0.0, 0

    def _predict(self, bucket: int, horizon_s: float) -> float:
        ahead = max(1, ceil(horizon_s / BUCKET_S))
        here, there = self._expect(bucket * BUCKET_S), self._expect((bucket + ahead) * BUCKET_S)
        if here is not None and there is not None and here > 0:
            # This slot of today has not been learnt yet, so the profile holds earlier days only.
            return self._level * min(_MOST_GROWTH, there / here)
        if here == 0 and there is not None:
            return max(self._level, there)
        steps = _DAMPING * (1 - _DAMPING**ahead) / (1 - _DAMPING)
        return max(0.0, self._level + self._trend * steps)

    def _expect(self, at_s: float) -> float | None:
        """What earlier days had at a time of day, between the middles of slots."""
        place = at_s / SLOT_S - 0.5
        left = floor(place)
        first, second = self._profile[left % SLOTS], self._profile[(left + 1) % SLOTS]
        if first is None or second is None:
            return None
        return first + (second - first) * (place - left)

    def _judge(self, bucket: int, rate: float) -> None:
        while self._pending and self._pending[0].bucket <= bucket:
            due = self._pending.popleft()
            if due.bucket == bucket:
                self._errors.add(rate - due.forecast, rate - due.naive)


class _Errors:
    """Mean absolute errors that forget, of the forecast and of the naive one."""

    def __init__(self) -> None:
        self.seen = 0
        self.forecast = 0.0
        self.naive = 0.0
        self._signed: deque[float] = deque(maxlen=60)

    def add(self, forecast: float, naive: float) -> None:
        self.seen += 1
        weight = max(_NEWEST_ERROR, 1 / self.seen)
        self.forecast += weight * (abs(forecast) - self.forecast)
        self.naive += weight * (abs(naive) - self.naive)
        self._signed.append(forecast)

    def spread(self, quantile: float) -> float:
        """What arrivals exceeded the forecast by at a quantile of the last ten minutes; 0 before any."""
        if not self._signed:
            return 0.0
        ordered = sorted(self._signed)
        return max(0.0, ordered[min(len(ordered) - 1, floor(quantile * len(ordered)))])


def _slot_of(bucket: int) -> int:
    return int(bucket * BUCKET_S / SLOT_S) % SLOTS
