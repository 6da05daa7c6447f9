"""What the fork server imports, so that a forked engine need not."""

import vllm.v1.worker.cpu_worker  # noqa: F401
from vllm import EngineArgs, SamplingParams
from vllm.v1.engine.llm_engine import LLMEngine

import deployments.quota_scheduler  # noqa: F401

__all__ = ["EngineArgs", "LLMEngine", "SamplingParams"]
