"""What accelerators can do, by the name that Ray gives them."""

from dataclasses import dataclass

# What vLLM gets of a replica's share of a GPU, its own default for a whole one; the rest is for the CUDA context, CUDA
# graphs and activations beyond its profile.
GPU_MEMORY_SHARE = 0.92


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One GPU, or one core of a CPU.

    `memory_gib` is rounded down from what the driver reports; `tflops` is dense, 16 bits wide; `link_gb_s` is one
    direction of the link between GPUs of one machine, NVLink in groups of `nvlink_group` (1: none, PCIe then).
    """

    memory_gib: float
    bandwidth_gb_s: float
    tflops: float
    link_gb_s: float
    nvlink_group: int


# NVIDIA's data sheets: V100 (2020), T4 (2019), A10 and AWS's G5 page for the A10G, L4 (2023), L40S (2023), A100 (2021),
# H100 SXM (2023), H200 (2024), B200 as in the DGX B200 (2024). Ray does not tell the memory sizes of V100 and A100
# apart, so the smaller one stands for both; `gpu_memory_gib` of a node type goes before this table.
ACCELERATORS = {
    "V100": Accelerator(15.7, 900, 125, 150, 8),
    "T4": Accelerator(14.5, 320, 65, 16, 1),
    "A10G": Accelerator(22, 600, 70, 32, 1),
    "L4": Accelerator(22, 300, 121, 32, 1),
    "L40S": Accelerator(44, 864, 362, 32, 1),
    "A100": Accelerator(39, 1555, 312, 300, 8),
    "A100-40G": Accelerator(39, 1555, 312, 300, 8),
    "A100-80G": Accelerator(79, 2039, 312, 300, 8),
    "H100": Accelerator(79, 3350, 989, 450, 8),
    "H200": Accelerator(139, 4800, 989, 450, 8),
    "B200": Accelerator(178, 8000, 2250, 900, 8),
}

CPU = "cpu"
# One core of the Xeon that the pocket fleet's results name, as vLLM uses it: low on purpose, measure with a profile.
CPU_CORE = Accelerator(0.0, 8, 0.05, 0.0, 1)
