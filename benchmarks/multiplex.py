"""Several experts on one machine: Guildhall's quotas and turns beside a static partition and plain sharing.

Four engines with the pocket base, each its own vLLM engine, on the machine's cores with little KV
memory. Requests are Poisson by domain, popularity by power law with skew α, lengths from Azure's trace of
conversations, scaled to the context. All contenders get the same requests, one after another in every round; the
engines of those that wait take no step. For each α two rounds: an overload, in which all requests come in half the time
that the machine needs for them, gives the throughput; a load of 60 % gives the SLO attainment, where a request's SLO is
a multiple of the latency that it has alone. Then the domains are asked evenly, and
one of them ten times as much for a while. `make bench-multiplex`, or
`python -m benchmarks.multiplex --alphas 2.1 --seconds 10`.
"""

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.result import RESULTS, save_result
from benchmarks.shared_node import (
    CONTEXT,
    DOMAINS,
    KV_BLOCKS,
    TRACE,
    WAYS,
    Answered,
    Length,
    Way,
    draw_requests,
    load_lengths,
    run_requests,
    running_engines,
    set_rates,
)
from cluster.simulation_requests import Arrival, order_arrivals
from deployments.node_share import count_cores
from deployments.timed_engine import TimedEngine

ALPHAS = (0.7, 0.9, 1.3, 1.7, 2.1)
SCALES = (2, 5, 8, 10)
# Of what the static partition answers per second when all four are asked evenly and have enough to do.
OVERLOAD, MODERATE, CALM = 2.0, 0.6, 0.25
PROBE_REQUESTS = 30
ALONE_REPEATS = 3
SPIKE_REPEATS = 2
SPIKE = 10.0
THROUGHPUT_TARGETS = {0.7: 1.0, 1.3: 1.3, 2.1: 1.8}
ATTAINMENT_SLACK = 0.01
SPIKE_TARGET = 1.25


@dataclass(frozen=True, slots=True)
class Alone:
    """The latency of a request that has the machine to itself: a line in its tokens, fitted to measured ones."""

    fixed_s: float
    prompt_token_s: float
    output_token_s: float

    def measure(self, arrival: Arrival) -> float:
        return self.fixed_s + self.prompt_token_s * arrival.prompt_tokens + self.output_token_s * arrival.output_tokens


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--alphas", type=float, nargs="+", default=ALPHAS)
    arguments.add_argument("--seconds", type=float, default=12.0, help="how long requests arrive in each round")
    arguments.add_argument("--trace", type=Path, default=TRACE)
    options = arguments.parse_args()
    lengths = load_lengths(options.trace)
    started = time.monotonic()
    with ExitStack() as stack:
        engines: dict[Way, dict[str, TimedEngine]] = {}
        for way in WAYS:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            cpus = count_cores() if way == "guildhall" else 1
            engines[way] = stack.enter_context(running_engines(way, folder / "node.ledger", cpus=cpus))
        alone = measure_alone(engines["static"])
        capacity = measure_capacity(engines["static"], lengths)
        print(f"alone {alone}, capacity {capacity:.1f} requests/s", flush=True)
        # Kernels are made for each size of a step when it comes first.
        for own in engines.values():
            run_requests(own, draw_requests(set_rates(OVERLOAD * capacity, 0.0), options.seconds / 2, lengths, 99))
        contenders = measure_contenders(engines, options.alphas, options.seconds, capacity, alone, lengths)
    figures = {
        "arguments": f"--alphas {' '.join(map(str, options.alphas))} --seconds {options.seconds:g}",
        "setting": {
            "engines": len(DOMAINS),
            "context_tokens": CONTEXT,
            "kv_blocks": KV_BLOCKS,
            "mean_prompt_tokens": float(np.mean([length.prompt_tokens for length in lengths])),
            "mean_output_tokens": float(np.mean([length.output_tokens for length in lengths])),
            "capacity_requests_per_s": capacity,
            "overload": OVERLOAD,
            "moderate": MODERATE,
            "alone": {
                "fixed_s": alone.fixed_s,
                "prompt_token_s": alone.prompt_token_s,
                "output_token_s": alone.output_token_s,
            },
        },
        "contenders": {way: {"how": WAYS[way], **found} for way, found in contenders.items()},
        "targets": judge(contenders, options.alphas),
        "seconds": time.monotonic() - started,
    }
    path = save_result("multiplex", figures)
    draw(contenders, options.alphas, RESULTS / "multiplex.png")
    print(f"wrote {path}: {figures['targets']}")


