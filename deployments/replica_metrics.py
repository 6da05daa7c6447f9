"""What a replica of an engine shows of itself: vLLM's queue and KV cache, its indexes, what it reserves, energy.

Nothing is counted as it happens: vLLM counts anyway, in its own registry of the replica's process, and the rest is
looked at when metrics are handed on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import REGISTRY, CollectorRegistry, Counter

from deployments.energy_meter import Meter, NoMeter, open_cpu_meter, open_gpu_meter
from deployments.metric_catalogue import build_counter, build_gauge
from deployments.metrics_export import MetricsExport, RayAgent
from experts.fleet import Engine

_QUEUE = "vllm:request_queue_time_seconds"
# vLLM's name of a counter, and ours.
_COUNTED = {
    f"{_QUEUE}_sum": "guildhall_engine_queue_seconds_total",
    f"{_QUEUE}_count": "guildhall_engine_scheduled_requests_total",
    "vllm:num_preemptions_total": "guildhall_engine_preemptions_total",
    "vllm:prefix_cache_queries_total": "guildhall_prefix_cache_queried_tokens_total",
    "vllm:prefix_cache_hits_total": "guildhall_prefix_cache_hit_tokens_total",
}
_GAUGED = {
    "vllm:num_requests_running": "guildhall_engine_requests_running",
    "vllm:num_requests_waiting": "guildhall_engine_requests_waiting",
    "vllm:kv_cache_usage_perc": "guildhall_kv_cache_used_ratio",
}


class SleepState(Protocol):
    """What is shown of an engine that may sleep in place."""

    @property
    def asleep(self) -> bool: ...

    @property
    def wakes(self) -> int: ...

    @property
    def last_wake_s(self) -> float: ...


class ServedIndex(Protocol):
    """What is shown of a domain's index."""

    @property
    def version(self) -> str: ...

    @property
    def problem(self) -> str: ...


def show_replica(
    name: str,
    engine: Engine,
    indexes: Callable[[], Mapping[str, ServedIndex]],
    sleep: SleepState,
    read_quotas: Callable[[], Sequence[Mapping[str, Any]]],
) -> None:
    """Hand on the metrics of this process's engine until the process ends."""
    import ray

    gpus = [int(gpu) for gpu in ray.get_gpu_ids() if str(gpu).isdecimal()] if engine.device == "gpu" else []
    metrics = ReplicaMetrics(name, engine, indexes, sleep, read_quotas, gpus)
    MetricsExport(metrics.registry, RayAgent(), [metrics.refresh]).start()


class ReplicaMetrics:
    """A replica's instruments; `refresh` sets them to what is true now, in whatever thread calls it, one at a time.

    `read_quotas` gives what `NodeQuotas.read` does: every engine of the node, as its ledger has it.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        indexes: Callable[[], Mapping[str, ServedIndex]],
        sleep: SleepState,
        read_quotas: Callable[[], Sequence[Mapping[str, Any]]],
        gpus: Sequence[int] = (),
        engine_registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.registry = registry = CollectorRegistry()
        self._name = name
        self._indexes = indexes
        self._sleep = sleep
        self._read_quotas = read_quotas
        self._engine_registry = engine_registry
        self._counted = {theirs: build_counter(ours, registry) for theirs, ours in _COUNTED.items()}
        self._gauged = {theirs: build_gauge(ours, registry) for theirs, ours in _GAUGED.items()}
        self._sleeping = build_gauge("guildhall_engine_sleeping", registry)
        self._wakes = build_counter("guildhall_engine_wakes_total", registry)
        self._wake_seconds = build_gauge("guildhall_engine_wake_seconds", registry)
        self._quota = build_gauge("guildhall_kv_quota_bytes", registry)
        self._used = build_gauge("guildhall_kv_used_bytes", registry)
        self._up = build_counter("guildhall_replica_up_seconds_total", registry)
        self._commit = build_gauge("guildhall_index_commit", registry)
        self._behind = build_gauge("guildhall_index_behind", registry)
        self._joules = build_counter("guildhall_energy_joules_total", registry)
        self._readable = build_gauge("guildhall_energy_meter_readable", registry)
        build_gauge("guildhall_replica_cpus", registry).labels(name).set(engine.cpus)
        build_gauge("guildhall_replica_gpus", registry).labels(name).set(
            engine.gpus * engine.tensor_parallel if engine.device == "gpu" else 0
        )
        self._last: dict[str, float] = {}
        self._looked_at = time.monotonic()
        meters: dict[str, Meter | NoMeter] = {"rapl": open_cpu_meter()}
        if gpus:
            meters["nvml"] = open_gpu_meter(gpus)
        self._meters: dict[str, Meter] = {}
        for kind, meter in meters.items():
            self._readable.labels(kind).set(0 if isinstance(meter, NoMeter) else 1)
            if not isinstance(meter, NoMeter):
                self._meters[kind] = meter
                self._last[kind] = meter.read_joules()

    def refresh(self) -> None:
        """Look at everything once."""
        now = time.monotonic()
        self._up.labels(self._name).inc(now - self._looked_at)
        self._looked_at = now
        self._read_engine()
        self._sleeping.labels(self._name).set(1 if self._sleep.asleep else 0)
        self._count_up(self._wakes, self._name, "wakes", self._sleep.wakes)
        self._wake_seconds.labels(self._name).set(self._sleep.last_wake_s)
        self._read_ledger()
        for domain, index in dict(self._indexes()).items():
            commit = index.version.rpartition(".")[2]
            if commit.isdecimal():
                self._commit.labels(domain).set(int(commit))
            self._behind.labels(domain).set(1 if index.problem else 0)
        for kind, meter in self._meters.items():
            self._count_up(self._joules, kind, kind, meter.read_joules())

    def _read_engine(self) -> None:
        """vLLM's own counters; an engine that has none yet shows nothing."""
        totals: dict[str, float] = {}
        names = [*_COUNTED, *_GAUGED]
        for family in self._engine_registry.restricted_registry(names).collect():
            for sample in family.samples:
                totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
        for theirs, counter in self._counted.items():
            if theirs in totals:
                self._count_up(counter, self._name, theirs, totals[theirs])
        for theirs, gauge in self._gauged.items():
            if theirs in totals:
                gauge.labels(self._name).set(totals[theirs])

    def _read_ledger(self) -> None:
        """What all replicas of this engine on the node may hold and hold; each of them shows the same."""
        held: dict[str, tuple[int, int]] = {}
        for row in self._read_quotas():
            if row["engine"] == self._name:
                quota, used = held.get(row["device"], (0, 0))
                held[row["device"]] = (quota + row["in_force_bytes"], used + row["used_bytes"])
        for device, (quota, used) in held.items():
            self._quota.labels(self._name, device).set(quota)
            self._used.labels(self._name, device).set(used)

    def _count_up(self, counter: Counter, label: str, source: str, now: float) -> None:
        """Raise a counter by what its source has grown since the last look."""
        counter.labels(label).inc(max(0.0, now - self._last.get(source, 0.0)))
        self._last[source] = now
