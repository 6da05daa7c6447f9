"""A node type gets the smallest machine of a cloud that is enough for it, or a refusal that says what is known."""

import pytest

from cluster.machines import choose_machine
from cluster.provider import Cloud
from experts.errors import ConfigurationError
from experts.fleet import NodeType


@pytest.mark.parametrize(
    ("cloud", "node", "name"),
    [
        ("aws", {"cpus": 2, "memory_gib": 8}, "m7i.large"),
        ("aws", {"cpus": 2, "memory_gib": 15}, "r7i.large"),
        ("aws", {"cpus": 96, "memory_gib": 600}, "r7i.24xlarge"),
        ("aws", {"cpus": 96, "memory_gib": 1500}, "r7i.48xlarge"),
        ("aws", {"cpus": 4, "memory_gib": 16, "gpus": 1}, "g6.xlarge"),
        ("aws", {"cpus": 16, "memory_gib": 64, "gpus": 4, "gpu_type": "L4"}, "g6.12xlarge"),
        ("aws", {"cpus": 96, "memory_gib": 1024, "gpus": 8, "gpu_type": "H100", "gpu_memory_gib": 79}, "p5.48xlarge"),
        ("aws", {"cpus": 64, "memory_gib": 512, "gpus": 8, "gpu_type": "A100", "gpu_memory_gib": 39}, "p4d.24xlarge"),
        ("aws", {"cpus": 64, "memory_gib": 512, "gpus": 8, "gpu_type": "A100", "gpu_memory_gib": 79}, "p4de.24xlarge"),
        ("gcp", {"cpus": 6, "memory_gib": 16}, "n2-standard-8"),
        ("gcp", {"cpus": 12, "memory_gib": 85, "gpus": 1, "gpu_type": "A100-40G"}, "a2-highgpu-1g"),
        ("gcp", {"cpus": 16, "memory_gib": 128, "gpus": 1, "gpu_type": "H100"}, "a3-highgpu-1g"),
        ("azure", {"cpus": 4, "memory_gib": 16}, "Standard_D4s_v5"),
        ("azure", {"cpus": 16, "memory_gib": 128, "gpus": 1, "gpu_type": "H100"}, "Standard_NC40ads_H100_v5"),
    ],
)
def test_the_smallest_that_is_enough_is_chosen(cloud: Cloud, node: dict[str, object], name: str) -> None:
    assert choose_machine(cloud, "some", NodeType.model_validate(node)).name == name


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (
            {"cpus": 4, "memory_gib": 16, "gpus": 3},
            r"nodes\.odd: 4 CPUs, 16 GiB and 3 GPUs \(of any type\); it knows 1 T4",
        ),
        ({"cpus": 4, "memory_gib": 16, "gpus": 1, "gpu_type": "B200"}, r"1 GPUs \(B200\)"),
        ({"cpus": 4000, "memory_gib": 16}, r"4000 CPUs, 16 GiB; it knows Standard_D2s_v5"),
    ],
)
def test_what_no_machine_is_enough_for_is_refused(node: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        choose_machine("azure", "odd", NodeType.model_validate(node))
