"""What deciding costs: one question at a time on one thread, in processor time and wall time, beside the peers.

Contenders take turns, so that whatever else the machine does falls on all alike; the first decisions of every turn find
the caches full of another contender's weights and are not counted. All contenders classify into the domains of
cluster/fleets/pocket.yaml by its descriptions and examples. Processor time is that of all threads, because
semantic-router encodes in one of its own.

- `tier_1`: static embedding, hashed words and their head: what the router does before the encoder.
- `encoder`: one pass of the int8 question encoder.
- `tier_2`: the head on the encoder's vector, without the encoder.
- `decision`: the whole plan of a question as the gateway makes it: resolve, split, encode, classify, order.
- `semantic_router`: aurelio's semantic-router with the same int8 encoder; it classifies and does not split.
- `sentence_transformers`: the encoder in torch (float32) with the router's own head; it classifies and does not split.
- `planner`: the generalist as planner, where a fleet that `guildhall up` started runs; else it is skipped.
"""

import asyncio
import importlib.util
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks.result import save_result
from deployments.environment import read_environment
from deployments.fleet_encoder import FleetEncoder, embed_questions, load_fleet_encoder
from deployments.router_loading import load_router
from experts.fleet import Fleet
from experts.fleet_file import load_fleet
from retrieval.encoder import load_encoder
from router.domain_head import score_fast, score_full
from router.planner import RouterSnapshot, plan_query
from router.question import Plan, Question

FLEET_FILE = Path(__file__).parents[1] / "cluster/fleets/pocket.yaml"
# Tokens with the two that mark beginning and end.
QUESTIONS: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "11 tokens, one domain": (
        11,
        (
            "What is the default value of the window?",
            "Which formula gives the volume of a cone?",
            "How high is the Calder tower in metres?",
        ),
    ),
    "11 tokens, two domains": (
        11,
        ("What is pi, and who runs Orbit?", "Where is Calder? What is a cone?", "What is pi? Who leads the Orbit?"),
    ),
    "72 tokens, one domain": (
        72,
        (
            "I am writing the yearly summary for our finance team and need to be sure of one figure before I send it: "
            "according to the quarterly report that Norvane Systems published for the second quarter of 2025, how much "
            "revenue did the whole company report, in millions of euros, and not only the share of the European "
            "business that we usually quote?",
            "Our pipeline has stopped loading since the last release and I have looked through most of its modules "
            "without finding the reason, so please tell me which function of the tidemark analytics package reads the "
            "raw events from disk when a run begins, because that is the one that I would now like to put a "
            "breakpoint into before the next run of tonight starts?",
        ),
    ),
    "72 tokens, two domains": (
        72,
        (
            "What was the total revenue of Norvane Systems in the second quarter of 2025 according to its quarterly "
            "report in millions of euros, and which function of the tidemark analytics pipeline reads the raw events "
            "from disk when a run begins, because that is the one that I would like to put a breakpoint into before "
            "the next run of tonight starts?",
            "My daughter has a test tomorrow and we have gone through most of her book together, so please tell us how "
            "the area of a rhombus is worked out from its two diagonals, and since we want to go out to celebrate "
            "afterwards, when are the doors of the Halden Library open on a Saturday in winter, when days are short?",
        ),
    ),
}
DECISIONS = 1000
"""Counted decisions of each contender for each kind of question."""
TURN = 50
WARM = 5
PLANNER_REPEATS = 5
PLANNER_BUDGET_S = 60
TARGETS = {
    "tier_1_p99_ms": (0.1, "tier_1", "cpu_p99_ms"),
    "decision_p50_ms": (1.0, "decision", "cpu_p50_ms"),
    "decision_p99_ms": (6.0, "decision", "cpu_p99_ms"),
}

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Contender:
    """What is timed for one question; `prepare` gives what it needs of a question, untimed."""

    name: str
    act: Callable[[Any], object]
    prepare: Callable[[str], Any] = lambda text: text


def build_decide(snapshot: RouterSnapshot, encoder: FleetEncoder) -> Callable[[str], Plan]:
    """The router's decision as the gateway takes it."""
    return lambda text: plan_query(Question(text), snapshot, encoder, time.perf_counter)


