"""Runs untrusted programs, each in a process of its own; `sandbox.py` starts this file as `python -I -S`.

One job per line comes in and one report per line goes out. This process never runs a program: it forks a warden, which
forks the runner, reads what the runner writes, kills it at the deadline and reports. Nothing that decides about right
or wrong is in here: expected values stay with the caller, so a program that takes over its runner can only send values.

Where the kernel allows namespaces to everyone, all of this lives in an empty folder that is already deleted, as its
root, without network, System V objects or capabilities, and every runner is alone in its process namespace. Elsewhere
an audit hook refuses files, processes, sockets and signals; a program that reaches C code can pass it (PEP 578).
"""

import bisect
import collections
import contextlib
import ctypes
import functools
import heapq
import itertools
import json
import math
import operator
import os
import re
import resource
import select
import signal
import string
import sys
import time
from typing import Any

# Loaded for programs to import; later nothing else can be loaded.
IMPORTABLE = (bisect, collections, functools, heapq, itertools, json, math, operator, re, string)

_NOBODY = 65534
_NEW_USER, _NEW_PROCESSES, _NEW_NETWORK, _NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
_SET_DUMPABLE, _NO_NEW_PRIVILEGES = 4, 38
_CAPABILITY_VERSION = 0x20080522
# Events that a pure function raises: it compiles, looks at frames and sets attributes.
_HARMLESS = ("compile", "exec", "object.", "sys._getframe", "code.__new__", "builtins.id", "import", "gc.")
_RESULT_FILE = 3
_KILLED_BY_CPU_LIMIT = signal.SIGXCPU


def encode_value(value: object) -> Any:
    """A value in JSON that keeps list, tuple, set and dict apart; only exact types count, and sets are sorted."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind in (list, tuple):
        return {kind.__name__: [encode_value(item) for item in value]}  # type: ignore[attr-defined]
    if kind is set:
        return {"set": sorted((encode_value(item) for item in value), key=json.dumps)}  # type: ignore[attr-defined]
    if kind is dict:
        return {"dict": [[encode_value(key), encode_value(item)] for key, item in value.items()]}  # type: ignore[attr-defined]
    return {"other": kind.__name__}


def decode_value(encoded: Any) -> Any:
    """The value that `encode_value` encoded."""
    if not isinstance(encoded, dict):
        return encoded
    ((kind, content),) = encoded.items()
    if kind == "dict":
        return {decode_value(key): decode_value(item) for key, item in content}
    return {"list": list, "tuple": tuple, "set": set}[kind](decode_value(item) for item in content)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _leave_root(library: ctypes.CDLL) -> None:
    """Be nobody: the kernel limits neither the processes nor the files of root."""
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        # Changing the user has closed /proc/self to its own process.
        _check(library.prctl(_SET_DUMPABLE, 1, 0, 0, 0))


def _enter_namespaces(library: ctypes.CDLL) -> None:
    """Leave the machine's users, network and files behind; the working folder is empty and becomes the root."""
    user, group = os.getuid(), os.getgid()
    _check(library.unshare(_NEW_USER | _NEW_NETWORK | _NEW_IPC))
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    os.chroot(".")


def _drop_capabilities(library: ctypes.CDLL) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _check(library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _check(library.capset(header, (ctypes.c_uint32 * 6)()))


def _refuse(event: str, _: object) -> None:
    if not event.startswith(_HARMLESS):
        raise PermissionError(f"a program may not do this here: {event}")


def _limit(limits: dict[str, int]) -> None:
    size = limits["memory_mib"] << 20
    for kind, bound in (
        (resource.RLIMIT_AS, size),
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _RESULT_FILE + 1),
    ):
        resource.setrlimit(kind, (bound, bound + 1 if kind == resource.RLIMIT_CPU else bound))


