"""vLLM's own schedulers under the node's quotas: what is above the quota is withheld from the block pool.

Preemption and prefix caching stay vLLM's; a withheld block is one that nobody gets. Given to vLLM as `scheduler_cls`
by `deployments.engine_sharing`, it runs in the engine-core process.
"""

import math
import os
import time
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.v1.core.kv_cache_utils import KVCacheBlock
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.metrics.stats import SchedulerStats
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request

from cluster.node_load import EngineLoad
from deployments.engine_sharing import ADDITIONAL_CONFIG_KEY, EngineSharing
from deployments.kv_pages import find_pages
from deployments.node_share import NodeShare

# Weight of the newest step or answer in a running mean.
_NEWEST = 0.1
# A step of fewer tokens says more of the step than of its tokens.
_PREFILL_STEP_TOKENS = 64
# The first steps of a process allocate and compile; they took 6 s where later ones took 5 ms.
_WARM_UP_STEPS = 3
# Between two looks at the ledger while no request comes or goes: a hundred times what a look takes, which is 0.1 ms
# beside three other engines and 2 ms beside 31; a step of the pocket base takes 4 ms.
_LOOK_S = (0.01, 0.1)
_LOOK_TIMES = 100
# A step that takes less on one core is not worth a second: its threads would wait for each other in every layer.
_MORE_CORES_S = 0.006
# vLLM's loop asks again at once while requests wait and none may run: a pause keeps the core for those that do.
_NOTHING_TO_RUN_S = 0.001


