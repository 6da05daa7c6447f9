"""The machines of the running Ray cluster, and which of them stand for a plan's nodes. Needs a connected driver."""

import ray

from cluster.node_matching import ObservedNode, match_nodes
from cluster.ray_node import NODE_TYPE_LABEL
from deployments.cluster_notes import leave_note, read_notes
from experts.fleet import Fleet

_TYPE_RESOURCE = "accelerator_type:"


def match_cluster_nodes(fleet: Fleet) -> dict[str, str]:
    """The id of the running machine for each node that engines are placed on; the cluster remembers it.

    Raises ConfigurationError where none is left for one.
    """
    before = {note.about: str(note.body) for note in read_notes("machines")}
    matched = match_nodes(fleet, observe_nodes(), before)
    for name, machine in matched.items():
        leave_note("machines", name, machine)
    return matched


def observe_nodes() -> list[ObservedNode]:
    """The machines that live, with all that they have."""
    nodes = []
    for node in ray.nodes():
        resources = node["Resources"]
        if node["Alive"]:
            types = [name.removeprefix(_TYPE_RESOURCE) for name in resources if name.startswith(_TYPE_RESOURCE)]
            gpu_type = types[0] if types else None
            node_type = node["Labels"].get(NODE_TYPE_LABEL)
            cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
            nodes.append(ObservedNode(node["NodeID"], cpus, gpus, gpu_type, node_type))
    return nodes
