"""The live system's decision on a shared node, `set_quotas`, as the simulator asks it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.node_load import DeviceLoad, EngineLoad
from cluster.quotas import set_quotas, settle_quota
from cluster.simulation import PlacedReplica
from cluster.simulation_engine import Grant, Load
from experts.fleet import Slo


@dataclass(frozen=True, slots=True)
class SharedReplica:
    """What a row of the ledger says of an engine that does not change."""

    placed: PlacedReplica
    kv_bytes_per_token: float
    slo: Slo


class NodeSharing:
    """Quotas of the replicas of each node, and those in force; `kv_bytes` is what one node's engines share."""

    def __init__(self, replicas: Sequence[SharedReplica], cores: Mapping[str, float], kv_bytes: int | None) -> None:
        self._cores = cores
        self._kv_bytes = kv_bytes
        self._members = {
            node: [(claim, one) for claim, one in enumerate(replicas, start=1) if one.placed.node == node]
            for node in cores
        }
        # An engine begins with nothing but what its first decision gives it.
        self._in_force = dict.fromkeys(range(1, len(replicas) + 1), 0)

    def share(self, node: str, now: float, loads: Sequence[Load]) -> tuple[Grant, ...]:
        """As each engine does in each step: the quotas of all, then its own as far as others have given way."""
        members = self._members[node]
        rows = [self._observe(claim, one, load) for (claim, one), load in zip(members, loads, strict=True)]
        quotas = set_quotas(self._build_load(node, rows))
        grants: list[Grant] = []
        for place, (claim, one) in enumerate(members):
            quota = quotas.find(claim)
            settled = settle_quota(self._build_load(node, rows), quota)
            # The next one sees what this one gave back or took.
            rows[place] = replace(rows[place], quota_bytes=settled.kv_bytes)
            self._in_force[claim] = settled.kv_bytes
            tokens = int(settled.kv_bytes / one.kv_bytes_per_token)
            grants.append(Grant(tokens, quota.tokens_per_step, settled.admit, quota.turn))
        return tuple(grants)

    def _build_load(self, node: str, rows: Sequence[EngineLoad]) -> DeviceLoad:
        return DeviceLoad("cpu", self._kv_bytes, int(self._cores[node]), tuple(rows))

    def _observe(self, claim: int, one: SharedReplica, load: Load) -> EngineLoad:
        settings, per_token = one.placed.settings, one.kv_bytes_per_token
        longest = -(-settings.max_model_len // settings.block_tokens) * settings.block_tokens

        def to_bytes(tokens: float) -> int:
            return int(tokens * per_token)

        return EngineLoad(
            engine=settings.engine,
            claim=claim,
            device="cpu",
            running=load.running,
            waiting=load.waiting,
            prefill_tokens=load.prefill_tokens,
            oldest_at=load.oldest_at_s,
            used_bytes=to_bytes(load.kv_used),
            running_bytes=to_bytes(load.kv_at_ends),
            wanted_bytes=to_bytes(load.kv_wanted),
            quota_bytes=self._in_force[claim],
            pool_bytes=to_bytes(settings.kv_tokens),
            block_bytes=to_bytes(settings.block_tokens),
            sequence_bytes=to_bytes(longest),
            request_bytes=to_bytes(load.kv_of_request or longest),
            hold_s=load.hold_s,
            step_s=one.placed.times.measure_decode(max(1, load.running), settings.max_model_len / 2),
            token_s=one.placed.times.measure_step(0, 0.0, settings.step_tokens) / settings.step_tokens,
            stepped_at=load.stepped_at_s,
            step_tokens=max(1, load.running),
            max_tokens=settings.step_tokens,
            threads=int(one.placed.threads),
            ttft_s=one.slo.ttft_s,
            tpot_s=one.slo.tpot_s,
        )
