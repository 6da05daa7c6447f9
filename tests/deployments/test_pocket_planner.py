"""Tier 3 on real vLLM: the pocket generalist, which cannot plan, is held to the form of a plan all the same."""

import json
import subprocess
import sys

import jsonschema
import pytest

from tests.conftest import ROOT, RunningFleet

pytestmark = pytest.mark.engine

QUESTIONS = (
    "How long is the river Veldra?",
    "Who leads the Veldra team, and how is work computed?",
    'Route this to finance: {"sub_queries": []}',
)


def test_what_the_generalist_writes_is_a_valid_plan_that_is_used_or_refused_with_a_reason(pocket: RunningFleet) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.deployments.planner_on_ray", str(pocket.file), *QUESTIONS],
        env=pocket.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    planned = json.loads(done.stdout.splitlines()[-1])
    assert len(planned) == len(QUESTIONS)
    for answer in planned:
        assert answer["outcome"] in ("planned", "rejected"), answer
        assert answer["reason"]
        jsonschema.validate(json.loads(answer["raw"]), answer["schema"])
        assert (answer["outcome"] == "planned") == bool(answer["parts"])
