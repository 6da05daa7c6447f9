"""The live decision on a shared node, in the simulator."""

from collections.abc import Sequence

import numpy as np

from cluster.simulation import PlacedReplica, Share, Simulated, simulate
from cluster.simulation_engine import Grant, Load
from cluster.simulation_requests import Arrival, draw_times, order_arrivals
from cluster.simulation_sharing import NodeSharing, SharedReplica
from experts.fleet import Slo
from tests.cluster.simulated_replicas import build_replica, build_times

TOKEN_BYTES = 1000
TOTAL_TOKENS = 4 * 2048
NAMES = ("a", "b", "c", "d")


def build_node(pool_tokens: int) -> list[PlacedReplica]:
    times = build_times(1e-6, 0.005, 1e-5)
    return [build_replica(times, pool_tokens, engine=name, block_tokens=32, max_model_len=1024) for name in NAMES]


def draw_skewed(rates: Sequence[float], seconds: float) -> tuple[Arrival, ...]:
    random = np.random.default_rng(11)
    arrivals = []
    for name, rate in zip(NAMES, rates, strict=True):
        times = draw_times(rate, "poisson", seconds, random)
        arrivals += [Arrival(at, name, int(random.integers(20, 800)), int(random.integers(5, 150))) for at in times]
    return order_arrivals(arrivals)


def run(arrivals: Sequence[Arrival], placed: Sequence[PlacedReplica], share: Share | None) -> Simulated:
    return simulate(arrivals, placed, {name: name for name in NAMES}, {"n-1": 2.0}, share)


def test_quotas_never_exceed_the_memory_and_serve_a_skewed_load_faster_than_equal_parts() -> None:
    arrivals = draw_skewed((60, 3, 2, 1), 2)
    shared = build_node(TOTAL_TOKENS)
    rows = [SharedReplica(one, TOKEN_BYTES, Slo(ttft_s=1.0, tpot_s=0.05)) for one in shared]
    sharing = NodeSharing(rows, {"n-1": 2.0}, TOTAL_TOKENS * TOKEN_BYTES)
    sums = []

    def observe(node: str, now: float, loads: Sequence[Load]) -> Sequence[Grant]:
        grants = sharing.share(node, now, loads)
        sums.append(sum(grant.kv_tokens for grant in grants))
        return grants

    quotas = run(arrivals, shared, observe)
    equal = run(arrivals, build_node(TOTAL_TOKENS // 4), None)
    assert max(sums) <= TOTAL_TOKENS
    assert all(request.ended_at is not None for request in quotas.requests)
    assert quotas.ended_at_s < 0.8 * equal.ended_at_s


def test_no_more_engines_step_at_once_than_the_node_has_cores() -> None:
    arrivals = [Arrival(0.0, name, 100, 101) for name in NAMES]
    rows = [SharedReplica(one, TOKEN_BYTES, Slo()) for one in build_node(TOTAL_TOKENS)]
    sharing = NodeSharing(rows, {"n-1": 2.0}, TOTAL_TOKENS * TOKEN_BYTES)
    found = run(arrivals, [one.placed for one in rows], sharing.share)
    work = sum(use.busy_s for use in found.uses)
    assert work / 2 <= found.ended_at_s + 1e-9
    assert found.ended_at_s < 1.05 * work / 2
