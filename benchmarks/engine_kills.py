"""Engines of one node killed at random steps under load: `make bench-engine_kills`.

Three engines with more to do than memory for it; one after another is killed and started again. All along, the quotas
in force must fit the memory; after each kill the share must be with the others within a second, and none of them may
stand still for one. `python -m benchmarks.engine_kills 10` kills ten times and saves nothing.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from benchmarks.forked_engine import Batch, ForkedEngine, make_fork_server
from benchmarks.result import save_result, summarize
from cluster.ledger import Ledger
from cluster.node_load import EngineLoad
from deployments.engine_sharing import EngineSharing

KV_BYTES = 36 * 2**20
ENGINES = ("a", "b", "c")
KILLS = 200
# 12 requests at once hold 4 blocks of 384 KiB each at their end: twice what a third of the memory holds.
LOAD = Batch(requests=12, prompt_tokens=300, output_tokens=120, again=True)
MODEL = Path(__file__).parents[1] / "experts/pocket/weights/base"
LIMIT_S = 1.0
TIMEOUT_S = 60.0


@dataclass(slots=True)
class Watch:
    """Looks at the ledger without pause, in a thread of its own."""

    ledger: Ledger
    looks: int = 0
    most_bytes: int = 0
    rows: dict[str, EngineLoad] = field(default_factory=dict)
    ended: Event = field(default_factory=Event)

    def run(self) -> None:
        while not self.ended.is_set():
            load = self.ledger.read_settled("cpu")
            self.rows = {engine.engine: engine for engine in load.engines}
            self.most_bytes = max(self.most_bytes, sum(max(e.quota_bytes, e.used_bytes) for e in load.engines))
            self.looks += 1
            time.sleep(0.002)


def start_engine(context: Any, ledger: Path, name: str) -> ForkedEngine:
    sharing = EngineSharing(str(ledger), name, "cpu", KV_BYTES, threads=1, ttft_s=2.0, tpot_s=0.2)
    arguments: dict[str, Any] = {
        "model": str(MODEL),
        "dtype": "bfloat16",
        "max_model_len": 1024,
        "max_num_seqs": 16,
        "enforce_eager": True,
        "kv_cache_memory_bytes": KV_BYTES,
    }
    return ForkedEngine(context, arguments | sharing.to_engine_kwargs())


def await_true(condition: Callable[[], bool]) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > TIMEOUT_S:
            raise TimeoutError
        time.sleep(0.002)
    return time.monotonic() - began


def run_kills(kills: int) -> dict[str, Any]:
    draw = random.Random(6)
    gone_s, back_s, pause_s, finished = [], [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger"
        context = make_fork_server()
        engines = {name: start_engine(context, path, name) for name in ENGINES}
        watch = Watch(Ledger.open(path))
        watching = Thread(target=watch.run, daemon=True)
        try:
            for engine in engines.values():
                engine.await_ready()
                engine.submit(LOAD)
            watching.start()
            for kill in range(kills):
                await_true(lambda: sum(row.quota_bytes for row in watch.rows.values()) > 0.9 * KV_BYTES)
                time.sleep(draw.uniform(0, 1))
                victim = draw.choice(ENGINES)
                others = [engine for name, engine in engines.items() if name != victim]
                before = [engine.observe().finished for engine in others]
                for engine in others:
                    engine.forget_pauses()
                killed_at = time.monotonic()
                engines[victim].kill()
                await_true(lambda name=victim: name not in watch.rows)  # type: ignore[misc]
                gone_s.append(time.monotonic() - killed_at)
                await_true(lambda: sum(row.quota_bytes for row in watch.rows.values()) > 0.9 * KV_BYTES)
                back_s.append(time.monotonic() - killed_at)
                await_true(
                    lambda: all(e.observe().finished > n for e, n in zip(others, before, strict=True))  # noqa: B023
                )
                pause_s.append(max(engine.observe().longest_pause_s for engine in others))
                finished += sum(e.observe().finished - n for e, n in zip(others, before, strict=True))
                engines[victim] = start_engine(context, path, victim)
                engines[victim].await_ready()
                engines[victim].submit(LOAD)
                if kill % 10 == 9:
                    print(f"{kill + 1} kills, {watch.looks} looks, longest pause {max(pause_s):.3f} s", flush=True)
        finally:
            watch.ended.set()
            for engine in engines.values():
                engine.kill()
    return {
        "kills": kills,
        "kv_bytes": KV_BYTES,
        "looks_at_the_ledger": watch.looks,
        "most_bytes_in_force": watch.most_bytes,
        "sum_never_above_memory": watch.most_bytes <= KV_BYTES,
        "row_gone_s": summarize(gone_s),
        "share_with_the_others_s": summarize(back_s),
        "longest_pause_of_the_others_s": summarize(pause_s),
        "pauses_over_a_second": sum(pause > LIMIT_S for pause in pause_s),
        "requests_finished_by_the_others": finished,
    }


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
    figures = run_kills(kills)
    print(figures)
    if kills == KILLS:
        print(save_result("engine_kills", figures))


if __name__ == "__main__":
    main()