def build_contenders(fleet: Fleet, snapshot: RouterSnapshot, encoder: FleetEncoder) -> list[Contender]:
    """Everything that is timed on this thread."""
    head, static = snapshot.trained.head, snapshot.static
    assert static is not None
    slow = load_encoder(fleet.router.encoder)

    def ask_tier_1(text: str) -> object:
        return score_fast(head, text, static.embed([encoder.tokenize(text)])[0])

    def prepare_tier_2(text: str) -> tuple[object, ...]:
        tokens = encoder.tokenize(text)
        return text, encoder.encode([tokens]).vectors[0], score_fast(head, text, static.embed([tokens])[0])

    contenders = [
        Contender("tier_1", ask_tier_1),
        Contender("encoder", lambda text: encoder.encode([encoder.tokenize(text)])),
        Contender("tier_2", lambda given: score_full(head, *given), prepare_tier_2),
        Contender("decision", build_decide(snapshot, encoder)),
        Contender("sentence_transformers", lambda text: score_full(head, text, slow.encode([text])[0], None)),
    ]
    if importlib.util.find_spec("semantic_router") is None:
        console.print(
            "semantic_router skipped: `pip install semantic-router` into an environment of its own (it wants "
            "an older openai than the lock has) and run the benchmark there"
        )
        return contenders
    return [*contenders, Contender("semantic_router", build_semantic_router(fleet, encoder))]


def build_semantic_router(fleet: Fleet, encoder: FleetEncoder) -> Callable[[str], object]:
    """aurelio's router in its default setting over the same encoder and examples; no network."""
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    class SameEncoder(DenseEncoder):
        """The encoder that Guildhall uses, as semantic-router calls one."""

        def __call__(self, docs: list[Any]) -> list[Any]:
            vectors: list[Any] = embed_questions(encoder, docs).tolist()
            return vectors

    routes = [
        Route(name=name, utterances=[domain.description, *domain.examples]) for name, domain in fleet.domains.items()
    ]
    return IndexedRouter(routes=routes, encoder=SameEncoder(name="same"))


