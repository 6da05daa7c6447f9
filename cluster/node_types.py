"""Which node types may run what, and how Ray is told to leave the others alone."""

from collections.abc import Iterable, Mapping

from cluster.ray_node import NODE_TYPE_LABEL
from experts.fleet import Engine, Fleet, NodeType


def list_engine_types(engine: Engine, nodes: Mapping[str, NodeType]) -> tuple[str, ...]:
    """The node types that may run an engine, in the order of `nodes`: its own, or those with the processors it needs.

    An engine on CPUs leaves machines with GPUs alone, unless those without are all too small for a replica.
    """
    if engine.node_type is not None:
        return (engine.node_type,)
    if engine.device == "gpu":
        return tuple(name for name, node in nodes.items() if node.gpus) or tuple(nodes)
    return list_cpu_types(nodes, engine.cpus, engine.kv_cache_gib)


def list_cpu_types(nodes: Mapping[str, NodeType], cpus: float, memory_gib: float = 0.0) -> tuple[str, ...]:
    """The node types without GPUs whose machines are that large; all types where none is."""
    large = (
        name for name, node in nodes.items() if not node.gpus and cpus <= node.cpus and memory_gib <= node.memory_gib
    )
    return tuple(large) or tuple(nodes)


def select_engine_types(fleet: Fleet, engine: Engine) -> dict[str, str]:
    """Ray's label selector for an engine's replicas; for an engine that is placed, the node types of its places."""
    placed = {find_node_type(name) for name in engine.placed_on}
    return select_types(fleet.nodes, placed or list_engine_types(engine, fleet.nodes))


def find_node_type(machine: str) -> str:
    """The node type of a machine by the name that plans give it: `a100` for `a100-2`."""
    return machine.rpartition("-")[0]


def select_types(nodes: Iterable[str], allowed: Iterable[str]) -> dict[str, str]:
    """Ray's label selector for machines of no other node type than those allowed; empty where all are allowed.

    It names what is left out instead of what is wanted, so that it holds for machines without the label too: on a
    laptop, or on a Ray that was started otherwise, Ray's resources alone decide.
    """
    others = [name for name in nodes if name not in set(allowed)]
    if not others:
        return {}
    return {NODE_TYPE_LABEL: f"!{others[0]}" if len(others) == 1 else f"!in({','.join(others)})"}
