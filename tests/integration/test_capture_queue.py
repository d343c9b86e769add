"""Captured lines on their way through the queue, and what a million of them costs: the real handlers on moto."""

import base64
import gzip
import json
import random
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from millrace.aws.clients import object_store, registry_store
from millrace.captures.traffic import read_traffic
from millrace.captures.window import read_window

from tests.integration.application import DATA_BUCKET, Application
from tests.integration.test_captures import MODEL, application, printed  # noqa: F401 - fixtures
from tests.serving_models import CHURN_RECORD

HOUR = timedelta(hours=1)
MAX_SQS_BYTES = 262_144


def log_event(lines: Iterable[str], stream: str = "s") -> dict[str, Any]:
    """Return the event of a log subscription."""
    events = [{"id": f"{number}", "timestamp": 0, "message": line} for number, line in enumerate(lines)]
    document = {"messageType": "DATA_MESSAGE", "logGroup": "g", "logStream": stream, "logEvents": events}
    return {"awslogs": {"data": base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()}}


@dataclass
class Queue:
    """The queue of captures, with what Lambda's event source mapping does."""

    application: Application
    url: str
    sizes: list[int] = field(default_factory=list)

    def receive(self) -> list[dict[str, Any]]:
        """Take all waiting messages, as records of an event."""
        records, sqs = [], boto3.client("sqs")
        while found := sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                self.sizes.append(len(message["Body"]))
                records.append({"messageId": message["MessageId"], "body": message["Body"], "eventSource": "aws:sqs"})
                sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return records

    def deliver(self, records: list[dict[str, Any]]) -> list[str]:
        """Deliver a batch; returns the ids of the messages that failed."""
        failed = self.application.call("deliver_captures", {"Records": records})["batchItemFailures"]
        return [one["itemIdentifier"] for one in failed]


@pytest.fixture
def queue(application: Application, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:  # noqa: F811 - the fixture
    url = boto3.client("sqs").create_queue(QueueName="captures")["QueueUrl"]
    monkeypatch.setenv("CAPTURES_QUEUE_URL", url)
    return Queue(application, url)


def test_a_request_passes_through_the_queue_and_is_counted(queue, printed):  # noqa: F811 - the fixture
    for n_rows in (1, 3):
        assert queue.application.predict(MODEL, {"dataframe_records": [CHURN_RECORD] * n_rows})[0] == 200
    assert queue.application.predict(MODEL, {"dataframe_records": "?"})[0] == 400
    for line in [line for line in printed() if "millrace.capture" in line]:
        queue.application.call("forward_captures", log_event([line]))
    records = queue.receive()
    assert len(records) == 3
    assert queue.deliver(records) == queue.deliver(records) == []
    now = datetime.now(UTC)
    assert len(read_window(object_store(DATA_BUCKET), MODEL, now - HOUR, now + HOUR)) == 4
    (hour,) = read_traffic(registry_store(), MODEL, now, now)
    assert (hour.total.statuses, hour.total.rows) == ({"2xx": 2, "4xx": 1}, 4)
    assert queue.application.denied == []


def test_a_delivery_that_is_too_large_for_a_message_is_divided_and_arrives_whole(queue):
    draw = random.Random(1)
    # Nothing that printable characters can hold is harder to compress.
    lines = ["millrace.capture " + "".join(draw.choices(string.printable[:94], k=150_000)) for _ in range(5)]
    queue.application.call("forward_captures", log_event(lines))
    records = queue.receive()
    assert len(records) > 1
    assert max(queue.sizes) < MAX_SQS_BYTES
    sent = [event["message"] for record in records for event in unpack(record)]
    assert sorted(sent) == sorted(lines)


def test_a_line_that_no_message_can_hold_is_cut_rather_than_lost(queue):
    draw = random.Random(2)
    line = "".join(chr(draw.randint(0x4E00, 0x9FFF)) for _ in range(200_000))
    queue.application.call("forward_captures", log_event([line]))
    (record,) = queue.receive()
    (event,) = unpack(record)
    assert line.startswith(event["message"])
    assert len(record["body"]) < MAX_SQS_BYTES


def test_an_error_of_forwarding_is_logged_at_every_level_and_raised_for_lambda_to_try_again(queue, printed):  # noqa: F811
    boto3.client("sqs").delete_queue(QueueUrl=queue.url)
    with pytest.raises(Exception, match="NonExistentQueue"):
        queue.application.call("forward_captures", log_event(["a"]))
    (line,) = [json.loads(line) for line in printed() if "not forwarded" in line]
    assert line["level"] == "ERROR"
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None


def unpack(record: dict[str, Any]) -> list[dict[str, Any]]:
    data = json.loads(record["body"])["awslogs"]["data"]
    return list(json.loads(gzip.decompress(base64.b64decode(data)))["logEvents"])
