"""Which machine of a cloud is enough for a node type of the fleet file.

Sizes: https://aws.amazon.com/ec2/instance-types/, https://cloud.google.com/compute/docs/machine-resource and
https://learn.microsoft.com/azure/virtual-machines/sizes/overview. Of two with as
many CPUs and as much memory the cheaper one comes first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cluster.provider import Cloud
from experts.errors import ConfigurationError
from experts.fleet import NodeType


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine type; GPUs as Ray names them, their memory in GB as the maker states it."""

    name: str
    cpus: int
    memory_gib: float
    gpus: int = 0
    gpu_type: str | None = None
    gpu_memory_gb: float = 0

    def is_enough(self, node: NodeType) -> bool:
        """Whether it has what the node type says; GPUs exactly as many, because the others would idle."""
        kind = node.gpu_type is None or node.gpu_type.partition("-")[0] == self.gpu_type
        # A GPU of 80 GB shows 79 to 80 GiB; what the fleet file says may be a little under what the maker states.
        memory = node.gpu_memory_gib is None or node.gpu_memory_gib <= self.gpu_memory_gb
        size = node.cpus <= self.cpus and node.memory_gib <= self.memory_gib
        return size and node.gpus == self.gpus and (not node.gpus or (kind and memory))


def choose_machine(cloud: Cloud, name: str, node: NodeType) -> Machine:
    """The machine of a cloud with the fewest CPUs that is enough for a node type; raises ConfigurationError."""
    enough = [machine for machine in _MACHINES[cloud] if machine.is_enough(node)]
    if enough:
        return min(enough, key=lambda machine: (machine.cpus, machine.memory_gib))
    wanted = f"{node.cpus:g} CPUs, {node.memory_gib:g} GiB"
    if node.gpus:
        of = f" of {node.gpu_memory_gib:g} GiB" if node.gpu_memory_gib is not None else ""
        wanted += f" and {node.gpus} GPUs{of} ({node.gpu_type or 'of any type'})"
        known = ", ".join(
            dict.fromkeys(f"{machine.gpus} {machine.gpu_type}" for machine in _MACHINES[cloud] if machine.gpus)
        )
    else:
        known = ", ".join(machine.name for machine in _MACHINES[cloud] if not machine.gpus)
    raise ConfigurationError(
        f"no machine of {cloud} that Guildhall knows is enough for nodes.{name}: {wanted}; it knows {known}; change "
        "what the node type asks for, or start machines yourself and name them with --provider onprem --host"
    )


def _grow(prefix: str, suffix: str, cpus: tuple[int, ...], gib_per_cpu: float) -> Iterator[Machine]:
    """A family whose machines are named by their CPUs."""
    for count in cpus:
        yield Machine(f"{prefix}{count}{suffix}", count, count * gib_per_cpu)


def _list_ec2(family: str, gib: float, gpu_type: str, gpu_memory_gb: float) -> Iterator[Machine]:
    """A family of Amazon's from .xlarge (4 CPUs) to .48xlarge: one GPU, four at 12 and 24, eight at 48."""
    sizes = ((1, 1), (2, 1), (4, 1), (8, 1), (12, 4), (16, 1), (24, 4), (48, 8))
    for size, gpus in sizes:
        name = f"{family}.{'' if size == 1 else size}xlarge"
        yield Machine(name, 4 * size, gib * size, gpus, gpu_type, gpu_memory_gb)


_EC2_SIZES = (("large", 2), ("xlarge", 4), *((f"{size}xlarge", 4 * size) for size in (2, 4, 8, 12, 16, 24, 48)))

_MACHINES: dict[Cloud, tuple[Machine, ...]] = {
    "aws": (
        *(Machine(f"m7i.{size}", cpus, 4 * cpus) for size, cpus in _EC2_SIZES),
        *(Machine(f"r7i.{size}", cpus, 8 * cpus) for size, cpus in _EC2_SIZES),
        *_list_ec2("g6", 16, "L4", 24),
        *_list_ec2("g5", 16, "A10G", 24),
        *_list_ec2("g6e", 32, "L40S", 48),
        Machine("p4d.24xlarge", 96, 1152, 8, "A100", 40),
        Machine("p4de.24xlarge", 96, 1152, 8, "A100", 80),
        Machine("p5.4xlarge", 16, 256, 1, "H100", 80),
        Machine("p5.48xlarge", 192, 2048, 8, "H100", 80),
        Machine("p5en.48xlarge", 192, 2048, 8, "H200", 141),
    ),
    "gcp": (
        *_grow("n2-standard-", "", (2, 4, 8, 16, 32, 48, 64, 80, 96, 128), 4),
        *_grow("n2-highmem-", "", (2, 4, 8, 16, 32, 48, 64, 80), 8),
        *(Machine(f"g2-standard-{cpus}", cpus, 4 * cpus, 1, "L4", 24) for cpus in (4, 8, 12, 16, 32)),
        Machine("g2-standard-24", 24, 96, 2, "L4", 24),
        Machine("g2-standard-48", 48, 192, 4, "L4", 24),
        Machine("g2-standard-96", 96, 384, 8, "L4", 24),
        *(Machine(f"a2-highgpu-{gpus}g", 12 * gpus, 85 * gpus, gpus, "A100", 40) for gpus in (1, 2, 4, 8)),
        *(Machine(f"a2-ultragpu-{gpus}g", 12 * gpus, 170 * gpus, gpus, "A100", 80) for gpus in (1, 2, 4, 8)),
        *(Machine(f"a3-highgpu-{gpus}g", 26 * gpus, 234 * gpus, gpus, "H100", 80) for gpus in (1, 2, 4, 8)),
    ),
    "azure": (
        *_grow("Standard_D", "s_v5", (2, 4, 8, 16, 32, 48, 64, 96), 4),
        *_grow("Standard_E", "s_v5", (2, 4, 8, 16, 32, 48, 64), 8),
        Machine("Standard_NC4as_T4_v3", 4, 28, 1, "T4", 16),
        Machine("Standard_NC8as_T4_v3", 8, 56, 1, "T4", 16),
        Machine("Standard_NC16as_T4_v3", 16, 110, 1, "T4", 16),
        Machine("Standard_NC64as_T4_v3", 64, 440, 4, "T4", 16),
        Machine("Standard_NC24ads_A100_v4", 24, 220, 1, "A100", 80),
        Machine("Standard_NC48ads_A100_v4", 48, 440, 2, "A100", 80),
        Machine("Standard_NC96ads_A100_v4", 96, 880, 4, "A100", 80),
        Machine("Standard_ND96asr_v4", 96, 900, 8, "A100", 40),
        Machine("Standard_ND96amsr_A100_v4", 96, 1900, 8, "A100", 80),
        Machine("Standard_NC40ads_H100_v5", 40, 320, 1, "H100", 94),
        Machine("Standard_NC80adis_H100_v5", 80, 640, 2, "H100", 94),
        Machine("Standard_ND96isr_H100_v5", 96, 1900, 8, "H100", 80),
        Machine("Standard_ND96isr_H200_v5", 96, 1850, 8, "H200", 141),
    ),
}