def measure_alone(engines: Mapping[str, TimedEngine]) -> Alone:
    """One request at a time, of lengths over the whole context."""
    rows, seconds = [], []
    for prompt in (32, 128, 256, 512, 900):
        for output in (2, 32, 96):
            times = []
            for _ in range(ALONE_REPEATS):
                answered = run_requests(engines, [Arrival(0.0, DOMAINS[0], prompt, output)])
                times.append(answered[0].latency_s)
            rows.append((1.0, prompt, output))
            seconds.append(median(times))
    # Weighted by the inverse of the time, so that short requests count as much as long ones.
    weights = 1 / np.array(seconds)
    found, *_ = np.linalg.lstsq(np.array(rows) * weights[:, None], np.ones(len(rows)), rcond=None)
    return Alone(*(float(value) for value in found))


def measure_capacity(engines: Mapping[str, TimedEngine], lengths: Sequence[Length]) -> float:
    """Requests per second where all engines have the same and enough to do."""
    random = np.random.default_rng(1)
    arrivals = [
        Arrival(0.0, domain, length.prompt_tokens, length.output_tokens)
        for domain in DOMAINS
        for length in (lengths[int(k)] for k in random.integers(len(lengths), size=PROBE_REQUESTS))
    ]
    answered = run_requests(engines, order_arrivals(arrivals))
    return len(answered) / max(one.ended_at_s for one in answered)


def measure_contenders(
    engines: Mapping[Way, Mapping[str, TimedEngine]],
    alphas: Sequence[float],
    seconds: float,
    capacity: float,
    alone: Alone,
    lengths: Sequence[Length],
) -> dict[Way, dict[str, Any]]:
    """Every round of every contender."""
    found: dict[Way, dict[str, Any]] = {way: {"cells": []} for way in engines}
    for place, alpha in enumerate(alphas):
        crowd = draw_requests(set_rates(OVERLOAD * capacity, alpha), seconds / 2, lengths, 2 * place)
        moderate = draw_requests(set_rates(MODERATE * capacity, alpha), seconds, lengths, 2 * place + 1)
        over = {way: run_requests(own, crowd) for way, own in engines.items()}
        calm = {way: run_requests(own, moderate) for way, own in engines.items()}
        for way in engines:
            cell = {"alpha": alpha, **describe_throughput(over[way]), **describe_attainment(calm[way], alone)}
            found[way]["cells"].append(cell)
            print(way, cell, flush=True)
    for way, spike in measure_spike(engines, seconds, capacity, lengths).items():
        found[way]["spike"] = spike
        print(way, spike, flush=True)
    return found


def describe_throughput(answered: Sequence[Answered]) -> dict[str, Any]:
    """Of an overload, from its first request to its last answer."""
    ended_at_s = max(one.ended_at_s for one in answered)
    return {
        "overload_requests": len(answered),
        "requests_per_s": len(answered) / ended_at_s,
        "output_tokens_per_s": sum(one.arrival.output_tokens for one in answered) / ended_at_s,
    }


def describe_attainment(answered: Sequence[Answered], alone: Alone) -> dict[str, Any]:
    """SLO attainment at every scale, of all and by domain."""
    domains = {domain: [one for one in answered if one.arrival.domain == domain] for domain in DOMAINS}
    return {
        "moderate_requests": len(answered),
        "slo_attainment": {str(scale): measure_attainment(answered, alone, scale) for scale in SCALES},
        "slo_attainment_by_domain": {
            domain: {str(scale): measure_attainment(own, alone, scale) for scale in SCALES}
            for domain, own in domains.items()
        },
        "ttft_s": {
            "p50": quantile([one.ttft_s for one in answered], 0.5),
            "p99": quantile([one.ttft_s for one in answered], 0.99),
        },
    }


