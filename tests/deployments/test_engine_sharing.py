"""What fleets leave in shared memory goes with them, and nobody else's."""

import subprocess
import sys
from pathlib import Path

import pytest

from deployments import engine_sharing
from deployments.engine_sharing import EngineSharing, find_ledger, find_slo, remove_ledgers, write_slo

# Another process, because the locks of a ledger are a process's.
ENGINE = """
import sys
from pathlib import Path
from benchmarks.engine_load import make_load
from cluster.ledger import Ledger
from cluster.ledger_layout import Entry
ledger = Ledger.open(Path(sys.argv[1]))
row = ledger.claim(Entry(make_load(), None, 1))
print("claimed", flush=True)
sys.stdin.read()
"""


def start_engine(ledger: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ENGINE, str(ledger)]
    engine = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert engine.stdout is not None
    assert engine.stdout.readline() == "claimed\n"
    return engine


def promise(ledger: Path) -> Path:
    sharing = EngineSharing(str(ledger), "law", "cpu", None, threads=1, ttft_s=2.0, tpot_s=0.2)
    write_slo(sharing, {"ttft_s": 0.5, "tpot_s": 0.05})
    return find_slo(sharing)


def test_a_fleets_ledger_goes_when_its_last_engine_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_sharing, "SHARED_MEMORY", tmp_path)
    ours, other = find_ledger("office", tmp_path / "data"), find_ledger("office", tmp_path / "elsewhere")
    slo, other_slo = promise(ours), promise(other)
    engines = [start_engine(ours), start_engine(other)]
    try:
        remove_ledgers(tmp_path / "data")
        assert ours.exists()
        assert slo.exists()
        for engine in engines:
            engine.kill()
            engine.wait()
        remove_ledgers(tmp_path / "data")
        assert not ours.exists()
        assert not slo.exists()
        assert other.exists()
        assert other_slo.exists()
        # The next fleet begins afresh.
        engines.append(start_engine(ours))
    finally:
        for engine in engines:
            engine.kill()
            engine.communicate()


def test_where_nothing_was_left_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_sharing, "SHARED_MEMORY", tmp_path / "nothing")
    remove_ledgers(tmp_path / "data")
    assert not (tmp_path / "nothing").exists()
