"""The process of a TimedEngine: one JSON message per line in, one per line out, until its input ends."""

import asyncio
import json
import os
import random
import sys
import time
from typing import Any, TextIO

# Below them vocabularies keep their special tokens.
_FIRST_TOKEN = 100


def main() -> None:
    """Start the engine that the first line describes, then run rounds."""
    # vLLM logs to standard output, which belongs to the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    setup = json.loads(sys.stdin.readline())
    if setup["cores"] is not None:
        os.sched_setaffinity(0, setup["cores"])
    asyncio.run(_serve(setup, answers))


async def _serve(setup: dict[str, Any], answers: TextIO) -> None:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    arguments = AsyncEngineArgs(model=setup["model"], **setup["engine_kwargs"])
    config = arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)
    if setup["one_process"]:
        config.parallel_config.distributed_executor_backend = "uni"
    engine = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
    try:
        cache = config.cache_config
        _write(answers, {"blocks": cache.num_gpu_blocks, "block_tokens": cache.block_size})
        loop = asyncio.get_running_loop()
        round_number = 0
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            message = json.loads(line)
            round_number += 1
            times = await asyncio.gather(
                *(
                    _answer(engine, f"{round_number}-{place}", message["begin_at"], *row)
                    for place, row in enumerate(message["requests"])
                )
            )
            _write(answers, {"answers": times})
    finally:
        engine.shutdown()


async def _answer(
    engine: Any, name: str, begin_at: float, at_s: float, prompt_tokens: int, output_tokens: int
) -> list[float]:
    """When each token of one answer came."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    vocabulary = engine.model_config.get_vocab_size()
    draw = random.Random(f"{begin_at} {name}")  # noqa: S311  # never the same prompt: the prefix cache would have it
    prompt = [draw.randrange(min(_FIRST_TOKEN, vocabulary - 1), vocabulary) for _ in range(prompt_tokens)]
    sampling = SamplingParams(
        max_tokens=output_tokens, ignore_eos=True, temperature=0.0, output_kind=RequestOutputKind.DELTA
    )
    await asyncio.sleep(begin_at + at_s - time.monotonic())
    times: list[float] = []
    async for output in engine.generate({"prompt_token_ids": prompt}, sampling, name):
        now = round(time.monotonic() - begin_at, 5)
        times += [now] * len(output.outputs[0].token_ids)
    return times


def _write(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
