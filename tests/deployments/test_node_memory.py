"""What an engine needs and what its node has, in bytes."""

from pathlib import Path

from cluster.admission import GIB
from deployments.node_memory import ENGINE_PROCESS_GIB, observe_free, plan_start_need, read_cgroup_room
from experts.fleet import Engine
from experts.pocket.export import WEIGHTS


def test_cpu_engine_needs_weights_cache_and_its_process() -> None:
    need = plan_start_need("pocket", Engine(model=str(WEIGHTS / "base"), dtype="bfloat16", kv_cache_gib=0.25))
    assert need is not None
    weights_gib = need.bytes_each / GIB - 0.25 - ENGINE_PROCESS_GIB
    files = sum(file.stat().st_size for file in (WEIGHTS / "base").glob("*.safetensors"))
    assert 0.5 < weights_gib * GIB / files < 1.5
    assert (need.device, need.devices) == ("cpu", 1)


def test_model_of_unknown_size_is_admitted_by_its_cache_alone() -> None:
    need = plan_start_need("other", Engine(model="somebody/unknown", kv_cache_gib=1))
    assert need is not None
    assert need.bytes_each == int((1 + ENGINE_PROCESS_GIB) * GIB)


def test_this_machine_has_some_memory_free() -> None:
    (free,) = observe_free("cpu")
    assert 0 < free < 2**50


def test_room_of_a_container_counts_reclaimable_cache_in_both_versions_of_cgroups(tmp_path: Path) -> None:
    assert read_cgroup_room(tmp_path) is None
    (tmp_path / "memory").mkdir()
    for name, text in (
        ("memory/memory.limit_in_bytes", "1000\n"),
        ("memory/memory.usage_in_bytes", "700\n"),
        ("memory/memory.stat", "cache 300\ntotal_inactive_file 200\n"),
    ):
        (tmp_path / name).write_text(text)
    assert read_cgroup_room(tmp_path) == 500
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 50\n")
    (tmp_path / "memory.max").write_text("2000\n")
    assert read_cgroup_room(tmp_path) == 1150
    (tmp_path / "memory.max").write_text("max\n")
    assert read_cgroup_room(tmp_path) is None