def measure(contender: Contender, given: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Processor and wall milliseconds of one turn over prepared questions."""
    cpu_ms, wall_ms = [], []
    for number in range(-WARM, TURN):
        question = given[number % len(given)]
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        contender.act(question)
        ended, used = time.perf_counter_ns(), time.process_time_ns()
        if number >= 0:
            cpu_ms.append((used - cpu) / 1e6)
            wall_ms.append((ended - wall) / 1e6)
    return cpu_ms, wall_ms


def measure_all(contenders: Sequence[Contender]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Processor and wall milliseconds by contender and kind of question, in turns."""
    given = {
        (contender.name, kind): [contender.prepare(text) for text in texts]
        for contender in contenders
        for kind, (_, texts) in QUESTIONS.items()
    }
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {
        contender.name: {kind: ([], []) for kind in QUESTIONS} for contender in contenders
    }
    for turn in range(DECISIONS // TURN):
        for contender in contenders if turn % 2 == 0 else contenders[::-1]:
            for kind in QUESTIONS:
                for kept, times in zip(
                    found[contender.name][kind], measure(contender, given[contender.name, kind]), strict=True
                ):
                    kept.extend(times)
        if turn % 10 == 9:
            console.print(f"turn {turn + 1} of {DECISIONS // TURN}")
    return found


def describe(cpu_ms: Sequence[float], wall_ms: Sequence[float]) -> dict[str, float]:
    """Percentiles in milliseconds."""
    figures = {"decisions": float(len(cpu_ms))}
    for name, times in (("cpu", cpu_ms), ("wall", wall_ms)):
        p50, p99 = np.percentile(times, (50, 99))
        figures |= {f"{name}_p50_ms": round(float(p50), 4), f"{name}_p99_ms": round(float(p99), 4)}
    return figures


def describe_plans(decide: Callable[[str], Plan]) -> dict[str, dict[str, Any]]:
    """Median wall milliseconds of each stage, as the plan itself tells them, and what was decided."""
    described: dict[str, dict[str, Any]] = {}
    for kind, (_, texts) in QUESTIONS.items():
        plans = [decide(texts[number % len(texts)]) for number in range(TURN * len(texts))]
        tiers = Counter(part.tier for plan in plans[: len(texts)] for part in plan.sub_queries)
        described[kind] = {
            "stages_wall_p50_ms": {
                stage: round(float(np.median([plan.timings_s[stage] for plan in plans])) * 1000, 4)
                for stage in plans[0].timings_s
            },
            "questions": len(texts),
            "sub_queries_by_tier": dict(tiers),
        }
    return described


def measure_planner(fleet: Fleet, decide: Callable[[str], Plan]) -> dict[str, Any]:
    """Wall seconds of the generalist's plans and what came of them, from a fleet that runs on this machine."""
    environment = read_environment()
    from deployments.local_ray import find_local_ray

    local = find_local_ray(environment.data_dir)
    if local is None:
        console.print(f"planner skipped: no fleet runs; `guildhall up {FLEET_FILE}` first")
        return {"skipped": "no fleet ran"}
    from deployments.in_flight import Slots
    from deployments.planner_tier import PlannerAnswer, plan_with_generalist
    from deployments.serve_experts import ServeExperts
    from deployments.up import connect_ray

    settings = fleet.router.model_copy(update={"planner_budget_s": PLANNER_BUDGET_S})
    planned = fleet.model_copy(update={"router": settings})

    async def ask(text: str) -> PlannerAnswer:
        slots = Slots()
        slots.apply_limits(planned)
        deadline = asyncio.get_running_loop().time() + PLANNER_BUDGET_S
        experts = ServeExperts(planned)
        plan = decide(text)
        return await plan_with_generalist(
            experts, planned, slots.domains, Question(text), plan, request_id="latency", deadline=deadline
        )

    async def ask_all() -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for kind, (_, texts) in QUESTIONS.items():
            await ask(texts[0])
            answers = [await ask(texts[number % len(texts)]) for number in range(PLANNER_REPEATS)]
            outcomes = [answer.outcome for answer in answers]
            figures[kind] = {
                "wall_p50_ms": round(float(np.median([answer.seconds for answer in answers])) * 1000, 1),
                "outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
            }
        return figures

    with connect_ray(local, environment):
        return asyncio.run(ask_all())


def check_lengths(encoder: FleetEncoder) -> None:
    """The questions have the tokens that their names promise."""
    for kind, (tokens, texts) in QUESTIONS.items():
        for text in texts:
            found = len(encoder.tokenize(text).ids) + 2
            if found != tokens:
                raise RuntimeError(f"'{text}' has {found} tokens, {kind} promises {tokens}; write another question")


def describe_target(limit: float, by_kind: Mapping[str, float]) -> dict[str, Any]:
    """What was wanted and observed, and where it was reached; the target is missed where one kind misses it."""
    reached = [kind for kind, observed in by_kind.items() if observed <= limit]
    return {"at_most": limit, "by_kind": by_kind, "reached_by": reached, "reached": len(reached) == len(by_kind)}


def main() -> None:
    """Measure, write the result and say which targets hold."""
    fleet = load_fleet(FLEET_FILE)
    encoder = load_fleet_encoder(fleet.router.encoder, read_environment().data_dir)
    check_lengths(encoder)
    snapshot = load_router(fleet, encoder)
    # numpy's matrix products take two threads otherwise: twice the processor time for a question of 72 tokens.
    with threadpool_limits(limits=1):
        found = measure_all(build_contenders(fleet, snapshot, encoder))
        decide = build_decide(snapshot, encoder)
        decisions = describe_plans(decide)
    figures = {name: {kind: describe(*times) for kind, times in by_kind.items()} for name, by_kind in found.items()}
    targets = {
        name: describe_target(limit, {kind: by_kind[figure] for kind, by_kind in figures[contender].items()})
        for name, (limit, contender, figure) in TARGETS.items()
    }
    path = save_result(
        "router_latency",
        {
            "contenders": figures,
            "decisions": decisions,
            "planner": measure_planner(fleet, decide),
            "targets": targets,
            "load": f"{DECISIONS} decisions of each contender and kind, one thread, in turns of {TURN}",
        },
    )
    for name, target in targets.items():
        console.print(f"{name}: {target}")
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
