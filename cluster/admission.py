"""Whether a node has the memory that an engine takes when it starts or wakes."""

from collections.abc import Sequence
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True, slots=True)
class StartNeed:
    """What one engine takes at its start: bytes on each of `devices` devices, or of the node's memory with "cpu"."""

    engine: str
    device: str
    bytes_each: int
    devices: int = 1


@dataclass(frozen=True, slots=True)
class Admission:
    """`reason` has what is needed and what was seen free, for people."""

    admitted: bool
    reason: str


def admit_start(need: StartNeed, free: Sequence[int]) -> Admission:
    """Whether an engine may start now; `free` has the free bytes of each device of the kind, one number for a CPU.

    Ray chooses the GPUs, so that enough free ones are necessary and vLLM's own check of the one it got still follows.
    """
    enough = sum(1 for each in free if each >= need.bytes_each)
    wanted = f"{need.bytes_each / GIB:.2f} GiB"
    seen = ", ".join(f"{each / GIB:.2f}" for each in free) or "none"
    if need.device == "cpu":
        reason = f"needs {wanted} of memory, {seen} GiB free"
    else:
        reason = f"needs {wanted} on each of {need.devices} GPUs, free GiB by GPU: {seen}"
    return Admission(enough >= need.devices, reason)
