"""Captured lines on their way through the queue, and what a million of them costs: the real handlers on moto."""

import base64
import gzip
import json
import random
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from millrace.aws.clients import object_store, registry_store
from millrace.aws.object_store import S3ObjectStore
from millrace.captures.traffic import TrafficCounts, read_traffic
from millrace.captures.window import read_window
from millrace.cost.arithmetic import ASSUMED, HOURS_A_MONTH, TrafficUsage, add_usage, calculate_traffic
from millrace.cost.prices import US_EAST_1
from millrace.settings import CostSettings

from tests.integration.application import DATA_BUCKET, Application
from tests.integration.test_captures import MODEL, application, printed, sample  # noqa: F401 - fixtures
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
    totals = [hour.total for hour in read_traffic(registry_store(), MODEL, now - HOUR, now)]  # two, around a full hour
    statuses = sum((Counter(total.statuses) for total in totals), Counter())
    assert (statuses, sum(total.rows for total in totals)) == ({"2xx": 2, "4xx": 1}, 4)
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


def test_an_error_of_forwarding_is_logged_at_every_level_and_raised_for_lambda_to_try_again(
    queue,
    printed,  # noqa: F811  # the fixture that is imported
):
    boto3.client("sqs").delete_queue(QueueUrl=queue.url)
    with pytest.raises(Exception, match="NonExistentQueue"):
        queue.application.call("forward_captures", log_event(["a"]))
    (line,) = [json.loads(line) for line in printed() if "not forwarded" in line]
    assert line["level"] == "ERROR"
    assert datetime.fromisoformat(line["timestamp"]).tzinfo is not None


#: Prices of one of each.
USD = {
    name: US_EAST_1[price].cost(1)
    for name, price in {
        "lambda request": "lambda_request",
        "GB-second": "lambda_gb_second",
        "PutObject": "s3_write",
        "GetObject": "s3_read",
        "GetItem": "dynamodb_read",
        "UpdateItem": "dynamodb_write",
        "SendMessage": "queue_request",
        "ReceiveMessage": "queue_request",
        "DeleteMessageBatch": "queue_request",
    }.items()
} | {"log byte": US_EAST_1["log_gb"].cost(1e-9)}
LATENCY_US = 5_000
#: What a laptop cannot measure: seconds on Lambda times memory, by function.
GB_SECONDS = {
    "predict": LATENCY_US / 1e6 * 0.5,
    "forward_captures": ASSUMED.forward_gb_seconds,
    "deliver_captures": ASSUMED.delivery_gb_seconds,
}
#: Batches in which Lambda's pollers hand over a window's messages: at most its concurrency at once.
BATCHES_A_WINDOW = 2
WINDOWS_AN_HOUR = 12
#: CloudWatch Logs bills so many bytes more for each event.
EVENT_BYTES = 26


@dataclass
class Meter:
    """Counts what is billed: calls of AWS, invocations and bytes of log, by function."""

    queue: Queue
    printed: Any
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    running: str = ""

    def invoke(self, function: str, event: Any) -> list[str]:
        """Run a function; returns its lines."""
        self.running = function
        self.counts[function]["invocation"] += 1
        self.queue.application.call(function, event)
        self.running = ""
        lines = list(self.printed())
        self.counts[function]["log byte"] += sum(len(line) + EVENT_BYTES for line in lines)
        return lines


@pytest.fixture
def meter(queue, printed, monkeypatch) -> Meter:  # noqa: F811 - the fixture
    meter, call = Meter(queue, printed), BaseClient._make_api_call

    def counted(client, operation, params):
        if meter.running:
            meter.counts[meter.running][operation] += 1
        return call(client, operation, params)

    monkeypatch.setattr(BaseClient, "_make_api_call", counted)
    return meter


def predict_event() -> dict[str, Any]:
    body = json.dumps({"dataframe_records": [CHURN_RECORD]})
    request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"
    return sample("predict", "valid_records") | {"body": body, "requestContext": {"requestId": request_id}}


