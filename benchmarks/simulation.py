"""The simulator beside the real thing: the same requests to real engines and to simulated ones.

First what `guildhall profile` measures of one engine is measured here, with the others idle, and what the process
beside the engine core takes. Then each case runs for real and simulated: one engine alone under several loads, four
engines that the operating system schedules, and four under Guildhall's quotas, each with fixed and skewed rates. The
error of a case is that of its throughput and of its median TTFT. `make bench-simulation`.
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
    MAX_SEQS,
    MODEL,
    TPOT_S,
    TRACE,
    TTFT_S,
    Answered,
    Length,
    Way,
    draw_requests,
    load_lengths,
    measure_block_bytes,
    run_requests,
    running_engines,
    set_rates,
)
from cluster.profile import MeasuredSteps, load_profile
from cluster.profile_rows import replace_rows
from cluster.simulation import PlacedReplica, Share, simulate
from cluster.simulation_engine import ReplicaSettings
from cluster.simulation_report import list_served
from cluster.simulation_requests import Arrival
from cluster.simulation_sharing import NodeSharing, SharedReplica
from cluster.step_times import StepTimes
from deployments.engine_profile import list_points, measure_points, write_row
from deployments.timed_engine import KvCache, TimedEngine, TimedRequest
from experts.fleet import Engine, Slo

STEP_TOKENS = 2048
CORES = 2.0
LIMIT = 0.10
# Requests per second in all; the pocket base with these lengths answers about 20 to 25 on one core.
ALONE_RATES = (4.0, 8.0, 12.0, 16.0, 40.0)
SHARED_CASES = ((8.0, 0.7), (12.0, 1.3), (12.0, 2.1), (40.0, 0.7), (40.0, 2.1))


@dataclass(frozen=True, slots=True)
class Measured:
    """What a simulation of these engines is made from."""

    times: StepTimes
    host_threads: float


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=12.0, help="how long requests arrive in each case")
    arguments.add_argument("--trace", type=Path, default=TRACE)
    options = arguments.parse_args()
    lengths = load_lengths(options.trace)
    cases: list[dict[str, Any]] = []
    measured: Measured | None = None
    ways: tuple[Way, ...] = ("ray", "guildhall")
    for way in ways:
        with tempfile.TemporaryDirectory() as folder, running_engines(way, Path(folder) / "node.ledger") as engines:
            if measured is None:
                measured = measure_engine(engines[DOMAINS[0]], lengths)
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
        "host_threads": measured.host_threads if measured is not None else None,
        "cases": cases,
        "mean_absolute_error": mean,
        "target": {"at_most": LIMIT, "reached": all(error <= LIMIT for error in mean.values())},
    }
    print(f"wrote {save_result('simulation', figures)}: mean error {mean} over {len(cases)} runs")


def measure_engine(engine: TimedEngine, lengths: Sequence[Length]) -> Measured:
    """The engine's profile as `guildhall profile` writes it, and what its other process takes under load."""
    settings = Engine(model=MODEL, dtype="bfloat16", max_model_len=CONTEXT, max_num_seqs=MAX_SEQS)
    points = list_points(settings, KvCache(KV_BLOCKS // len(DOMAINS), BLOCK_TOKENS))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile.csv"
        replace_rows(path, [write_row(settings, "cpu", *found) for found in measure_points(engine, points)])
        steps: MeasuredSteps = load_profile(path).steps[MODEL, "cpu", 1]
    random = np.random.default_rng(3)
    drawn = [lengths[int(place)] for place in random.integers(len(lengths), size=80)]
    engine.begin_round([TimedRequest(0.0, length.prompt_tokens, length.output_tokens) for length in drawn])
    begun = time.monotonic()
    found = engine.end_round(120)
    return Measured(StepTimes(steps, 1.0, CONTEXT), found.host_cpu_s / (time.monotonic() - begun))


def compare(
    name: str, way: Way, engines: Mapping[str, TimedEngine], arrivals: Sequence[Arrival], measured: Measured
) -> dict[str, Any]:
    """One case, for real and simulated."""
    real = summarize_answers(run_requests(engines, arrivals))
    simulated = simulate_case(way, arrivals, measured)
    error = {key: simulated[key] / real[key] - 1 for key in real}
    case = {"case": name, "requests": len(arrivals), "real": real, "simulated": simulated, "error": error}
    print(case, flush=True)
    return case


def simulate_case(way: Way, arrivals: Sequence[Arrival], measured: Measured) -> dict[str, float]:
    blocks = KV_BLOCKS if way == "guildhall" else KV_BLOCKS // len(DOMAINS)
    placed = [
        PlacedReplica(
            ReplicaSettings(domain, blocks * BLOCK_TOKENS, BLOCK_TOKENS, MAX_SEQS, STEP_TOKENS, CONTEXT),
            measured.times,
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
