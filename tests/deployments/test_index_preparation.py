"""A pod prepares every index of its fleet before Ray starts, once."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, write_fleet


def prepare(file: Path, data_dir: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deployments.index_preparation", str(file)],
        env={**os.environ, "GUILDHALL_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_every_index_is_there_afterwards_and_a_second_time_nothing_changes(tmp_path: Path) -> None:
    domains = {
        name: {"description": f"All about {name}.", "variants": {"full": {"engine": "small"}}, "index": {}}
        for name in ("law", "trade")
    }
    nodes = {"one": {"cpus": 4, "memory_gib": 16}}
    file, data_dir = tmp_path / "fleet.yaml", tmp_path / "data"
    engines = {"small": {"model": "a/b"}}
    write_fleet(file, {"name": "shop", "engines": engines, "domains": domains, "generalist": "law", "nodes": nodes})
    first = prepare(file, data_dir)
    assert first.returncode == 0, first.stderr
    files = {path: path.read_bytes() for path in (data_dir / "indexes").rglob("*") if path.is_file()}
    assert {path.relative_to(data_dir / "indexes").parts[:2] for path in files} == {("shop", "law"), ("shop", "trade")}
    second = prepare(file, data_dir)
    assert second.returncode == 0, second.stderr
    assert {path: path.read_bytes() for path in files} == files


def test_a_fleet_file_with_mistakes_keeps_the_pod_from_starting(tmp_path: Path) -> None:
    write_fleet(tmp_path / "fleet.yaml", {"name": "office"})
    done = prepare(tmp_path / "fleet.yaml", tmp_path / "data")
    assert done.returncode == 2
    assert "mistake(s)" in done.stderr
