"""When somebody must look, and what to do then: a Prometheus rule file.

Burn rates after Google's SRE workbook, chapter 5, table 5-8: a long window says that it matters, a short one that it
still goes on. https://sre.google/workbook/alerting-on-slos/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cluster.scraping import JOB

RUNBOOK = "docs/observability.md"
# Of sub-queries within their domain's TTFT and TPOT; the targets themselves stand in the fleet file.
OBJECTIVE = 0.99
_BUDGET = round(1 - OBJECTIVE, 6)
_RATIO = "guildhall:slo_missed:ratio_rate"
_WINDOWS = ("5m", "30m", "1h", "6h")
# A domain that refuses one sub-query in twenty has not enough.
_REFUSED_SHARE = 0.05
# Half of what has been routed with at most this confidence is routed wrong.
_UNSURE = "0.5"
# Fewer sub-queries an hour say nothing about a share.
_ENOUGH = 100


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert; `lasts` is how long it must hold, `anchor` the place of the runbook that says what to do."""

    name: str
    expression: str
    lasts: str
    severity: Literal["page", "ticket"]
    says: str
    todo: str
    anchor: str

    def render(self) -> dict[str, Any]:
        """As a rule file has it."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.lasts,
            "labels": {"severity": self.severity},
            "annotations": {"summary": self.says, "action": self.todo, "runbook": f"{RUNBOOK}#{self.anchor}"},
        }


def _burns(factor: float, long: str, short: str) -> str:
    limit = round(factor * _BUDGET, 6)
    return f"{_RATIO}{long} > {limit:g} and {_RATIO}{short} > {limit:g}"


def _grew(metric: str, window: str, where: str = "", by: str = "domain") -> str:
    return f"sum by ({by}) (increase({metric}{{{where}}}[{window}]))"


def _unsure_share(window: str) -> str:
    low = f'sum (increase(guildhall_routing_confidence_bucket{{le="{_UNSURE}"}}[{window}]))'
    return f"{low} / sum (increase(guildhall_routing_confidence_count[{window}]))"


_ANSWERED = _grew("guildhall_sub_queries_total", "5m", 'outcome="answered"')
_REFUSED = _grew("guildhall_failures_total", "5m", 'code="overloaded"')
_SLO_TODO = "Open the dashboard Domain: TTFT missed wants replicas, TPOT a smaller batch, failed a look at the logs."

ALERTS: Sequence[Alert] = (
    Alert(
        "GuildhallSloBurnsFast", _burns(14.4, "1h", "5m"), "1m", "page",
        "Domain {{ $labels.domain }} misses its targets for {{ $value | humanizePercentage }} of sub-queries.",
        _SLO_TODO, "slo-burn",
    ),
    Alert(
        "GuildhallSloBurns", _burns(6, "6h", "30m"), "5m", "ticket",
        "Domain {{ $labels.domain }} uses up its error budget six times too fast.",
        _SLO_TODO, "slo-burn",
    ),
    Alert(
        "GuildhallDomainStarved",
        f"(sum by (domain) (guildhall_sub_queries_in_flight) > 0 unless on (domain) "
        f"{_ANSWERED} > 0) or {_REFUSED} / "
        f"{_grew('guildhall_sub_queries_total', '5m')} > {_REFUSED_SHARE}",
        "2m", "page",
        "Domain {{ $labels.domain }} answers none of the sub-queries that wait there, or refuses many.",
        "Open the dashboards Domain and Node: no replica, a full queue or no KV blocks; raise its replicas or share.",
        "starved-domain",
    ),
    Alert(
        "GuildhallIndexStale",
        "max by (domain) (guildhall_index_behind) > 0 or "
        "max by (domain) (guildhall_index_commit) - min by (domain) (guildhall_index_commit) > 0",
        "10m", "ticket",
        "The index of domain {{ $labels.domain }} does not serve what was committed last, at least on some node.",
        "`guildhall status` names the reason; roll back with `guildhall index rollback`, or mend the storage.",
        "stale-index",
    ),
    Alert(
        "GuildhallScalingAtCap", "max by (engine) (guildhall_scaling_capped) > 0", "10m", "ticket",
        "Engine {{ $labels.engine }} wants more replicas than it is granted.",
        "Raise its replicas.max or the fleet's cap, or add machines; the dashboard Fleet shows who holds them.",
        "scaling-at-its-cap",
    ),
    Alert(
        "GuildhallRouterDrift",
        f"{_unsure_share('1h')} > 0.1 and {_unsure_share('1h')} > 2 * ({_unsure_share('7d')}) and "
        f"sum (increase(guildhall_routing_confidence_count[1h])) > {_ENOUGH}",
        "30m", "ticket",
        "{{ $value | humanizePercentage }} of sub-queries are routed unsurely, twice as many as in the last week.",
        "Add examples or a domain for what is asked now, and run `guildhall router train FILE --feedback FOLDER`.",
        "router-drift",
    ),
    Alert(
        "GuildhallNodeUnseen", f'up{{job="{JOB}"}} == 0', "2m", "page",
        "Metrics of node {{ $labels.instance }} cannot be read.",
        "`ray status`: is the node alive? If it is, its agent is not; the fleet itself may still answer.",
        "node-unseen",
    ),
)  # fmt: skip


def render_rules() -> dict[str, Any]:
    """The whole rule file."""
    total = "sum by (domain) (rate(guildhall_slo_sub_queries_total{}[{}]))"
    missed = '{outcome!="met"}'
    ratios = [
        {
            "record": f"{_RATIO}{window}",
            "expr": f"{total.format(missed, window)} / ({total.format('', window)} > 0)",
        }
        for window in _WINDOWS
    ]
    return {
        "groups": [
            {"name": "guildhall-slo", "rules": ratios},
            {"name": "guildhall-alerts", "rules": [alert.render() for alert in ALERTS]},
        ]
    }
