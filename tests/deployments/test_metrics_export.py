"""What reaches Ray's agent of what a process counts, and what of vLLM's own metrics a replica shows."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from deployments.gateway_metrics import GatewayMetrics, judge_slo
from deployments.metric_catalogue import METRICS, Metric, build_counter, build_gauge, build_histogram
from deployments.metrics_export import MetricsExport, choose_middle
from deployments.replica_metrics import ReplicaMetrics
from experts.fleet import Engine, Slo


class Received:
    """An agent that keeps what it is given, as Ray's does."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, tuple[str, ...]], float] = {}
        self.observed: dict[tuple[str, tuple[str, ...]], list[float]] = {}

    def add(self, metric: Metric, amount: float, tags: Mapping[str, str]) -> None:
        key = self._key(metric, tags)
        self.values[key] = self.values.get(key, 0) + amount

    def set(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        self.values[self._key(metric, tags)] = value

    def observe(self, metric: Metric, value: float, count: int, tags: Mapping[str, str]) -> None:
        self.observed.setdefault(self._key(metric, tags), []).extend([value] * count)

    def _key(self, metric: Metric, tags: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
        assert set(tags) == set(metric.labels)
        return metric.name, tuple(tags[label] for label in metric.labels)


@dataclass(frozen=True)
class Index:
    version: str
    problem: str


@dataclass
class Sleeper:
    asleep: bool = False
    wakes: int = 0
    last_wake_s: float = 0.0


def test_a_counter_is_handed_on_by_its_growth_and_a_gauge_as_it_stands() -> None:
    registry, agent = CollectorRegistry(), Received()
    counter = build_counter("guildhall_requests_total", registry)
    gauge = build_gauge("guildhall_sub_queries_in_flight", registry)
    export = MetricsExport(registry, agent)
    counter.labels("/v1/models", "200").inc(3)
    gauge.labels("finance").set(2)
    export.hand_on()
    counter.labels("/v1/models", "200").inc()
    gauge.labels("finance").set(0)
    export.hand_on()
    export.hand_on()
    assert agent.values == {
        ("guildhall_requests_total", ("/v1/models", "200")): 4,
        ("guildhall_sub_queries_in_flight", ("finance",)): 0,
    }


def test_a_histogram_keeps_its_counts_by_bucket_and_label() -> None:
    registry, agent = CollectorRegistry(), Received()
    histogram = build_histogram("guildhall_time_to_first_token_seconds", registry)
    export = MetricsExport(registry, agent)
    for seconds in (0.02, 0.02, 0.3, 500):
        histogram.labels("finance", "adapter").observe(seconds)
    export.hand_on()
    histogram.labels("finance", "adapter").observe(0.3)
    histogram.labels("coding", "base").observe(0.001)
    export.hand_on()
    name, buckets = "guildhall_time_to_first_token_seconds", METRICS["guildhall_time_to_first_token_seconds"].buckets
    finance = agent.observed[name, ("finance", "adapter")]
    again = Histogram("x", "x", buckets=buckets, registry=CollectorRegistry())
    for value in finance:
        again.observe(value)
    (family,) = again.collect()
    counts = {sample.labels["le"]: sample.value for sample in family.samples if "le" in sample.labels}
    assert (counts["0.01"], counts["0.025"], counts["0.25"], counts["0.5"], counts["120.0"]) == (0, 2, 2, 4, 4)
    assert counts["+Inf"] == 5
    assert agent.observed[name, ("coding", "base")] == [0.005]


@pytest.mark.parametrize(("position", "value"), [(0, 0.5), (1, 2.0), (2, 6.0)])
def test_an_observation_stands_in_the_middle_of_its_bucket(position: int, value: float) -> None:
    assert choose_middle((1, 3), position) == value


def test_a_source_that_cannot_be_read_hides_no_other() -> None:
    registry, agent = CollectorRegistry(), Received()
    gauge = build_gauge("guildhall_requests_in_flight", registry)

    def broken() -> None:
        raise OSError("the ledger is gone")

    MetricsExport(registry, agent, [broken, lambda: gauge.set(7)]).hand_on()
    assert agent.values == {("guildhall_requests_in_flight", ()): 7}


def test_a_replica_shows_its_engine_its_indexes_and_what_it_reserves() -> None:
    theirs = CollectorRegistry()
    waits = Histogram("vllm:request_queue_time_seconds", "x", ["engine"], registry=theirs).labels("0")
    hits = Counter("vllm:prefix_cache_hits", "x", ["engine"], registry=theirs).labels("0")
    Gauge("vllm:kv_cache_usage_perc", "x", ["engine"], registry=theirs).labels("0").set(0.25)
    rows = [
        {"engine": name, "device": "cpu", "in_force_bytes": 600, "used_bytes": used}
        for name, used in (("pocket", 100), ("pocket", 50), ("law", 7))
    ]
    sleep = Sleeper()
    indexes = {"finance": Index("a19fea7ad8fb.7", ""), "math": Index("", "the storage is away")}
    engine = Engine(model="m", cpus=2)
    metrics = ReplicaMetrics("pocket", engine, lambda: indexes, sleep, lambda: rows, engine_registry=theirs)
    waits.observe(2)
    hits.inc(100)
    agent = Received()
    export = MetricsExport(metrics.registry, agent, [metrics.refresh])
    export.hand_on()
    waits.observe(1)
    export.hand_on()
    shown = agent.values
    name = ("pocket",)
    assert shown["guildhall_engine_queue_seconds_total", name] == 3
    assert shown["guildhall_engine_scheduled_requests_total", name] == 2
    assert shown["guildhall_prefix_cache_hit_tokens_total", name] == 100
    assert shown["guildhall_kv_cache_used_ratio", name] == 0.25
    assert shown["guildhall_engine_sleeping", name] == 0
    assert shown["guildhall_replica_cpus", name] == 2
    assert shown["guildhall_replica_gpus", name] == 0
    assert shown["guildhall_index_commit", ("finance",)] == 7
    assert shown["guildhall_index_behind", ("math",)] == 1
    assert ("guildhall_index_commit", ("math",)) not in shown
    assert shown["guildhall_kv_quota_bytes", ("pocket", "cpu")] == 1200
    assert shown["guildhall_kv_used_bytes", ("pocket", "cpu")] == 150
    assert ("guildhall_kv_used_bytes", ("law", "cpu")) not in shown
    sleep.asleep, sleep.wakes, sleep.last_wake_s = True, 3, 0.5
    export.hand_on()
    assert shown["guildhall_engine_sleeping", name] == 1
    assert shown["guildhall_engine_wakes_total", name] == 3
    assert shown["guildhall_engine_wake_seconds", name] == 0.5


def test_every_catalogued_metric_is_shown_by_its_process_and_no_other() -> None:
    def names(registry: CollectorRegistry) -> set[str]:
        return {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}

    replica = ReplicaMetrics("pocket", Engine(model="m"), dict, Sleeper(), tuple, engine_registry=CollectorRegistry())
    for source, registry in (("gateway", GatewayMetrics().registry), ("replica", replica.registry)):
        assert names(registry) == {metric.name for metric in METRICS.values() if metric.source == source}


def test_names_have_one_prefix_and_base_units_and_labels_that_are_bounded() -> None:
    fleets = {"domain", "variant", "engine", "policy"}
    fixed = {
        "route",
        "status",
        "outcome",
        "code",
        "decision",
        "reason",
        "kept",
        "tier",
        "score",
        "direction",
        "meter",
        "device",
    }
    for metric in METRICS.values():
        assert metric.name.startswith("guildhall_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert ("_seconds" in metric.name) == (metric.unit == "seconds")
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert set(metric.labels) <= fleets | fixed


@pytest.mark.parametrize(
    ("ttft_s", "tpot_s", "failed", "judged"),
    [
        (1.0, 0.1, False, "met"),
        (None, None, False, "met"),
        (2.5, 0.3, False, "ttft"),
        (1.0, 0.3, False, "tpot"),
        (1.0, 0.1, True, "failed"),
    ],
)
def test_a_sub_query_meets_its_targets_or_names_the_one_it_misses(
    ttft_s: float | None, tpot_s: float | None, failed: bool, judged: str
) -> None:
    assert judge_slo(Slo(ttft_s=2, tpot_s=0.2), ttft_s, tpot_s, failed) == judged
