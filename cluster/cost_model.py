"""What a replica costs: the memory of its weights, KV cache and activations, and the time of its steps.

Steps are measured ones where a profile has them, else a roofline (S. Williams et al., "Roofline", CACM 52(4), 2009) of
the model and its accelerator, in which a replica on a share of a GPU has that share of compute and of bandwidth: what
it keeps when all others on the GPU are busy.
"""

from dataclasses import dataclass
from math import inf

import numpy as np

from cluster.accelerators import CPU_CORE, GPU_MEMORY_SHARE, Accelerator
from cluster.model_shape import ModelShape
from cluster.profile import Floats, MeasuredSteps
from experts.fleet import Engine

GIB = 2**30
# One process's CUDA context with NCCL and cuBLAS, which vLLM's profile of its own memory does not hold.
CUDA_CONTEXT_GIB = 0.5
# CUDA graphs and buffers that do not grow with the model's width.
_GRAPHS_GIB = 0.3
# vLLM's default for max_num_batched_tokens of an online server on a GPU; the widest step it profiles.
_STEP_TOKENS = 8192

# Of peak. Fitted to MuxServe's published A100 profile of LLaMA 7B and 13B on one whole GPU (examples/placement in its
# repository): prefill reaches 0.58 of 312 TFLOP/s, decode 0.58 to 0.6 of 2,039 GB/s.
_COMPUTE_EFFICIENCY = 0.58
_BANDWIDTH_EFFICIENCY = 0.6
# What the host adds to a step with CUDA graphs, and the latency of one all-reduce.
_GPU_STEP_S = 0.001
_ALL_REDUCE_S = 15e-6
# benchmarks/results/overhead.json: 0.28 s for the 47 steps of a pocket expert whose weights take microseconds to read.
_CPU_STEP_S = 0.006

# Weights of a quantized model; 4-bit ones with a scale and a zero point for each 128.
_WEIGHT_BYTES = {"none": 2.0, "fp8": 1.0, "awq": 0.53, "gptq": 0.53, "compressed-tensors": 1.0}


@dataclass(frozen=True, slots=True)
class Build:
    """A model as an engine loads it; `kv_bytes` is for one value."""

    shape: ModelShape
    weight_bytes: float
    embedding_bytes: float
    kv_bytes: float
    adapters: int
    adapter_rank: int

    @staticmethod
    def of(engine: Engine, shape: ModelShape) -> "Build":
        plain = 4.0 if engine.dtype == "float32" else 2.0
        weight_bytes = plain if engine.quantization == "none" else _WEIGHT_BYTES[engine.quantization]
        return Build(shape, weight_bytes, plain, plain, engine.max_adapters, engine.max_adapter_rank)

    @property
    def weights_gib(self) -> float:
        shape = self.shape
        return (shape.body * self.weight_bytes + shape.embeddings * self.embedding_bytes) / GIB


@dataclass(frozen=True, slots=True)
class ReplicaMemory:
    """What a replica needs on each of its GPUs."""

    weights_gib: float
    adapters_gib: float
    activations_gib: float
    kv_gib_per_token: float

    @property
    def fixed_gib(self) -> float:
        return self.weights_gib + self.adapters_gib + self.activations_gib

    def measure_kv_room(self, budget_gib: Floats) -> Floats:
        """Tokens of KV cache that budgets leave; below 0 where the weights do not fit."""
        return (budget_gib - self.fixed_gib) / self.kv_gib_per_token


def compute_memory(build: Build, tensor_parallel: int, max_num_seqs: int) -> ReplicaMemory:
    """Weights, adapter slots, the widest step's activations and a token's KV cache, per GPU."""
    shape = build.shape
    # Hidden states in and out of a layer, gate and up projections, and logits in 32 bits before and after sampling.
    width = 4 * shape.hidden + 2 * shape.intermediate / tensor_parallel
    logits = max_num_seqs * shape.vocabulary * 4 * 2 / tensor_parallel
    return ReplicaMemory(
        weights_gib=build.weights_gib / tensor_parallel,
        adapters_gib=build.adapters * shape.count_adapter(build.adapter_rank) * 2 / tensor_parallel / GIB,
        activations_gib=_GRAPHS_GIB + (_STEP_TOKENS * width * 2 + logits) / GIB,
        kv_gib_per_token=shape.count_kv_values(tensor_parallel) * build.kv_bytes / GIB,
    )


