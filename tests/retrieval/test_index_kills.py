"""kill -9 at any moment: the index is as it was before the operation or as it is after it, for every reader."""

import json
import multiprocessing
import random
import time
from pathlib import Path

import pytest

from benchmarks.index_stress import stress
from retrieval.index_reader import IndexReader
from tests.retrieval.index_cases import assert_holds, document, local, open_reader, writer_of
from tests.retrieval.killed_writer import Content, write_until_killed

KILLS = 60
LONGEST_LIFE_S = 0.4


def observe(reader: IndexReader) -> Content:
    """What a reader's snapshot says it holds, after each of its passages was found."""
    snapshot = reader.snapshot()
    content: Content = {
        record.id: [int(record.fingerprint.rsplit("-", 1)[1]), record.origin] for record in snapshot.iterate_documents()
    }
    assert snapshot.damage == ()
    assert_holds(snapshot, [document(name, edition=int(value[0])) for name, value in content.items()])
    return content


def read_journal(path: Path, content: Content) -> tuple[list[Content], dict[str, Content]]:
    """The contents that the index may have, and what the versions known have."""
    versions: dict[str, Content] = {}
    allowed = [content]
    for line in path.read_text().split("\n")[:-1] if path.exists() else []:
        entry = json.loads(line)
        if "begin" in entry:
            allowed.append(entry["after"])
        elif "end" in entry:
            allowed = allowed[-1:]
        else:
            versions = entry["versions"]
    return allowed, versions


def test_a_writer_killed_at_any_moment_leaves_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.retrieval.killed_writer"])
    # A hundred versions are published here in seconds: a follower may find its place in the log gone.
    monkeypatch.setattr("retrieval.log_follower._PLACE_CHECK_S", 0.0)
    storage = local(tmp_path)
    writer_of(storage).snapshot()
    follower = open_reader(storage)
    chance = random.Random(7)
    content: Content = {}
    versions: dict[str, Content] = {}
    journal = tmp_path / "journal.jsonl"
    begun = 0
    for seed in range(1, KILLS + 1):
        journal.unlink(missing_ok=True)
        writer = context.Process(target=write_until_killed, args=(tmp_path, seed, content, versions))
        writer.start()
        deadline = time.monotonic() + 60
        while not journal.exists():
            assert time.monotonic() < deadline
            assert writer.is_alive()
            time.sleep(0.001)
        time.sleep(chance.uniform(0, LONGEST_LIFE_S))
        writer.kill()
        writer.join()
        begun += journal.read_text().count('"begin"')
        allowed, versions = read_journal(journal, content)
        content = observe(open_reader(storage))
        assert content in allowed
        follower.refresh()
        assert observe(follower) == content
    assert begun > 2 * KILLS
    monkeypatch.setattr("retrieval.held_files._STALE_S", 0.0)
    writer_of(storage).rollback(writer_of(storage).versions()[0].name)
    assert list((tmp_path / "index" / "aside").iterdir()) == []
    kept = {record.name for record in writer_of(storage).versions()}
    assert {path.name for path in (tmp_path / "index" / "versions").iterdir()} == kept


def test_operations_of_several_processes_with_random_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    outcome = stress(tmp_path, operations=1500, processes=3, kill_every_s=1.5, compact_after=60)
    assert outcome["operations"] >= 1500
    assert outcome["kills"] >= 1
    assert outcome["compactions"] >= 3
    assert outcome["passages_verified"] > 50
