"""What a run computes on: the device, its precision, and the memory that the run takes at its peak."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from experts.errors import ConfigurationError

GIB = 2**30
# Of what is free when a run begins; the rest is the system's and the allocators' slack.
_USABLE = 0.9
_PROCESS = Path("/proc/self")


@dataclass(frozen=True, slots=True)
class Device:
    """`bf16`: whether matrices are multiplied in bfloat16 by hardware, so that training in it is faster."""

    kind: Literal["cpu", "cuda"]
    name: str
    bf16: bool

    @property
    def precision(self) -> str:
        return "bfloat16" if self.bf16 else "float32"


def choose_device() -> Device:
    """The GPU where there is one, else the CPU. Raises ConfigurationError where several GPUs are visible."""
    import torch

    if not torch.cuda.is_available():
        flags = _read_cpu_flags()
        # One core with AMX, LoRA on two layers: 0.80 of float32's tokens/s at width 192, 1.15 at 512, 1.4 at 1024.
        return Device("cpu", f"CPU, {torch.get_num_threads()} threads", bool(flags & {"amx_bf16", "avx512_bf16"}))
    count = torch.cuda.device_count()
    if count > 1:
        raise ConfigurationError(f"{count} GPUs are visible and a run uses one; set CUDA_VISIBLE_DEVICES=0")
    return Device("cuda", torch.cuda.get_device_name(), torch.cuda.is_bf16_supported(including_emulation=False))


def reset_peak(device: Device) -> None:
    """Begin a new peak: of the GPU's memory, or, where Linux lets it, of the process's."""
    if device.kind == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        # 5 resets the high-water mark (man 5 proc, clear_refs).
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def observe_peak_gib(device: Device) -> float:
    """The most memory taken since the last reset: what torch reserved on the GPU, or the process's resident set."""
    if device.kind == "cuda":
        import torch

        return torch.cuda.max_memory_reserved() / GIB
    try:
        (kib,) = re.findall(r"VmHWM:\s+(\d+) kB", (_PROCESS / "status").read_text())
    except (OSError, ValueError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    return int(kib) * 1024 / GIB


def observe_free_gib(device: Device) -> float:
    """What a run may take where its config names no limit."""
    if device.kind == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0] / GIB * _USABLE
    try:
        (kib,) = re.findall(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except (OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB * _USABLE
    return int(kib) * 1024 / GIB * _USABLE


def _read_cpu_flags() -> set[str]:
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(found[1].split()) if found else set()
