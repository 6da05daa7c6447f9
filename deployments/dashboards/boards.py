"""The six dashboards of a fleet: which graphs, by which queries, and what each tells."""

from deployments.dashboards.panel import Dashboard, Panel, Query, Unit

_ANSWERS = 'route=~"/v1/(chat/)?completions"'
_DOMAIN = 'domain=~"$domain"'
_NODE = 'node=~"$node"'


def _rate(metric: str, by: str = "", where: str = "") -> str:
    """Growth a second, summed over processes; `by` are the labels that stay."""
    kept = f" by ({by})" if by else ""
    return f"sum{kept} (rate({metric}{{{where}}}[$__rate_interval]))"


def _or_zero(expression: str) -> str:
    """A counter has no series until the first of its kind; zero is what that means."""
    return f"{expression} or on () vector(0)"


def _quantile(quantile: float, metric: str, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, {_rate(f'{metric}_bucket', labels, where)})"


def _quantiles(title: str, metric: str, says: str, by: str = "", where: str = "") -> Panel:
    """Median, p95 and p99 of a duration."""
    named = f"{{{{{by}}}}} " if by else ""
    queries = tuple(
        Query(_quantile(quantile, metric, by, where), f"{named}p{quantile * 100:g}") for quantile in (0.5, 0.95, 0.99)
    )
    return Panel(title, queries, "s", says)


def _graph(title: str, unit: Unit, says: str, *queries: tuple[str, str]) -> Panel:
    return Panel(title, tuple(Query(*query) for query in queries), unit, says)


_SLO = "guildhall_slo_sub_queries_total"
_MISSED = _rate(_SLO, "domain", 'outcome!="met"')
# A domain that has missed none yet has no series of those missed.
_ATTAINMENT = f"1 - ({_MISSED} or 0 * {_rate(_SLO, 'domain')}) / ({_rate(_SLO, 'domain')} > 0)"
_SCALING = "max by (engine) (guildhall_scaling_{}_replicas)"
_TOKENS = "guildhall_completion_tokens_total"
_SLEEPING = "sum by (engine) (guildhall_engine_sleeping)"

FLEET = Dashboard(
    "fleet",
    "Fleet",
    (
        _graph(
            "Requests", "reqps", "Answers asked for, by HTTP status. 429 is a limit reached, 503 an expert away.",
            (_rate("guildhall_requests_total", "status", _ANSWERS), "{{status}}"),
        ),
        _quantiles(
            "Request time", "guildhall_request_seconds", "From the request to the last byte.", where=_ANSWERS
        ),
        _graph(
            "SLO attainment", "percentunit",
            "Share of sub-queries within their domain's TTFT and TPOT. Below 99 %: open the domain's dashboard.",
            (_ATTAINMENT, "{{domain}}"),
        ),
        _graph(
            "In flight", "short", "Requests and sub-queries that somebody waits for now.",
            ("sum (guildhall_requests_in_flight)", "requests"),
            ("sum (guildhall_sub_queries_in_flight)", "sub-queries"),
        ),
        _graph(
            "Sub-queries", "ops", "By domain: where the load is.",
            (_rate("guildhall_sub_queries_total", "domain"), "{{domain}}"),
        ),
        _graph(
            "Failures", "ops", "Failed sub-queries by code; overloaded wants replicas, expert_unavailable a log.",
            (_or_zero(_rate("guildhall_failures_total", "code")), "{{code}}"),
        ),
        _graph(
            "Tokens", "ops", "Read and written a second.",
            (_rate("guildhall_prompt_tokens_total"), "read"), (_rate(_TOKENS), "written"),
        ),
        _graph(
            "Replicas", "short", "Running replicas by engine, and how many of them sleep.",
            ("count by (engine) (guildhall_replica_cpus)", "{{engine}}"),
            ("sum by (engine) (guildhall_engine_sleeping)", "{{engine}} asleep"),
        ),
        _graph(
            "Scaling", "short", "Replicas wanted and granted. More wanted for long: raise a cap or add machines.",
            (_SCALING.format("wanted"), "{{engine}} wanted"), (_SCALING.format("target"), "{{engine}} granted"),
        ),
        _graph(
            "Scaling decisions", "short", "Changes of the replicas granted, by the policy whose wish was the highest.",
            (
                _or_zero(
                    "max by (engine, policy, direction) (increase(guildhall_scaling_decisions_total[$__rate_interval]))"
                ),
                "{{engine}} {{direction}}: {{policy}}",
            ),
        ),
    ),
)  # fmt: skip

