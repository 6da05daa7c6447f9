"""CPU and GPU differ only in what `plan_engine_arguments` says."""

from dataclasses import fields

import pytest

from deployments.engine_arguments import plan_engine_arguments
from experts.fleet import Engine


def test_cpu_engine_holds_its_memory_and_threads() -> None:
    arguments = plan_engine_arguments(Engine(model="m", kv_cache_gib=0.25, cpus=2, max_model_len=1024))
    assert arguments.accelerator_kind == "cpu"
    assert arguments.bundle_per_worker == {"CPU": 2}
    assert arguments.engine_kwargs["kv_cache_memory_bytes"] == 2**28
    assert arguments.engine_kwargs["enforce_eager"] is True
    assert arguments.engine_kwargs["max_model_len"] == 1024
    assert arguments.env_vars["OMP_NUM_THREADS"] == "2"
    assert arguments.env_vars["OMP_WAIT_POLICY"] == "passive"


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_gpu_engine_takes_its_share_of_compute_and_memory(share: float) -> None:
    arguments = plan_engine_arguments(Engine(model="m", device="gpu", gpus=share, cpus=2), "H100")
    assert arguments.accelerator_kind == "gpu"
    assert arguments.accelerator_type == "H100"
    assert arguments.bundle_per_worker == {"GPU": share, "CPU": 2}
    assert arguments.engine_kwargs["gpu_memory_utilization"] == pytest.approx(0.92 * share)
    assert "kv_cache_memory_bytes" not in arguments.engine_kwargs
    assert "enforce_eager" not in arguments.engine_kwargs


def test_gpu_engine_splits_over_its_gpus_and_quantizes_as_the_file_says() -> None:
    engine = Engine(model="m", device="gpu", tensor_parallel=4, quantization="fp8", dtype="bfloat16")
    arguments = plan_engine_arguments(engine)
    assert arguments.engine_kwargs["tensor_parallel_size"] == 4
    assert arguments.bundle_per_worker == {"GPU": 1, "CPU": 0.25}
    assert arguments.engine_kwargs["quantization"] == "fp8"
    assert arguments.engine_kwargs["dtype"] == "bfloat16"


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_adapters_are_enabled_only_where_the_file_allows_some(device: str) -> None:
    with_adapters = plan_engine_arguments(
        Engine.model_validate({"model": "m", "device": device, "max_adapters": 3, "max_adapter_rank": 32})
    )
    assert with_adapters.engine_kwargs["enable_lora"] is True
    assert with_adapters.engine_kwargs["max_loras"] == 3
    assert with_adapters.engine_kwargs["max_lora_rank"] == 32
    assert ("worker_cls" in with_adapters.engine_kwargs) == (device == "cpu")
    without = plan_engine_arguments(Engine.model_validate({"model": "m", "device": device}))
    assert "enable_lora" not in without.engine_kwargs
    assert "worker_cls" not in without.engine_kwargs


@pytest.mark.engine
def test_every_argument_is_one_that_vllm_knows() -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs

    known = {field.name for field in fields(AsyncEngineArgs)}
    for device in ("cpu", "gpu"):
        engine = Engine.model_validate(
            {"model": "m", "device": device, "max_adapters": 1, "quantization": "fp8", "tensor_parallel": 2}
        )
        assert set(plan_engine_arguments(engine).engine_kwargs) <= known


def test_a_replica_reserves_a_bundle_per_worker_on_the_gpu_it_needs() -> None:
    engine = Engine(model="m", device="gpu", gpus=0.5, cpus=4, tensor_parallel=2)
    assert plan_engine_arguments(engine, "H100").placement_bundles == [
        {"GPU": 0.5, "CPU": 2, "accelerator_type:H100": 0.001},
        {"GPU": 0.5, "CPU": 2, "accelerator_type:H100": 0.001},
    ]
    assert plan_engine_arguments(Engine(model="m", cpus=2)).placement_bundles == [{"CPU": 2}]
