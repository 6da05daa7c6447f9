"""Engines started at once on one node beside the same engines started alone: do all start, with how much KV cache.

Two kinds of engines, which differ in the KV cache that they are given. Alone: a fleet that gets one engine of each
kind, one after the other. Together: a fleet whose engines all start at once. Who has the node's turn is sampled while
they start. `GUILDHALL_BENCH_ENGINES` starts another number than ten.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from benchmarks.own_guildhall import own_guildhall
from benchmarks.result import save_result
from deployments.start_queue import StartQueue, choose_queue_folder

MODEL = Path(__file__).parents[1] / "experts/pocket/weights/base"
PORT = 8439
ENGINES = 10
KV_CACHE_GIB = (0.125, 0.25)
START_TIMEOUT_S = 1800
SAMPLE_S = 0.02
LIMIT = 0.05

console = Console(stderr=True)


@dataclass(slots=True)
class Turns:
    """Who had the turn to start, in order, and the most that waited; sampled."""

    starts: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    most_waiting: int = 0


def name_engine(number: int) -> str:
    return f"e{number}"


def build_document(engines: int) -> dict[str, Any]:
    """A fleet of so many engines, the kinds in turns, each with a domain of its own."""
    names = [name_engine(number) for number in range(engines)]
    return {
        "name": "start-together",
        "engines": {
            name: {
                "model": str(MODEL),
                "dtype": "bfloat16",
                "max_model_len": 1024,
                "kv_cache_gib": KV_CACHE_GIB[number % len(KV_CACHE_GIB)],
                "max_num_seqs": 8,
                # So that Ray's logical CPUs are the same for one engine and for all of them; it is one thread each.
                "cpus": 0.1,
            }
            for number, name in enumerate(names)
        },
        "domains": {
            **{
                name: {
                    "description": f"Questions of kind {number}.",
                    "examples": [f"What is asked of kind {number}?"],
                    "variants": {"full": {"engine": name}},
                }
                for number, name in enumerate(names)
            },
            "rest": {"description": "Everything else.", "variants": {"full": {"engine": names[0]}}},
        },
        "generalist": "rest",
        "gateway": {"port": PORT},
        "nodes": {"here": {"cpus": engines + 2, "memory_gib": 64}},
    }


@contextmanager
def sampled_turns() -> Iterator[Turns]:
    """Sample the queue of this node for the body of the `with`."""
    turns, ended = Turns(), threading.Event()
    queue = StartQueue(choose_queue_folder())

    def sample() -> None:
        before = time.monotonic()
        while not ended.wait(SAMPLE_S):
            tickets = queue.observe()
            now = time.monotonic()
            if tickets:
                holder = tickets[0].engine
                if not turns.starts or turns.starts[-1] != holder:
                    turns.starts.append(holder)
                turns.seconds[holder] = turns.seconds.get(holder, 0.0) + now - before
                turns.most_waiting = max(turns.most_waiting, len(tickets) - 1)
            before = now

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield turns
    finally:
        ended.set()
        thread.join()


@contextmanager
def own_fleet() -> Iterator[Any]:
    """A function that brings the fleet to so many engines and gives their KV tokens; all ends with the `with`."""
    with own_guildhall(START_TIMEOUT_S) as (folder, run):
        file = folder / "fleet.yaml"

        def bring_to(engines: int) -> tuple[dict[str, int], float, list[str]]:
            file.write_text(yaml.safe_dump(build_document(engines), sort_keys=False))
            done = run("up", str(file), "--timeout", str(START_TIMEOUT_S), "--json")
            if done.returncode != 0:
                raise RuntimeError(f"{engines} engines did not start: {done.stderr[-3000:]}")
            waited = [line for line in done.stderr.splitlines() if "waits for" in line]
            lines = httpx.get(f"http://127.0.0.1:{PORT}/v1/fleet", timeout=30, trust_env=False).json()["domains"]
            tokens = {line["engine"]: state["kv_tokens"] for line in lines for state in line["replica_states"]}
            return tokens, float(json.loads(done.stdout)["total_s"]), waited

        yield bring_to


def main() -> None:
    """Measure, write the result and say whether the targets hold."""
    engines = int(os.environ.get("GUILDHALL_BENCH_ENGINES", ENGINES))
    alone: dict[float, int] = {}
    with own_fleet() as bring_to:
        for count, kind in enumerate(KV_CACHE_GIB, start=1):
            tokens, _, _ = bring_to(count)
            alone[kind] = tokens[name_engine(count - 1)]
    with own_fleet() as bring_to, sampled_turns() as turns:
        together, total_s, waited = bring_to(engines)
    ratios = {
        name: round(tokens / alone[KV_CACHE_GIB[int(name[1:]) % len(KV_CACHE_GIB)]], 4)
        for name, tokens in together.items()
    }
    # Other fleets of the machine stand in the same queue.
    order = [name for name in turns.starts if name in together]
    worst = max(abs(ratio - 1) for ratio in ratios.values())
    path = save_result(
        "start_together",
        {
            "engines": engines,
            "kv_tokens_alone": {f"{kind} GiB": tokens for kind, tokens in alone.items()},
            "kv_tokens_together": together,
            "kv_of_alone": ratios,
            "turns": {"order": order, "seconds": turns.seconds, "most_waiting": turns.most_waiting},
            "up_total_s": total_s,
            "progress": waited[:5],
            "targets": {
                "started": {"at_least": engines, "value": len(together), "reached": len(together) == engines},
                "kv_difference": {"at_most": LIMIT, "worst": worst, "reached": worst <= LIMIT},
                "turns_each": {"at_most": 1, "reached": len(order) == len(set(order)) == engines},
            },
        },
    )
    console.print(f"{len(together)} of {engines} engines started at once in {total_s:.0f} s, order {order}")
    console.print(f"KV cache beside alone: {ratios}")
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
