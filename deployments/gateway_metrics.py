"""What the gateway counts, for Prometheus: prefix `guildhall_`, base units, labels from bounded sets only."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# From a cached answer of a tiny expert (10 ms) to a long answer at the default deadline (120 s).
DURATION_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
# Routing has a budget of milliseconds.
ROUTING_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
# Low ones are what a new domain, more examples or feedback would mend; their share is how drift shows.
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)


class GatewayMetrics:
    """The gateway's counters, in a registry of their own; domain and variant come from the fleet file only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "guildhall_requests", "Requests by route and HTTP status.", ["route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "guildhall_request_seconds",
            "From the request to the last byte of its response.",
            ["route"],
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge("guildhall_requests_in_flight", "Requests being served now.", registry=self.registry)
        self.sub_queries = Counter(
            "guildhall_sub_queries",
            "Sub-queries by domain, variant and outcome (answered or failed).",
            ["domain", "variant", "outcome"],
            registry=self.registry,
        )
        self.failures = Counter(
            "guildhall_failures", "Failed sub-queries by domain and code.", ["domain", "code"], registry=self.registry
        )
        self.escalations = Counter(
            "guildhall_escalations",
            "Answers asked for again, by the domain of the first, why, and which of both was kept.",
            ["domain", "reason", "kept"],
            registry=self.registry,
        )
        self.answers_scored = Counter(
            "guildhall_answers_scored",
            "Answers scored for escalation by domain and what was decided.",
            ["domain", "decision"],
            registry=self.registry,
        )
        self.sub_queries_in_flight = Gauge(
            "guildhall_sub_queries_in_flight", "Sub-queries at experts now.", ["domain"], registry=self.registry
        )
        self.ttft_seconds = Histogram(
            "guildhall_time_to_first_token_seconds",
            "From sending a sub-query to its first text.",
            ["domain", "variant"],
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self.sub_query_seconds = Histogram(
            "guildhall_sub_query_seconds",
            "From sending a sub-query to the end of its answer.",
            ["domain", "variant"],
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )
        self.prompt_tokens = Counter(
            "guildhall_prompt_tokens", "Tokens read by experts.", ["domain", "variant"], registry=self.registry
        )
        self.completion_tokens = Counter(
            "guildhall_completion_tokens", "Tokens written by experts.", ["domain", "variant"], registry=self.registry
        )
        self.routing_seconds = Histogram(
            "guildhall_routing_seconds",
            "Splitting and classifying one question.",
            buckets=ROUTING_BUCKETS_S,
            registry=self.registry,
        )
        self.retrieval_seconds = Histogram(
            "guildhall_retrieval_seconds",
            "Asking a domain's index, as its expert measured it.",
            ["domain"],
            buckets=ROUTING_BUCKETS_S,
            registry=self.registry,
        )

        self.tiers = Counter(
            "guildhall_routed_sub_queries",
            "Sub-queries by what chose their domain: static, encoder, planner or request.",
            ["tier"],
            registry=self.registry,
        )
        self.confidence = Histogram(
            "guildhall_routing_confidence",
            "Calibrated probability that a routed sub-query's domain is right.",
            ["tier"],
            buckets=CONFIDENCE_BUCKETS,
            registry=self.registry,
        )
        self.planner = Counter(
            "guildhall_planner",
            "Questions that the generalist was asked to plan, by outcome: planned, rejected, cut, late, overloaded, "
            "failed or too_long.",
            ["outcome"],
            registry=self.registry,
        )
        self.planner_seconds = Histogram(
            "guildhall_planner_seconds",
            "Asking the generalist for a plan.",
            buckets=DURATION_BUCKETS_S,
            registry=self.registry,
        )

        self.feedback = Counter(
            "guildhall_feedback",
            "Feedback by score: bad (below 1/3), mixed, good (above 2/3) or none (a correction alone).",
            ["score"],
            registry=self.registry,
        )

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
