"""The one place where an engine of the fleet file becomes arguments of vLLM and Ray. CPU and GPU differ only here."""

from dataclasses import dataclass
from typing import Any

from cluster.accelerators import GPU_MEMORY_SHARE
from deployments.elastic_kv import ELASTIC_ENV
from deployments.engine_sharing import EngineSharing
from experts.fleet import Engine


@dataclass(frozen=True, slots=True)
class EngineArguments:
    """`engine_kwargs` goes to vLLM, `env_vars` to the replica and its engine processes, the rest to Ray."""

    engine_kwargs: dict[str, Any]
    env_vars: dict[str, str]
    accelerator_kind: str
    accelerator_type: str | None
    bundle_per_worker: dict[str, float]
    workers: int = 1

    @property
    def placement_bundles(self) -> list[dict[str, float]]:
        """What one replica reserves: a bundle per worker, on a GPU of the type that is asked for."""
        kind = {f"accelerator_type:{self.accelerator_type}": 0.001} if self.accelerator_type else {}
        return [self.bundle_per_worker | kind for _ in range(self.workers)]


def plan_engine_arguments(
    engine: Engine, accelerator_type: str | None = None, sharing: EngineSharing | None = None
) -> EngineArguments:
    """Arguments for one replica of an engine; `accelerator_type` is Ray's name of the GPU, if the fleet names one.

    Without `sharing` the engine has vLLM's own scheduler and knows nothing of its node.
    """
    engine_kwargs: dict[str, Any] = {
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "dtype": engine.dtype,
        "enable_prefix_caching": True,
        # A small model that may write white space anywhere in JSON writes it until its tokens are used up.
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
    }
    if sharing is not None:
        engine_kwargs |= sharing.to_engine_kwargs()
    if engine.quantization != "none":
        engine_kwargs["quantization"] = engine.quantization
    if engine.max_adapters:
        engine_kwargs |= {
            "enable_lora": True,
            "max_loras": engine.max_adapters,
            "max_cpu_loras": engine.max_adapters,
            "max_lora_rank": engine.max_adapter_rank,
        }
    env_vars = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    if engine.device == "gpu":
        if engine.sleep is not None:
            engine_kwargs["enable_sleep_mode"] = True
        if engine.gpus < 1:
            env_vars["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = f"{100 * engine.gpus:g}"
        engine_kwargs["tensor_parallel_size"] = engine.tensor_parallel
        # Elastic memory is claimed up to the whole GPU; kvcached maps what is used.
        share = 1.0 if engine.elastic_kv is not None else engine.gpus
        engine_kwargs["gpu_memory_utilization"] = round(GPU_MEMORY_SHARE * share, 4)
        if engine.elastic_kv is not None:
            env_vars |= ELASTIC_ENV
        bundle = {"GPU": engine.gpus, "CPU": engine.cpus / engine.tensor_parallel}
        return EngineArguments(engine_kwargs, env_vars, "gpu", accelerator_type, bundle, engine.tensor_parallel)
    if engine.max_adapters:
        engine_kwargs["worker_cls"] = "deployments.cpu_adapters.AdapterWorker"
    # Compiling takes minutes on a CPU and gains little for small models.
    engine_kwargs["enforce_eager"] = True
    engine_kwargs["kv_cache_memory_bytes"] = int(engine.kv_cache_gib * 2**30)
    threads = max(1, int(engine.cpus))
    env_vars |= {
        "OMP_NUM_THREADS": str(threads),
        # Threads that spin while they wait made two engines on two cores 3 to 5 times slower than one thread each.
        "OMP_WAIT_POLICY": "passive",
        "KMP_BLOCKTIME": "0",
        # Engines share cores; binding would put all of them on the same ones.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    return EngineArguments(engine_kwargs, env_vars, "cpu", None, {"CPU": engine.cpus})
