"""The log of segments: whole lines from several processes, torn ends, bounds, privacy."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.segment_log import MAX_LINE_BYTES, SegmentLog, make_private_folder
from tests.conftest import ROOT

WRITER = """
import json, sys
from pathlib import Path
from deployments.segment_log import SegmentLog
log = SegmentLog(Path(sys.argv[1]), 20_000, 10**9, is_durable=False)
for number in range(400):
    log.append(json.dumps({"writer": sys.argv[2], "number": number, "text": "x" * (number % 97)}).encode())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def read(log: SegmentLog) -> list[bytes]:
    return [line for path in reversed(log.segments()) for line in path.read_bytes().split(b"\n") if line]


def test_lines_of_several_processes_never_mix(folder: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(folder)]
    writers = [subprocess.Popen([*command, str(name)], cwd=ROOT) for name in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    log = SegmentLog(folder, 20_000, 10**9, is_durable=False)
    lines = [json.loads(line) for line in read(log)]
    assert sorted((line["writer"], line["number"]) for line in lines) == sorted(
        (str(name), number) for name in range(4) for number in range(400)
    )
    assert len(log.segments()) > 3
    assert max(path.stat().st_size for path in log.segments()) < 20_000 + 4 * 200


def test_the_oldest_segments_go_when_the_bound_is_passed(folder: Path) -> None:
    log = SegmentLog(folder, 1000, 3000, is_durable=False)
    for number in range(200):
        log.append(b"%03d " % number + b"x" * 95)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4000
    lines = read(log)
    assert lines[-1].startswith(b"199")
    assert [int(line[:3]) for line in lines] == list(range(200 - len(lines), 200))


def test_a_torn_line_at_the_end_spoils_no_other(folder: Path) -> None:
    log = SegmentLog(folder, 1000, 3000, is_durable=True)
    log.append(b"first")
    log.close()
    (segment,) = log.segments()
    with segment.open("ab") as file:
        file.write(b'{"torn')
    log.append(b"second")
    assert read(log) == [b"first", b'{"torn', b"second"]


def test_a_full_disk_is_told_and_what_follows_is_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SegmentLog(folder, 1000, 3000, is_durable=True)
    log.append(b"first")
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, data[:3]))
    with pytest.raises(OSError, match="No space left") as raised:
        log.append(b"second")
    assert raised.value.errno == errno.ENOSPC
    monkeypatch.undo()
    log.append(b"third")
    assert read(log) == [b"first", b"sec", b"third"]


def test_a_segment_that_somebody_removed_is_begun_again(folder: Path) -> None:
    log = SegmentLog(folder, 1000, 3000, is_durable=False)
    log.append(b"first")
    log.segments()[0].unlink()
    log.append(b"second")
    assert read(log) == [b"second"]


def test_only_its_user_may_read(folder: Path) -> None:
    folder.mkdir(mode=0o777)
    log = SegmentLog(folder, 1000, 3000, is_durable=False)
    log.append(b"first")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(log.segments()[0].stat().st_mode) == 0o600


def test_a_folder_behind_a_link_is_refused(folder: Path) -> None:
    folder.symlink_to(folder.parent)
    with pytest.raises(PermissionError):
        make_private_folder(folder)


@pytest.mark.parametrize("line", [b"a\nb", b"x" * (MAX_LINE_BYTES + 1)])
def test_a_line_that_could_be_torn_is_refused(folder: Path, line: bytes) -> None:
    with pytest.raises(ValueError, match="limit"):
        SegmentLog(folder, 1000, 3000, is_durable=False).append(line)


def test_lines_are_found_newest_first(folder: Path) -> None:
    log = SegmentLog(folder, 50, 3000, is_durable=False)
    for number in range(20):
        log.append(b"%d needle" % number if number % 2 else b"%d" % number)
    found = [int(line.split()[0]) for line in log.find_last(b"needle")]
    assert found[0] == 19
    assert sorted(found) == list(range(1, 20, 2))
