"""One engine's part in its node, with loads that say what a real engine would: quotas, cores, SLOs and refusals."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.engine_load import MIB, make_load
from cluster.core_slots import SLOTS_PER_CORE
from cluster.ledger import Ledger
from deployments.engine_sharing import EngineSharing, find_slo, write_slo
from deployments.node_share import NodeShare, count_cores
from experts.errors import ConfigurationError

SPAWN = multiprocessing.get_context("fork")


def plan(folder: Path, name: str, kv_mib: int | None = 64, threads: int = 1) -> EngineSharing:
    kv_bytes = kv_mib * MIB if kv_mib is not None else None
    return EngineSharing(str(folder / "ledger"), name, "cpu", kv_bytes, threads, ttft_s=2.0, tpot_s=0.2)


@contextmanager
def share(sharing: EngineSharing) -> Iterator[NodeShare]:
    shared = NodeShare(sharing, ("cpu",), make_load(engine=sharing.engine, threads=sharing.threads))
    try:
        yield shared
    finally:
        shared.close()


def await_quota(folder: Path, engine: str, kv_mib: int) -> None:
    ledger = Ledger.open(folder / "ledger")
    last = time.monotonic() + 2
    while {e.engine: e.quota_bytes for e in ledger.read("cpu").engines}[engine] != kv_mib * MIB:
        assert time.monotonic() < last
        time.sleep(0.005)


def test_an_idle_engine_lends_without_taking_a_step_and_has_its_share_back(tmp_path: Path) -> None:
    with share(plan(tmp_path, "busy")) as busy, share(plan(tmp_path, "idle")) as idle:
        work = make_load(engine="busy", running=8, waiting=8, wanted_bytes=64 * MIB)
        assert idle.settle(make_load(engine="idle")).kv_bytes == 32 * MIB
        busy.settle(work)
        await_quota(tmp_path, "idle", 4)
        assert busy.settle(work).kv_bytes == 60 * MIB
        wants = make_load(engine="idle", running=1, waiting=20, wanted_bytes=64 * MIB)
        assert idle.settle(wants).kv_bytes == 4 * MIB
        back = busy.settle(replace(work, used_bytes=40 * MIB, running_bytes=50 * MIB))
        assert (back.kv_bytes, back.admit) == (50 * MIB, False)
        assert idle.settle(wants).kv_bytes == 14 * MIB
        assert busy.settle(replace(work, used_bytes=9 * MIB, running_bytes=9 * MIB)).kv_bytes == 32 * MIB
        assert idle.settle(wants).kv_bytes == 32 * MIB


def test_an_engine_without_shared_memory_has_its_pool_at_once(tmp_path: Path) -> None:
    with share(plan(tmp_path, "a", None)) as first, share(plan(tmp_path, "b", None)) as second:
        for shared in (first, second):
            step = shared.settle(make_load(running=1))
            assert (step.kv_bytes, step.admit, step.tokens) == (64 * MIB, True, 2048)


def test_an_engine_that_would_leave_another_without_room_for_a_sequence_does_not_start(tmp_path: Path) -> None:
    with share(plan(tmp_path, "first", 6)):
        with pytest.raises(ConfigurationError, match=r"engine 'second': .* lacks 2.0 MiB .* sharing.kv_cache_gib"):
            NodeShare(plan(tmp_path, "second", 6), ("cpu",), make_load(engine="second"))
        assert [e.engine for e in Ledger.open(tmp_path / "ledger").read("cpu").engines] == ["first"]


def test_an_slo_that_is_written_while_the_engine_runs_is_in_its_row_within_a_second(tmp_path: Path) -> None:
    sharing = plan(tmp_path, "e")
    with share(sharing) as shared:
        write_slo(sharing, {"ttft_s": 0.5, "tpot_s": 0.05})
        last = time.monotonic() + 1
        while shared.slo.ttft_s != 0.5:
            assert time.monotonic() < last
            time.sleep(0.005)
        shared.settle(make_load(engine="e"))
        (row,) = Ledger.open(tmp_path / "ledger").read("cpu").engines
        assert (row.ttft_s, row.tpot_s) == (0.5, 0.05)
    assert find_slo(sharing).parent == tmp_path


def test_a_step_waits_for_a_slot_but_never_long(tmp_path: Path) -> None:
    cores = count_cores()
    sharing = plan(tmp_path, "waits", None, threads=cores)

    def hold_cores() -> None:
        with share(plan(tmp_path, "holds", None, threads=cores)) as shared:
            share_of_step = replace(shared.settle(make_load()), crowded=True, cores=SLOTS_PER_CORE * cores)
            shared.take_core(share_of_step)
            shared.take_more_cores(share_of_step)
            time.sleep(60)

    holder = SPAWN.Process(target=hold_cores, daemon=True)
    holder.start()
    try:
        with share(sharing) as shared:
            last = time.monotonic() + 5
            while not (step := shared.settle(make_load(running=1, threads=cores))).crowded:
                assert time.monotonic() < last
                time.sleep(0.01)
            time.sleep(0.1)
            began = time.monotonic()
            shared.take_core(step)
            assert 0.2 < time.monotonic() - began < 1
            holder.kill()
            holder.join()
            began = time.monotonic()
            shared.take_core(step)
            assert time.monotonic() - began < 0.2
            assert shared.take_more_cores(step) == cores
            shared.give_cores_back()
    finally:
        holder.kill()
        holder.join()
