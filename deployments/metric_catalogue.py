"""Every metric of a fleet: name, type, unit, labels, help. Instruments, docs, dashboards and alerts are checked by it.

Prefix `guildhall_`, base units. Labels come from the fleet file or from fixed sets, so their number is bounded; no
label holds anything that a user wrote.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Kind = Literal["counter", "gauge", "histogram"]
Source = Literal["gateway", "replica"]

# From a cached answer of a tiny expert (10 ms) to a long answer at the default deadline (120 s).
DURATION_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# Routing and retrieval have a budget of milliseconds, as a token has.
SHORT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
# Low ones are what a new domain, more examples or feedback would mend; their share is how drift shows.
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric, by the name that Prometheus shows: a counter's ends in `_total`.

    `absent` says where no series of it exists, in words; empty where a fleet under load always has one.
    """

    name: str
    kind: Kind
    source: Source
    unit: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    absent: str = ""


_DOMAIN = ("domain",)
_VARIANT = ("domain", "variant")
_ENGINE = ("engine",)
_DEVICE = ("engine", "device")
_UNSHARED = "until the engine has written to its node's ledger"
_UNSCALED = "before the first decision"
_UNFAILED = "until one fails"

_METRICS = (
    Metric(
        "guildhall_requests_total", "counter", "gateway", "requests", ("route", "status"),
        "Requests by route and HTTP status.",
    ),
    Metric(
        "guildhall_request_seconds", "histogram", "gateway", "seconds", ("route",),
        "From the request to the last byte of its response.", DURATION_BUCKETS_S,
    ),
    Metric(
        "guildhall_requests_in_flight", "gauge", "gateway", "requests", (),
        "Requests being served now.",
    ),
    Metric(
        "guildhall_sub_queries_total", "counter", "gateway", "sub-queries", (*_VARIANT, "outcome"),
        "Sub-queries by domain, variant and outcome: answered, failed or replaced.",
    ),
    Metric(
        "guildhall_sub_queries_in_flight", "gauge", "gateway", "sub-queries", _DOMAIN,
        "Sub-queries at experts now.",
    ),
    Metric(
        "guildhall_slo_sub_queries_total", "counter", "gateway", "sub-queries", (*_DOMAIN, "outcome"),
        "Sub-queries by what became of their domain's targets: met, ttft, tpot (the target missed) or failed.",
    ),
    Metric(
        "guildhall_failures_total", "counter", "gateway", "sub-queries", (*_DOMAIN, "code"),
        "Failed sub-queries by domain and code.", absent=_UNFAILED,
    ),
    Metric(
        "guildhall_time_to_first_token_seconds", "histogram", "gateway", "seconds", _VARIANT,
        "From sending a sub-query to its first text.", DURATION_BUCKETS_S,
    ),
    Metric(
        "guildhall_time_per_output_token_seconds", "histogram", "gateway", "seconds", _VARIANT,
        "Per token after the first, the mean of an answer.", SHORT_BUCKETS_S,
    ),
    Metric(
        "guildhall_sub_query_seconds", "histogram", "gateway", "seconds", _VARIANT,
        "From sending a sub-query to the end of its answer.", DURATION_BUCKETS_S,
    ),
    Metric(
        "guildhall_prompt_tokens_total", "counter", "gateway", "tokens", _VARIANT,
        "Tokens read by experts.",
    ),
    Metric(
        "guildhall_completion_tokens_total", "counter", "gateway", "tokens", _VARIANT,
        "Tokens written by experts.",
    ),
    Metric(
        "guildhall_answers_scored_total", "counter", "gateway", "answers", (*_DOMAIN, "decision"),
        "Answers scored for escalation by domain and what was decided.", absent="without escalation",
    ),
    Metric(
        "guildhall_escalations_total", "counter", "gateway", "answers", (*_DOMAIN, "reason", "kept"),
        "Answers asked for again, by the domain of the first, why, and which of both was kept.",
        absent="until one is asked for again",
    ),
    Metric(
        "guildhall_routing_seconds", "histogram", "gateway", "seconds", (),
        "Splitting and classifying one question.", SHORT_BUCKETS_S,
    ),
    Metric(
        "guildhall_routed_sub_queries_total", "counter", "gateway", "sub-queries", ("tier",),
        "Sub-queries by what chose their domain: static, encoder, planner or request.",
    ),
    Metric(
        "guildhall_routing_confidence", "histogram", "gateway", "probability", ("tier",),
        "Calibrated probability that a routed sub-query's domain is right.", CONFIDENCE_BUCKETS,
    ),
    Metric(
        "guildhall_planner_total", "counter", "gateway", "questions", ("outcome",),
        "Questions that the generalist was asked to plan, by outcome: planned, rejected, cut, late, overloaded, "
        "failed or too_long.", absent="without router.planner_budget_s",
    ),
    Metric(
        "guildhall_planner_seconds", "histogram", "gateway", "seconds", (),
        "Asking the generalist for a plan.", DURATION_BUCKETS_S,
    ),
    Metric(
        "guildhall_retrieval_seconds", "histogram", "gateway", "seconds", _DOMAIN,
        "Asking a domain's index, as its expert measured it.", SHORT_BUCKETS_S,
    ),
    Metric(
        "guildhall_feedback_total", "counter", "gateway", "judgements", ("score",),
        "Feedback by score: bad (below 1/3), mixed, good (above 2/3) or none (a correction alone).",
        absent="until somebody judges",
    ),
    Metric(
        "guildhall_scaling_replicas", "gauge", "gateway", "replicas", _ENGINE,
        "Replicas that run, at the last decision.", absent=_UNSCALED,
    ),
    Metric(
        "guildhall_scaling_target_replicas", "gauge", "gateway", "replicas", _ENGINE,
        "Replicas granted by the last decision.", absent=_UNSCALED,
    ),
    Metric(
        "guildhall_scaling_wanted_replicas", "gauge", "gateway", "replicas", _ENGINE,
        "Replicas wanted before caps.", absent=_UNSCALED,
    ),
    Metric(
        "guildhall_scaling_capped", "gauge", "gateway", "0 or 1", _ENGINE,
        "1 where fewer replicas were granted than wanted.", absent=_UNSCALED,
    ),
    Metric(
        "guildhall_scaling_decisions_total", "counter", "gateway", "decisions", ("engine", "policy", "direction"),
        "Changes of the replicas granted, by the policy that decided and direction: up or down.",
        absent="until the first change",
    ),
    Metric(
        "guildhall_engine_requests_running", "gauge", "replica", "requests", _ENGINE,
        "Requests in the engine's batch.",
    ),
    Metric(
        "guildhall_engine_requests_waiting", "gauge", "replica", "requests", _ENGINE,
        "Requests in the engine's queue.",
    ),
    Metric(
        "guildhall_engine_queue_seconds_total", "counter", "replica", "seconds", _ENGINE,
        "Time that requests have waited in the engine's queue; by requests scheduled it is the mean.",
    ),
    Metric(
        "guildhall_engine_scheduled_requests_total", "counter", "replica", "requests", _ENGINE,
        "Requests that have left the engine's queue and ended.",
    ),
    Metric(
        "guildhall_engine_preemptions_total", "counter", "replica", "requests", _ENGINE,
        "Requests put back into the queue for want of KV blocks.", absent="until the first",
    ),
    Metric(
        "guildhall_kv_cache_used_ratio", "gauge", "replica", "0 to 1", _ENGINE,
        "KV blocks in use, of all that the engine has.",
    ),
    Metric(
        "guildhall_kv_quota_bytes", "gauge", "replica", "bytes", _DEVICE,
        "KV cache that an engine may hold now, of what its node's engines share.", absent=_UNSHARED,
    ),
    Metric(
        "guildhall_kv_used_bytes", "gauge", "replica", "bytes", _DEVICE,
        "KV cache that an engine holds, by the ledger of its node.", absent=_UNSHARED,
    ),
    Metric(
        "guildhall_prefix_cache_queried_tokens_total", "counter", "replica", "tokens", _ENGINE,
        "Prompt tokens looked up in the prefix cache.",
    ),
    Metric(
        "guildhall_prefix_cache_hit_tokens_total", "counter", "replica", "tokens", _ENGINE,
        "Prompt tokens found in the prefix cache.",
    ),
    Metric(
        "guildhall_engine_sleeping", "gauge", "replica", "0 or 1", _ENGINE,
        "1 while the engine sleeps.",
    ),
    Metric(
        "guildhall_engine_wakes_total", "counter", "replica", "wakes", _ENGINE,
        "How often the engine was woken by a request.", absent="until the first",
    ),
    Metric(
        "guildhall_engine_wake_seconds", "gauge", "replica", "seconds", _ENGINE,
        "How long the last wake took, its turn waited for included; 0 before the first.",
    ),
    Metric(
        "guildhall_replica_up_seconds_total", "counter", "replica", "seconds", _ENGINE,
        "Time that replicas have been up: what a fleet costs is their CPUs, GPUs and memory for that time.",
    ),
    Metric(
        "guildhall_replica_cpus", "gauge", "replica", "cores", _ENGINE,
        "CPUs that a replica reserves.",
    ),
    Metric(
        "guildhall_replica_gpus", "gauge", "replica", "GPUs", _ENGINE,
        "GPUs that a replica reserves, shares included.",
    ),
    Metric(
        "guildhall_index_commit", "gauge", "replica", "number", _DOMAIN,
        "Number of the commit that a domain's index serves; it only grows.",
    ),
    Metric(
        "guildhall_index_behind", "gauge", "replica", "0 or 1", _DOMAIN,
        "1 while something newer is committed that a domain's index cannot serve.",
    ),
    Metric(
        "guildhall_energy_joules_total", "counter", "replica", "joules", ("meter",),
        "Energy of a whole node by meter, RAPL or NVML, as each of its replicas reads it: take the highest of a node.",
        absent="where no meter can be read",
    ),
    Metric(
        "guildhall_energy_meter_readable", "gauge", "replica", "0 or 1", ("meter",),
        "1 where the node's meter can be read.",
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}


def build_counter(name: str, registry: CollectorRegistry) -> Counter:
    """The instrument of a catalogued counter."""
    metric = _find(name, "counter")
    return Counter(name.removesuffix("_total"), metric.help, metric.labels, registry=registry)


def build_gauge(name: str, registry: CollectorRegistry) -> Gauge:
    """The instrument of a catalogued gauge."""
    metric = _find(name, "gauge")
    return Gauge(name, metric.help, metric.labels, registry=registry)


def build_histogram(name: str, registry: CollectorRegistry) -> Histogram:
    """The instrument of a catalogued histogram."""
    metric = _find(name, "histogram")
    return Histogram(name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)


def _find(name: str, kind: Kind) -> Metric:
    metric = METRICS[name]
    if metric.kind != kind:
        raise TypeError(f"{name} is a {metric.kind} in the catalogue, and is asked for as a {kind}")
    return metric
