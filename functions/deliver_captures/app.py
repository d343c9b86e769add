"""Deliver captured predictions from the log of ``predict`` to the data bucket, each once, and record the traffic.

Takes messages of the queue that ``forward_captures`` fills, or one event of a log subscription, such as a message of a
dead-letter queue holds. Both come at least once.
"""

import json
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store, registry_store
from millrace.captures.activity import mark_activity
from millrace.captures.delivery import Delivery, LogBatch, deliver, read_batch
from millrace.errors import InvalidInputError, ServiceUnavailableError
from millrace.observability import Unit, log_invocation, logger, write_metrics
from millrace.settings import DataSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Write what is not there yet; messages that fail come again, and go to the dead-letter queue at last.

    A queue gets the failed messages, any other caller the :class:`Delivery`, or its error.
    """
    if not event.get("Records"):
        delivery = _deliver([read_batch(event)])
        if delivery.failures:
            raise ServiceUnavailableError("; ".join(delivery.failures.values()))
        return asdict(delivery)
    batches: list[LogBatch] = []
    failed: dict[str, str] = {}
    for record in event["Records"]:
        try:
            batches.append(replace(read_batch(json.loads(record["body"])), message_id=record["messageId"]))
        except (InvalidInputError, ValueError) as error:
            failed[record["messageId"]] = str(error)
    failed |= _deliver(batches).failures
    for message_id, reason in failed.items():
        logger.error("message not delivered", message_id=message_id, reason=reason)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}


def _deliver(batches: list[LogBatch]) -> Delivery:
    now, items = datetime.now(UTC), registry_store()
    delivery = deliver(batches, object_store(load_settings(DataSettings).data_bucket), items, now)
    # Its hour is that after the rows are stored: a run in between reads them no more.
    mark_activity(items, delivery.models, "traffic", datetime.now(UTC))
    metrics: dict[str, tuple[float, Unit]] = {"CapturedRows": (sum(delivery.delivered.values()), "Count")}
    if delivery.malformed:
        metrics["MalformedCaptures"] = (delivery.malformed, "Count")
    counts = {"messages": len(batches), "models": len(delivery.delivered), "repeated": delivery.repeated}
    write_metrics(metrics, {"service": "deliver_captures"}, time.time(), counts)
    return delivery
