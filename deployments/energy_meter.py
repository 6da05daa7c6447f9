"""Joules by the machine's own meters: NVML on NVIDIA GPUs, RAPL on Linux. Where neither can be read, it says why."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """A counter of energy."""

    @property
    def name(self) -> str: ...

    def read_joules(self) -> float:
        """Joules since some moment in the past."""
        ...


@dataclass(frozen=True, slots=True)
class NoMeter:
    """`reason` says why nothing is measured."""

    reason: str


class RaplMeter:
    """All processor packages together. A counter begins again at its range, which takes minutes; read it more often."""

    name = "RAPL, whole processor packages"

    def __init__(self, packages: Sequence[Path]) -> None:
        self._packages = packages
        self._ranges = [int((package / "max_energy_range_uj").read_text()) for package in packages]
        self._last = self._read_counters()
        self._microjoules = 0

    def read_joules(self) -> float:
        """Joules since the meter was opened."""
        now = self._read_counters()
        for before, after, full in zip(self._last, now, self._ranges, strict=True):
            self._microjoules += after - before if after >= before else after + full - before
        self._last = now
        return self._microjoules / 1e6

    def _read_counters(self) -> list[int]:
        return [int((package / "energy_uj").read_text()) for package in self._packages]


class NvmlMeter:
    """Whole GPUs, by the numbers that the driver gives them."""

    name = "NVML, whole GPUs"

    def __init__(self, gpus: Sequence[int]) -> None:
        # The copy of pynvml that vLLM ships is there wherever vLLM is.
        from vllm.third_party import pynvml

        pynvml.nvmlInit()
        self._nvml = pynvml
        self._gpus = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in gpus]
        self.read_joules()

    def read_joules(self) -> float:
        """Joules since the driver was loaded."""
        return sum(self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) for gpu in self._gpus) / 1e3

    def observe_used_bytes(self) -> int:
        """Memory of the GPUs that is in use, by whomever."""
        return sum(int(self._nvml.nvmlDeviceGetMemoryInfo(gpu).used) for gpu in self._gpus)


def open_cpu_meter(powercap: Path = POWERCAP) -> RaplMeter | NoMeter:
    """The meter of this machine's processors."""
    # Packages are intel-rapl:0, intel-rapl:1, …; what lies deeper is a part of one of them.
    packages = sorted(path for path in powercap.glob("intel-rapl:*") if path.name.count(":") == 1)
    if not packages:
        return NoMeter(f"no RAPL counters in {powercap}")
    try:
        return RaplMeter(packages)
    except PermissionError:
        return NoMeter(f"only root may read {packages[0]}/energy_uj")
    except (OSError, ValueError) as error:
        return NoMeter(f"{packages[0]} cannot be read ({error})")


def open_gpu_meter(gpus: Sequence[int]) -> NvmlMeter | NoMeter:
    """The meter of NVIDIA GPUs."""
    try:
        return NvmlMeter(gpus)
    except Exception as error:  # noqa: BLE001  # the driver's edge: pynvml has a class of its own for each code
        return NoMeter(f"NVML says: {error}")
