"""How requests were served, from the metrics that ``predict`` writes.

Only what is counted by model is read: latency, and with its sample count the answered requests. Errors and refusals are
counted for the whole service, because a stranger could make names up; CloudWatch alarms watch those.
"""

from datetime import datetime
from typing import Any

from millrace.aws.errors import aws_errors
from millrace.emf import NAMESPACE
from millrace.ports import ServingCounts

METRIC = "PredictionLatency"
#: As ``predict`` names them; see :mod:`millrace.serving.dialects`.
DIALECTS = ("mlflow", "open_inference", "kserve_v1")
_PERCENTILE = "p95"
_MINUTE, _DAY = 60, 86_400
#: A dialect that is asked more rarely does not say how slow the model is.
_LEAST_SHARE = 0.1


class CloudWatchServingMetrics:
    """Implements :class:`millrace.ports.ServingMetrics` with one call.

    Parameters
    ----------
    client : CloudWatchClient
        Built by :mod:`millrace.aws.clients`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self, model: str, version: int, start: datetime, end: datetime) -> ServingCounts | None:
        """Return how a version's requests were served; see :class:`millrace.ports.ServingMetrics`."""
        # One point for the whole span; periods are whole minutes.
        minutes = -(-int((end - start).total_seconds()) // _MINUTE)
        period = max(_MINUTE, min(_DAY, minutes * _MINUTE))
        queries = [
            _query(f"{name}_{number}", statistic, period, _dimensions(model, version, dialect))
            for number, dialect in enumerate(DIALECTS)
            for name, statistic in (("requests", "SampleCount"), ("latency", _PERCENTILE))
        ]
        with aws_errors("CloudWatch"):
            found = self._client.get_metric_data(MetricDataQueries=queries, StartTime=start, EndTime=end)
        values = {result["Id"]: result.get("Values", []) for result in found["MetricDataResults"]}
        counted = [
            (sum(values.get(f"requests_{number}", [])), max(values.get(f"latency_{number}", []), default=0.0))
            for number in range(len(DIALECTS))
        ]
        total = sum(requests for requests, _ in counted)
        if not total:
            return None
        # Percentiles do not add up: the slowest of the ways to ask that matter is the one to look at.
        slowest = max(latency for requests, latency in counted if requests >= _LEAST_SHARE * total)
        return ServingCounts(requests=round(total), latency_ms=slowest)


def _dimensions(model: str, version: int, dialect: str) -> list[dict[str, str]]:
    named = {"model": model, "model_version": str(version), "dialect": dialect}
    return [{"Name": name, "Value": value} for name, value in named.items()]


def _query(name: str, statistic: str, period: int, dimensions: list[dict[str, str]]) -> dict[str, Any]:
    metric = {"Namespace": NAMESPACE, "MetricName": METRIC, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": metric, "Period": period, "Stat": statistic}}
