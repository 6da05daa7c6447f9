"""A day of questions for eight domains: the two hours of Azure's LLM traces, over the day as people sleep and work.

The traces (Azure Public Dataset, AzureLLMInferenceDataset2023, two services, one hour each) give token counts and how
arrivals come in bursts; an hour has no day, so the shape of the day, the launches and the spikes are made up here.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.simulation_requests import load_trace as read_trace

Floats = NDArray[np.float64]
DAY_S = 86_400
BURST_S = 10


@dataclass(frozen=True, slots=True)
class Bump:
    """Arrivals times `factor` from `start_s` of the day for `length_s`; `known` ones stand in a calendar."""

    start_s: int
    length_s: int
    factor: float
    known: bool = False


@dataclass(frozen=True, slots=True)
class DomainTraffic:
    """One domain: mean rate at the peak hour, when that is, how much is left at night, which trace, what happens."""

    name: str
    trace: str
    peak_rate: float
    peak_hour: float
    night: float
    bumps: tuple[Bump, ...] = ()


def _at(hour: float) -> int:
    return int(hour * 3600)


# Rates such that the eight need about half of 200 replicas at the busiest hour. Ten-fold spikes come to small domains;
# large ones jump less, or when it is known.
DOMAINS = (
    DomainTraffic("support", "conv", 60.0, 14, 0.15, (Bump(_at(11.2), 900, 2.5),)),
    DomainTraffic("shopping", "conv", 50.0, 20, 0.10, (Bump(_at(20.0), 3600, 3.0, known=True),)),
    DomainTraffic("finance", "conv", 30.0, 15, 0.05, (Bump(_at(15.5), 5400, 4.0, known=True),)),
    DomainTraffic("health", "conv", 25.0, 11, 0.20),
    DomainTraffic("law", "conv", 8.0, 15, 0.03, (Bump(_at(9.7), 300, 10.0),)),
    DomainTraffic("coding", "code", 120.0, 15, 0.20, (Bump(_at(16.9), 900, 2.0),)),
    DomainTraffic("testing", "code", 60.0, 3, 0.30),
    DomainTraffic("reviews", "code", 10.0, 16, 0.05, (Bump(_at(13.4), 300, 10.0),)),
)


@dataclass(frozen=True, slots=True)
class Trace:
    """An hour: arrivals of each 10 s over their mean, mean arrivals per second, and mean tokens."""

    bursts: Floats
    rate: float
    prompt_tokens: float
    output_tokens: float


@cache
def load_trace(folder: Path, name: str) -> Trace:
    """Read `azure_llm_2023_<name>.csv`."""
    rows = read_trace(folder / f"azure_llm_2023_{name}.csv")
    counts = np.bincount([int(row.at_s // BURST_S) for row in rows])[:-1]
    return Trace(
        counts / counts.mean(),
        float(counts.mean()) / BURST_S,
        float(np.mean([row.prompt_tokens for row in rows])),
        float(np.mean([row.output_tokens for row in rows])),
    )


def draw_day(domain: DomainTraffic, trace: Trace, seed: int, *, bumps: bool = True) -> Floats:
    """Arrivals in each second of a day."""
    random = np.random.default_rng([seed, *domain.name.encode()])
    second = np.arange(DAY_S)
    # A cosine, narrowed: most of a day's questions come in its working hours.
    swing = (0.5 + 0.5 * np.cos(2 * np.pi * (second / 3600 - domain.peak_hour) / 24)) ** 1.5
    # As many services like the traced one as it takes for the rate, each at its own minute of the hour.
    services = max(1, round(domain.peak_rate / trace.rate))
    shifted = [np.roll(trace.bursts, random.integers(len(trace.bursts))) for _ in range(services)]
    hour = np.repeat(np.mean(shifted, axis=0), BURST_S)
    rate = domain.peak_rate * (domain.night + (1 - domain.night) * swing) * np.resize(hour, DAY_S)
    for bump in domain.bumps:
        if bumps or bump.known:
            rate[bump.start_s : bump.start_s + bump.length_s] *= bump.factor
    return random.poisson(rate).astype(float)
