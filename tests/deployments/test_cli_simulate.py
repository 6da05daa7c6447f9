"""`guildhall simulate` as users call it."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deployments.cli_plan import plan
from deployments.cli_simulate import simulate
from tests.deployments.test_cli_plan import FLEETS, RATES

app = typer.Typer()
app.command()(simulate)
planning = typer.Typer()
planning.command()(plan)
runner = CliRunner()
ONE_GPU = str(FLEETS / "one-gpu.yaml")


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    path = tmp_path / "rates.yaml"
    path.write_text(RATES)
    return path


def test_rates_are_served_within_their_slos_and_every_request_is_counted(rates: Path) -> None:
    arguments = [ONE_GPU, "--rates", str(rates), "--seconds", "120", "--json"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    total = report["total"]
    assert total["arrived"] == total["answered"] == sum(one["arrived"] for one in report["domains"].values())
    assert total["arrived"] == pytest.approx(120 * 5.3, rel=0.15)
    assert 0.9 < total["slo_attainment"] <= 1
    assert report["gpu_hours"] == pytest.approx(report["seconds"] / 3600, rel=0.01)
    assert json.loads(runner.invoke(app, arguments).stdout) == report
    bursty = json.loads(runner.invoke(app, [*arguments, "--arrivals", "bursty"]).stdout)
    assert bursty["total"]["ttft_s"]["p99"] > total["ttft_s"]["p99"]


def test_a_planned_placement_is_what_is_simulated(rates: Path, tmp_path: Path) -> None:
    planned = runner.invoke(planning, [ONE_GPU, "--rates", str(rates), "--json"])
    placement = tmp_path / "plan.json"
    placement.write_text(planned.stdout)
    result = runner.invoke(
        app, [ONE_GPU, "--rates", str(rates), "--placement", str(placement), "--seconds", "60", "--json"]
    )
    assert result.exit_code == 0, result.output
    engines = {setting["engine"] for setting in json.loads(planned.stdout)["engines"]}
    assert json.loads(result.stdout)["busy"].keys() == engines
    wrong = runner.invoke(app, [ONE_GPU, "--rates", str(rates), "--placement", str(rates)])
    assert wrong.exit_code == 2
    assert "is not what `guildhall plan --json` writes" in wrong.stderr


def test_a_trace_is_scaled_to_the_context_and_drawn_over_time(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = [f"2023-11-16 18:15:{second:02d}.5,{300 * (second + 1)},{second + 1}" for second in range(50)]
    trace.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    picture = tmp_path / "timeline.png"
    result = runner.invoke(app, [str(FLEETS / "pocket.yaml"), "--trace", str(trace), "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert "the trace's lengths are multiplied by 0.068" in result.stdout
    assert "step times of pocket are computed, not measured" in result.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there are no requests; give --trace"),
        (["--trace", "none.csv"], "none.csv: cannot be read"),
        (["--rates", "{rates}", "--plot", "none/there.png", "--seconds", "1"], "cannot be written"),
    ],
)
def test_wrong_input_ends_with_2_and_what_to_do(rates: Path, arguments: list[str], said: str) -> None:
    result = runner.invoke(app, [ONE_GPU, *(one.format(rates=rates) for one in arguments)])
    assert result.exit_code == 2
    assert said in result.stderr