DOMAIN = Dashboard(
    "domain",
    "Domain",
    (
        _quantiles(
            "Time to first token", "guildhall_time_to_first_token_seconds",
            "From sending a sub-query to its first text; the queue is in it.", "domain", _DOMAIN,
        ),
        _quantiles(
            "Time per output token", "guildhall_time_per_output_token_seconds",
            "The mean of an answer. It grows with the engine's batch.", "domain", _DOMAIN,
        ),
        _quantiles(
            "Sub-query time", "guildhall_sub_query_seconds", "To the end of the answer.", "domain", _DOMAIN
        ),
        _graph(
            "Targets", "ops", "What became of the domain's SLO: met, which target was missed, or failed.",
            (_rate("guildhall_slo_sub_queries_total", "domain, outcome", _DOMAIN), "{{domain}} {{outcome}}"),
        ),
        _graph(
            "Sub-queries", "ops", "By variant and outcome.",
            (
                _rate("guildhall_sub_queries_total", "domain, variant, outcome", _DOMAIN),
                "{{domain}}/{{variant}} {{outcome}}",
            ),
        ),
        _graph(
            "In flight", "short", "At experts now; at domains.NAME.max_in_flight new ones are refused.",
            (f"sum by (domain) (guildhall_sub_queries_in_flight{{{_DOMAIN}}})", "{{domain}}"),
        ),
        _graph(
            "Tokens written", "ops", "A second, by variant.",
            (_rate(_TOKENS, "domain, variant", _DOMAIN), "{{domain}}/{{variant}}"),
        ),
        _graph(
            "Failures", "ops", "By code.",
            (_or_zero(_rate("guildhall_failures_total", "domain, code", _DOMAIN)), "{{domain}} {{code}}"),
        ),
        _graph(
            "Escalations", "ops", "Answers asked for again, and which of both was kept.",
            (
                _or_zero(_rate("guildhall_escalations_total", "domain, reason, kept", _DOMAIN)),
                "{{domain}} {{reason}}, kept {{kept}}",
            ),
        ),
    ),
    (("domain", "guildhall_sub_queries_total"),),
)  # fmt: skip

NODE = Dashboard(
    "node",
    "Node",
    (
        _graph(
            "Processor", "percent", "Of the whole node.",
            (f"max by (node) (ray_node_cpu_utilization{{{_NODE}}})", "{{node}}"),
        ),
        _graph(
            "Memory", "percentunit", "Used, of what the node has.",
            (
                f"max by (node) (ray_node_mem_used{{{_NODE}}}) / max by (node) (ray_node_mem_total{{{_NODE}}})",
                "{{node}}",
            ),
        ),
        _graph(
            "GPUs", "percent", "Utilization, summed over the node's GPUs; 0 on a node without.",
            (_or_zero(f"sum by (node) (ray_node_gpus_utilization{{{_NODE}}})"), "{{node}}"),
        ),
        _graph(
            "Batch and queue", "short", "Requests that run and that wait in engines. Waiting for long: scale up.",
            (f"sum by (node, engine) (guildhall_engine_requests_running{{{_NODE}}})", "{{node}} {{engine}} runs"),
            (f"sum by (node, engine) (guildhall_engine_requests_waiting{{{_NODE}}})", "{{node}} {{engine}} waits"),
        ),
        _graph(
            "Mean wait", "s", "In the engine's queue, of requests that ended.",
            (
                f"{_rate('guildhall_engine_queue_seconds_total', 'engine', _NODE)} / "
                f"({_rate('guildhall_engine_scheduled_requests_total', 'engine', _NODE)} > 0)",
                "{{engine}}",
            ),
        ),
        _graph(
            "KV cache", "percentunit", "Blocks in use. At 100 % requests are preempted.",
            (f"max by (node, engine) (guildhall_kv_cache_used_ratio{{{_NODE}}})", "{{node}} {{engine}}"),
        ),
        _graph(
            "KV quota", "bytes", "What an engine may hold now and holds; quotas follow demand, each with its reason in "
            "`guildhall quotas`.",
            (f"max by (node, engine, device) (guildhall_kv_quota_bytes{{{_NODE}}})", "{{node}} {{engine}} may hold"),
            (f"max by (node, engine, device) (guildhall_kv_used_bytes{{{_NODE}}})", "{{node}} {{engine}} holds"),
        ),
        _graph(
            "Preemptions", "ops", "Requests put back for want of KV blocks.",
            (_or_zero(_rate("guildhall_engine_preemptions_total", "node, engine", _NODE)), "{{node}} {{engine}}"),
        ),
        _graph(
            "Prefix cache", "percentunit", "Prompt tokens that needed no computing.",
            (
                f"{_rate('guildhall_prefix_cache_hit_tokens_total', 'engine', _NODE)} / "
                f"({_rate('guildhall_prefix_cache_queried_tokens_total', 'engine', _NODE)} > 0)",
                "{{engine}}",
            ),
        ),
        _graph(
            "Replicas", "short", "On each node.",
            (f"count by (node, engine) (guildhall_replica_cpus{{{_NODE}}})", "{{node}} {{engine}}"),
        ),
    ),
    (("node", "ray_node_cpu_utilization"),),
)  # fmt: skip

_LOW = _rate("guildhall_routing_confidence_bucket", where='le="0.5"')
_UNSURE = f"{_LOW} / ({_rate('guildhall_routing_confidence_count')} > 0)"

