"""One vLLM engine in a process of its own, without Ray: given requests at given times, it says when each token came.

What `guildhall profile` and the benchmarks of shared nodes measure with. Prompts are random token ids, answers run to
the length that is asked for, and the times are of one clock for all engines of a machine (`time.monotonic`).
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from experts.errors import Unavailable

# Imports of vLLM take 15 s on two idle cores, and several engines start at once; a GPU's graphs take minutes.
START_TIMEOUT_S = 600.0
STOP_TIMEOUT_S = 30.0
LOG_CHARS = 4000


@dataclass(frozen=True, slots=True)
class EngineSetup:
    """What the process runs: vLLM's arguments, variables that replace those of this process (None: unset), cores."""

    model: str
    engine_kwargs: dict[str, Any]
    env_vars: dict[str, str | None] = field(default_factory=dict)
    cores: tuple[int, ...] | None = None
    # The model in the engine-core process, as Guildhall's CPU replicas have it; False: as vLLM decides.
    one_process: bool = True


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """A request that is sent `at_s` after its round's beginning."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """When the tokens of an answer came, in seconds after its round's beginning."""

    token_times_s: tuple[float, ...]

    @property
    def first_s(self) -> float:
        return self.token_times_s[0]

    @property
    def end_s(self) -> float:
        return self.token_times_s[-1]


@dataclass(frozen=True, slots=True)
class KvCache:
    """The KV cache that an engine has."""

    blocks: int
    block_tokens: int

    @property
    def tokens(self) -> int:
        return self.blocks * self.block_tokens


class TimedEngine:
    """A started engine; `await_ready` before the first round. Raises Unavailable when its process ends or is late."""

    def __init__(self, setup: EngineSetup) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in setup.env_vars}
        environment |= {name: value for name, value in setup.env_vars.items() if value is not None}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the engine
        self._process = subprocess.Popen(
            [sys.executable, "-m", "deployments.timed_engine_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            text=True,
        )
        self._send(asdict(setup))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def await_ready(self) -> KvCache:
        return KvCache(**self._receive(START_TIMEOUT_S))

    def begin_round(self, requests: Sequence[TimedRequest], begin_at: float | None = None) -> None:
        """Send requests; their times count from `begin_at` of the monotonic clock, else from now."""
        at = time.monotonic() if begin_at is None else begin_at
        rows = [(request.at_s, request.prompt_tokens, request.output_tokens) for request in requests]
        self._send({"begin_at": at, "requests": rows})

    def end_round(self, timeout_s: float) -> tuple[TimedAnswer, ...]:
        """The answers of the round, in order of their requests."""
        return tuple(TimedAnswer(tuple(times)) for times in self._receive(timeout_s)["answers"])

    def close(self) -> None:
        """End the process and what it started."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._log.close()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed("ended") from None

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        if not ready:
            raise self._failed(f"said nothing for {timeout_s:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise self._failed("ended")
        message: dict[str, Any] = json.loads(line)
        return message

    def _failed(self, what: str) -> Unavailable:
        self._log.seek(0)
        log = self._log.read().decode(errors="replace")
        # What follows the first traceback is what fell with it.
        begin = log.find("Traceback")
        told = log[begin : begin + LOG_CHARS] if begin >= 0 else log[-LOG_CHARS:]
        return Unavailable(f"the engine's process {what}; mend what it said:\n{told.strip()}")
