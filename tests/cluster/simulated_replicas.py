"""Replicas with simple step times that tests of the simulator share."""

import numpy as np

from cluster.profile import Curve, MeasuredSteps, SharedTimes
from cluster.simulation import PlacedReplica
from cluster.simulation_engine import ReplicaSettings
from cluster.step_times import StepTimes


def build_times(prefill_token_s: float, decode_s: float, sequence_s: float = 0.0) -> StepTimes:
    """A prefill costs its tokens, a decode step a fixed time and some for each sequence."""
    prefill = Curve(np.array([1.0, 2.0]), prefill_token_s * np.array([1.0, 2.0]))
    # Two equal points: beyond a single one a curve goes on in proportion to the context.
    decode = {batch: Curve(np.array([1.0, 1e6]), np.full(2, decode_s + batch * sequence_s)) for batch in (1, 4096)}
    return StepTimes(MeasuredSteps({1.0: SharedTimes(prefill, decode)}), 1.0, 4096)


def build_replica(
    times: StepTimes,
    kv_tokens: int = 100_000,
    max_num_seqs: int = 64,
    engine: str = "e",
    node: str = "n-1",
    block_tokens: int = 16,
    step_tokens: int = 2048,
    max_model_len: int = 4096,
) -> PlacedReplica:
    settings = ReplicaSettings(engine, kv_tokens, block_tokens, max_num_seqs, step_tokens, max_model_len)
    return PlacedReplica(settings, times, node, 1.0, 0.0)
