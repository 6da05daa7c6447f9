"""Arrivals that are drawn or read."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cluster.demand import Demand
from cluster.simulation_requests import (
    BURSTINESS,
    choose_weights,
    deal_trace,
    draw_arrivals,
    draw_times,
    load_trace,
    scale_lengths,
)
from experts.errors import ConfigurationError

TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:51.2224670,1879,55
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_a_trace_begins_at_zero_and_is_in_order(tmp_path: Path) -> None:
    rows = load_trace(write(tmp_path, TRACE))
    assert [row.prompt_tokens for row in rows] == [374, 396, 1879]
    assert [row.at_s for row in rows] == pytest.approx([0.0, 4.314579, 4.541877])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "line 1 is a,b"),
        (TRACE.replace("396", "many"), "line 2 is no request"),
        (TRACE.splitlines()[0] + "\n", "no request stands in it"),
    ],
)
def test_a_wrong_trace_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        load_trace(write(tmp_path, text))


def test_lengths_are_scaled_only_where_they_do_not_fit(tmp_path: Path) -> None:
    rows = load_trace(write(tmp_path, TRACE))
    assert scale_lengths(rows, 4096) == rows
    scaled = scale_lengths(rows, 967)
    assert max(row.prompt_tokens + row.output_tokens for row in scaled) <= 967
    assert scaled[0].prompt_tokens == 374 // 2


def test_a_power_law_is_as_steep_as_its_exponent(tmp_path: Path) -> None:
    weights = choose_weights(["a", "b", "c"], 2.0)
    assert weights["a"] / weights["b"] == pytest.approx(4)
    assert weights["a"] / weights["c"] == pytest.approx(9)
    assert sum(weights.values()) == pytest.approx(1)
    rows = load_trace(write(tmp_path, TRACE)) * 1000
    dealt = Counter(arrival.domain for arrival in deal_trace(rows, weights, 1))
    assert dealt["a"] / dealt["b"] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize(("process", "spread"), [("poisson", 1.0), ("bursty", BURSTINESS)])
def test_arrivals_come_at_their_rate_as_regularly_as_asked(process: str, spread: float) -> None:
    times = draw_times(50.0, process, 4000, np.random.default_rng(3))  # type: ignore[arg-type]
    gaps = np.diff(times)
    assert len(times) == pytest.approx(50 * 4000, rel=0.05)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(spread, rel=0.05)
    assert times[0] >= 0
    assert times[-1] < 4000


def test_a_domain_more_changes_no_other_ones_arrivals() -> None:
    def draw(*domains: str) -> list[float]:
        traffic = {"requests_per_s": 3, "prompt_tokens": 10, "output_tokens": 5}
        demand = Demand.model_validate({"domains": dict.fromkeys(domains, traffic)})
        return [arrival.at_s for arrival in draw_arrivals(demand, "poisson", 60, 7) if arrival.domain == "first"]

    assert draw("first") == draw("first", "second")
    assert draw("first")
