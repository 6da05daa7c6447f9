"""`guildhall plan` as users call it."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cluster.placement import plan_placement
from deployments.cli_plan import plan
from experts.fleet_file import load_fleet

FLEETS = Path(__file__).parents[2] / "cluster" / "fleets"
RATES = """
domains:
  reasoning: { requests_per_s: 0.5, prompt_tokens: 600, output_tokens: 800 }
  coding: { requests_per_s: 1.5, prompt_tokens: 900, output_tokens: 250 }
  math: { requests_per_s: 1, prompt_tokens: 300, output_tokens: 250 }
  medicine: { requests_per_s: 0.3, prompt_tokens: 900, output_tokens: 300 }
  general: { requests_per_s: 2, prompt_tokens: 500, output_tokens: 200 }
"""

app = typer.Typer()
app.command()(plan)
runner = CliRunner()


@pytest.fixture
def rates(tmp_path: Path) -> Path:
    path = tmp_path / "rates.yaml"
    path.write_text(RATES)
    return path


def test_a_plan_says_what_runs_where_and_how_good_it_is_proven_to_be(rates: Path) -> None:
    result = runner.invoke(app, [str(FLEETS / "one-gpu.yaml"), "--rates", str(rates)])
    assert result.exit_code == 0, result.output
    assert "gpu-1: " in result.stdout
    assert "1 GPU; proven: under these costs no placement is better" in result.stdout
    assert "coder " not in result.stdout  # the quantized build of the same expert serves its rate


def test_a_plan_in_json_is_the_current_placement_of_the_next_one(rates: Path, tmp_path: Path) -> None:
    arguments = [str(FLEETS / "one-gpu.yaml"), "--rates", str(rates), "--json"]
    first = runner.invoke(app, arguments)
    current = tmp_path / "now.json"
    current.write_text(first.stdout)
    again = runner.invoke(app, [*arguments, "--current", str(current)])
    planned = json.loads(again.stdout)
    assert planned["ok"]
    assert planned["started"] == 0
    assert planned["proof"]["gap"] == 0
    assert planned["placement"]["assignments"]
    assert all(one["reason"]["ran"] for one in planned["placement"]["assignments"])


def test_a_written_plan_is_a_fleet_file_that_up_can_deploy(rates: Path, tmp_path: Path) -> None:
    written = tmp_path / "planned.yaml"
    fleet = FLEETS / "one-gpu.yaml"
    result = runner.invoke(app, [str(fleet), "--rates", str(rates), "--write", str(written), "--json"])
    planned = load_fleet(written)
    settings = {setting["engine"]: setting for setting in json.loads(result.stdout)["engines"]}
    assert planned.engines.keys() == settings.keys()
    assert all(engine.gpus == settings[name]["gpus"] for name, engine in planned.engines.items())
    assert plan_placement(planned).unplaced == ()
    assert planned.domains.keys() == load_fleet(fleet).domains.keys()


def test_rates_that_do_not_fit_end_with_the_engine_and_the_change(rates: Path) -> None:
    rates.write_text(RATES.replace("requests_per_s: 2,", "requests_per_s: 60,"))
    result = runner.invoke(app, [str(FLEETS / "one-gpu.yaml"), "--rates", str(rates)])
    assert result.exit_code == 2
    assert "change nodes.gpu.count from 1 to " in result.stderr
    count = result.stderr.split("change nodes.gpu.count from 1 to ")[1].split()[0]
    larger = [str(FLEETS / "one-gpu.yaml"), "--rates", str(rates), "--nodes", f"gpu={count}"]
    assert runner.invoke(app, larger).exit_code == 0


def test_more_than_the_nodes_carry_is_served_in_part_when_asked_for(rates: Path) -> None:
    rates.write_text(RATES.replace("requests_per_s: 2,", "requests_per_s: 60,"))
    arguments = [str(FLEETS / "one-gpu.yaml"), "--rates", str(rates), "--goal", "most-throughput", "--json"]
    planned = json.loads(runner.invoke(app, arguments).stdout)
    served = {service["domain"]: service["served_per_s"] for service in planned["domains"]}
    assert 0 < served["general"] < 60
    assert sum(served.values()) == pytest.approx(planned["proof"]["value"])
    assert planned["proof"]["value"] <= planned["proof"]["bound"] + 1e-9
    assert planned["gpus"] == 1


def test_experts_on_cpus_are_planned_too(tmp_path: Path) -> None:
    rates = tmp_path / "rates.yaml"
    names = ("finance", "math", "coding", "reasoning", "generalist")
    traffic = "{ requests_per_s: 1, prompt_tokens: 300, output_tokens: 24 }"
    rates.write_text("domains:\n" + "".join(f"  {name}: {traffic}\n" for name in names))
    result = runner.invoke(app, [str(FLEETS / "pocket.yaml"), "--rates", str(rates)])
    assert result.exit_code == 0, result.output
    assert "1 machine without GPUs; proven" in result.stdout


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (RATES.replace("  math:", "  maths:"), [], "domain 'math' has no rate; add domains.math"),
        (RATES.replace("0.5,", "-1,"), [], "domains.reasoning.requests_per_s: Input should be greater"),
        (RATES.replace("prompt_tokens: 300", "prompt_tokens: 9000"), [], "domain 'math' has 9250 tokens"),
        (RATES, ["--nodes", "gpu=none"], "--nodes gpu=none is not TYPE=COUNT"),
        (RATES, ["--nodes", "tpu=1"], "a node type of the fleet (gpu)"),
        (RATES, ["--profile", "none.csv"], "none.csv: cannot be read"),
        (RATES, ["--write", "/nowhere/planned.yaml"], "--write /nowhere/planned.yaml: cannot be written"),
        (RATES, ["--current", "none.json"], "none.json is not what `guildhall plan --json` writes"),
    ],
)
def test_wrong_input_says_what_to_change(rates: Path, text: str, options: list[str], message: str) -> None:
    rates.write_text(text)
    result = runner.invoke(app, [str(FLEETS / "one-gpu.yaml"), "--rates", str(rates), *options])
    assert result.exit_code == 2
    assert message in result.stderr
