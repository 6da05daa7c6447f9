"""Which machine of a running cluster is which of a plan, so that replicas start where they were placed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.node_types import find_node_type
from cluster.placement import Node
from experts.errors import ConfigurationError
from experts.fleet import Engine, Fleet, NodeType

# Ray's own label of every node; a selector by it needs no labels on the machines.
NODE_ID_LABEL = "ray.io/node-id"


@dataclass(frozen=True, slots=True)
class ObservedNode:
    """A living machine of the cluster; `gpu_type` as Ray names it, `node_type` as its label says, if it has one."""

    id: str
    cpus: float
    gpus: float
    gpu_type: str | None
    node_type: str | None = None


def match_nodes(fleet: Fleet, observed: Sequence[ObservedNode], before: Mapping[str, str]) -> dict[str, str]:
    """The id of the machine that stands for each node of a plan (`gpu-1`), for those that engines are placed on.

    A node keeps the machine that it had `before`, while that lives and fits; else it gets the smallest that is free and
    fits. Raises ConfigurationError for one that has none.
    """
    free = {machine.id: machine for machine in observed}
    nodes = list_nodes(fleet)
    wanted = [name for name in nodes if any(name in engine.placed_on for engine in fleet.engines.values())]
    matched: dict[str, str] = {}
    for name in wanted:
        machine = free.get(before.get(name, ""))
        if machine is not None and _fits(machine, name, nodes[name]):
            matched[name] = free.pop(machine.id).id
    for name in wanted:
        if name in matched:
            continue
        fitting = [machine for machine in free.values() if _fits(machine, name, nodes[name])]
        if not fitting:
            raise ConfigurationError(_explain_missing(fleet, name, nodes[name], observed, len(matched)))
        chosen = min(fitting, key=lambda machine: (machine.gpus, machine.cpus, machine.id))
        matched[name] = free.pop(chosen.id).id
    return {name: matched[name] for name in wanted}


def list_nodes(fleet: Fleet) -> dict[str, NodeType]:
    """The machines of a fleet by the names that plans give them."""
    return {
        str(Node(kind, number)): node_type
        for kind, node_type in fleet.nodes.items()
        for number in range(1, node_type.count + 1)
    }


def select_nodes(engine: Engine, ids: Mapping[str, str]) -> dict[str, str]:
    """Ray's label selector for the machines that an engine is placed on; empty for one that Ray places."""
    if not engine.placed_on:
        return {}
    machines = [ids[name] for name in engine.placed_on]
    return {NODE_ID_LABEL: machines[0] if len(machines) == 1 else f"in({','.join(machines)})"}


def _fits(machine: ObservedNode, name: str, node_type: NodeType) -> bool:
    if machine.node_type not in (None, find_node_type(name)):
        return False
    if node_type.gpu_type is not None and machine.gpu_type != node_type.gpu_type:
        return False
    return machine.gpus >= node_type.gpus and machine.cpus >= node_type.cpus


def _explain_missing(
    fleet: Fleet, name: str, node_type: NodeType, observed: Sequence[ObservedNode], matched: int
) -> str:
    engine = next(key for key, engine in fleet.engines.items() if name in engine.placed_on)
    kind = f"{node_type.cpus:g} CPUs"
    kind += f" and {node_type.gpus} GPUs{f' of type {node_type.gpu_type}' if node_type.gpu_type else ''}"
    seen = "; ".join(
        " ".join(filter(None, (f"{node.cpus:g} CPUs, {node.gpus:g} GPUs", node.gpu_type, _show_label(node))))
        for node in observed
    )
    return (
        f"engine '{engine}' is placed on {name}, and the cluster has no machine left for it: it needs {kind}, and of "
        f"the machines that live ({seen or 'none'}) {matched} stand for other nodes; start one, plan again with fewer, "
        "or remove placed_on"
    )


def _show_label(node: ObservedNode) -> str:
    return f"labelled {node.node_type}" if node.node_type else ""