def compute_budget(shares: Floats, gpu_memory_gib: float) -> Floats:
    """GiB that vLLM may use on each GPU; 0 where a share leaves no room for a CUDA context beside it."""
    enough = (1 - GPU_MEMORY_SHARE) * shares * gpu_memory_gib >= CUDA_CONTEXT_GIB
    return np.where(enough, GPU_MEMORY_SHARE * shares * gpu_memory_gib, 0.0)


@dataclass(frozen=True, slots=True)
class Roofline:
    """Step times of a build from what it computes and reads, on `workers` GPUs or CPU cores."""

    build: Build
    accelerator: Accelerator
    workers: int

    def interpolate_prefill(self, shares: Floats, tokens: float) -> Floats:
        """Seconds of one prefill, shape (shares,)."""
        shape = self.build.shape
        attention = 2 * shape.layers * shape.heads * shape.head_dim * tokens**2
        per_token = 2 * (shape.body - self._idle_parameters)
        compute = (per_token * tokens + attention) / self._flops
        return np.maximum(compute, self._read(tokens) / self._bandwidth) / shares + self._add_fixed(tokens)

    def interpolate_decode(self, shares: Floats, batches: Floats, context: float) -> Floats:
        """Seconds of one decode step, shape (shares, batches)."""
        build, shape = self.build, self.build.shape
        # On several GPUs each reads its part of the KV cache, or all of it where heads are fewer than GPUs.
        split = 1 if self.accelerator is CPU_CORE else self.workers
        kv_bytes = batches * context * shape.count_kv_values(split) * build.kv_bytes * split
        used = np.array([self._read(batch) for batch in batches])
        compute = 2 * (shape.body - self._idle_parameters + shape.embedding) * batches / self._flops
        seconds = np.maximum((used + kv_bytes) / self._bandwidth, compute)
        return seconds[None, :] / shares[:, None] + self._add_fixed(batches)[None, :]

    @property
    def largest_batch(self) -> float:
        """A roofline has a time for every batch."""
        return inf

    @property
    def _idle_parameters(self) -> float:
        """Parameters that one token leaves alone: the experts inside a model that are not its own."""
        return self.build.shape.embedding + self.build.shape.body - self.build.shape.count_used(1)

    @property
    def _flops(self) -> float:
        return self.workers * self.accelerator.tflops * 1e12 * _COMPUTE_EFFICIENCY

    @property
    def _bandwidth(self) -> float:
        return self.workers * self.accelerator.bandwidth_gb_s * 1e9 * _BANDWIDTH_EFFICIENCY

    def _read(self, tokens: float) -> float:
        """Bytes of weights that a step over `tokens` tokens reads."""
        shape = self.build.shape
        body = shape.count_used(tokens) - shape.embedding
        return body * self.build.weight_bytes + shape.embedding * self.build.embedding_bytes

    def _add_fixed(self, tokens: float | Floats) -> Floats:
        """Seconds that no share shortens: the host's, and two all-reduces per layer."""
        if self.accelerator is CPU_CORE:
            return np.full_like(np.asarray(tokens, float), _CPU_STEP_S)
        if self.workers == 1:
            return np.full_like(np.asarray(tokens, float), _GPU_STEP_S)
        shape = self.build.shape
        moved = 2 * (self.workers - 1) / self.workers * np.asarray(tokens, float) * shape.hidden * 2
        return _GPU_STEP_S + 2 * shape.layers * (_ALL_REDUCE_S + moved / (self.accelerator.link_gb_s * 1e9))


Steps = MeasuredSteps | Roofline
