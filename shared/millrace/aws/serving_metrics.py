"""Reads how requests were served from the metrics that ``predict`` writes.

Only metrics by model are read: latency, with its sample count the number of requests, rows with those left out as bad,
cold starts, and failed requests of the model. Refused requests, and failures before the model was found, are counted
for the whole service, because a stranger could make names up; CloudWatch alarms watch those.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from millrace.aws.client_errors import aws_errors
from millrace.observability import NAMESPACE
from millrace.ports import ServingCounts
from millrace.serving.protocols import PROTOCOLS

LATENCY, ROWS, BAD_ROWS, COLD_STARTS = "PredictionLatency", "PredictedRows", "BadRows", "ColdStarts"
FAILURES = "FailedRequests"
#: Queries for each protocol: name here, metric, statistic.
_QUERIES = (
    ("requests", LATENCY, "SampleCount"),
    ("latency", LATENCY, "p95"),
    ("rows", ROWS, "Sum"),
    ("bad", BAD_ROWS, "Sum"),
    ("cold", COLD_STARTS, "Sum"),
)
_MINUTE, _DAY = 60, 86_400
#: A protocol with a smaller share of the requests does not count towards latency.
_LEAST_SHARE = 0.1


class CloudWatchServingMetrics:
    """Implements :class:`millrace.ports.ServingMetrics` with one call."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, model: str, version: int, start: datetime, end: datetime) -> ServingCounts | None:
        """Return how a version's requests were served; see :class:`millrace.ports.ServingMetrics`."""
        # One point for the whole span, in whole minutes; two monitoring runs may be less than one apart.
        end = max(end, start + timedelta(seconds=_MINUTE))
        minutes = -(-int((end - start).total_seconds()) // _MINUTE)
        period = max(_MINUTE, min(_DAY, minutes * _MINUTE))
        queries = [
            _query(f"{name}_{number}", metric, statistic, period, _dimensions(model, version, protocol.name))
            for number, protocol in enumerate(PROTOCOLS)
            for name, metric, statistic in _QUERIES
        ]
        # A request may fail before its version is known.
        queries.append(_query("errors", FAILURES, "Sum", period, _named({"service": "api", "model": model})))
        with aws_errors("CloudWatch"):
            found = self._client.get_metric_data(MetricDataQueries=queries, StartTime=start, EndTime=end)
        values = {result["Id"]: result.get("Values", []) for result in found["MetricDataResults"]}
        requests, rows, bad, cold = (
            [sum(values.get(f"{name}_{number}", [])) for number in range(len(PROTOCOLS))]
            for name in ("requests", "rows", "bad", "cold")
        )
        total, errors = sum(requests), round(sum(values.get("errors", [])))
        if not total:
            return ServingCounts(errors, errors) if errors else None
        # Percentiles cannot be added: the slowest protocol with enough requests counts.
        slowest = max(
            max(values.get(f"latency_{number}", []), default=0.0)
            for number, count in enumerate(requests)
            if count >= _LEAST_SHARE * total
        )
        refused = round(sum(bad))
        return ServingCounts(
            requests=round(total) + errors,
            errors=errors,
            cold_starts=round(sum(cold)),
            rows=round(sum(rows)) + refused,
            refused_rows=refused,
            latency_ms=slowest,
        )


def _dimensions(model: str, version: int, protocol: str) -> list[dict[str, str]]:
    return _named({"model": model, "model_version": str(version), "dialect": protocol})


def _named(named: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in named.items()]


def _query(name: str, metric: str, statistic: str, period: int, dimensions: list[dict[str, str]]) -> dict[str, Any]:
    named = {"Namespace": NAMESPACE, "MetricName": metric, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": named, "Period": period, "Stat": statistic}}