class _Quotas(Scheduler):
    """What both schedulers have in common; `Scheduler` is the one of the two that vLLM chooses."""

    max_num_running_reqs: int
    max_num_scheduled_tokens: int

    def __init__(self, vllm_config: VllmConfig, kv_cache_config: KVCacheConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(vllm_config, kv_cache_config, *args, **kwargs)
        sharing = EngineSharing(**vllm_config.additional_config[ADDITIONAL_CONFIG_KEY])
        self._sharing = sharing
        self._pool = self.kv_cache_manager.block_pool
        # Without the one that vLLM keeps as a placeholder, which is never written.
        self._blocks = self._pool.num_gpu_blocks - 1
        self._block_bytes = kv_cache_config.kv_cache_tensors[0].size // self._pool.num_gpu_blocks
        self._sequence_blocks = min(self._blocks, self._count_blocks(self.max_model_len))
        self._request_blocks = float(self._sequence_blocks)
        self._most_running = self.max_num_running_reqs
        self._most_tokens = self.max_num_scheduled_tokens
        self._withheld: list[KVCacheBlock] = []
        self._wall_to_monotonic = time.monotonic() - time.time()
        self._step_began_at = self._stepped_at = time.monotonic()
        self._step_s = self._decode_step_s = self._token_s = self._answer_tokens = 0.0
        self._threads = sharing.threads
        self._step_tokens = self._steps = 0
        self._counts, self._looked_at, self._look_after_s = (0, 0), 0.0, 0.0
        self._pages = find_pages(vllm_config, kv_cache_config) if sharing.kv_bytes is not None else None
        if self._pages is not None:
            # vLLM has filled the whole pool with zeros.
            self._pages.release(range(self._pool.num_gpu_blocks))
        self._share = NodeShare(sharing, _find_devices(sharing, vllm_config), self._observe())
        self._look()

    def schedule(self, throttle_prefills: bool = False) -> SchedulerOutput:
        counts, now = (len(self.running), len(self.waiting)), time.monotonic()
        if counts != self._counts or now > self._looked_at + self._look_after_s:
            self._counts, self._looked_at = counts, now
            self._look()
        self._share.take_core(self._step_share)
        self._step_began_at = time.monotonic()
        output = super().schedule(throttle_prefills)
        if output.total_num_scheduled_tokens:
            self._use_cores(output.total_num_scheduled_tokens)
            return output
        self._share.give_cores_back()
        if self.waiting and not self.running:
            time.sleep(_NOTHING_TO_RUN_S)
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        outputs = super().update_from_output(scheduler_output, model_runner_output)
        self._share.give_cores_back()
        self._measure(scheduler_output.total_num_scheduled_tokens)
        if not self.requests:
            self._share.end_work(self._observe())
            self._looked_at = 0.0
        return outputs

    def reset_prefix_cache(self, *args: Any, **kwargs: Any) -> bool:
        # vLLM resets only where no block is in use, as a withheld one seems to be.
        self._withhold(0)
        self._looked_at = 0.0
        return super().reset_prefix_cache(*args, **kwargs)

    def make_stats(self, *args: Any, **kwargs: Any) -> SchedulerStats | None:
        stats = super().make_stats(*args, **kwargs)
        if stats is not None:
            stats.kv_cache_usage -= len(self._withheld) / self._blocks
        return stats

    def shutdown(self) -> None:
        self._share.close()
        super().shutdown()

    def _free_request(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        self._answer_tokens = _update_mean(self._answer_tokens, request.num_output_tokens)
        self._request_blocks = _update_mean(self._request_blocks, self._count_blocks(request.num_tokens))
        return super()._free_request(request, *args, **kwargs)

    def _look(self) -> None:
        """Say how things stand, see how they stand with the others, and keep to what follows."""
        began_at = time.monotonic()
        share = self._step_share = self._share.settle(self._observe())
        self._withhold(self._blocks - share.kv_bytes // self._block_bytes)
        self.max_num_scheduled_tokens = share.tokens
        self.max_num_running_reqs = self._most_running if share.admit else max(1, len(self.running))
        self._look_after_s = min(max(_LOOK_S[0], _LOOK_TIMES * (time.monotonic() - began_at)), _LOOK_S[1])

    def _use_cores(self, tokens: int) -> None:
        """Run the step on one thread, or on more where it is long enough and cores are free."""
        if self._sharing.device != "cpu":
            return
        brief = max(self._decode_step_s, tokens * self._token_s) < _MORE_CORES_S
        threads = 1 if self._step_share.crowded and brief else self._share.take_more_cores(self._step_share)
        if threads != self._threads:
            self._threads = threads
            # vLLM puts a function that does nothing in the place of `torch.set_num_threads`.
            torch._C.set_num_threads(threads)

    def _withhold(self, blocks: int) -> None:
        """Take free blocks from the pool or give them back, until as many are withheld, or none is free."""
        missing = blocks - len(self._withheld)
        if missing > 0:
            free = min(missing, self._pool.get_num_free_blocks())
            taken = self._pool.get_new_blocks(free)
            self._withheld += taken
            if self._pages is not None:
                self._pages.release(block.block_id for block in taken)
        elif missing < 0:
            back = self._withheld[missing:]
            del self._withheld[missing:]
            self._pool.free_blocks(back)

    def _observe(self) -> EngineLoad:
        """The engine's load now; its row adds claim, device and quota."""
        running_blocks = prefill_tokens = 0
        for request in self.running:
            running_blocks += self._count_longest(request)
            prefill_tokens += max(0, request.num_prompt_tokens - request.num_computed_tokens)
        wanted_blocks = running_blocks
        oldest_at = None
        seats = self._most_running - len(self.running)
        for queue in (self.waiting, self.skipped_waiting):
            for request in queue:
                if not seats:
                    break
                seats -= 1
                wanted_blocks += self._count_longest(request)
                prefill_tokens += request.num_tokens - request.num_computed_tokens
                arrived_at = request.arrival_time + self._wall_to_monotonic
                oldest_at = arrived_at if oldest_at is None else min(oldest_at, arrived_at)
        used_blocks = self._blocks - self._pool.get_num_free_blocks() - len(self._withheld)
        size = self._block_bytes
        return EngineLoad(
            engine=self._sharing.engine,
            claim=0,
            device="",
            running=len(self.running),
            waiting=len(self.waiting) + len(self.skipped_waiting),
            prefill_tokens=prefill_tokens,
            oldest_at=oldest_at,
            used_bytes=used_blocks * size,
            running_bytes=min(running_blocks, self._blocks) * size,
            wanted_bytes=min(wanted_blocks, self._blocks) * size,
            quota_bytes=0,
            pool_bytes=self._blocks * size,
            block_bytes=size,
            sequence_bytes=self._sequence_blocks * size,
            request_bytes=math.ceil(self._request_blocks) * size,
            hold_s=self._answer_tokens * self._step_s,
            step_s=self._step_s,
            token_s=self._token_s,
            stepped_at=self._stepped_at,
            step_tokens=self._step_tokens,
            max_tokens=self._most_tokens,
            threads=self._sharing.threads,
            ttft_s=self._sharing.ttft_s,
            tpot_s=self._sharing.tpot_s,
        )

    def _measure(self, tokens: int) -> None:
        # Steps overlap where vLLM schedules ahead: one lasts from the end of the step before.
        now = time.monotonic()
        seconds = now - max(self._step_began_at, self._stepped_at)
        self._stepped_at, self._step_tokens = now, tokens
        self._steps += tokens > 0
        if not tokens or self._steps <= _WARM_UP_STEPS:
            return
        self._step_s = _update_mean(self._step_s, seconds)
        if tokens >= _PREFILL_STEP_TOKENS:
            self._token_s = _update_mean(self._token_s, seconds / tokens)
        else:
            self._decode_step_s = _update_mean(self._decode_step_s, seconds)

    def _count_longest(self, request: Request) -> int:
        """Blocks that a request holds if it runs to its longest end."""
        tokens = request.num_prompt_tokens + (request.max_tokens or 1)
        return self._count_blocks(min(tokens, self.max_model_len))

    def _count_blocks(self, tokens: int) -> int:
        return sum(-(-tokens // group.kv_cache_spec.block_size) for group in self.kv_cache_config.kv_cache_groups)


class QuotaScheduler(_Quotas):
    """vLLM's scheduler for engines that run one step after another, as all do on CPUs."""


class AsyncQuotaScheduler(_Quotas, AsyncScheduler):
    """vLLM's scheduler that plans a step while the one before runs."""


def _update_mean(mean: float, value: float) -> float:
    return mean + _NEWEST * (value - mean) if mean else value


def _find_devices(sharing: EngineSharing, vllm_config: VllmConfig) -> tuple[str, ...]:
    """The devices that the engine's rows are for."""
    if sharing.device == "cpu":
        return ("cpu",)
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    ranks = vllm_config.parallel_config.tensor_parallel_size
    return tuple(f"gpu{name}" for name in (visible or [str(rank) for rank in range(ranks)])[:ranks])
