"""The local Ray: real processes, started, found again and ended, and nobody else's touched."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.local_ray import (
    STATE_FILE,
    TOKEN_FILE,
    LocalRay,
    find_local_ray,
    hold_lock,
    launch_local_ray,
    start_local_ray,
    stop_local_ray,
    use_token,
)
from experts.errors import ConfigurationError, Unavailable


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else, which leads a session as a local Ray does."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def write_state(data_dir: Path, ray: LocalRay) -> None:
    fields = {name: getattr(ray, name) for name in LocalRay.__dataclass_fields__}
    (data_dir / STATE_FILE).write_text(json.dumps(fields), encoding="utf-8")


def state_of(pid: int, started: str, folder: Path) -> LocalRay:
    return LocalRay(pid, started, "127.0.0.1:1", 2, str(folder), str(folder / TOKEN_FILE))


def processes_of_session(leader: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdecimal() and os.getsid(int(entry)) == leader:
                state = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                found += [int(entry)] if state != "Z" else []
        except (ProcessLookupError, FileNotFoundError):
            continue
    return found


def test_find_without_a_state_file_finds_nothing(tmp_path: Path) -> None:
    assert find_local_ray(tmp_path) is None


def test_find_and_stop_leave_a_process_alone_that_got_the_pid_later(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    folder = tmp_path / "ray"
    folder.mkdir()
    stale = state_of(stranger.pid, "another boot/1", folder)
    write_state(tmp_path, stale)
    assert find_local_ray(tmp_path) is None
    assert not (tmp_path / STATE_FILE).exists()
    stop_local_ray(tmp_path, stale)
    time.sleep(0.2)
    assert stranger.poll() is None


def test_find_forgets_a_ray_whose_process_is_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    folder = tmp_path / "ray"
    folder.mkdir()
    write_state(tmp_path, state_of(gone.pid, "boot/1", folder))
    assert find_local_ray(tmp_path) is None
    assert not folder.exists()


def test_find_with_a_damaged_state_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / STATE_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="delete the file"):
        find_local_ray(tmp_path)


def test_only_one_command_works_on_a_data_folder_at_a_time(tmp_path: Path) -> None:
    with hold_lock(tmp_path), pytest.raises(Unavailable, match="another `guildhall up`"), hold_lock(tmp_path):
        pass
    with hold_lock(tmp_path):
        pass


def test_use_token_gives_the_environment_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    (tmp_path / TOKEN_FILE).write_text("a" * 64, encoding="utf-8")
    with use_token(state_of(1, "boot/1", tmp_path)):
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / TOKEN_FILE)
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


@pytest.mark.ray_local
def test_a_local_ray_starts_is_found_again_asks_for_its_token_and_ends_whole(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    started = start_local_ray(tmp_path, 3)
    try:
        assert started.address.startswith("127.0.0.1:")
        assert find_local_ray(tmp_path) == started
        with pytest.raises(Unavailable, match="running already"):
            launch_local_ray(tmp_path, 3)
        token = tmp_path / TOKEN_FILE
        assert token.stat().st_mode & 0o777 == 0o600
        connect = f"import ray; ray.init({started.address!r}, logging_level='ERROR'); print(ray.cluster_resources())"
        with use_token(started):
            told = subprocess.run(
                [sys.executable, "-c", connect], capture_output=True, text=True, timeout=60, check=True
            )
            wrong = {**os.environ, "RAY_AUTH_TOKEN": "0" * 64}  # Goes before the file's.
            refused = subprocess.run(
                [sys.executable, "-c", connect], capture_output=True, text=True, timeout=60, check=False, env=wrong
            )
        assert "'CPU': 3.0" in told.stdout
        assert refused.returncode != 0
        assert "CPU" not in refused.stdout
    finally:
        stop_local_ray(tmp_path, started)
    assert processes_of_session(started.pid) == []
    assert find_local_ray(tmp_path) is None
    assert not Path(started.folder).exists()
    assert not (tmp_path / TOKEN_FILE).exists()
    assert stranger.poll() is None


@pytest.mark.ray_local
def test_what_a_killed_local_ray_leaves_behind_is_cleared_by_the_next_look(tmp_path: Path) -> None:
    started = start_local_ray(tmp_path, 2)
    try:
        os.kill(started.pid, signal.SIGKILL)
        os.waitpid(started.pid, 0)
        assert find_local_ray(tmp_path) is None
        deadline = time.monotonic() + 20
        while processes_of_session(started.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_of_session(started.pid) == []
    finally:
        stop_local_ray(tmp_path, replace(started, started=""))
