"""Forward events of the log of ``predict`` to the queue of captures, where they wait for each other.

It runs once for each delivery of the subscription, which may be once for each request. Therefore it needs no layer, and
passes the events on as they came, compressed. An error lets Lambda try the same event again, and at last send it to the
dead-letter queue.
"""

import base64
import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import boto3

#: SQS takes 256 KB in a message, attributes included.
MAX_MESSAGE_BYTES = 250_000


def lambda_handler(event: dict[str, Any], context: object) -> None:  # noqa: ARG001 - Lambda passes it
    """Send one event of a log subscription, divided where it is too large for one message."""
    try:
        for body in _divide(event):
            _queue().send_message(QueueUrl=os.environ["CAPTURES_QUEUE_URL"], MessageBody=body)
    except Exception as error:
        # The runtime's own line has no level, so Lambda would drop it above INFO.
        line = {"level": "ERROR", "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds")}
        print(json.dumps({**line, "message": "captures not forwarded", "reason": f"{type(error).__name__}: {error}"}))  # noqa: T201 - standard output is the log
        raise


def _divide(event: dict[str, Any]) -> Iterator[str]:
    body = json.dumps({"awslogs": {"data": event["awslogs"]["data"]}})
    if len(body) <= MAX_MESSAGE_BYTES:
        yield body
        return
    document = json.loads(gzip.decompress(base64.b64decode(event["awslogs"]["data"])))
    events = document["logEvents"]
    if len(events) > 1:
        parts = [events[: len(events) // 2], events[len(events) // 2 :]]
    else:  # Compressed, every line of predict fits. One of another origin is cut, and then quarantined.
        parts = [[{**event, "message": event["message"][: len(event["message"]) // 2]} for event in events]]
    for part in parts:
        data = gzip.compress(json.dumps({**document, "logEvents": part}).encode())
        yield from _divide({"awslogs": {"data": base64.b64encode(data).decode()}})


@cache
def _queue() -> Any:
    return boto3.client("sqs")
