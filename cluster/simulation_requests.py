"""The requests of a simulation: drawn from rates, or read from a trace of arrivals and lengths."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np

from cluster.demand import Demand
from experts.errors import ConfigurationError

# The columns of Azure's public traces of LLM inference (P. Patel et al., "Splitwise", ISCA 2024).
TRACE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
Process = Literal["poisson", "bursty"]
# Bursty gaps are gamma distributed with this coefficient of variation; a Poisson process has 1. The gaps of Azure's
# traces of 2023 have 1.1 (conversations) and 13 (code); AlpaServe (OSDI 2023) takes 4 for its bursty workloads.
BURSTINESS = 4.0


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace; `at_s` counts from its first one."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One sub-query: when, of which domain, how long its prompt and its answer are."""

    at_s: float
    domain: str
    prompt_tokens: int
    output_tokens: int


def load_trace(path: Path) -> tuple[TraceRow, ...]:
    """The requests of a trace CSV in order of time; raises ConfigurationError with the line that is wrong."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_read_rows(csv.DictReader(file), path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read ({error}); name a trace CSV") from error
    if not rows:
        raise ConfigurationError(f"{path}: no request stands in it; name a trace with at least one")
    rows.sort(key=lambda row: row.at_s)
    return tuple(TraceRow(row.at_s - rows[0].at_s, row.prompt_tokens, row.output_tokens) for row in rows)


def _read_rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[TraceRow]:
    if not set(TRACE_COLUMNS) <= set(reader.fieldnames or ()):
        found = ",".join(reader.fieldnames or ("nothing",))
        raise ConfigurationError(f"{path}: line 1 is {found}; a trace has the columns {','.join(TRACE_COLUMNS)}")
    for row in reader:
        try:
            prompt, output = int(row["ContextTokens"]), int(row["GeneratedTokens"])
            # Seven digits after the point, of which Python reads six.
            at = datetime.fromisoformat(row["TIMESTAMP"][:26]).timestamp()
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}: line {reader.line_num} is no request ({error}); mend it") from error
        if prompt > 0 and output > 0:
            yield TraceRow(at, prompt, output)


def scale_lengths(rows: Sequence[TraceRow], context_tokens: int) -> tuple[TraceRow, ...]:
    """The rows with lengths in proportion, so that the longest fits a context; as they are where it does already."""
    longest = max(row.prompt_tokens + row.output_tokens for row in rows)
    if longest <= context_tokens:
        return tuple(rows)
    factor = context_tokens / longest
    return tuple(
        TraceRow(row.at_s, max(1, int(row.prompt_tokens * factor)), max(1, int(row.output_tokens * factor)))
        for row in rows
    )


def choose_weights(domains: Sequence[str], skew: float) -> dict[str, float]:
    """Shares of traffic by power law: the k-th domain has one in proportion to k to the power of -skew."""
    weights = [place**-skew for place in range(1, len(domains) + 1)]
    return {domain: weight / sum(weights) for domain, weight in zip(domains, weights, strict=True)}


def deal_trace(rows: Sequence[TraceRow], weights: Mapping[str, float], seed: int) -> tuple[Arrival, ...]:
    """The trace with each request given to a domain at random, by weight."""
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    chosen = np.random.default_rng(seed).choice(len(names), len(rows), p=shares / shares.sum())
    return tuple(
        Arrival(row.at_s, names[place], row.prompt_tokens, row.output_tokens)
        for row, place in zip(rows, chosen, strict=True)
    )


def draw_arrivals(demand: Demand, process: Process, seconds: float, seed: int) -> tuple[Arrival, ...]:
    """Arrivals at the rates of a demand for a time, in order; every length is its domain's average."""
    arrivals: list[Arrival] = []
    for place, (domain, traffic) in enumerate(demand.domains.items()):
        # A stream of its own for each domain: one that is added changes no other.
        random = np.random.default_rng((seed, place))
        times = draw_times(traffic.requests_per_s, process, seconds, random)
        arrivals += [Arrival(at_s, domain, traffic.prompt_tokens, traffic.output_tokens) for at_s in times]
    return order_arrivals(arrivals)


def draw_times(rate: float, process: Process, seconds: float, random: np.random.Generator) -> tuple[float, ...]:
    """Times of arrival within `seconds`, ascending: Poisson, or bursty with gamma distributed gaps."""
    if not rate:
        return ()
    shape = 1.0 if process == "poisson" else BURSTINESS**-2
    times: list[float] = []
    # Begins earlier: a renewal process has an arrival at its beginning, which would be a burst at zero.
    now = -100 / rate
    while True:
        gaps = random.gamma(shape, 1 / (rate * shape), max(16, int(rate * seconds / 4)))
        steps = now + np.cumsum(gaps)
        times += steps[(steps >= 0) & (steps < seconds)].tolist()
        now = float(steps[-1])
        if now >= seconds:
            return tuple(times)


def order_arrivals(arrivals: Iterable[Arrival]) -> tuple[Arrival, ...]:
    """Arrivals by time; equal times by domain."""
    return tuple(sorted(arrivals, key=lambda arrival: (arrival.at_s, arrival.domain)))
