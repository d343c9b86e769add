"""Logs and metrics: each line on standard output is one JSON object.

A metric is a line of CloudWatch's embedded metric format, which is a log entry and metrics at once
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
Powertools' own metrics take a tenth of a millisecond, and as long to import as a model takes to load. Metrics are
billed by name and combination of dimensions, so numbers without alarms go into ``properties``, which Logs Insights
counts for free.

``logger`` is Powertools' logger, which reads ``POWERTOOLS_SERVICE_NAME`` and ``POWERTOOLS_LOG_LEVEL``. It is built on
first use, because ``predict`` needs it for refused requests only.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from millrace.json_text import write_json

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    logger: Logger

NAMESPACE = "Millrace"

Unit = Literal["Count", "Milliseconds", "Seconds"]


def __getattr__(name: str) -> Any:
    """Build ``logger`` on first use, and keep it."""
    if name != "logger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aws_lambda_powertools import Logger  # noqa: PLC0415 - its import is the cost that is put off

    globals()["logger"] = built = Logger(service="millrace")
    return built


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
    values = {name: value for name, (value, _) in metrics.items()}
    if unfit := [name for name, value in values.items() if not math.isfinite(value)]:
        raise ValueError(f"the metric {unfit[0]!r} is not finite")
    definitions = [{"Name": name, "Unit": unit} for name, (_, unit) in metrics.items()]
    sets = [list(dimensions)] if and_by is None else [list(dimensions), [*dimensions, and_by]]
    directive = {"Namespace": NAMESPACE, "Dimensions": sets, "Metrics": definitions}
    aws = {"Timestamp": int(timestamp * 1_000), "CloudWatchMetrics": [directive]}
    print(write_json({"_aws": aws, **(properties or {}), **dimensions, **values}))  # noqa: T201 - see above
