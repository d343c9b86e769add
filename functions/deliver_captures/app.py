"""Deliver captured predictions from the log of ``predict`` to the data bucket, each once.

Takes events of a CloudWatch Logs subscription, which come at least once.
"""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store
from millrace.captures.delivery import deliver, read_batch
from millrace.observability import log_invocation, logger, write_metrics
from millrace.settings import DataSettings, load_settings

_SERVICE = {"service": "deliver_captures"}


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Write what is not there yet; an error lets Lambda deliver the same event again, and at last to the queue."""
    store = object_store(load_settings(DataSettings).data_bucket)
    delivery = deliver(read_batch(event), store, datetime.now(UTC))
    document = asdict(delivery)
    logger.info("captures delivered", **document)
    for model, rows in delivery.delivered.items():
        write_metrics({"CapturedRows": (rows, "Count")}, {**_SERVICE, "model": model}, time.time())
    if delivery.malformed:
        write_metrics({"MalformedCaptures": (delivery.malformed, "Count")}, _SERVICE, time.time())
    return document
