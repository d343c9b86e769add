"""Logs and metrics: each line on standard output is one JSON object.

Lambda drops lines below the function's log level. It reads ``level`` (TRACE, DEBUG, INFO, WARN, ERROR or FATAL) and
``timestamp`` (RFC 3339), and takes a line where either is missing or another string for INFO
(https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html).

A metric is a line of CloudWatch's embedded metric format, which is a log entry and metrics at once
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html).
Powertools' own metrics take a tenth of a millisecond, and as long to import as a model takes to load. Metrics are
billed by name and combination of dimensions, so numbers without alarms go into ``properties``, which Logs Insights
counts for free.

``logger`` is Powertools' logger, which reads ``POWERTOOLS_SERVICE_NAME`` and ``POWERTOOLS_LOG_LEVEL``. It is built on
first use, because ``predict`` needs it for refused requests only.
"""

import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from millrace.json_text import write_json

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from aws_lambda_powertools.utilities.typing import LambdaContext

    logger: Logger

NAMESPACE = "Millrace"

Unit = Literal["Count", "Milliseconds", "Seconds"]
Handler = Callable[[dict[str, Any], "LambdaContext"], dict[str, Any]]


def __getattr__(name: str) -> Any:
    """Build ``logger`` on first use, and keep it."""
    if name != "logger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aws_lambda_powertools import Logger  # noqa: PLC0415 - its import is the cost that is put off

    # Python's own names of these two are none of Lambda's.
    logging.addLevelName(logging.WARNING, "WARN")
    logging.addLevelName(logging.CRITICAL, "FATAL")
    globals()["logger"] = built = Logger(use_rfc3339=True)
    return built


def log_invocation(handler: Handler) -> Handler:
    """Add the invocation's id to the lines that a handler logs, and log the error that it raises.

    The runtime's own line for such an error has no ``level``, so Lambda drops it above INFO.
    """
    from millrace.observability import logger  # noqa: PLC0415 - it may not be built yet

    @logger.inject_lambda_context
    @functools.wraps(handler)
    def logged(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
        try:
            return handler(event, context)
        except Exception:
            logger.exception("invocation failed")
            raise

    return logged


def write_metrics(
    metrics: Mapping[str, tuple[float, Unit]],
    dimensions: Mapping[str, str],
    timestamp: float,
    properties: Mapping[str, Any] | None = None,
) -> None:
    """Write one line, at every log level; raises ``ValueError`` when a value is not finite.

    ``timestamp`` is in seconds since 1970; ``properties`` are further members of the log entry, which are no metrics.
    """
    line = {"level": "FATAL", "timestamp": datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")}
    members = metric_members(metrics, [list(dimensions)], timestamp)
    print(write_json({**line, **members, **(properties or {}), **dimensions}))  # noqa: T201 - see above


def metric_members(
    metrics: Mapping[str, tuple[float, Unit]], dimension_sets: Sequence[Sequence[str]], timestamp: float
) -> dict[str, Any]:
    """Return the members that make metrics of a line which has the dimensions' values; see :func:`write_metrics`."""
    values = {name: value for name, (value, _) in metrics.items()}
    if unfit := [name for name, value in values.items() if not math.isfinite(value)]:
        raise ValueError(f"the metric {unfit[0]!r} is not finite")
    definitions = [{"Name": name, "Unit": unit} for name, (_, unit) in metrics.items()]
    directive = {"Namespace": NAMESPACE, "Dimensions": dimension_sets, "Metrics": definitions}
    return {"_aws": {"Timestamp": int(timestamp * 1_000), "CloudWatchMetrics": [directive]}, **values}
