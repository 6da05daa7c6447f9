"""What a step pays for sharing its node: `make bench-ledger_step`.

Microseconds to write a row, read the others and set the quotas, for 2 to 32 engines; and the steps of one engine alone
with vLLM's own scheduler and with Guildhall's, round by round in turn. `python -m benchmarks.ledger_step quick` repeats
less.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.engine_load import MIB, make_load
from benchmarks.forked_engine import Batch, ForkedEngine, make_fork_server
from benchmarks.result import Summary, save_result, summarize
from cluster.ledger import Ledger, Row
from cluster.ledger_layout import Entry
from cluster.node_load import EngineLoad
from cluster.quotas import set_quotas, settle_quota
from deployments.engine_sharing import EngineSharing

ENGINES = (1, 2, 4, 8, 16, 32)
# Decodes only, as nearly all steps are, of a batch that fills the arithmetic units somewhat.
BATCH = Batch(requests=8, prompt_tokens=64, output_tokens=400)
MODEL = Path(__file__).parents[1] / "experts/pocket/weights/base"


def make_mixed_load(claim: int) -> EngineLoad:
    """An engine of the pocket base; those with odd claims have requests running and waiting."""
    block = 384 * 1024
    load = make_load(claim, quota_bytes=2 * MIB, block_bytes=block, sequence_bytes=4 * block, step_tokens=8)
    if claim % 2 == 0:
        return load
    return replace(
        load,
        running=8,
        waiting=4,
        prefill_tokens=300,
        oldest_at=float(claim),
        used_bytes=32 * MIB,
        running_bytes=32 * MIB,
        wanted_bytes=64 * MIB,
    )


def time_call(call: Callable[[], object], calls: int) -> float:
    """Microseconds per call."""
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e6


def measure_decisions(engines: int, repeats: int) -> dict[str, Summary]:
    """Half of the engines are busy, and every row has changed since it was read last: the worst case."""
    with tempfile.TemporaryDirectory() as folder:
        writer, reader = Ledger.open(Path(folder) / "ledger"), Ledger.open(Path(folder) / "ledger")
        entries = [Entry(make_mixed_load(claim), 64 * MIB, 2) for claim in range(1, engines + 1)]
        rows: list[tuple[Row, Entry]] = []
        for entry in entries:
            row = writer.claim(entry)
            rows.append((row, replace(entry, load=replace(entry.load, claim=row.claim))))

        def write_all() -> None:
            for row, entry in rows:
                row.beat()
                row.write(entry)

        def write_all_and_read() -> None:
            write_all()
            reader.read("cpu")

        load = reader.read("cpu")
        target = set_quotas(load).quotas[0]
        write = [time_call(lambda: rows[0][0].write(rows[0][1]), 500) for _ in range(repeats)]
        both = [time_call(write_all_and_read, 100) for _ in range(repeats)]
        writes = [time_call(write_all, 100) for _ in range(repeats)]
        quotas = [time_call(lambda: set_quotas(load), 200) for _ in range(repeats)]
        settle = [time_call(lambda: settle_quota(load, target), 200) for _ in range(repeats)]
    read = [max(0.0, pair - alone) for pair, alone in zip(both, writes, strict=True)]
    steps = [sum(parts) for parts in zip(write, read, quotas, settle, strict=True)]
    figures = {"write": write, "read": read, "set_quotas": quotas, "settle_quota": settle, "step": steps}
    return {f"{name}_us": summarize(values) for name, values in figures.items()}


def measure_step(rounds: int) -> dict[str, Any]:
    """Milliseconds per step of one engine, contenders in turn."""
    with tempfile.TemporaryDirectory() as folder:
        sharing = EngineSharing(f"{folder}/ledger", "alone", "cpu", 48 * MIB, threads=1, ttft_s=2.0, tpot_s=0.2)
        arguments: dict[str, Any] = {
            "model": str(MODEL),
            "dtype": "bfloat16",
            "max_model_len": 1024,
            "max_num_seqs": 16,
            "enforce_eager": True,
            "kv_cache_memory_bytes": 48 * MIB,
        }
        context = make_fork_server()
        contenders = {
            "vllm": ForkedEngine(context, arguments),
            "guildhall": ForkedEngine(context, arguments | sharing.to_engine_kwargs()),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        try:
            for engine in contenders.values():
                engine.await_ready()
                run_round(engine)
            for _ in range(rounds):
                for name, engine in contenders.items():
                    times[name].append(run_round(engine) / BATCH.output_tokens * 1e3)
        finally:
            for engine in contenders.values():
                engine.kill()
    overhead = [ours / theirs - 1 for ours, theirs in zip(times["guildhall"], times["vllm"], strict=True)]
    return {
        "step_ms": {name: summarize(values) for name, values in times.items()},
        "overhead": summarize(overhead),
    }


def run_round(engine: ForkedEngine) -> float:
    """Seconds for one batch."""
    before = engine.observe().finished
    began = time.monotonic()
    engine.submit(BATCH)
    while engine.observe().finished < before + BATCH.requests:
        time.sleep(0.001)
    return time.monotonic() - began


def main() -> None:
    quick = sys.argv[1:] == ["quick"]
    decisions = {engines: measure_decisions(engines, 3 if quick else 9) for engines in ENGINES}
    for engines, figures in decisions.items():
        print(f"{engines:3} engines: " + ", ".join(f"{name} {value.median:.1f}" for name, value in figures.items()))
    step = measure_step(3 if quick else 15)
    print(f"one engine alone, ms per step: {step['step_ms']}; overhead {step['overhead'].median:.2%}")
    if not quick:
        print(save_result("ledger_step", {"batch": repr(BATCH), "decisions_by_engines": decisions, "alone": step}))


if __name__ == "__main__":
    main()
