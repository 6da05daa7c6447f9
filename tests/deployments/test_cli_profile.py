"""`guildhall profile` as users call it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.profile import load_profile
from deployments.cli import app
from deployments.engine_profile import list_points
from deployments.timed_engine import EngineSetup, KvCache, TimedEngine
from experts.errors import Unavailable
from experts.fleet import Engine
from tests.deployments.test_cli_plan import FLEETS

runner = CliRunner()
WEIGHTS = Path(__file__).parents[2] / "experts" / "pocket" / "weights" / "base"
FLEET = f"""
name: small
engines:
  one: {{ model: {WEIGHTS}, dtype: bfloat16, max_model_len: 128, max_num_seqs: 2, kv_cache_gib: 0.05 }}
  again: {{ model: {WEIGHTS}, dtype: bfloat16, max_model_len: 128, max_num_seqs: 2, kv_cache_gib: 0.05 }}
domains:
  first: {{ description: The first domain., max_tokens: 16, variants: {{ base: {{ engine: one }} }} }}
  second: {{ description: The second domain., max_tokens: 16, variants: {{ base: {{ engine: again }} }} }}
generalist: first
nodes: {{ here: {{ cpus: 2, memory_gib: 4 }} }}
"""


@pytest.mark.engine
def test_an_engine_is_measured_into_a_profile_that_plans_read(tmp_path: Path) -> None:
    fleet, out = tmp_path / "fleet.yaml", tmp_path / "profile.csv"
    fleet.write_text(FLEET)
    result = runner.invoke(app, ["profile", str(fleet), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    # Both engines load the same: one measurement is both's.
    (report,) = json.loads(result.stdout)["engines"]
    assert report["engine"] == "one"
    steps = load_profile(out).steps[str(WEIGHTS), "cpu", 1]
    assert steps.largest_batch == 2
    times = steps.by_share[1.0]
    assert 0 < times.decode[1].seconds.min() < 1
    assert 0 < times.prefill.seconds.min() < 1
    assert "points" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pocket.yaml", "none"], "'none' is no engine of the fleet (pocket)"),
        (["pocket.yaml", "--out", "none/profile.csv"], "none/profile.csv: cannot be written"),
        (["pocket.yaml", "--out", "{fleet}"], "a profile begins with the line model,gpu"),
        (["none.yaml"], "no such file"),
    ],
)
def test_wrong_input_ends_with_2_before_anything_starts(arguments: list[str], said: str) -> None:
    fleet, *rest = arguments
    pocket = str(FLEETS / "pocket.yaml")
    result = runner.invoke(app, ["profile", str(FLEETS / fleet), *(one.format(fleet=pocket) for one in rest)])
    assert result.exit_code == 2
    assert said in result.stderr.replace("\n", " ")


def test_points_fit_the_kv_cache_and_reach_the_largest_batch() -> None:
    engine = Engine(model="m", max_model_len=1024, max_num_seqs=48)
    cache = KvCache(blocks=400, block_tokens=32)
    points = list_points(engine, cache)
    assert all(point.batch * (point.seq_len + 16) <= cache.tokens for point in points)
    assert max(point.seq_len for point in points) == 1024 - 17
    assert sorted({point.batch for point in points}) == [1, 2, 4, 8, 16, 32, 48]
    assert all(point.seq_len < 1024 for point in points)


def test_a_process_that_cannot_start_its_engine_says_why() -> None:
    with (
        TimedEngine(EngineSetup("nothing", {}, cores=(100_000,))) as engine,
        pytest.raises(Unavailable, match=r"the engine's process ended(.|\n)*sched_setaffinity"),
    ):
        engine.await_ready()
