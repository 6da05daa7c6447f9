"""vLLM engines that start within seconds: forked from a process that has imported vLLM, to be killed at any time."""

import multiprocessing
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

# The fork server's before it imports vLLM; the model runs in the forked process itself.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "KMP_BLOCKTIME": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
START_TIMEOUT_S = 180.0
_READY, _SUBMITTED, _FINISHED, _TOKENS, _LONGEST_PAUSE_S = range(5)


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that an engine takes at once; `again` puts a new one in the place of each that ends."""

    requests: int
    prompt_tokens: int
    output_tokens: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """What an engine has done since it started; `longest_pause_s` is between two steps while it had requests."""

    submitted: int
    finished: int
    tokens: int
    longest_pause_s: float


def make_fork_server() -> ForkServerContext:
    """The context in which engines are forked; the first engine waits for its imports."""
    os.environ.update(ENVIRONMENT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.forked_engine_process"])
    return context


class ForkedEngine:
    """One engine with vLLM's arguments."""

    def __init__(self, context: ForkServerContext, engine_kwargs: Mapping[str, Any]) -> None:
        self._progress = context.RawArray("d", 5)
        self._commands, commands = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_run, args=(dict(engine_kwargs), commands, self._progress), daemon=True
        )
        self.process.start()
        commands.close()

    def await_ready(self) -> None:
        """Until it takes requests; raises RuntimeError where it does not come to that."""
        last = time.monotonic() + START_TIMEOUT_S
        while not self._progress[_READY]:
            if not self.process.is_alive() or time.monotonic() > last:
                raise RuntimeError(f"the engine did not start (exit code {self.process.exitcode})")
            time.sleep(0.05)

    def submit(self, batch: Batch) -> None:
        """Give it requests."""
        self._commands.send(batch)

    def observe(self) -> Progress:
        """What it has done so far."""
        return Progress(
            int(self._progress[_SUBMITTED]),
            int(self._progress[_FINISHED]),
            int(self._progress[_TOKENS]),
            self._progress[_LONGEST_PAUSE_S],
        )

    def forget_pauses(self) -> None:
        """Measure the longest pause from now on."""
        self._progress[_LONGEST_PAUSE_S] = 0.0

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.join()
        self._commands.close()


def _run(engine_kwargs: dict[str, Any], commands: Connection, progress: Any) -> None:
    from benchmarks.forked_engine_process import EngineArgs, LLMEngine, SamplingParams

    engine = LLMEngine.from_engine_args(EngineArgs(**engine_kwargs))
    draw, count, batches = random.Random(0), 0, dict[str, Batch]()

    def add(batch: Batch) -> None:
        nonlocal count
        count += 1
        prompt = {"prompt_token_ids": [draw.randrange(10, 1000) for _ in range(batch.prompt_tokens)]}
        batches[str(count)] = batch
        engine.add_request(
            str(count),
            prompt,
            SamplingParams(max_tokens=batch.output_tokens, ignore_eos=True, detokenize=False),
        )
        progress[_SUBMITTED] += 1

    # The first steps allocate and compile: seconds that belong to the start.
    add(Batch(1, 130, 2))
    while engine.has_unfinished_requests():
        engine.step()
    batches.clear()
    progress[_SUBMITTED] = 0
    progress[_READY] = 1
    while True:
        while commands.poll(None if not engine.has_unfinished_requests() else 0):
            batch: Batch = commands.recv()
            for _ in range(batch.requests):
                add(batch)
        stepped_at = time.monotonic()
        for output in engine.step():
            if output.finished:
                batch = batches.pop(output.request_id)
                progress[_FINISHED] += 1
                progress[_TOKENS] += len(output.outputs[0].token_ids)
                if batch.again:
                    add(batch)
        progress[_LONGEST_PAUSE_S] = max(progress[_LONGEST_PAUSE_S], time.monotonic() - stepped_at)
