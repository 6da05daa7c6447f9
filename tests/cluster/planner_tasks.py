"""Fleets, rates and tasks of candidates that tests of the planner share."""

from collections.abc import Mapping, Sequence
from typing import Any

from cluster.candidates import Bin, Candidate, Task
from cluster.capacity import Limit
from cluster.demand import Demand
from cluster.placement import Assignment
from experts.fleet import Engine, Fleet, NodeType

SEVEN_B = "Qwen/Qwen2.5-7B-Instruct"


def build_fleet(engines: Mapping[str, dict[str, Any]], nodes: Mapping[str, dict[str, Any]], **slo: float) -> Fleet:
    """One domain per engine, of the engine's name."""
    return Fleet.model_validate(
        {
            "name": "test",
            "engines": {name: {"model": SEVEN_B, "device": "gpu"} | engine for name, engine in engines.items()},
            "domains": {
                name: {"description": f"Questions for {name}.", "variants": {"full": {"engine": name}}, "slo": slo}
                for name in engines
            },
            "generalist": next(iter(engines)),
            "nodes": dict(nodes),
        }
    )


def build_demand(rates: Mapping[str, float], prompt_tokens: int = 500, output_tokens: int = 200) -> Demand:
    lengths = {"prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    return Demand.model_validate(
        {"domains": {name: {"requests_per_s": rate} | lengths for name, rate in rates.items()}}
    )


def build_task(
    options: Sequence[Sequence[tuple[int, int, float]]],
    rates: Sequence[float],
    machines: int = 1,
    gpus: int = 2,
    current: tuple[Assignment, ...] = (),
    choices: Sequence[Sequence[int]] | None = None,
    cpus: float = 1000,
) -> Task:
    """Engine k has candidates (GPUs of its mesh, units, capacity); domain k may be served by engines `choices[k]`."""
    names = [f"e{place}" for place in range(len(options))]
    served = [[place] for place in range(len(options))] if choices is None else choices
    domains = [f"d{place}" for place in range(len(served))]
    limits: dict[str, Limit] = dict.fromkeys(domains, "tpot")
    candidates = {
        name: tuple(
            Candidate(
                name,
                Bin("box", width),
                units,
                {domain: capacity for domain, by in zip(domains, served, strict=True) if place in by},
                limits,
            )
            for width, units, capacity in options[place]
            if any(place in by for by in served)
        )
        for place, name in enumerate(names)
    }
    return Task(
        engines={name: Engine(model="m", device="gpu") for name in names},
        rates=dict(zip(domains, rates, strict=True)),
        choices={domain: tuple(names[place] for place in by) for domain, by in zip(domains, served, strict=True)},
        candidates=candidates,
        nodes={"box": NodeType(count=machines, cpus=cpus, memory_gib=64, gpus=gpus)},
        spread={},
        current=current,
    )
