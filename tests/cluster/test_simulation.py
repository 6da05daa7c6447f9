"""The simulator against what is known without it: conservation, queueing theory, and itself step by step."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from cluster.simulation import PlacedReplica, Simulated, simulate
from cluster.simulation_engine import Grant, Load
from cluster.simulation_report import list_served, report_simulation
from cluster.simulation_requests import Arrival, draw_times, order_arrivals
from experts.fleet import Slo
from tests.cluster.simulated_replicas import build_replica, build_times

CORES = {"n-1": 64.0}


def draw_mixed(rate: float, seconds: float, seed: int = 0, domains: Sequence[str] = ("d",)) -> tuple[Arrival, ...]:
    """Poisson arrivals with lengths that differ."""
    random = np.random.default_rng(seed)
    arrivals = []
    for domain in domains:
        times = draw_times(rate, "poisson", seconds, random)
        arrivals += [Arrival(at, domain, int(random.integers(1, 400)), int(random.integers(1, 80))) for at in times]
    return order_arrivals(arrivals)


def run(arrivals: Sequence[Arrival], *replicas: PlacedReplica, cores: float = 64.0, seed: int = 0) -> Simulated:
    engines = dict.fromkeys({arrival.domain for arrival in arrivals}, replicas[0].settings.engine)
    return simulate(arrivals, replicas, engines, {"n-1": cores}, seed=seed)


def grant_all(node: str, now: float, loads: Sequence[Load]) -> list[Grant]:
    return [Grant(100_000, 2048) for _ in loads]


def test_every_arrival_is_answered_once_or_refused() -> None:
    arrivals = [*draw_mixed(20, 60), Arrival(30.0, "d", 4000, 97), Arrival(31.0, "d", 1, 1)]
    times = build_times(1e-4, 0.01, 1e-4)
    found = run(order_arrivals(arrivals), build_replica(times, kv_tokens=4096), build_replica(times, kv_tokens=4096))
    refused = [request for request in found.requests if request.refused]
    assert [request.arrival.output_tokens for request in refused] == [97]
    for request in found.requests:
        if request.refused:
            assert request.ended_at is None
            continue
        assert request.first_token_at is not None
        assert request.ended_at is not None
        assert request.arrival.at_s < request.first_token_at <= request.ended_at
    assert found.timeline[-1].at_s <= found.ended_at_s
    assert found.ended_at_s == max(request.ended_at or 0.0 for request in found.requests)


def test_same_seed_same_result_and_two_replicas_share_the_work() -> None:
    times = build_times(1e-4, 0.01)
    arrivals = draw_mixed(30, 30)
    replicas = [build_replica(times) for _ in range(3)]
    first, again, other = (run(arrivals, *replicas, seed=seed) for seed in (1, 1, 2))
    assert [request.ended_at for request in first.requests] == [request.ended_at for request in again.requests]
    assert [request.ended_at for request in first.requests] != [request.ended_at for request in other.requests]
    assert min(use.busy_s for use in first.uses) > 0.5 * max(use.busy_s for use in first.uses)


@pytest.mark.parametrize("load", [0.3, 0.9])
def test_one_sequence_at_a_time_waits_as_lindley_says(load: float) -> None:
    # Prefill of 100 tokens and 4 decode steps: 0.05 s each time.
    service_s = 0.05
    times = draw_times(load / service_s, "poisson", 300, np.random.default_rng(5))
    waits = measure_waits(times, service_s)
    expected = [0.0]
    for earlier, later in pairwise(times):
        expected.append(max(0.0, expected[-1] + service_s - (later - earlier)))
    assert waits == pytest.approx(expected, abs=1e-6)


def test_under_poisson_arrivals_that_is_an_m_d_1_queue() -> None:
    load, service_s = 0.5, 0.05
    waits = measure_waits(draw_times(load / service_s, "poisson", 3000, np.random.default_rng(1)), service_s)
    assert np.mean(waits) == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.05)


def measure_waits(times: Sequence[float], service_s: float) -> list[float]:
    replica = build_replica(build_times(1e-4, 0.01), max_num_seqs=1)
    found = run([Arrival(at, "d", 100, 5) for at in times], replica)
    return [one.latency_s - service_s for one in list_served(found)]


def test_a_lone_request_takes_its_prefill_and_its_steps() -> None:
    found = run([Arrival(1.0, "d", 300, 11)], build_replica(build_times(1e-4, 0.01)))
    (served,) = list_served(found)
    assert served.ttft_s == pytest.approx(0.03)
    assert served.tpot_s == pytest.approx(0.01)


def test_a_prompt_longer_than_a_step_is_computed_in_chunks_while_others_decode() -> None:
    replica = build_replica(build_times(1e-4, 0.01), step_tokens=101)
    found = run([Arrival(0.0, "d", 1, 1000), Arrival(0.5, "d", 1000, 1)], replica)
    long, prompt = list_served(found)
    # Ten chunks of 100 tokens, each in a step that also decodes: 10 × (10 ms + 10 ms), within one step of decode.
    assert prompt.ttft_s == pytest.approx(0.2, abs=0.011)
    assert long.latency_s == pytest.approx(999 * 0.01 + 1000 * 1e-4, rel=0.01)


def test_jumping_over_steps_gives_what_steps_one_by_one_give() -> None:
    arrivals = draw_mixed(15, 60)
    replica = build_replica(build_times(1e-4, 0.01, 1e-4), kv_tokens=100_000)
    jumped = run(arrivals, replica)
    stepped = simulate(arrivals, [replica], {"d": "e"}, CORES, grant_all)
    ends = [[request.ended_at for request in found.requests] for found in (jumped, stepped)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)


def test_sequences_that_outgrow_the_kv_cache_are_computed_again_and_still_end() -> None:
    times = build_times(1e-4, 0.01)
    arrivals = [Arrival(0.01 * k, "d", 100, 400) for k in range(8)]
    small, large = (run(arrivals, build_replica(times, kv_tokens=tokens)) for tokens in (1600, 16_000))
    assert sum(request.preempted for request in small.requests) > 0
    assert sum(request.preempted for request in large.requests) == 0
    assert all(request.ended_at is not None for request in small.requests)
    assert small.ended_at_s > large.ended_at_s
    # The oldest is never the one that gives way.
    assert small.requests[0].preempted == 0


def test_more_kv_cache_serves_no_less() -> None:
    arrivals = draw_mixed(60, 30)
    times = build_times(1e-5, 0.01, 1e-4)
    ended = [run(arrivals, build_replica(times, kv_tokens=tokens)).ended_at_s for tokens in (600, 1200, 2400, 9600)]
    assert all(more <= 1.01 * less for less, more in pairwise(ended))
    assert ended[-1] < 0.5 * ended[0]


def test_two_engines_on_one_core_take_turns_and_on_two_they_do_not_meet() -> None:
    times = build_times(1e-4, 0.01)
    arrivals = [Arrival(0.0, "a", 100, 101), Arrival(0.0, "b", 100, 101)]
    replicas = [build_replica(times, engine="a"), build_replica(times, engine="b")]
    ends = [simulate(arrivals, replicas, {"a": "a", "b": "b"}, {"n-1": cores}).ended_at_s for cores in (1.0, 2.0)]
    assert ends == pytest.approx([2 * 1.01, 1.01])


def test_a_report_counts_a_refused_request_as_a_missed_slo() -> None:
    arrivals = [Arrival(0.0, "d", 100, 11), Arrival(9.0, "d", 5000, 10), Arrival(10.0, "d", 100, 11)]
    replica = build_replica(build_times(1e-4, 0.01))
    found = run(arrivals, replica)
    report = report_simulation(found, [replica], {"d": Slo(ttft_s=0.1, tpot_s=0.02)})
    assert (report.total.arrived, report.total.answered, report.total.refused) == (3, 2, 1)
    assert report.total.slo_attainment == pytest.approx(2 / 3)
    assert report.domains["d"] == report.total
    assert report.core_hours == pytest.approx(found.ended_at_s / 3600)
    strict = report_simulation(found, [replica], {"d": Slo(ttft_s=0.1, tpot_s=0.001)})
    assert strict.total.slo_attainment == 0.0
    gpu = replace(replica, gpus=0.5, threads=0.0)
    assert report_simulation(found, [gpu], {"d": Slo()}).gpu_hours == pytest.approx(0.5 * found.ended_at_s / 3600)
