"""Logger, metrics and tracer, built once and imported everywhere.

The logger writes one JSON object a line, metrics are CloudWatch embedded metric format on standard output,
and the tracer is silent outside Lambda. ``POWERTOOLS_SERVICE_NAME`` and ``POWERTOOLS_LOG_LEVEL`` are read by
Powertools itself.
"""

from aws_lambda_powertools import Logger, Metrics, Tracer

METRICS_NAMESPACE = "Millrace"

logger = Logger(service="millrace")
metrics = Metrics(namespace=METRICS_NAMESPACE, service="millrace")
tracer = Tracer(service="millrace", auto_patch=False)
