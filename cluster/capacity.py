"""How many requests per second a replica sustains while its SLO holds."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cluster.cost_model import Steps
from cluster.demand import Traffic
from cluster.profile import Floats
from experts.fleet import Slo

Limit = Literal["kv_cache", "sequences", "tpot", "ttft"]
LIMITS: tuple[Limit, ...] = ("kv_cache", "sequences", "tpot", "ttft")

# The 99th percentile of a normal distribution: a batch is Poisson distributed, and its tail is held to the SLO.
_TAIL = 2.33
_BATCHES = 64


@dataclass(frozen=True, slots=True)
class Capacity:
    """For each share: requests per second, 0 where the SLO cannot hold, and what forbids more (an index of LIMITS)."""

    requests_per_s: Floats
    limits: Floats


def compute_capacity(
    steps: Steps, shares: Floats, kv_room: Floats, max_num_seqs: int, traffic: Traffic, slo: Slo
) -> Capacity:
    """Capacity of one replica for each share; `kv_room` is in tokens.

    Continuous batching in equilibrium: a request costs its prefill alone and its part of `output_tokens` decode steps,
    so that B running sequences make B / (B × prefill + output × decode(B)) requests per second (MuxServe's estimate,
    arXiv 2404.02015, equation 3). Arrivals are Poisson, running sequences too, and at the 99th percentile of both the
    SLO holds: B + 2.33 √B sequences fit the KV cache and decode within the TPOT, prefills between them included; a
    prefill waits as in an M/D/1 queue (its tail taken as exponential) and for one step.
    """
    crowd = np.unique(np.geomspace(1, max_num_seqs, _BATCHES).round())
    rates, ttft_s, tpot_s = _observe_crowds(steps, shares, crowd, traffic)
    breaks = np.stack(
        [
            crowd[None, :] * traffic.tokens > kv_room[:, None],
            np.broadcast_to(crowd > steps.largest_batch, rates.shape),
            tpot_s > slo.tpot_s,
            ttft_s > slo.ttft_s,
        ]
    )
    held: NDArray[np.bool_] = ~np.logical_or.reduce(breaks, axis=0)
    # The first crowd that breaks the SLO ends it: what holds beyond that is chance of a profile's noise.
    first = np.where(held.all(axis=1), len(crowd), held.argmin(axis=1))
    rows = np.arange(len(shares))
    capacity = np.where(first > 0, rates[rows, np.maximum(first - 1, 0)], 0.0)
    broken = breaks[:, rows, np.minimum(first, len(crowd) - 1)].argmax(axis=0)
    return Capacity(capacity, np.where(first == len(crowd), LIMITS.index("sequences"), broken))


def compute_least_slo(steps: Steps, traffic: Traffic) -> Slo:
    """The strictest SLO that holds on whole GPUs, at the rate of one request at a time."""
    _, ttft_s, tpot_s = _observe_crowds(steps, np.ones(1), np.ones(1), traffic)
    return Slo.model_construct(ttft_s=float(ttft_s[0, 0]), tpot_s=float(tpot_s[0, 0]))


def _observe_crowds(steps: Steps, shares: Floats, crowd: Floats, traffic: Traffic) -> tuple[Floats, Floats, Floats]:
    """Requests per second, TTFT and TPOT, each (shares, crowd), where `crowd` sequences run at the 99th percentile."""
    mean = ((np.sqrt(_TAIL**2 + 4 * crowd) - _TAIL) / 2) ** 2
    context = traffic.prompt_tokens + traffic.output_tokens / 2
    prefill = steps.interpolate_prefill(shares, traffic.prompt_tokens)[:, None]
    decode = steps.interpolate_decode(shares, np.maximum(mean, 1.0), context)
    crowded = steps.interpolate_decode(shares, crowd, context)
    rates = mean / (mean * prefill + traffic.output_tokens * decode)
    busy = rates * prefill
    wait = prefill / (2 * (1 - busy)) * np.log(np.maximum(100 * busy, 1.0))
    return rates, wait + prefill + crowded, crowded / (1 - busy)
