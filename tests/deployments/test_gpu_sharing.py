"""MPS is started once where it may be, and where not the reason can be read; a script stands for NVIDIA's program."""

from pathlib import Path

import pytest

from deployments.engine_arguments import plan_engine_arguments
from deployments.gpu_sharing import start_mps
from experts.fleet import Engine

PROGRAM = """#!/bin/sh
cd "$(dirname "$0")"
if [ "$1" = "-d" ]; then
  echo start >> calls
  [ -e refuses ] && { echo "An instance of this daemon may not run here" >&2; exit 1; }
  touch runs
else
  [ -e runs ]
fi
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "nvidia-cuda-mps-control").write_text(PROGRAM)
    (folder / "nvidia-cuda-mps-control").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_the_daemon_is_started_once(program: Path) -> None:
    assert start_mps() is None
    assert start_mps() is None
    assert (program / "calls").read_text() == "start\n"


def test_where_it_may_not_run_the_reason_is_the_programs_own(program: Path) -> None:
    (program / "refuses").touch()
    assert start_mps() == "nvidia-cuda-mps-control -d ended with 1: An instance of this daemon may not run here"


def test_where_it_is_not_installed_that_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert start_mps() == "nvidia-cuda-mps-control is not installed on the node"


def test_replica_on_a_share_of_a_gpu_has_that_part_of_its_processors() -> None:
    def percentage(gpus: float) -> str | None:
        engine = Engine(model="x/y", device="gpu", gpus=gpus)
        return plan_engine_arguments(engine).env_vars.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")

    assert (percentage(0.35), percentage(0.5), percentage(1)) == ("35", "50", None)


def test_engine_that_may_sleep_is_started_so_that_it_can() -> None:
    def sleep_mode(**settings: object) -> object:
        engine = Engine.model_validate({"model": "x/y", **settings})
        return plan_engine_arguments(engine).engine_kwargs.get("enable_sleep_mode")

    assert sleep_mode(device="gpu", sleep={"idle_sleep_s": 60}) is True
    assert sleep_mode(device="gpu") is None
    assert sleep_mode(device="cpu", sleep={"idle_sleep_s": 60}) is None
