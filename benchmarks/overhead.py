"""What Guildhall costs on top of Ray Serve LLM: one named expert without an index, beside `ray.serve.llm` alone.

A named expert is asked directly and an expert without an index reads nothing, so this is the cost of the way, without
routing and retrieval.
Both serve the same weights with the same engine arguments on one Ray cluster behind one Serve proxy, and take turns:
while one is asked, the other is idle. The weights are random, of the pocket experts' architecture and without an end
token, so that every answer runs to its token limit.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import ray
import torch
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.llm import LLMConfig, build_openai_app
from ray.serve.schema import ServeDeploySchema
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.result import save_result, summarize
from deployments.applications import plan_serve_config
from deployments.engine_arguments import plan_engine_arguments
from experts.fleet import Domain, Engine, Fleet, Gateway, NodeType, Variant

ARCHITECTURE = Path(__file__).parents[1] / "experts/pocket/weights/base"
PORT = 8431
START_TIMEOUT_S = 300
ROUNDS = 16
LATENCY_REQUESTS = 12
LATENCY_TOKENS = 32
STREAMS = 16
STREAM_TOKENS = 64
LATENCY_LIMIT = 1.10
THROUGHPUT_LIMIT = 0.95
PROMPT = "How long does it take a question to come back when nothing but the way is measured?"

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Contender:
    """A server of the engine: where it listens and what it calls the model."""

    name: str
    url: str
    model: str


CONTENDERS = (
    Contender("guildhall", f"http://127.0.0.1:{PORT}/v1/chat/completions", "guildhall/plain"),
    Contender("ray_serve_llm", f"http://127.0.0.1:{PORT}/ray/v1/chat/completions", "plain-ray"),
)


def build_weights(folder: Path) -> None:
    """Random weights of the pocket architecture that never end an answer."""
    config = AutoConfig.from_pretrained(ARCHITECTURE)
    config.eos_token_id = None
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = None
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(ARCHITECTURE)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)


def deploy(weights: Path) -> None:
    """Start both contenders and wait until both answer."""
    engine = Engine(model=str(weights), dtype="bfloat16", max_model_len=1024, max_num_seqs=32, kv_cache_gib=0.5)
    fleet = Fleet(
        name="overhead",
        engines={"plain": engine},
        domains={
            "plain": Domain(description="One expert without an index.", variants={"full": Variant(engine="plain")})
        },
        generalist="plain",
        gateway=Gateway(port=PORT),
        nodes={"here": NodeType(cpus=2, memory_gib=8)},
    )
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options={"host": "127.0.0.1", "port": PORT, "request_timeout_s": 120})
    arguments = plan_engine_arguments(engine)
    ray_config = LLMConfig(
        model_loading_config={"model_id": "plain-ray", "model_source": str(weights)},
        engine_kwargs=arguments.engine_kwargs,
        accelerator_config={"kind": "cpu"},
        placement_group_config={"bundle_per_worker": arguments.bundle_per_worker},
        runtime_env={"env_vars": arguments.env_vars},
        log_engine_metrics=False,
        deployment_config={
            "autoscaling_config": {"min_replicas": 1, "max_replicas": 1},
            "max_ongoing_requests": engine.max_in_flight,
        },
        experimental_configs={"num_ingress_replicas": 1},
    )
    console.print("starting guildhall")
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(plan_serve_config(fleet, {}, {})))
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"guildhall was not ready after {START_TIMEOUT_S} s: {serve.status()}")
        time.sleep(0.5)
    console.print("starting ray.serve.llm")
    serve.run(build_openai_app({"llm_configs": [ray_config]}), name="ray-llm", route_prefix="/ray")


def is_ready() -> bool:
    """Whether the gateway has its fleet and its engine answers."""
    try:
        return httpx.get(f"http://127.0.0.1:{PORT}/readyz", timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


async def ask(client: httpx.AsyncClient, contender: Contender, tokens: int) -> tuple[float, float, int]:
    """One streamed answer: seconds to the first text, seconds to the end, completion tokens."""
    body = {
        "model": contender.model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started = time.perf_counter()
    first = 0.0
    completion_tokens = 0
    async with client.stream("POST", contender.url, json=body) as response:
        if response.status_code != 200:
            raise RuntimeError(f"{contender.name} answered {response.status_code}: {await response.aread()!r}")
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line[6:])
            if not first and any(choice["delta"].get("content") for choice in chunk["choices"]):
                first = time.perf_counter() - started
            if chunk.get("usage"):
                completion_tokens = chunk["usage"]["completion_tokens"]
    if completion_tokens != tokens:
        raise RuntimeError(f"{contender.name} gave {completion_tokens} tokens where {tokens} were asked")
    return first, time.perf_counter() - started, completion_tokens


async def measure_latency(client: httpx.AsyncClient, contender: Contender) -> dict[str, float]:
    """Medians over requests one after another."""
    answers = [await ask(client, contender, LATENCY_TOKENS) for _ in range(LATENCY_REQUESTS)]
    return {
        "ttft_s": summarize([first for first, _, _ in answers]).median,
        "latency_s": summarize([whole for _, whole, _ in answers]).median,
    }


async def measure_throughput(client: httpx.AsyncClient, contender: Contender) -> dict[str, float]:
    """Completion tokens per second of many streams at the same time."""
    started = time.perf_counter()
    answers = await asyncio.gather(*(ask(client, contender, STREAM_TOKENS) for _ in range(STREAMS)))
    return {"tokens_per_s": sum(tokens for _, _, tokens in answers) / (time.perf_counter() - started)}


async def measure() -> dict[str, list[dict[str, float]]]:
    """Figures per contender and round; the contenders take turns and the order changes every round."""
    rounds: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in CONTENDERS}
    async with httpx.AsyncClient(timeout=120) as client:
        for contender in CONTENDERS:
            await measure_latency(client, contender)
            await measure_throughput(client, contender)
        for number in range(ROUNDS):
            order = CONTENDERS if number % 2 == 0 else CONTENDERS[::-1]
            figures: dict[str, dict[str, float]] = {contender.name: {} for contender in CONTENDERS}
            steps: list[Callable[[httpx.AsyncClient, Contender], Awaitable[dict[str, float]]]] = [
                measure_latency,
                measure_throughput,
            ]
            for step in steps:
                for contender in order:
                    figures[contender.name] |= await step(client, contender)
            for name, figure in figures.items():
                rounds[name].append(figure)
            console.print(f"round {number + 1} of {ROUNDS}: {figures}")
    return rounds


def main() -> None:
    """Run, write the result and say whether the targets hold."""
    for name in ("GUILDHALL_API_KEYS", "GUILDHALL_API_KEYS_FILE", "RAY_ADDRESS"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        build_weights(Path(folder))
        try:
            deploy(Path(folder))
            rounds = asyncio.run(measure())
        finally:
            serve.shutdown()
            ray.shutdown()
    ratios = {
        figure: summarize(
            [
                ours[figure] / theirs[figure]
                for ours, theirs in zip(rounds["guildhall"], rounds["ray_serve_llm"], strict=True)
            ]
        )
        for figure in ("latency_s", "ttft_s", "tokens_per_s")
    }
    figures = {
        "contenders": {
            name: {figure: summarize([entry[figure] for entry in entries]) for figure in entries[0]}
            for name, entries in rounds.items()
        },
        "ratio_guildhall_to_ray_serve_llm": ratios,
        "targets": {
            "latency_s": {"at_most": LATENCY_LIMIT, "reached": ratios["latency_s"].median <= LATENCY_LIMIT},
            "tokens_per_s": {
                "at_least": THROUGHPUT_LIMIT,
                "reached": ratios["tokens_per_s"].median >= THROUGHPUT_LIMIT,
            },
        },
        "load": {
            "latency": f"{LATENCY_REQUESTS} requests of {LATENCY_TOKENS} tokens one after another, per round",
            "throughput": f"{STREAMS} streams of {STREAM_TOKENS} tokens at once, per round",
            "streaming": "guildhall sends the first text at once and then gathers for 50 ms with one stream, 96 ms "
            "with sixteen; ray.serve.llm gathers for 50 ms always, its first text too, so that the ratio of ttft_s "
            "tells of settings and not of cost",
        },
    }
    path = save_result("overhead", figures)
    console.print(f"ratios of guildhall to ray.serve.llm: {ratios}")
    console.print(f"wrote {path}")


if __name__ == "__main__":
    main()