def run_hour(meter: Meter, requests_a_window: int, lines_a_delivery: int) -> None:
    """Serve an hour's requests, deliver their lines as the log does, and each window's messages as Lambda does."""
    for _ in range(WINDOWS_AN_HOUR):
        lines = [line for _ in range(requests_a_window) for line in meter.invoke("predict", predict_event())]
        for start in range(0, len(lines), lines_a_delivery):
            meter.invoke("forward_captures", log_event(lines[start : start + lines_a_delivery]))
        records = meter.queue.receive()
        step = -(-len(records) // BATCHES_A_WINDOW)
        for start in range(0, len(records), step):
            meter.invoke("deliver_captures", {"Records": records[start : start + step]})


def price_of_a_million(meter: Meter, hours: float) -> dict[str, float]:
    """Return USD by function of a million requests in so many hours, from the counts of one hour."""
    requests = meter.counts["predict"]["invocation"]
    scale = {"predict": 1e6 / requests, "forward_captures": 1e6 / requests, "deliver_captures": hours}
    messages = meter.counts["forward_captures"]["SendMessage"] * scale["forward_captures"]
    usd = {"polling": messages / 10 * (USD["ReceiveMessage"] + USD["DeleteMessageBatch"])}
    for function, counted in meter.counts.items():
        counts = dict(counted)
        if function == "predict":
            # One execution environment reads the alias every five seconds; here, at each request.
            counts["GetItem"] = ASSUMED.pointer_reads_an_hour * hours / scale["predict"]
        invocations = counts.pop("invocation")
        one = invocations * (USD["lambda request"] + GB_SECONDS[function] * USD["GB-second"])
        usd[function] = scale[function] * (one + sum(USD[name] * number for name, number in counts.items()))
    return usd


def calculated(hours: int) -> float:
    """Return the cost of a million requests in so many hours, beside API Gateway's and starts, as it is documented."""
    counts = TrafficCounts(requests=10**6 // hours, rows=10**6 // hours, latency_us=10**6 // hours * LATENCY_US)
    usage = add_usage(TrafficUsage(), [TrafficUsage.of_hour(counts)] * hours)
    lines = calculate_traffic(usage, CostSettings(), US_EAST_1).lines
    return sum(line.usd for line in lines if line.price != "api_request")


class TestCosts:
    """A million predictions beside API Gateway's 3.50 USD, from counted calls; README.md has the table."""

    def warm(self, meter: Meter) -> None:
        """Load the model, and start the hour's object and item; a month has one of each an hour."""
        meter.queue.application.call("predict", predict_event())
        meter.printed()

    def test_spread_evenly_each_line_is_delivered_by_itself(self, meter):
        self.warm(meter)
        run_hour(meter, requests_a_window=4, lines_a_delivery=1)
        counts, requests = meter.counts, 4 * WINDOWS_AN_HOUR
        assert counts["forward_captures"] == {"invocation": requests, "SendMessage": requests, "log byte": 0}
        batches = BATCHES_A_WINDOW * WINDOWS_AN_HOUR
        deliver = counts["deliver_captures"]
        assert (deliver["invocation"], deliver["GetObject"], deliver["PutObject"]) == (batches,) * 3
        # The record of traffic, and once an hour the mark of activity.
        assert batches <= deliver["UpdateItem"] <= batches + 2
        assumed = ASSUMED.log_bytes_a_request + ASSUMED.log_bytes_a_row
        assert counts["predict"]["log byte"] / requests == pytest.approx(assumed, rel=0.05)
        assert deliver["log byte"] / batches < 500
        usd = price_of_a_million(meter, HOURS_A_MONTH)
        assert sum(usd.values()) == pytest.approx(calculated(HOURS_A_MONTH), rel=0.05), usd

    def test_in_a_burst_the_log_delivers_many_lines_at_once(self, meter):
        self.warm(meter)
        run_hour(meter, requests_a_window=12, lines_a_delivery=6)
        assert meter.counts["forward_captures"]["SendMessage"] == 2 * WINDOWS_AN_HOUR
        usd = price_of_a_million(meter, 1.0)
        assert sum(usd.values()) == pytest.approx(calculated(1), rel=0.05), usd


def test_the_objects_of_a_thousand_models_are_bounded(queue, printed, monkeypatch):  # noqa: F811 - the fixtures
    """Each has five log streams with a request a minute: an object for each minute and stream cost 36 USD a day."""
    models, streams = 1_000, 5
    queue.application.predict(MODEL, {"dataframe_records": [CHURN_RECORD]})
    (line,) = [line for line in printed() if "millrace.capture" in line]
    queue.application.call("forward_captures", log_event([line]))
    (record,) = queue.receive()
    # Lambda hands over 6 MB at once, in which quotes of a message's body count twice.
    envelope = sample("deliver_captures", "valid_queue")["Records"][0] | {"body": "", "receiptHandle": "A" * 400}
    message_bytes = len(json.dumps(envelope)) + len(json.dumps(record["body"]))
    batches = -(-models * streams * 5 * message_bytes // 6_000_000)

    shown, windows, writes = 2, 2, Counter[str]()
    call = S3ObjectStore.put_if_unchanged
    monkeypatch.setattr(
        S3ObjectStore, "put_if_unchanged", lambda self, key, *args: writes.update([key]) or call(self, key, *args)
    )
    hour = datetime(2026, 5, 3, 12, tzinfo=UTC)
    for window in range(windows):
        for batch in range(batches):
            lines = []
            for number in range(shown):
                timestamp = (hour + timedelta(minutes=5 * window, seconds=batch)).isoformat()
                changes = {"model": f"m{number}", "prediction_id": f"{window}-{batch}-{number}", "timestamp": timestamp}
                lines.append(json.dumps(json.loads(line) | changes))
            assert queue.deliver([record | {"body": json.dumps(log_event(lines))}]) == []
    assert set(writes) == {f"captures/m{number}/2026/05/03/12/0000.jsonl.gz" for number in range(shown)}
    a_day = sum(writes.values()) / (shown * windows) * models * WINDOWS_AN_HOUR * 24
    assert batches <= 7
    assert a_day * USD["PutObject"] < 10.5, "36 USD with an object for each minute and stream"


def unpack(record: dict[str, Any]) -> list[dict[str, Any]]:
    data = json.loads(record["body"])["awslogs"]["data"]
    return list(json.loads(gzip.decompress(base64.b64decode(data)))["logEvents"])
