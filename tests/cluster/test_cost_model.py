"""Memory and step times of replicas, and how many requests they sustain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.accelerators import ACCELERATORS
from cluster.capacity import LIMITS, compute_capacity, compute_least_slo
from cluster.cost_model import CUDA_CONTEXT_GIB, Build, Roofline, compute_budget, compute_memory
from cluster.demand import Traffic
from cluster.model_shape import ModelShape, find_shape, read_shape
from deployments.engine_arguments import plan_engine_arguments
from experts.errors import ConfigurationError
from experts.fleet import Engine, Slo

SEVEN_B = find_shape("Qwen/Qwen2.5-7B-Instruct", {})
SEVENTY_B = find_shape("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", {})
LLAMA_7B = find_shape("huggyllama/llama-7b", {})
# config.json of deepseek-ai/DeepSeek-V2-Lite, whose card says 15.7 billion parameters, 2.4 of them for each token.
DEEPSEEK_V2_LITE = {
    "num_hidden_layers": 27,
    "hidden_size": 2048,
    "intermediate_size": 10944,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "vocab_size": 102400,
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1408,
    "first_k_dense_replace": 1,
}
TRAFFIC = Traffic(requests_per_s=1, prompt_tokens=500, output_tokens=200)
SHARES = np.array([0.25, 0.5, 1.0])


def load(shape: ModelShape, quantization: str = "none", **settings: int) -> Build:
    engine = Engine.model_validate({"model": "m", "device": "gpu", "quantization": quantization} | settings)
    return Build.of(engine, shape)


@pytest.mark.parametrize(
    ("shape", "billions", "kv_kib"),
    [
        (SEVEN_B, 7.62, 56),  # grouped queries: 28 layers of 4 heads
        (SEVENTY_B, 70.6, 320),
        (LLAMA_7B, 6.74, 512),  # a key and a value for every head
        (read_shape(DEEPSEEK_V2_LITE, "test"), 15.7, 30.375),  # latent: 27 layers of 512 + 64 values
    ],
)
def test_parameters_and_kv_cache_are_those_of_the_models_card(
    shape: ModelShape, billions: float, kv_kib: float
) -> None:
    assert shape.parameters / 1e9 == pytest.approx(billions, rel=0.01)
    assert shape.count_kv_values(1) * 2 / 1024 == kv_kib


def test_a_mixture_reads_more_of_its_weights_the_more_tokens_a_step_has() -> None:
    shape = read_shape(DEEPSEEK_V2_LITE, "test")
    assert (shape.count_used(1) + shape.embedding) / 1e9 == pytest.approx(2.4, rel=0.15)
    assert shape.count_used(1) < shape.count_used(8) < shape.count_used(1000)
    assert shape.count_used(1000) == pytest.approx(shape.parameters - shape.embedding, rel=0.001)


def test_splitting_divides_kv_heads_until_each_gpu_has_one_and_never_a_latent_vector() -> None:
    assert [SEVEN_B.count_kv_values(split) * 2 // 1024 for split in (1, 2, 4, 8)] == [56, 28, 14, 14]
    latent = read_shape(DEEPSEEK_V2_LITE, "test")
    assert latent.count_kv_values(8) == latent.count_kv_values(1)


def test_memory_of_shipped_engines_is_what_their_fleet_files_say() -> None:
    assert load(SEVEN_B).weights_gib == pytest.approx(14.2, abs=0.05)
    assert load(SEVEN_B, "fp8").weights_gib == pytest.approx(8.1, abs=0.05)
    assert load(SEVEN_B, "awq").weights_gib == pytest.approx(5.2, abs=0.1)
    memory = compute_memory(load(SEVEN_B), 1, 16)
    assert memory.activations_gib == pytest.approx(1.3, abs=0.3)


def test_adapter_slots_take_memory_from_the_kv_cache() -> None:
    plain = compute_memory(load(SEVEN_B), 1, 16)
    adapted = compute_memory(load(SEVEN_B, max_adapters=8, max_adapter_rank=16), 1, 16)
    # 40.4 million parameters of rank 16 on all projections, as peft counts them for this model.
    assert adapted.adapters_gib == pytest.approx(8 * 40.4e6 * 2 / 2**30, rel=0.01)
    assert adapted.measure_kv_room(SHARES * 70)[2] < plain.measure_kv_room(SHARES * 70)[2]


def test_the_budget_of_a_share_is_what_up_gives_vllm_and_leaves_room_for_its_cuda_context() -> None:
    shares = np.arange(1, 21) / 20
    budget = compute_budget(shares, 79)
    given = budget > 0
    assert (shares[given] * 79 - budget[given] >= CUDA_CONTEXT_GIB).all()
    assert budget[-1] == pytest.approx(0.92 * 79)
    for share, gib in zip(shares[given], budget[given], strict=True):
        engine = Engine.model_validate({"model": "m", "device": "gpu", "gpus": float(share)})
        utilization = plan_engine_arguments(engine).engine_kwargs["gpu_memory_utilization"]
        assert gib / 79 == pytest.approx(utilization, abs=1e-4)
    assert not given[0]


def test_the_roofline_is_near_published_measurements_of_one_gpu() -> None:
    """MuxServe's published profile of LLaMA 7B on a whole A100: 512-token prefills and 512-token contexts, in ms."""
    steps = Roofline(load(LLAMA_7B), ACCELERATORS["A100-80G"], 1)
    whole = np.ones(1)
    assert steps.interpolate_prefill(whole, 512)[0] * 1000 == pytest.approx(41.0, rel=0.15)
    decode = steps.interpolate_decode(whole, np.array([1.0, 64.0]), 512)[0] * 1000
    assert decode == pytest.approx([12.5, 24.9], rel=0.15)


