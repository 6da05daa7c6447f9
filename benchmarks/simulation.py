"""The simulator beside the real thing: the same requests to real engines and to simulated ones.

First what `guildhall profile` measures of one engine is measured here, of one that is alone with all of the KV memory,
and how much longer four engines at once take for the same work. Then each case runs for real and simulated: one engine
alone under several loads, four engines that the operating system schedules, and four under Guildhall's quotas, each
with fixed and skewed rates. The error of a case is that of its throughput and of its median TTFT. Others share the
machine: before and after each case the same few requests are timed, and the simulated steps are as much slower as these
are. `make bench-simulation`.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result import save_result
from benchmarks.shared_node import (
    BLOCK_TOKENS,
    CONTEXT,
    DOMAINS,
    KV_BLOCKS,
    LEAD_S,
    MAX_SEQS,
    MODEL,
    ROUND_TIMEOUT_S,
    TPOT_S,
    TRACE,
    TTFT_S,
    Answered,
    Way,
    draw_requests,
    load_lengths,
    measure_block_bytes,
    plan_setup,
    run_requests,
    running_engines,
    set_rates,
)
from cluster.profile import load_profile
from cluster.profile_rows import replace_rows
from cluster.simulation import PlacedReplica, Share, simulate
from cluster.simulation_engine import ReplicaSettings
from cluster.simulation_report import list_served
from cluster.simulation_requests import Arrival
from cluster.simulation_sharing import NodeSharing, SharedReplica
from cluster.step_times import StepTimes
from deployments.engine_profile import Point, list_points, measure_points, write_row
from deployments.timed_engine import KvCache, TimedEngine, TimedRequest
from experts.fleet import Engine, Slo

STEP_TOKENS = 2048
CORES = 2.0
LIMIT = 0.10
# Requests that tell how fast the machine is now; together they fit an equal share of the KV memory.
REFERENCE = (TimedRequest(0.0, 60, 60),) * 8
REFERENCE_ROUNDS = 4
# Requests per second in all; the pocket base with these lengths answers about 20 to 25 on one core.
ALONE_RATES = (4.0, 8.0, 12.0, 16.0, 40.0)
SHARED_CASES = ((8.0, 0.7), (12.0, 1.3), (12.0, 2.1), (40.0, 0.7), (40.0, 2.1))


ENGINE = Engine(model=MODEL, dtype="bfloat16", max_model_len=CONTEXT, max_num_seqs=MAX_SEQS)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a simulation of these engines is made from; `reference_s` is of when the points were measured.

    `host_threads` is what an engine takes beside its own thread where cores are short: of its process beside the engine
    core, and of what busy cores take from each other.
    """

    points: Sequence[tuple[Point, float | None, float]]
    reference_s: float
    host_threads: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=12.0, help="how long requests arrive in each case")
    arguments.add_argument("--trace", type=Path, default=TRACE)
    options = arguments.parse_args()
    lengths = load_lengths(options.trace)
    cases: list[dict[str, Any]] = []
    points, reference_s = measure_alone()
    ways: tuple[Way, ...] = ("ray", "guildhall")
    for way in ways:
        with tempfile.TemporaryDirectory() as folder, running_engines(way, Path(folder) / "node.ledger") as engines:
            if way == "ray":
                crowded = time_reference(list(engines.values())) / time_reference([engines[DOMAINS[0]]])
                measured = Measured(points, reference_s, max(0.0, CORES * crowded / len(engines) - 1))
                for place, rate in enumerate(ALONE_RATES):
                    arrivals = draw_requests({DOMAINS[0]: rate}, options.seconds, lengths, place)
                    cases.append(compare(f"one engine, {rate:g}/s", way, engines, arrivals, measured))
            for place, (rate, alpha) in enumerate(SHARED_CASES):
                arrivals = draw_requests(set_rates(rate, alpha), options.seconds, lengths, 50 + place)
                cases.append(compare(f"four engines, {way}, {rate:g}/s, α {alpha:g}", way, engines, arrivals, measured))
    errors = {key: [case["error"][key] for case in cases] for key in ("requests_per_s", "ttft_p50_s")}
    mean = {key: float(np.mean(np.abs(found))) for key, found in errors.items()}
    figures = {
        "arguments": f"--seconds {options.seconds:g}",
        "host_threads": measured.host_threads,
        "cases": cases,
        "mean_absolute_error": mean,
        "target": {"at_most": LIMIT, "reached": all(error <= LIMIT for error in mean.values())},
    }
    print(f"wrote {save_result('simulation', figures)}: mean error {mean} over {len(cases)} runs")


