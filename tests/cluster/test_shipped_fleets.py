"""Every fleet file in cluster/fleets loads, obeys the schema, and fits the machines that it names."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from cluster.placement import plan_placement
from experts.fleet import Engine
from experts.fleet_file import load_fleet
from experts.fleet_schema import SCHEMA_FILE

FOLDER = Path(__file__).parents[2] / "cluster" / "fleets"
FLEETS = sorted(FOLDER.glob("*.yaml"))

# Billions of parameters from the models' cards: all, and those in embeddings, which quantization leaves alone.
PARAMETERS = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": (7.62, 1.09),
    "Qwen/Qwen2.5-Coder-7B-Instruct": (7.62, 1.09),
    "Qwen/Qwen2.5-Coder-7B-Instruct-AWQ": (7.62, 1.09),
    "Qwen/Qwen2.5-7B-Instruct-AWQ": (7.62, 1.09),
    "Qwen/Qwen2.5-Math-7B-Instruct": (7.62, 1.09),
    "FreedomIntelligence/HuatuoGPT-o1-7B": (7.62, 1.09),
    "Qwen/Qwen2.5-72B-Instruct": (72.7, 2.5),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": (70.6, 2.1),
    "Qwen/Qwen2.5-Coder-32B-Instruct": (32.8, 1.56),
    "Qwen/Qwen2.5-Coder-32B-Instruct-AWQ": (32.8, 1.56),
}
# KiB of KV cache per token, all layers: 2 × layers × KV heads × 128 × 2 bytes.
KV_KIB = {7.62: 56, 72.7: 320, 70.6: 320, 32.8: 256}
# 4-bit weights with a scale and a zero point for each 128.
BYTES_PER_WEIGHT = {"none": 2.0, "fp8": 1.0, "awq": 0.53}


def compute_needed_gib(engine: Engine) -> float:
    """What an engine needs on each of its GPUs: weights, activations, and the KV cache of one longest sequence."""
    parameters, embedded = PARAMETERS[engine.model]
    weights = ((parameters - embedded) * BYTES_PER_WEIGHT[engine.quantization] + embedded * 2) * 1e9 / 2**30
    kv_cache = KV_KIB[parameters] * engine.max_model_len / 2**20
    overhead = 1.3 if parameters < 10 else 2.0
    return (weights + kv_cache) / engine.tensor_parallel + overhead


@pytest.mark.parametrize("path", FLEETS, ids=lambda path: path.stem)
def test_a_shipped_fleet_loads_and_every_replica_has_a_place(path: Path) -> None:
    assert plan_placement(load_fleet(path)).unplaced == ()


@pytest.mark.parametrize("path", FLEETS, ids=lambda path: path.stem)
def test_a_shipped_fleet_obeys_the_schema_and_names_it_for_editors(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(text))
    assert text.startswith("# yaml-language-server: $schema=../../experts/fleet.schema.json\n")


@pytest.mark.parametrize("name", ["one-gpu", "sixteen-gpu"])
def test_the_memory_of_every_gpu_engine_fits_its_share(name: str) -> None:
    fleet = load_fleet(FOLDER / f"{name}.yaml")
    gpu_memory_gib = fleet.nodes["gpu"].gpu_memory_gib
    assert gpu_memory_gib is not None
    for engine_name, engine in fleet.engines.items():
        # vLLM gets 92 % of a share (deployments/engine_arguments.py).
        assert compute_needed_gib(engine) <= 0.92 * engine.gpus * gpu_memory_gib, engine_name
