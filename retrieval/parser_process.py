"""Parsing in a process of its own, with bounded time and memory, so that a hostile document costs itself only.

A hundred thousand nested <div> take Lexbor minutes, a page of a PDF can unfold into gigabytes, and a crash of PDFium
is a crash of its process. The child is kept for the next document and replaced when it ended. It answers in JSON,
never in pickles: what meets hostile bytes is not believed.
"""

import json
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Self

from retrieval.document import DOCUMENT_BYTES, Block, CannotRead, Content, Section
from retrieval.parsing import parse_content

# A book of 1,000 pages takes PDFium some seconds.
PARSE_TIMEOUT_S = 60.0
# Lexbor's tree of a page takes ten times its size, the tokens of ordinary Markdown six times.
PARSE_BYTES = 1 << 30
# JSON of the longest text allowed, each character escaped at its longest.
_ANSWER_BYTES = 8 * DOCUMENT_BYTES

_OUT_OF_MEMORY = 77  # The exit code by which the child says so.
_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from retrieval.parser_process import main; main()"


class ParserProcess:
    """One child process at a time, started when first needed; for one thread. Use as a context manager."""

    def __init__(self, timeout_s: float = PARSE_TIMEOUT_S, memory_bytes: int = PARSE_BYTES) -> None:
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def parse(self, suffix: str, data: bytes, name: str) -> Content:
        """`parse_content` over there; raises CannotRead, also when the child ran out of time or memory or crashed."""
        child = self._child or self._start()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            _send(child.stdin, json.dumps({"suffix": suffix, "name": name}).encode())
            _send(child.stdin, data)
            answer = _receive(child.stdout, _ANSWER_BYTES)
        except (OSError, EOFError) as error:
            raise CannotRead(self._describe_end()) from error
        found = json.loads(answer)
        if "reason" in found:
            raise CannotRead(found["reason"])
        return _load_content(found)

    def close(self) -> None:
        """End the child; the next document starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):  # What it had not read when it ended.
                    pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        limits = json.dumps({"timeout_s": self._timeout_s, "memory_bytes": self._memory_bytes})
        self._child = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path), limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        return self._child

    def _describe_end(self) -> str:
        child = self._child
        assert child is not None
        with suppress(subprocess.TimeoutExpired):
            child.wait(timeout=1.0)
        code = child.returncode
        self.close()
        if code == -signal.SIGALRM:
            return f"takes over {self._timeout_s:g} s to parse; split it or convert it to plain text"
        if code == _OUT_OF_MEMORY:
            return f"takes over {self._memory_bytes >> 20} MiB to parse; split it or convert it to plain text"
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return (
            f"ended its parser ({how}), which a damaged document does, or one that unfolds to over "
            f"{self._memory_bytes >> 20} MiB; save it again or convert it to plain text"
        )


def main() -> None:
    """The child: documents in on standard input, contents out, until the input ends."""
    limits = json.loads(sys.argv[2])
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits["memory_bytes"], limits["memory_bytes"]))
    # Ends the process also inside native code, and when the parent is gone. A terminal's Ctrl-C is the parent's affair.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            request = json.loads(_receive(requests, DOCUMENT_BYTES))
            data = _receive(requests, DOCUMENT_BYTES)
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, limits["timeout_s"])
        try:
            answer = _answer(request["suffix"], data, request["name"])
        except MemoryError:
            sys.exit(_OUT_OF_MEMORY)  # Here and not in an answer: after this, nothing in the process is sure.
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, answer)


def _answer(suffix: str, data: bytes, name: str) -> bytes:
    try:
        found: dict[str, Any] = asdict(parse_content(suffix, data, name))
    except CannotRead as error:
        found = {"reason": str(error)}
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")


def _load_content(found: dict[str, Any]) -> Content:
    return Content(
        found["title"],
        tuple(
            Section(section["title"], section["anchor"], tuple(Block(**block) for block in section["blocks"]))
            for section in found["sections"]
        ),
    )


def _send(pipe: Any, data: bytes) -> None:
    pipe.write(len(data).to_bytes(8))
    pipe.write(data)
    pipe.flush()


def _receive(pipe: Any, limit: int) -> bytes:
    """The next message; raises EOFError when the other side ended, or sends more than `limit`."""
    head = pipe.read(8)
    if len(head) < 8 or (size := int.from_bytes(head)) > limit:
        raise EOFError
    data: bytes = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
