"""Deliver captured predictions from the log of ``predict`` to the data bucket.

Takes events of a CloudWatch Logs subscription, which come at least once; each prediction is written once.
"""

import random
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store
from millrace.captures.delivery import Delivery, deliver, read_batch
from millrace.observability import logger, write_metrics
from millrace.settings import DataSettings, load_settings


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Write what is not there yet; an error lets Lambda deliver the same event again, and at last to the queue."""
    store = object_store(load_settings(DataSettings).data_bucket)
    delivery = deliver(read_batch(event), store, datetime.now(UTC), _pause)
    document = asdict(delivery)
    logger.info("captures delivered", **document)
    _measure(delivery)
    return document


def _pause(attempt: int) -> None:
    """Wait longer each time, and not as long as whoever is writing beside us."""
    time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 5)))  # noqa: S311 - nobody has to be kept from guessing it


def _measure(delivery: Delivery) -> None:
    now = time.time()
    for model, rows in delivery.delivered.items():
        write_metrics({"CapturedRows": (rows, "Count")}, {"service": "deliver_captures", "model": model}, now)
    if delivery.malformed:
        write_metrics({"MalformedCaptures": (delivery.malformed, "Count")}, {"service": "deliver_captures"}, now)