def measure_spike(
    engines: Mapping[Way, Mapping[str, TimedEngine]], seconds: float, capacity: float, lengths: Sequence[Length]
) -> dict[Way, dict[str, Any]]:
    """The p99 TTFT of all domains but the first, calm and while the first is asked ten times as much for a third."""
    rates = set_rates(CALM * capacity, 0.0)
    more = {DOMAINS[0]: (SPIKE - 1) * rates[DOMAINS[0]]}
    ttfts: dict[Way, dict[str, list[float]]] = {way: {"calm": [], "spike": []} for way in engines}
    for repeat in range(SPIKE_REPEATS):
        calm = draw_requests(rates, 2 * seconds, lengths, 100 + 2 * repeat)
        extra = draw_requests(more, 2 * seconds / 3, lengths, 101 + 2 * repeat, begin_s=2 * seconds / 3)
        for name, arrivals in (("calm", calm), ("spike", order_arrivals([*calm, *extra]))):
            for way, own in engines.items():
                answered = run_requests(own, arrivals)
                ttfts[way][name] += [one.ttft_s for one in answered if one.arrival.domain != DOMAINS[0]]
    return {
        way: {
            **{
                name: {
                    "others_requests": len(values),
                    "others_ttft_p50_s": quantile(values, 0.5),
                    "others_ttft_p99_s": quantile(values, 0.99),
                }
                for name, values in of.items()
            },
            "growth_of_p99": quantile(of["spike"], 0.99) / quantile(of["calm"], 0.99),
        }
        for way, of in ttfts.items()
    }


def measure_attainment(answered: Sequence[Answered], alone: Alone, scale: float) -> float | None:
    """Share of the requests whose latency is within `scale` times the one alone."""
    if not answered:
        return None
    return sum(one.latency_s <= scale * alone.measure(one.arrival) for one in answered) / len(answered)


def judge(contenders: Mapping[Way, Mapping[str, Any]], alphas: Sequence[float]) -> dict[str, Any]:
    """Where Guildhall stands beside the others."""
    ratios, worst = {}, {}
    for place, alpha in enumerate(alphas):
        ours = contenders["guildhall"]["cells"][place]
        others = [contenders[way]["cells"][place] for way in WAYS if way != "guildhall"]
        static = contenders["static"]["cells"][place]
        ratios[str(alpha)] = {
            "to_static": ours["requests_per_s"] / static["requests_per_s"],
            "to_the_better": ours["requests_per_s"] / max(other["requests_per_s"] for other in others),
            "at_least": THROUGHPUT_TARGETS.get(alpha),
        }
        worst[str(alpha)] = {
            str(scale): ours["slo_attainment"][str(scale)]
            - max(other["slo_attainment"][str(scale)] for other in others)
            for scale in SCALES
        }
    growth = contenders["guildhall"]["spike"]["growth_of_p99"]
    return {
        "throughput": ratios,
        "throughput_reached": all(
            ratio["at_least"] is None or ratio["to_static"] >= ratio["at_least"] for ratio in ratios.values()
        ),
        "slo_attainment_above_the_better": worst,
        "slo_attainment_reached": all(gap >= -ATTAINMENT_SLACK for gaps in worst.values() for gap in gaps.values()),
        "spike": {"growth_of_p99": growth, "at_most": SPIKE_TARGET, "reached": growth <= SPIKE_TARGET},
    }


def quantile(values: Sequence[float], at: float) -> float:
    return float(np.quantile(values, at))


def draw(contenders: Mapping[Way, Mapping[str, Any]], alphas: Sequence[float], path: Path) -> None:
    """Throughput over α, and SLO attainment over α at each scale."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 1 + len(SCALES), figsize=(16, 3.6), layout="constrained")
    for way, found in contenders.items():
        cells = found["cells"]
        axes[0].plot(alphas, [cell["requests_per_s"] for cell in cells], marker="o", label=way)
        for axis, scale in zip(axes[1:], SCALES, strict=True):
            axis.plot(alphas, [100 * cell["slo_attainment"][str(scale)] for cell in cells], marker="o")
            axis.set_title(f"in SLO at {scale} × alone, %")
            axis.set_ylim(0, 102)
    axes[0].set_title("requests per second, overload")
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    for axis in axes:
        axis.set_xlabel("skew α")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