def _run_program(job: dict[str, Any]) -> dict[str, Any]:
    """The values of the calls, or what the program raised."""
    try:
        scope: dict[str, Any] = {"__name__": "program"}
        exec(compile(job["source"], "<program>", "exec"), scope)  # noqa: S102
        if job["function"] not in scope:
            raise NameError(f"no function {job['function']!r}")
        called = scope[job["function"]]
        return {"values": [encode_value(called(*decode_value(arguments))) for arguments in job["calls"]]}
    except MemoryError:
        return {"out_of_memory": True}
    except BaseException as error:  # noqa: BLE001 - a program may raise anything, SystemExit included
        return {"raised": f"{type(error).__name__}: {error}"[:200]}


def _be_runner(job: dict[str, Any], pipe: int, nothing: int, library: ctypes.CDLL, hooked: bool) -> None:
    os.setsid()
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    if pipe != _RESULT_FILE:
        os.dup2(pipe, _RESULT_FILE)
    os.closerange(_RESULT_FILE + 1, 64)
    sys.path.clear()
    sys.meta_path.clear()
    if not hooked:
        _drop_capabilities(library)
    _limit(job["limits"])
    if hooked:
        sys.addaudithook(_refuse)
    try:
        message = json.dumps(_run_program(job))
    except (MemoryError, RecursionError, ValueError) as error:
        message = json.dumps({"raised": type(error).__name__})
    rest = job["nonce"].encode() + message.encode()
    while rest:
        rest = rest[os.write(_RESULT_FILE, rest) :]


def _watch(job: dict[str, Any], nothing: int, library: ctypes.CDLL, hooked: bool) -> dict[str, Any]:
    """Run one job in a process of its own and report what it wrote and how it ended; the warden's work."""
    if not hooked:
        _check(library.unshare(_NEW_PROCESSES))
    read_end, write_end = os.pipe()
    runner = os.fork()
    if runner == 0:
        try:
            _be_runner(job, write_end, nothing, library, hooked)
        finally:
            os._exit(0)
    os.close(write_end)
    deadline = time.monotonic() + job["limits"]["wall_s"]
    written, bound = b"", job["limits"]["result_bytes"]
    late = False
    while len(written) <= bound:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([read_end], [], [], left)[0]:
            late = True
            break
        piece = os.read(read_end, 65536)
        if not piece:
            break
        written += piece
    # Written all it may, or closed its end, or is late: in each case its time is over.
    exited, status, used = os.wait4(runner, os.WNOHANG)
    if not exited and not late and len(written) <= bound:
        time.sleep(0.001)
        exited, status, used = os.wait4(runner, os.WNOHANG)
    if not exited:
        os.kill(runner, signal.SIGKILL)
        _, status, used = os.wait4(runner, 0)
    ended = os.waitstatus_to_exitcode(status)
    cpu_s = used.ru_utime + used.ru_stime
    return {
        "written": written[: bound + 1].decode("ascii", "replace"),
        "too_long": len(written) > bound,
        "late": late or ended == -_KILLED_BY_CPU_LIMIT or cpu_s >= job["limits"]["cpu_s"],
        "status": ended,
        "cpu_s": round(cpu_s, 4),
    }


def _serve(jobs: Any) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    library = ctypes.CDLL(None, use_errno=True)
    folder = os.getcwd()
    os.chmod(folder, 0o555)  # noqa: S103 - read-only, and deleted by the next line
    os.rmdir(folder)
    # A container may keep root from changing its user.
    with contextlib.suppress(PermissionError):
        _leave_root(library)
    hooked = "--without-namespaces" in sys.argv
    if not hooked:
        try:
            _enter_namespaces(library)
        except OSError:
            hooked = True
    os.write(1, json.dumps({"isolation": "audit hook" if hooked else "namespaces"}).encode() + b"\n")
    for line in jobs:
        warden = os.fork()
        if warden == 0:
            try:
                report = _watch(json.loads(line), nothing, library, hooked)
                os.write(1, json.dumps(report).encode() + b"\n")
            finally:
                os._exit(0)
        os.waitpid(warden, 0)


if __name__ == "__main__":
    _serve(sys.stdin.buffer)