def test_a_larger_share_and_a_wider_split_are_never_slower() -> None:
    for split in (1, 2, 4):
        steps = Roofline(load(SEVENTY_B), ACCELERATORS["H100"], split)
        wider = Roofline(load(SEVENTY_B), ACCELERATORS["H100"], 2 * split)
        assert (np.diff(steps.interpolate_prefill(SHARES, 1000)) < 0).all()
        assert (np.diff(steps.interpolate_decode(SHARES, np.array([1.0, 8.0]), 1000), axis=0) < 0).all()
        assert (wider.interpolate_prefill(SHARES, 1000) < steps.interpolate_prefill(SHARES, 1000)).all()


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 4000), st.integers(1, 1000), st.floats(0.05, 20), st.floats(0.005, 1), st.integers(1, 256),
    st.integers(0, 500_000),
)  # fmt: skip
def test_capacity_grows_with_the_share_the_kv_cache_and_the_slo(
    prompt: int, output: int, ttft_s: float, tpot_s: float, sequences: int, room: int
) -> None:
    steps = Roofline(load(SEVEN_B), ACCELERATORS["H100"], 1)
    traffic = Traffic(requests_per_s=1, prompt_tokens=prompt, output_tokens=output)
    slo, looser = Slo(ttft_s=ttft_s, tpot_s=tpot_s), Slo(ttft_s=2 * ttft_s, tpot_s=2 * tpot_s)
    capacity = compute_capacity(steps, SHARES, np.full(3, float(room)), sequences, traffic, slo).requests_per_s
    assert (np.diff(capacity) >= 0).all()
    relaxed = compute_capacity(steps, SHARES, np.full(3, 2.0 * room), sequences, traffic, looser).requests_per_s
    assert (relaxed >= capacity).all()
    if room < prompt + output:
        assert (capacity == 0).all()


@pytest.mark.parametrize(
    ("room", "sequences", "slo", "limit"),
    [
        (5_000, 256, Slo(ttft_s=10, tpot_s=1), "kv_cache"),
        (500_000, 4, Slo(ttft_s=10, tpot_s=1), "sequences"),
        (500_000, 256, Slo(ttft_s=10, tpot_s=0.02), "tpot"),
        (500_000, 256, Slo(ttft_s=0.05, tpot_s=1), "ttft"),
    ],
)
def test_capacity_says_what_forbids_more(room: float, sequences: int, slo: Slo, limit: str) -> None:
    steps = Roofline(load(SEVEN_B), ACCELERATORS["H100"], 1)
    capacity = compute_capacity(steps, np.ones(1), np.full(1, room), sequences, TRAFFIC, slo)
    assert LIMITS[int(capacity.limits[0])] == limit
    assert capacity.requests_per_s[0] > 0


def test_the_least_slo_holds_and_a_stricter_one_does_not() -> None:
    steps = Roofline(load(SEVEN_B), ACCELERATORS["H100"], 1)
    least = compute_least_slo(steps, TRAFFIC)
    for factor, holds in ((1.001, True), (0.99, False)):
        slo = Slo(ttft_s=least.ttft_s * factor, tpot_s=least.tpot_s * factor)
        capacity = compute_capacity(steps, np.ones(1), np.full(1, 1e6), 64, TRAFFIC, slo)
        assert bool(capacity.requests_per_s[0] > 0) is holds


def test_a_model_of_unknown_shape_says_where_to_write_it_down() -> None:
    with pytest.raises(ConfigurationError, match="models: in the file of rates"):
        find_shape("nobody/knows-this", {})
    with pytest.raises(ConfigurationError, match="has no 'vocab_size'"):
        read_shape({"num_attention_heads": 2, "hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8}, "x")
    known = {"nobody/knows-this": DEEPSEEK_V2_LITE}
    assert find_shape("nobody/knows-this", known) == read_shape(DEEPSEEK_V2_LITE, "x")
