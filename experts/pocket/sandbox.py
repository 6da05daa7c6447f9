"""The judge of written code: runs it on hidden calls in a sandbox and compares outside what came back.

The sandbox gets the source and the arguments; the expected values never leave this process. A start of the sandbox
costs 0.1 s and a judgement 10 to 30 ms on a busy core (two forks and a process namespace), so many programs share one
start. Linux only: its limits and namespaces are the kernel's.
"""

import ast
import contextlib
import json
import math
import os
import secrets
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from experts.errors import ConfigurationError
from experts.pocket.sandbox_process import encode_value

Outcome = Literal["passed", "wrong value", "raised", "timed out", "out of memory", "killed"]
_SERVER = Path(__file__).with_name("sandbox_process.py")
_START_S = 20.0
# What the sandbox may take beyond a program's own deadline on a loaded machine, before it counts as taken over.
_GRACE_S = 10.0


@dataclass(frozen=True)
class Limits:
    """What one program may use. Programs of the exercises need a thousandth of it."""

    cpu_s: int = 1
    wall_s: float = 5.0
    memory_mib: int = 256
    result_bytes: int = 65536


@dataclass(frozen=True)
class Call:
    """One hidden test: arguments and the value wanted, of plain types (None, bool, int, float, str and collections)."""

    arguments: tuple[object, ...]
    expected: object


@dataclass(frozen=True)
class Program:
    """Source text, the function in it to call, and the calls that decide."""

    source: str
    function: str
    calls: Sequence[Call]


@dataclass(frozen=True)
class Verdict:
    """What happened; `detail` names the call, the exception or the signal."""

    outcome: Outcome
    detail: str
    cpu_s: float

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


class Sandbox:
    """A context that judges programs one after another; not to be shared between threads.

    `isolation` is "namespaces", or "audit hook" where the kernel forbids them to this user or `namespaces` is False.
    """

    def __init__(self, limits: Limits | None = None, namespaces: bool = True) -> None:
        self._limits = limits or Limits()
        self._namespaces = namespaces
        self._process: subprocess.Popen[bytes] | None = None
        self.isolation = ""

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stop()

    def judge(self, program: Program) -> Verdict:
        """Run one program on its calls."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        nonce = secrets.token_hex(8)
        job = {
            "source": program.source,
            "function": program.function,
            "calls": [encode_value(call.arguments) for call in program.calls],
            "nonce": nonce,
            "limits": asdict(self._limits),
        }
        report = self._exchange(json.dumps(job).encode() + b"\n", self._limits.wall_s + _GRACE_S)
        if report is None:
            self._stop()
            return Verdict("killed", "the sandbox itself ended or went silent", 0.0)
        return judge_report(report, program, nonce)

    def _start(self) -> None:
        self._stop()
        command = [sys.executable, "-I", "-S", str(_SERVER)]
        if not self._namespaces:
            command.append("--without-namespaces")
        folder = tempfile.mkdtemp(prefix="sandbox-")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        hello = self._exchange(b"", _START_S)
        if hello is None:
            self._process.kill()
            why = self._process.communicate()[1].decode(errors="replace").strip()
            raise ConfigurationError(f"the sandbox did not start within {_START_S:.0f} s: {why or 'no message'}")
        self.isolation = str(hello["isolation"])

    def _exchange(self, line: bytes, seconds: float) -> dict[str, Any] | None:
        """Send a line and read one; None when none came, or it was not a report."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        deadline, received, source = time.monotonic() + seconds, b"", self._process.stdout.fileno()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line)
        while not received.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([source], [], [], left)[0]:
                return None
            piece = os.read(source, 1 << 20)
            if not piece:
                return None
            received += piece
        try:
            report = json.loads(received)
        except (ValueError, RecursionError):
            return None
        return report if isinstance(report, dict) else None

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def judge_programs(programs: Sequence[Program], limits: Limits | None = None) -> list[Verdict]:
    """The verdicts, in order, from one start of the sandbox."""
    with Sandbox(limits) as sandbox:
        return [sandbox.judge(program) for program in programs]


def passes_checks(source: str, checks: Sequence[str], limit_s: float = 2.0) -> bool:
    """Whether every check holds for one source; many are judged sooner by one `judge_programs`."""
    return judge_programs([read_program(source, checks)], Limits(wall_s=limit_s))[0].passed


def read_program(source: str, checks: Sequence[str]) -> Program:
    """The program whose checks are texts as `keep([1, 9], 5) == [9]`: one function, called with literals.

    Raises ValueError for a check of another form.
    """
    calls, names = [], set()
    for check in checks:
        match ast.parse(check.removeprefix("assert "), mode="eval").body:
            case ast.Compare(ast.Call(ast.Name(name), arguments, []), [ast.Eq()], [expected]):
                names.add(name)
                calls.append(Call(tuple(map(ast.literal_eval, arguments)), ast.literal_eval(expected)))
            case _:
                raise ValueError(f"a check compares one call with one literal, this one does not: {check}")
    if len(names) != 1:
        raise ValueError(f"checks call one function, these call {sorted(names)}")
    return Program(source, names.pop(), calls)


def judge_report(report: dict[str, Any], program: Program, nonce: str) -> Verdict:
    """What the sandbox observed of one program, against the expected values; programs can make up reports."""
    cpu_s, written = float(report["cpu_s"]), str(report["written"])
    message: object = None
    if written.startswith(nonce) and not report["too_long"]:
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(written.removeprefix(nonce))
    if report["too_long"]:
        return Verdict("wrong value", "the values are longer than the limit", cpu_s)
    if not isinstance(message, dict):
        if report["late"]:
            return Verdict("timed out", "no result before the deadline", cpu_s)
        return Verdict("killed", f"ended with status {report['status']} and no result", cpu_s)
    if "raised" in message:
        return Verdict("raised", str(message["raised"]), cpu_s)
    if "out_of_memory" in message:
        return Verdict("out of memory", "an allocation was refused", cpu_s)
    values = message.get("values")
    if not isinstance(values, list) or len(values) != len(program.calls):
        return Verdict("killed", "a result without one value per call", cpu_s)
    for number, (value, call) in enumerate(zip(values, program.calls, strict=True), start=1):
        if not _is_same(value, encode_value(call.expected)):
            return Verdict("wrong value", f"call {number}: {_show(value)} instead of {call.expected!r}", cpu_s)
    return Verdict("passed", f"{len(values)} calls", cpu_s)


def _is_same(value: object, expected: object) -> bool:
    """Equal in type and value; floats to nine digits, dictionaries in any order."""
    if isinstance(value, float) and isinstance(expected, float):
        return math.isclose(value, expected, rel_tol=1e-9) or (math.isnan(value) and math.isnan(expected))
    if type(value) is not type(expected):
        return False
    if isinstance(value, dict) and isinstance(expected, dict):
        return value.keys() == expected.keys() and all(
            _is_same(
                *((sorted(side[kind], key=json.dumps) if kind == "dict" else side[kind]) for side in (value, expected))
            )
            for kind in value
        )
    if isinstance(value, list) and isinstance(expected, list):
        return len(value) == len(expected) and all(map(_is_same, value, expected))
    return value == expected


def _show(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
