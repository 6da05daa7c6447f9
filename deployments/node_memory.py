"""What an engine takes of its node's memory at its start, and what is free there."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from cluster.admission import GIB, StartNeed
from cluster.cost_model import Build, compute_memory
from cluster.model_shape import find_shape
from deployments.engine_arguments import plan_engine_arguments
from deployments.logs import log_event
from experts.errors import ConfigurationError
from experts.fleet import Engine

# Pages of its own (Private_Dirty) that the engine-core process of a pocket expert has: 511 to 528 MB, of which its
# weights are 4.
ENGINE_PROCESS_GIB = 0.5
CGROUPS = Path("/sys/fs/cgroup")
# By version of the kernel's interface: limit, use, and where the reclaimable page cache is told, under which key.
_CGROUP_FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def plan_start_need(name: str, engine: Engine) -> StartNeed | None:
    """What an engine's start takes; None on a GPU that cannot be asked. Unknown weights count as nothing."""
    if engine.device == "cpu":
        try:
            weights_gib = Build.of(engine, find_shape(engine.model, {})).weights_gib
        except ConfigurationError:
            weights_gib = 0.0
        return StartNeed(name, "cpu", int((weights_gib + engine.kv_cache_gib + ENGINE_PROCESS_GIB) * GIB))
    totals = [memory.total for memory in _observe_gpus()]
    if not totals:
        return None
    # What vLLM itself asks of the device before it profiles; with elastic KV memory it asks for nothing, and what an
    # engine needs is what is not KV cache.
    share = plan_engine_arguments(engine).engine_kwargs["gpu_memory_utilization"]
    need = _plan_fixed_bytes(engine) if engine.elastic_kv is not None else int(share * min(totals))
    return StartNeed(name, "gpu", need, engine.tensor_parallel)


def _plan_fixed_bytes(engine: Engine) -> int:
    """Weights, adapters and activations on each GPU; 0 of a model of unknown size."""
    try:
        build = Build.of(engine, find_shape(engine.model, {}))
    except ConfigurationError:
        return 0
    return int(compute_memory(build, engine.tensor_parallel, engine.max_num_seqs).fixed_gib * GIB)


def observe_free(device: str) -> Sequence[int]:
    """Free bytes: of the node within its container's limit for "cpu", else of every GPU of the node."""
    if device != "cpu":
        return [memory.free for memory in _observe_gpus()]
    free = psutil.virtual_memory().available
    room = read_cgroup_room(CGROUPS)
    return [free if room is None else min(free, room)]


def read_cgroup_room(cgroups: Path) -> int | None:
    """Bytes that the container may still take; None without a limit, or where the kernel does not tell."""
    for limit_file, usage_file, stat_file, key in _CGROUP_FILES:
        try:
            limit, usage = ((cgroups / name).read_text().strip() for name in (limit_file, usage_file))
            stat = dict(line.split() for line in (cgroups / stat_file).read_text().splitlines())
        except (OSError, ValueError):
            continue
        return None if limit == "max" else int(limit) - int(usage) + int(stat.get(key, 0))
    return None


def _observe_gpus() -> list[Any]:
    """NVML's memory of every GPU of the node; none where NVML does not answer, which the log says."""
    # The copy of pynvml that vLLM ships is there wherever vLLM is.
    from vllm.third_party import pynvml

    try:
        pynvml.nvmlInit()
        try:
            count = pynvml.nvmlDeviceGetCount()
            return [pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(at)) for at in range(count)]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        log_event("gpu_memory_unknown", logging.WARNING, error=str(error))
        return []
