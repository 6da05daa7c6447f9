"""Hands what a process counts to Ray's agent on its node, which is what Prometheus scrapes (docs/decisions/0013).

Instruments are prometheus_client's: 2 µs an increment, half of Ray's own. A thread hands their growth on, so that no
request waits for Ray. A histogram reaches Prometheus with its counts by bucket exact and its sum from the middles of
the buckets, because that is how Ray's agent keeps one: take quantiles of it, never its mean.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family

from deployments.logs import log_event
from deployments.metric_catalogue import METRICS, Metric

# Ray hands on every 10 s, or as often as the local Ray is told to; twice as often misses none of its turns.
EXPORT_S = 2.5

Labels = tuple[tuple[str, str], ...]


class Agent(Protocol):
    """Where growth goes to; `RayAgent` is the real one. Tags are all labels of the metric."""

    def add(self, metric: Metric, amount: float, tags: Mapping[str, str]) -> None: ...

    def set(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None: ...

    def observe(self, metric: Metric, value: float, count: int, tags: Mapping[str, str]) -> None: ...


class RayAgent:
    """`ray.util.metrics`, which reaches Prometheus as `ray_<name>`, with the node's address and the process's id."""

    def __init__(self) -> None:
        self._instruments: dict[str, Any] = {}

    def add(self, metric: Metric, amount: float, tags: Mapping[str, str]) -> None:
        self._find(metric).inc(amount, tags)

    def set(self, metric: Metric, value: float, tags: Mapping[str, str]) -> None:
        self._find(metric).set(value, tags)

    def observe(self, metric: Metric, value: float, count: int, tags: Mapping[str, str]) -> None:
        instrument = self._find(metric)
        for _ in range(count):
            instrument.observe(value, tags)

    def _find(self, metric: Metric) -> Any:
        if metric.name not in self._instruments:
            from ray.util.metrics import Counter, Gauge, Histogram

            if metric.kind == "counter":
                made: Any = Counter(metric.name.removesuffix("_total"), metric.help, metric.labels)
            elif metric.kind == "gauge":
                made = Gauge(metric.name, metric.help, metric.labels)
            else:
                made = Histogram(metric.name, metric.help, list(metric.buckets), metric.labels)
            self._instruments[metric.name] = made
        return self._instruments[metric.name]


class MetricsExport:
    """Hands a registry on; `refresh` are called before each time, to set what nobody counts as it happens."""

    def __init__(self, registry: CollectorRegistry, agent: Agent, refresh: Sequence[Callable[[], None]] = ()) -> None:
        self._registry = registry
        self._agent = agent
        self._refresh = refresh
        self._seen: dict[tuple[str, Labels], float] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        """Hand on every `EXPORT_S` until `close`, in a thread."""
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def close(self) -> None:
        """End the thread; what has not been handed on is lost."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(EXPORT_S):
            try:
                self.hand_on()
            except Exception as error:  # noqa: BLE001 - the thread's edge: one failed turn must not be the last
                log_event("metrics_not_exported", logging.WARNING, error=type(error).__name__)

    def hand_on(self) -> None:
        """Hand on what has grown since the last time, and every gauge as it stands."""
        for refresh in self._refresh:
            try:
                refresh()
            except Exception as error:  # noqa: BLE001 - one source that cannot be read must not hide the others
                log_event("metrics_not_refreshed", logging.WARNING, error=type(error).__name__)
        for family in self._registry.collect():
            self._hand_on_family(family)

    def _hand_on_family(self, family: Family) -> None:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        metric = METRICS[name]
        if metric.kind == "histogram":
            self._hand_on_histogram(metric, family)
            return
        for sample in family.samples:
            if sample.name != name:  # prometheus_client's own `_created`.
                continue
            if metric.kind == "gauge":
                self._agent.set(metric, sample.value, sample.labels)
                continue
            grown = self._grow((name, tuple(sample.labels.items())), sample.value)
            if grown > 0:
                self._agent.add(metric, grown, sample.labels)

    def _hand_on_histogram(self, metric: Metric, family: Family) -> None:
        """Each bucket's growth as observations of its middle; prometheus_client's buckets are cumulative, +Inf last."""
        position, below = 0, 0.0
        for sample in family.samples:
            if sample.name != f"{metric.name}_bucket":
                continue
            labels = {key: value for key, value in sample.labels.items() if key != "le"}
            grown = self._grow((metric.name, tuple(sample.labels.items())), sample.value - below)
            if grown > 0:
                self._agent.observe(metric, choose_middle(metric.buckets, position), round(grown), labels)
            last = sample.labels["le"] == "+Inf"
            position, below = (0, 0.0) if last else (position + 1, sample.value)

    def _grow(self, key: tuple[str, Labels], now: float) -> float:
        grown = now - self._seen.get(key, 0.0)
        self._seen[key] = now
        return grown


def choose_middle(bounds: Sequence[float], position: int) -> float:
    """A value inside a histogram's bucket; the last position is that above all bounds."""
    if position == len(bounds):
        return bounds[-1] * 2
    lower = bounds[position - 1] if position else 0.0
    return (lower + bounds[position]) / 2
