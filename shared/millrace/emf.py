"""CloudWatch's embedded metric format: one line of JSON on standard output is a log entry and metrics at once.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html

This module serves requests: Powertools' metrics take a tenth of a millisecond, and as long to import as a model takes
to load. Metrics are billed by name and combination of dimensions, so numbers without alarms go into ``properties``,
which Logs Insights counts for free.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from millrace.json_text import write_json

NAMESPACE = "Millrace"

Unit = Literal["Count", "Milliseconds", "Seconds"]


def write_metrics(
    metrics: Mapping[str, tuple[float, Unit]],
    dimensions: Mapping[str, str],
    timestamp: float,
    properties: Mapping[str, Any] | None = None,
    and_by: str | None = None,
) -> None:
    """Write one line; raises ``ValueError`` when a value is not finite.

    Parameters
    ----------
    timestamp : float
        Seconds since 1970.
    properties : mapping or None, default=None
        Further members of the log entry, which are no metrics.
    and_by : str or None, default=None
        A property that is a further dimension of a second set of the same metrics.
    """
    definitions = [{"Name": name, "Unit": unit} for name, (_, unit) in metrics.items()]
    sets = [list(dimensions)] if and_by is None else [list(dimensions), [*dimensions, and_by]]
    directive = {"Namespace": NAMESPACE, "Dimensions": sets, "Metrics": definitions}
    document: dict[str, Any] = {"_aws": {"Timestamp": int(timestamp * 1_000), "CloudWatchMetrics": [directive]}}
    document.update(properties or {})
    document.update(dimensions)
    for name, (value, _) in metrics.items():
        if not math.isfinite(value):
            raise ValueError(f"the metric {name!r} is not finite")
        document[name] = value
    print(write_json(document))  # noqa: T201 - standard output is where CloudWatch reads metrics
