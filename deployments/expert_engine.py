"""How a replica runs vLLM: its engine inside Ray's LLMServer, and what Ray is told about it."""

import logging
import os

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
from ray.runtime_env import RuntimeEnv
from ray.serve.llm import LLMConfig
from ray.util.placement_group import PlacementGroup
from vllm.config import VllmConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.engine.protocol import EngineClient
from vllm.platforms import current_platform

from deployments.cluster_notes import leave_note, remove_note
from deployments.elastic_kv import add_env_vars, name_segment
from deployments.engine_arguments import plan_engine_arguments
from deployments.engine_sharing import EngineSharing
from deployments.engine_turn import EngineTurn
from deployments.gpu_sharing import start_mps
from deployments.logs import log_event
from experts.fleet import Engine, is_path


class SkipDownload(CallbackBase):
    """Leaves out Ray's download step, which starts a process with all of vLLM to find that a local folder is local."""

    async def on_before_node_init(self) -> None:
        self.ctx.run_init_node = False


class ExpertEngine(VLLMEngine):
    """Ray's vLLM engine that runs the model of a CPU engine inside the engine-core process.

    vLLM gives it a process of its own there, so that the cores of OpenMP can be bound; `plan_engine_arguments` binds
    none. One process less saves the third import of vLLM, which comes after the other two: 15 s of a start of 83 s on
    two cores, and a message over shared memory each way in every step.

    It starts when its turn has come; what it downloads, it has downloaded before.
    """

    def __init__(self, llm_config: LLMConfig, turn: EngineTurn, shares_gpu: bool, elastic: bool) -> None:
        super().__init__(llm_config)
        self._turn = turn
        self._shares_gpu = shares_gpu
        self._elastic = elastic
        self.kv_tokens = 0
        """Tokens that the KV cache holds, once the engine has started."""

    def _start_async_llm_engine(
        self, vllm_engine_args: AsyncEngineArgs, vllm_engine_config: VllmConfig, placement_group: PlacementGroup
    ) -> EngineClient:
        if current_platform.is_cpu():
            vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
        if self._elastic:
            # The engine-core process takes it from here, the workers from their runtime environment.
            parallel, segment = vllm_engine_config.parallel_config, name_segment(self._turn.engine)
            os.environ.update(segment)
            parallel.ray_runtime_env = RuntimeEnv(**add_env_vars(parallel.ray_runtime_env, segment))
        with self._turn.hold("start"):
            if self._shares_gpu:
                self._start_mps()
            client = super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)
        cache = vllm_engine_config.cache_config
        self.kv_tokens = (cache.num_gpu_blocks or 0) * cache.block_size
        return client

    def _start_mps(self) -> None:
        problem = start_mps()
        if problem is None:
            remove_note("mps-off", self._turn.engine)
            return
        log_event("mps_off", logging.WARNING, engine=self._turn.engine, reason=problem, instead="time slices")
        leave_note("mps-off", self._turn.engine, problem)


def plan_llm_config(name: str, engine: Engine, gpu_type: str | None, sharing: EngineSharing) -> LLMConfig:
    """What Ray's LLMServer is told to run for an engine of the fleet file."""
    arguments = plan_engine_arguments(engine, gpu_type, sharing)
    callback = {"callback_config": {"callback_class": SkipDownload}} if is_path(engine.model) else {}
    return LLMConfig(
        model_loading_config={"model_id": name, "model_source": engine.model},
        engine_kwargs=arguments.engine_kwargs,
        accelerator_type=arguments.accelerator_type,
        accelerator_config={"kind": arguments.accelerator_kind},
        # What `deployments.applications` has reserved; Ray sets the workers' share of a GPU by it.
        placement_group_config={"bundle_per_worker": arguments.bundle_per_worker, "strategy": "STRICT_PACK"},
        runtime_env={"env_vars": arguments.env_vars},
        log_engine_metrics=False,
        **callback,
    )
