"""Four engines on one machine, shared in three ways, and the requests that they are given."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cluster.cost_model import GIB, Build, compute_memory
from cluster.model_shape import find_shape
from cluster.simulation_requests import Arrival, choose_weights, draw_times, load_trace, order_arrivals
from deployments.engine_arguments import plan_engine_arguments
from deployments.engine_sharing import EngineSharing
from deployments.timed_engine import EngineSetup, TimedAnswer, TimedEngine, TimedRequest
from experts.fleet import Engine

MODEL = str(Path(__file__).parents[1] / "experts/pocket/weights/base")
TRACE = Path(__file__).parents[2] / "shared/data/traces/azure_llm_2023_conv.csv"
DOMAINS = ("a", "b", "c", "d")
CONTEXT = 1024
BLOCK_TOKENS = 32
# Of the machine's KV memory, in all contenders: an equal share holds one sequence of full length or four of the
# trace's average one, so that memory and not only cores decides what an engine can do.
KV_BLOCKS = 160
MAX_SEQS = 64
# What a shared node's floors are set by; the SLO that is measured is a multiple of the latency alone.
TTFT_S, TPOT_S = 2.0, 0.05
ROUND_TIMEOUT_S = 300.0
# A round begins this long after it was sent, so that all engines have it.
LEAD_S = 0.3

Way = Literal["static", "ray", "guildhall"]
WAYS: Mapping[Way, str] = {
    "static": "an equal part of the KV memory each, and every engine pinned to one core, two engines to each",
    "ray": "an equal part of the KV memory each, one thread each (as Ray sets OMP_NUM_THREADS for a share of a CPU), "
    "cores as the operating system gives them",
    "guildhall": "quotas of one KV memory; cores by turn, more than one for a long step while others have no requests",
}


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of one request."""

    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One request with its answer; seconds count from its arrival."""

    arrival: Arrival
    ttft_s: float
    latency_s: float
    ended_at_s: float


def load_lengths(trace: Path) -> tuple[Length, ...]:
    """Lengths of a trace in proportion, so that 99 of 100 fit the context; the others are cut to fit it."""
    rows = load_trace(trace)
    factor = (CONTEXT - 1) / float(np.quantile([row.prompt_tokens + row.output_tokens for row in rows], 0.99))
    lengths = []
    for row in rows:
        output = min(CONTEXT // 2, max(1, round(row.output_tokens * factor)))
        prompt = min(CONTEXT - 1 - output, max(1, round(row.prompt_tokens * factor)))
        lengths.append(Length(prompt, output))
    return tuple(lengths)


def draw_requests(
    rates: Mapping[str, float], seconds: float, lengths: Sequence[Length], seed: int, begin_s: float = 0.0
) -> tuple[Arrival, ...]:
    """Poisson arrivals of each domain at its rate within `seconds` after `begin_s`, lengths drawn at random."""
    arrivals = []
    for place, (domain, rate) in enumerate(rates.items()):
        random = np.random.default_rng((seed, place))
        for at_s in draw_times(rate, "poisson", seconds, random):
            length = lengths[int(random.integers(len(lengths)))]
            arrivals.append(Arrival(begin_s + at_s, domain, length.prompt_tokens, length.output_tokens))
    return order_arrivals(arrivals)


def set_rates(total: float, alpha: float) -> dict[str, float]:
    """Requests per second by domain, by power law."""
    return {domain: total * weight for domain, weight in choose_weights(DOMAINS, alpha).items()}


def measure_block_bytes() -> int:
    """Bytes of one KV block of the pocket model."""
    engine = Engine(model=MODEL, dtype="bfloat16", max_model_len=CONTEXT)
    memory = compute_memory(Build.of(engine, find_shape(MODEL, {})), 1, 1)
    return round(memory.kv_gib_per_token * GIB) * BLOCK_TOKENS


def plan_setup(way: Way, place: int, kv_blocks: int, cpus: int, ledger: Path) -> EngineSetup:
    """How one of the engines is started; in all ways its model runs in the engine-core process."""
    engine = Engine(model=MODEL, dtype="bfloat16", max_model_len=CONTEXT, max_num_seqs=MAX_SEQS, cpus=cpus)
    arguments = plan_engine_arguments(engine)
    kwargs = arguments.engine_kwargs | {"block_size": BLOCK_TOKENS}
    env: dict[str, str | None] = dict(arguments.env_vars)
    total = kv_blocks * measure_block_bytes()
    if way == "guildhall":
        sharing = EngineSharing(str(ledger), DOMAINS[place], "cpu", total, cpus, TTFT_S, TPOT_S)
        kwargs |= sharing.to_engine_kwargs() | {"kv_cache_memory_bytes": total}
        return EngineSetup(MODEL, kwargs, env)
    kwargs["kv_cache_memory_bytes"] = total // len(DOMAINS)
    if way == "ray":
        # What Guildhall sets against spinning is not in Ray's guide.
        env |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": None, "KMP_BLOCKTIME": None}
        return EngineSetup(MODEL, kwargs, env)
    cores = sorted(os.sched_getaffinity(0))
    return EngineSetup(MODEL, kwargs, env, cores=(cores[place % len(cores)],))


@contextmanager
def running_engines(
    way: Way, ledger: Path, kv_blocks: int = KV_BLOCKS, cpus: int = 1
) -> Iterator[dict[str, TimedEngine]]:
    """The engines of one contender, with as many threads each, warm; they end with the block."""
    with ExitStack() as stack:
        engines = {
            domain: stack.enter_context(TimedEngine(plan_setup(way, place, kv_blocks, cpus, ledger)))
            for place, domain in enumerate(DOMAINS)
        }
        for engine in engines.values():
            engine.await_ready()
        warm = [Arrival(0.02 * k, domain, 200, 20) for k in range(8) for domain in DOMAINS]
        run_requests(engines, order_arrivals(warm))
        yield engines


def run_requests(engines: Mapping[str, TimedEngine], arrivals: Sequence[Arrival]) -> list[Answered]:
    """Give every engine its requests at their times and wait for all answers; in order of arrival."""
    begin_at = time.monotonic() + LEAD_S
    mine = {domain: [arrival for arrival in arrivals if arrival.domain == domain] for domain in engines}
    for domain, engine in engines.items():
        rows = [TimedRequest(one.at_s, one.prompt_tokens, one.output_tokens) for one in mine[domain]]
        engine.begin_round(rows, begin_at)
    answered = []
    for domain, engine in engines.items():
        answers = engine.end_round(ROUND_TIMEOUT_S)
        answered += [_join(arrival, answer) for arrival, answer in zip(mine[domain], answers, strict=True)]
    return sorted(answered, key=lambda one: one.arrival.at_s)


def _join(arrival: Arrival, answer: TimedAnswer) -> Answered:
    if len(answer.token_times_s) != arrival.output_tokens:
        raise RuntimeError(f"{len(answer.token_times_s)} tokens came where {arrival.output_tokens} were asked for")
    return Answered(arrival, answer.first_s - arrival.at_s, answer.end_s - arrival.at_s, answer.end_s)
