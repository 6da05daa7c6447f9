"""An engine's row of the ledger, for measurements and tests that need one without an engine."""

from dataclasses import replace
from typing import Any

from cluster.node_load import EngineLoad

MIB = 2**20


def make_load(claim: int = 1, **changes: Any) -> EngineLoad:
    """An engine without requests: a pool of 64 blocks of 1 MiB, of which a sequence needs 4."""
    load = EngineLoad(
        engine=f"e{claim}",
        claim=claim,
        device="cpu",
        running=0,
        waiting=0,
        prefill_tokens=0,
        oldest_at=None,
        used_bytes=0,
        running_bytes=0,
        wanted_bytes=0,
        quota_bytes=0,
        pool_bytes=64 * MIB,
        block_bytes=MIB,
        sequence_bytes=4 * MIB,
        request_bytes=4 * MIB,
        hold_s=0.5,
        step_s=0.005,
        token_s=0.0001,
        stepped_at=0.0,
        step_tokens=0,
        max_tokens=2048,
        threads=1,
        ttft_s=2.0,
        tpot_s=0.2,
    )
    return replace(load, **changes)