def measure_alone() -> tuple[list[tuple[Point, float | None, float]], float]:
    """Steps of one engine as `guildhall profile` measures them, with all of the KV memory, and its reference."""
    points = list_points(ENGINE, KvCache(KV_BLOCKS, BLOCK_TOKENS))
    with TimedEngine(plan_setup("ray", 0, len(DOMAINS) * KV_BLOCKS, 1, Path("unused"))) as engine:
        engine.await_ready()
        return list(measure_points(engine, points)), time_reference([engine])


def load_times(measured: Measured, pace: float) -> StepTimes:
    """The profile of an engine whose steps take `pace` times as long as measured."""
    rows = [
        write_row(ENGINE, "cpu", point, None if prefill_ms is None else pace * prefill_ms, pace * decode_ms)
        for point, prefill_ms, decode_ms in measured.points
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.csv"
        replace_rows(path, rows)
        return StepTimes(load_profile(path).steps[MODEL, "cpu", 1], 1.0, CONTEXT)


def time_reference(engines: Sequence[TimedEngine]) -> float:
    """Seconds that the reference takes, on average, in engines that all have it at once."""
    ends = []
    for _ in range(REFERENCE_ROUNDS):
        begin_at = time.monotonic() + LEAD_S
        for engine in engines:
            engine.begin_round(REFERENCE, begin_at)
        ends += [max(answer.end_s for answer in engine.end_round(ROUND_TIMEOUT_S)) for engine in engines]
    return float(np.mean(ends))


def compare(
    name: str, way: Way, engines: Mapping[str, TimedEngine], arrivals: Sequence[Arrival], measured: Measured
) -> dict[str, Any]:
    """One case, for real and simulated."""
    first = [engines[DOMAINS[0]]]
    references = [time_reference(first)]
    real = summarize_answers(run_requests(engines, arrivals))
    references.append(time_reference(first))
    pace = float(np.mean(references)) / measured.reference_s
    simulated = simulate_case(way, arrivals, measured, pace)
    error = {key: simulated[key] / real[key] - 1 for key in real}
    case = {
        "case": name,
        "requests": len(arrivals),
        "pace": pace,
        "real": real,
        "simulated": simulated,
        "error": error,
    }
    print(case, flush=True)
    return case


def simulate_case(way: Way, arrivals: Sequence[Arrival], measured: Measured, pace: float) -> dict[str, float]:
    blocks = KV_BLOCKS if way == "guildhall" else KV_BLOCKS // len(DOMAINS)
    times = load_times(measured, pace)
    placed = [
        PlacedReplica(
            ReplicaSettings(domain, blocks * BLOCK_TOKENS, BLOCK_TOKENS, MAX_SEQS, STEP_TOKENS, CONTEXT),
            times,
            "node-1",
            1.0,
            0.0,
            measured.host_threads,
        )
        for domain in DOMAINS
    ]
    share: Share | None = None
    if way == "guildhall":
        total = KV_BLOCKS * measure_block_bytes()
        slo = Slo(ttft_s=TTFT_S, tpot_s=TPOT_S)
        rows = [SharedReplica(one, measure_block_bytes() / BLOCK_TOKENS, slo) for one in placed]
        share = NodeSharing(rows, {"node-1": CORES}, total).share
    found = simulate(arrivals, placed, {domain: domain for domain in DOMAINS}, {"node-1": CORES}, share)
    served = list_served(found)
    return {
        "requests_per_s": len(served) / found.ended_at_s,
        "ttft_p50_s": float(np.quantile([one.ttft_s for one in served], 0.5)),
    }


def summarize_answers(answered: Sequence[Answered]) -> dict[str, float]:
    return {
        "requests_per_s": len(answered) / max(one.ended_at_s for one in answered),
        "ttft_p50_s": float(np.quantile([one.ttft_s for one in answered], 0.5)),
    }


if __name__ == "__main__":
    main()
