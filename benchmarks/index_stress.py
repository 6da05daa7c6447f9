"""Adds, removes and searches by several processes, of which one is killed again and again: nothing may be lost.

At the end every document is exactly as its owner's journal says: what was acknowledged is there once and whole, what
was removed is gone, and what was under way when its writer was killed is there whole or not at all. Beside that, what
one durable commit and a refresh cost on this machine.
"""

import argparse
import json
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.index_stress_process import (
    CORPUS_DOCUMENTS,
    DIMENSIONS,
    ENCODER,
    check_found,
    embed,
    make_document,
    open_index,
)
from benchmarks.result import save_result, summarize
from retrieval.index_reader import IndexReader
from retrieval.index_writer import IndexWriter

OPERATIONS = 100_000
PROCESSES = 4
# A kill comes this often on average, at random moments.
KILL_EVERY_S = 2.0
# Most kills wait until their writer has done something: on a busy machine starting one takes longer than a kill.
EARLY_KILLS = 0.1
COMPACT_AFTER_COMMITS = 1000

console = Console(stderr=True)


@dataclass(slots=True)
class Fates:
    """What a journal says of documents: by id the editions that may be there now, None for absent."""

    possible: dict[str, set[int | None]] = field(default_factory=lambda: defaultdict(lambda: {None}))
    begun: int = 0
    acknowledged: int = 0
    done: int = 0
    compactions: int = 0
    took_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: list[str] = field(default_factory=list)

    def read(self, path: Path) -> None:
        """Fold a journal in; a line that a kill cut short never began anything."""
        for line in path.read_text().split("\n")[:-1]:
            entry = json.loads(line)
            if "begin" in entry:
                self.begun += 1
                self.possible[entry["begin"]].add(entry["edition"])
            elif "end" in entry:
                self.acknowledged += 1
                self.possible[entry["end"]] = {entry["edition"]}
            elif "done" in entry:
                self.done += 1
                self.took_ms[entry["done"]].append(entry["ms"])
            elif "compacted" in entry:
                self.compactions += 1
            else:
                self.errors.append(entry["error"])


def read_journals(folder: Path) -> Fates:
    """All journals together."""
    fates = Fates()
    for path in sorted(folder.glob("journal-*.jsonl")):
        fates.read(path)
    return fates


