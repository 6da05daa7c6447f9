"""Measured step times: read, interpolated, and taken instead of the roofline."""

from pathlib import Path

import numpy as np
import pytest

from cluster.candidates import list_task
from cluster.profile import COLUMNS, Profile, load_profile
from experts.errors import ConfigurationError
from tests.cluster.planner_tasks import SEVEN_B, build_demand, build_fleet

HEADER = ",".join(COLUMNS)
ROWS = [
    f"{SEVEN_B},H100,1,50,1,100,20,10",
    f"{SEVEN_B},H100,1,50,1,300,40,12",
    f"{SEVEN_B},H100,1,50,9,100,,18",
    f"{SEVEN_B},H100,1,100,1,100,10,8",
    f"{SEVEN_B},H100,1,100,1,300,20,-1",
    f"{SEVEN_B},H100,1,100,9,100,,12",
]


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "profile.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_times_are_interpolated_between_what_was_measured_and_go_on_beyond_it(tmp_path: Path) -> None:
    steps = load_profile(write(tmp_path, *ROWS)).steps[SEVEN_B, "H100", 1]
    shares = np.array([0.25, 0.5, 0.75, 1.0])
    # Half-way between tokens and shares; below the smallest share in proportion; beyond the longest with its slope.
    assert steps.interpolate_prefill(shares, 200) == pytest.approx([0.060, 0.030, 0.0225, 0.015])
    assert steps.interpolate_prefill(np.array([0.5]), 500) == pytest.approx([0.060])
    decode = steps.interpolate_decode(np.array([0.5, 1.0]), np.array([1.0, 5.0, 9.0]), 100)
    assert decode == pytest.approx(np.array([[0.010, 0.014, 0.018], [0.008, 0.010, 0.012]]))
    assert steps.largest_batch == 9


def test_what_was_measured_goes_before_the_roofline(tmp_path: Path) -> None:
    fleet = build_fleet({"a": {}}, {"box": {"cpus": 8, "memory_gib": 64, "gpus": 1, "gpu_type": "H100"}})
    slow = [row.replace(",10,8", ",1000,150") for row in ROWS if ",100,1,100," in row]
    measured = load_profile(write(tmp_path, *slow))
    computed = list_task(fleet, build_demand({"a": 1.0}), Profile({})).candidates["a"]
    observed = list_task(fleet, build_demand({"a": 1.0}), measured).candidates["a"]
    assert observed == ()  # 5 s for 500 tokens keep no TTFT of 2 s
    assert computed[-1].capacities["a"] > 1


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([ROWS[0]], "model,gpu", "line 1 is model,gpu; a profile begins with the line model,gpu,tp"),
        (["m,H100,1,150,1,100,1,1"], HEADER, "line 2 is no measurement"),
        (["m,H100,one,50,1,100,1,1"], HEADER, "line 2 is no measurement"),
        (["m,H100,1,50,1,100,1,"], HEADER, "m H100 1 has no sm_percent with both"),
    ],
)
def test_a_profile_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, rows: list[str], header: str, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_profile(write(tmp_path, *rows, header=header))


def test_a_profile_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_profile(tmp_path / "none.csv")
