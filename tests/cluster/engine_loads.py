"""Engine loads at random."""

import random

from hypothesis import strategies as st

from benchmarks.engine_load import make_load
from cluster.node_load import DeviceLoad, EngineLoad


def draw_load(draw: random.Random, claim: int = 1) -> EngineLoad:
    """Engines of all sizes: blocks from 1 KiB to 4 MiB, idle to overloaded, before and after their first step."""
    block = draw.choice([1, 7, 64, 384, 4096]) * 1024
    pool = draw.choice([1, 5, 60, 400])
    sequence = draw.randint(1, pool)
    used = draw.choice([0, draw.randint(0, pool)])
    running_blocks = draw.randint(used, pool)
    waiting = draw.choice([0, 0, 1, draw.randint(0, 200)])
    return make_load(
        claim,
        running=draw.choice([0, 1, 64]),
        waiting=waiting,
        prefill_tokens=draw.choice([0, 1, 10_000]),
        oldest_at=draw.uniform(0, 1000) if waiting else None,
        used_bytes=used * block,
        running_bytes=running_blocks * block,
        wanted_bytes=draw.choice([0, running_blocks, draw.randint(running_blocks, 2 * pool)]) * block,
        quota_bytes=draw.randint(used, pool) * block,
        pool_bytes=pool * block,
        block_bytes=block,
        sequence_bytes=sequence * block,
        request_bytes=draw.randint(1, sequence) * block,
        hold_s=draw.choice([0.0, draw.uniform(0, 100)]),
        step_s=draw.uniform(0, 5),
        token_s=draw.choice([0.0, 5e-324, draw.uniform(0, 0.1)]),
        stepped_at=draw.choice([0.0, draw.uniform(0, 1000)]),
        max_tokens=draw.randint(1, 8192),
        threads=draw.randint(1, 8),
        ttft_s=draw.choice([0.01, 2.0, 60.0]),
        tpot_s=draw.choice([0.001, 0.2, 5.0]),
    )


def draw_device(seed: int) -> DeviceLoad:
    """One to sixteen engines on memory from far too little to more than all pools."""
    draw = random.Random(seed)
    engines = tuple(draw_load(draw, claim) for claim in range(1, draw.choice([1, 2, 4, 16]) + 1))
    pools = sum(engine.pool_bytes for engine in engines)
    kv_bytes = draw.choice([None, draw.randint(1, pools + 1), pools // 2 + 1])
    return DeviceLoad("cpu", kv_bytes, draw.randint(1, 16), engines)


# Drawn from a seed: Hypothesis needs 20 times as long to draw them field by field.
device_loads = st.integers(0, 2**32).map(draw_device)