def stress(folder: Path, operations: int, processes: int, kill_every_s: float, compact_after: int) -> dict[str, Any]:
    """Run the operations and verify the index after them; raises AssertionError for whatever is not as it must be."""
    chance = random.Random(1)
    seeds = iter(range(1, 1_000_000))
    IndexWriter(open_index(folder), ENCODER, DIMENSIONS).build(
        [make_document(f"corpus-{number}", 0) for number in range(CORPUS_DOCUMENTS)], embed
    )

    left_at_start: dict[int, int] = {}

    def start(role: str, slot: int = 0, share: int = 0) -> subprocess.Popen[str]:
        left_at_start[slot] = share
        command = [sys.executable, "-m", "benchmarks.index_stress_process", role, "--folder", str(folder)]
        command += ["--slot", str(slot), "--seed", str(next(seeds)), "--operations", str(share)]
        return subprocess.Popen(
            [*command, "--compact-after", str(compact_after)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def left(slot: int) -> int:
        journal = folder / f"journal-{slot}.jsonl"
        done = journal.read_bytes().count(b'"done"') if journal.exists() else 0
        return operations // processes - done

    began = time.monotonic()
    searcher = start("searcher")  # Before the writers: it has the slot of the first.
    writers = {slot: start("writer", slot, left(slot)) for slot in range(processes)}
    kills, next_report = 0, 0.0
    next_kill = time.monotonic() + kill_every_s
    try:
        while writers:
            time.sleep(0.02)
            for slot, writer in list(writers.items()):
                if writer.poll() is None:
                    continue
                if writer.returncode not in (0, -signal.SIGKILL):
                    raise AssertionError(f"writer {slot} failed:\n{writer.communicate()[1]}")
                writer.communicate()
                if left(slot) > 0:
                    writers[slot] = start("writer", slot, left(slot))
                else:
                    del writers[slot]
            assert searcher.poll() is None, f"the searcher failed:\n{searcher.communicate()[1]}"
            now = time.monotonic()
            if writers and now > next_kill:
                slot = chance.choice(list(writers))
                if left(slot) < left_at_start[slot] or chance.random() < EARLY_KILLS:
                    writers[slot].kill()
                    kills += 1
                next_kill = now + chance.uniform(0, 2 * kill_every_s)
            if now > next_report:
                done = sum(operations // processes - left(slot) for slot in range(processes))
                console.print(f"{done} of {operations} operations, {kills} kills, {now - began:.0f} s")
                next_report = now + 15
        took_s = time.monotonic() - began
        (folder / "stop").touch()
        output, trouble = searcher.communicate(timeout=120)
        assert searcher.returncode == 0, f"the searcher failed:\n{trouble}"
    finally:
        for process in (searcher, *writers.values()):
            process.kill()
    fates = read_journals(folder)
    assert not fates.errors, fates.errors
    verified = verify(folder, fates)
    return {
        "operations": fates.done,
        "processes": processes,
        "kills": kills,
        "seconds": round(took_s, 1),
        "operations_per_s": round(fates.done / took_s, 1),
        "writes_acknowledged": fates.acknowledged,
        "writes_unacknowledged": fates.begun - fates.acknowledged,
        "compactions": fates.compactions,
        "operation_ms": {kind: summarize(took) for kind, took in sorted(fates.took_ms.items())},
        "searcher": json.loads(output),
        **verified,
    }


def verify(folder: Path, fates: Fates) -> dict[str, int]:
    """Raise AssertionError unless the index holds what the journals say, every passage once and nothing else."""
    reader = IndexReader(open_index(folder), ENCODER)
    reader.refresh()
    snapshot = reader.snapshot()
    assert snapshot.damage == (), snapshot.damage
    passages = 0
    for name, editions in fates.possible.items():
        record = snapshot.find(name)
        observed = None if record is None else int(record.fingerprint.rsplit(":", 1)[1])
        if name.startswith("corpus-"):
            editions |= {0} if None in editions else set()
        assert observed in editions, f"{name}: edition {observed} is there, its journal allows {editions}"
        if observed is not None:
            document = make_document(name, observed)
            assert [each.text for each in snapshot.passages_of(name)] == [each.text for each in document.passages]
            check_found(snapshot, document)
            passages += len(document.passages)
    unknown = {record.id for record in snapshot.iterate_documents()} - set(fates.possible)
    assert all(name.startswith("corpus-") for name in unknown), unknown
    passages += sum(len(snapshot.passages_of(name)) for name in unknown)
    assert passages == snapshot.passages, f"{snapshot.passages} passages, {passages} verified"
    return {"documents_verified": snapshot.documents, "passages_verified": passages}


def measure_costs(folder: Path) -> dict[str, Any]:
    """What a commit and a refresh of one document cost alone, as the delta grows to its limit."""
    writer = IndexWriter(open_index(folder), ENCODER, DIMENSIONS)
    writer.build([make_document(f"base-{number}", 0) for number in range(1000)], embed)
    reader = IndexReader(open_index(folder), ENCODER)
    reader.refresh()
    names = iter(f"delta-{number}" for number in range(100_000))

    def steps(count: int) -> Iterator[tuple[float, float, float]]:
        for _ in range(count):
            document = make_document(next(names), 0)
            began = time.perf_counter()
            writer.add([document], embed)
            committed = time.perf_counter()
            reader.refresh()
            refreshed = time.perf_counter()
            reader.refresh()
            yield committed - began, refreshed - committed, time.perf_counter() - refreshed

    figures = []
    for filler in (0, 1000, 2000):
        if filler:
            writer.add([make_document(next(names), 0) for _ in range(filler)], embed)
            reader.refresh()
        delta = reader.snapshot().status().delta_passages
        taken = list(zip(*steps(200), strict=True))
        commit, refresh, idle = (statistics.median(values) for values in taken)
        figures.append(
            {
                "delta_passages": delta,
                "commit_ms": round(1000 * commit, 3),
                "refresh_ms": round(1000 * refresh, 3),
                "refresh_with_nothing_new_ms": round(1000 * idle, 4),
            }
        )
    return {"one_document": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = measure_costs(Path(folder))
    console.print(costs)
    with tempfile.TemporaryDirectory() as folder:
        outcome = stress(Path(folder), options.operations, options.processes, KILL_EVERY_S, COMPACT_AFTER_COMMITS)
    console.print(outcome)
    console.print(f"wrote {save_result('index_stress', {'costs': costs, 'stress': outcome})}")


if __name__ == "__main__":
    main()
