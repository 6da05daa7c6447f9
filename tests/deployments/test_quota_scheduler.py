"""Two real engines on one ledger: memory goes to the busy one and back, and a killed one's share to the other."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.forked_engine import Batch, ForkedEngine, make_fork_server
from cluster.ledger import Ledger
from cluster.node_load import EngineLoad
from deployments.engine_sharing import EngineSharing
from tests.conftest import ROOT

pytestmark = pytest.mark.engine

# Blocks of 384 KiB and 128 tokens: 64 of them; a sequence of full length has 8, the requests below 4.
KV_BYTES = 24 * 2**20
REQUESTS = Batch(requests=24, prompt_tokens=300, output_tokens=150)


@dataclass(slots=True)
class Node:
    ledger: Ledger
    engines: dict[str, ForkedEngine]

    def observe(self) -> dict[str, EngineLoad]:
        """The engines' rows; together they never have more than there is."""
        load = self.ledger.read_settled("cpu")
        assert sum(max(engine.quota_bytes, engine.used_bytes) for engine in load.engines) <= KV_BYTES
        return {engine.engine: engine for engine in load.engines}

    def await_true(self, condition: Callable[[dict[str, EngineLoad]], bool], timeout_s: float = 60) -> float:
        began = time.monotonic()
        while not condition(self.observe()):
            assert time.monotonic() - began < timeout_s, self.observe()
            time.sleep(0.005)
        return time.monotonic() - began


def plan_engine(ledger: Path, name: str) -> dict[str, Any]:
    sharing = EngineSharing(str(ledger), name, "cpu", KV_BYTES, threads=1, ttft_s=2.0, tpot_s=0.2)
    return {
        "model": str(ROOT / "experts/pocket/weights/base"),
        "dtype": "bfloat16",
        "max_model_len": 1024,
        "max_num_seqs": 16,
        "enforce_eager": True,
        "kv_cache_memory_bytes": KV_BYTES,
        **sharing.to_engine_kwargs(),
    }


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    path = tmp_path_factory.mktemp("node") / "ledger"
    context = make_fork_server()
    engines = {name: ForkedEngine(context, plan_engine(path, name)) for name in ("calm", "busy")}
    try:
        for engine in engines.values():
            engine.await_ready()
        yield Node(Ledger.open(path), engines)
    finally:
        for engine in engines.values():
            engine.kill()


def test_memory_goes_to_the_busy_engine_and_back_and_no_request_is_lost(node: Node) -> None:
    busy, calm = node.engines["busy"], node.engines["calm"]
    half = KV_BYTES // 2
    node.await_true(lambda rows: len(rows) == 2)
    busy.submit(REQUESTS)
    node.await_true(lambda rows: rows["busy"].quota_bytes > 1.5 * half)
    calm.submit(REQUESTS)
    # Both want more than there is: each comes to its half while the other works on.
    node.await_true(lambda rows: all(row.quota_bytes == half for row in rows.values()))
    node.await_true(lambda rows: all(engine.observe().finished == 24 for engine in (busy, calm)))
    assert [engine.observe().tokens for engine in (busy, calm)] == [24 * 150, 24 * 150]


def test_a_killed_engine_gives_its_share_back_within_a_second_and_the_other_never_stalls(node: Node) -> None:
    busy, calm = node.engines["busy"], node.engines["calm"]
    before = calm.observe().finished
    for engine in (busy, calm):
        engine.submit(REQUESTS)
    node.await_true(lambda rows: all(row.running and row.quota_bytes == KV_BYTES // 2 for row in rows.values()))
    calm.forget_pauses()
    busy.kill()
    assert node.await_true(lambda rows: list(rows) == ["calm"]) < 1
    node.await_true(lambda rows: rows["calm"].quota_bytes > 0.9 * KV_BYTES)
    node.await_true(lambda rows: calm.observe().finished == before + REQUESTS.requests)
    assert calm.observe().longest_pause_s < 1