ROUTER = Dashboard(
    "router",
    "Router",
    (
        _graph(
            "Tiers", "ops", "What chose the domain: the fast tier, the slower one, the planner, or the request itself.",
            (_rate("guildhall_routed_sub_queries_total", "tier"), "{{tier}}"),
        ),
        _graph(
            "Confidence", "percentunit", "Tenth percentile and median of the calibrated probability.",
            (_quantile(0.1, "guildhall_routing_confidence", "tier"), "{{tier}} p10"),
            (_quantile(0.5, "guildhall_routing_confidence", "tier"), "{{tier}} median"),
        ),
        _graph(
            "Unsure", "percentunit",
            "Share of sub-queries with a confidence of 0.5 at most. Growing: questions have drifted; train the router.",
            (_UNSURE, "at most 0.5"),
        ),
        _quantiles("Routing time", "guildhall_routing_seconds", "Splitting and classifying one question."),
        _graph(
            "Domains", "percentunit", "Share of each domain.",
            (
                f"{_rate('guildhall_sub_queries_total', 'domain')} / ignoring (domain) group_left () "
                f"{_rate('guildhall_sub_queries_total')}",
                "{{domain}}",
            ),
        ),
        _graph(
            "Planner", "ops", "Questions that the generalist was asked to plan, by outcome.",
            (_or_zero(_rate("guildhall_planner_total", "outcome")), "{{outcome}}"),
        ),
        _graph(
            "Escalation decisions", "ops", "Of answers that were scored.",
            (_or_zero(_rate("guildhall_answers_scored_total", "decision")), "{{decision}}"),
        ),
        _graph(
            "Feedback", "ops", "By score.",
            (_or_zero(_rate("guildhall_feedback_total", "score")), "{{score}}"),
        ),
    ),
)  # fmt: skip

RETRIEVAL = Dashboard(
    "retrieval",
    "Retrieval",
    (
        _quantiles(
            "Search time", "guildhall_retrieval_seconds", "As the expert measured it, with the way to the actor.",
            "domain", _DOMAIN,
        ),
        _graph(
            "Searches", "ops", "A second.",
            (_rate("guildhall_retrieval_seconds_count", "domain", _DOMAIN), "{{domain}}"),
        ),
        _graph(
            "Commit served", "none", "The number of the last commit; a step is a change taken up.",
            (f"max by (domain) (guildhall_index_commit{{{_DOMAIN}}})", "{{domain}}"),
        ),
        _graph(
            "Commits between replicas", "none", "How far the slowest replica is behind the first; 0 but for seconds.",
            (
                f"max by (domain) (guildhall_index_commit{{{_DOMAIN}}}) - "
                f"min by (domain) (guildhall_index_commit{{{_DOMAIN}}})",
                "{{domain}}",
            ),
        ),
        _graph(
            "Cannot be served", "none", "1 while something newer is committed that replicas cannot take up.",
            (f"max by (domain) (guildhall_index_behind{{{_DOMAIN}}})", "{{domain}}"),
        ),
    ),
    (("domain", "guildhall_index_commit"),),
)  # fmt: skip

_CORES = "sum (guildhall_replica_cpus)"
_GPUS = "sum (guildhall_replica_gpus)"
_WATTS = "max by (node, meter) (rate(guildhall_energy_joules_total[$__rate_interval]))"

COST = Dashboard(
    "cost",
    "Cost and energy",
    (
        _graph(
            "Reserved", "short", "CPU cores and GPUs of all replicas: what is paid for.",
            (_CORES, "CPU cores"), (_GPUS, "GPUs"),
        ),
        _graph(
            "Core-seconds for 1,000 tokens", "s", "Reserved cores by tokens written. High: replicas idle; scale down.",
            (f"1000 * {_CORES} / ({_rate(_TOKENS)} > 0)", "CPU"),
        ),
        _graph(
            "GPU-seconds for 1,000 tokens", "s", "Reserved GPUs by tokens written; 0 without GPUs.",
            (f"1000 * {_GPUS} / ({_rate(_TOKENS)} > 0)", "GPU"),
        ),
        _graph(
            "Tokens by variant", "ops", "What the cost was spent on.",
            (_rate(_TOKENS, "domain, variant"), "{{domain}}/{{variant}}"),
        ),
        _graph(
            "Replica-hours", "short", "Of the last hour, by engine.",
            ("sum by (engine) (increase(guildhall_replica_up_seconds_total[1h])) / 3600", "{{engine}}"),
        ),
        _graph(
            "Asleep", "short", "Replicas that sleep, and how often they were woken.",
            (_SLEEPING, "{{engine}} asleep"),
            (_or_zero("sum by (engine) (increase(guildhall_engine_wakes_total[5m]))"), "{{engine}} woken"),
        ),
        _graph(
            "Power", "watt", "Of whole nodes, by meter. Empty where no meter can be read.",
            (_WATTS, "{{node}} {{meter}}"),
        ),
        _graph(
            "Energy for a token", "joule", "All nodes' power by tokens written. Empty where no meter can be read.",
            (f"sum ({_WATTS}) / ({_rate(_TOKENS)} > 0)", "per token"),
        ),
        _graph(
            "Meters", "none", "1 where a node's meter can be read.",
            ("max by (node, meter) (guildhall_energy_meter_readable)", "{{node}} {{meter}}"),
        ),
    ),
)  # fmt: skip

DASHBOARDS = (FLEET, DOMAIN, NODE, ROUTER, RETRIEVAL, COST)
