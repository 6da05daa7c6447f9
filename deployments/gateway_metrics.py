"""What the gateway counts, in a registry of its own; `deployments.metric_catalogue` says what each metric is."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from deployments.metric_catalogue import build_counter, build_gauge, build_histogram
from experts.fleet import Slo

if TYPE_CHECKING:
    from deployments.scaling_record import ScalingRecord


class GatewayMetrics:
    """The gateway's instruments; domain and variant come from the fleet file only."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = build_counter("guildhall_requests_total", registry)
        self.request_seconds = build_histogram("guildhall_request_seconds", registry)
        self.in_flight = build_gauge("guildhall_requests_in_flight", registry)
        self.sub_queries = build_counter("guildhall_sub_queries_total", registry)
        self.sub_queries_in_flight = build_gauge("guildhall_sub_queries_in_flight", registry)
        self.slo = build_counter("guildhall_slo_sub_queries_total", registry)
        self.failures = build_counter("guildhall_failures_total", registry)
        self.escalations = build_counter("guildhall_escalations_total", registry)
        self.answers_scored = build_counter("guildhall_answers_scored_total", registry)
        self.ttft_seconds = build_histogram("guildhall_time_to_first_token_seconds", registry)
        self.tpot_seconds = build_histogram("guildhall_time_per_output_token_seconds", registry)
        self.sub_query_seconds = build_histogram("guildhall_sub_query_seconds", registry)
        self.prompt_tokens = build_counter("guildhall_prompt_tokens_total", registry)
        self.completion_tokens = build_counter("guildhall_completion_tokens_total", registry)
        self.routing_seconds = build_histogram("guildhall_routing_seconds", registry)
        self.retrieval_seconds = build_histogram("guildhall_retrieval_seconds", registry)
        self.tiers = build_counter("guildhall_routed_sub_queries_total", registry)
        self.confidence = build_histogram("guildhall_routing_confidence", registry)
        self.planner = build_counter("guildhall_planner_total", registry)
        self.planner_seconds = build_histogram("guildhall_planner_seconds", registry)
        self.feedback = build_counter("guildhall_feedback_total", registry)
        self.scaling_replicas = build_gauge("guildhall_scaling_replicas", registry)
        self.scaling_target = build_gauge("guildhall_scaling_target_replicas", registry)
        self.scaling_wanted = build_gauge("guildhall_scaling_wanted_replicas", registry)
        self.scaling_capped = build_gauge("guildhall_scaling_capped", registry)
        self.scaling_decisions = build_counter("guildhall_scaling_decisions_total", registry)
        self._changes: dict[tuple[str, str], int] = {}

    def show_scaling(self, records: "Sequence[ScalingRecord]") -> None:
        """Show the newest decision about each engine, and count those that changed its replicas since the last look."""
        for record in records:
            self.scaling_replicas.labels(record.engine).set(record.running)
            self.scaling_target.labels(record.engine).set(record.replicas)
            self.scaling_wanted.labels(record.engine).set(record.wanted)
            self.scaling_capped.labels(record.engine).set(1 if record.capped else 0)
            for direction, total in (("up", record.changes_up), ("down", record.changes_down)):
                # What was decided before this process came is not its to count.
                before = self._changes.get((record.engine, direction), total)
                counter = self.scaling_decisions.labels(record.engine, record.policy, direction)
                counter.inc(max(0, total - before))
                self._changes[record.engine, direction] = total

    def render(self) -> bytes:
        """This replica's own metrics as text; Prometheus scrapes those of all replicas at the nodes."""
        return generate_latest(self.registry)


def judge_slo(slo: Slo, ttft_s: float | None, tpot_s: float | None, failed: bool) -> str:
    """What became of a domain's targets in one sub-query: met, ttft, tpot or failed. None is what it had none of."""
    if failed:
        return "failed"
    if ttft_s is not None and ttft_s > slo.ttft_s:
        return "ttft"
    return "tpot" if tpot_s is not None and tpot_s > slo.tpot_s else "met"
