"""Fleets and rates for the planner's benchmark, after MuxServe's synthetic workloads (arXiv 2404.02015)."""

import random
from dataclasses import dataclass

from cluster.demand import Demand, Traffic
from experts.fleet import Domain, Engine, Fleet, NodeType, Slo, Variant

# Table 1 of the paper: how many of 19 LLMs are of each size.
SIZES = {"llama-7b": 12, "llama-13b": 4, "llama-30b": 2, "llama-65b": 1}
ALPHAS = (0.7, 0.9, 1.3, 1.7, 2.1)
# Its lengths, those of ShareGPT; and the means of the Azure LLM inference trace 2023, conversation.
SHAREGPT = (161, 338)
AZURE = (1155, 211)


@dataclass(frozen=True, slots=True)
class Case:
    """One fleet at given rates."""

    name: str
    fleet: Fleet
    demand: Demand


def build_case(
    name: str, experts: int, machines: int, alpha: float, highest_rate: float, gpu: str, lengths: tuple[int, int]
) -> Case:
    """Experts in the proportions of `SIZES`, the k-th most popular at `highest_rate` × k^-alpha requests per second."""
    models = [model for model, count in SIZES.items() for _ in range(count)]
    chance = random.Random(f"{name} {alpha}")
    ranks = list(range(1, experts + 1))
    chance.shuffle(ranks)
    names = [f"e{place:03d}" for place in range(experts)]
    engines = {
        expert: Engine(
            model=f"huggyllama/{models[place * len(models) // experts]}",
            device="gpu",
            max_model_len=2048,
            max_num_seqs=256,
        )
        for place, expert in enumerate(names)
    }
    domains = {
        expert: Domain(
            description=f"Questions for {expert}.",
            variants={"full": Variant(engine=expert)},
            slo=Slo(ttft_s=2, tpot_s=0.1),
        )
        for expert in names
    }
    fleet = Fleet(
        name="planner",
        engines=engines,
        domains=domains,
        generalist=names[0],
        nodes={"gpu": NodeType(count=machines, cpus=128, memory_gib=1024, gpus=8, gpu_type=gpu)},
    )
    traffic = {
        expert: Traffic(
            requests_per_s=round(highest_rate * rank**-alpha, 4), prompt_tokens=lengths[0], output_tokens=lengths[1]
        )
        for expert, rank in zip(names, ranks, strict=True)
    }
    return Case(f"{name}, alpha {alpha}", fleet, Demand(domains=traffic))
