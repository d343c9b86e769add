"""Publishing events: whole, in part, or not at all."""

import json

import boto3
import pytest
from botocore.stub import Stubber
from millrace.aws.clients import event_publisher
from millrace.aws.events import MAX_ENTRIES, EventBridgePublisher
from millrace.errors import ConfigurationError, ServiceUnavailableError
from millrace.ports import Event
from moto import mock_aws

from tests.registry_builders import NOW


def make_events(count: int, size: int = 1) -> list[Event]:
    return [
        Event("ModelPromoted", {"event_version": 1, "event_id": f"e{number}", "text": "x" * size}, NOW)
        for number in range(count)
    ]


class StubbedBus:
    """A bus whose answers are given; remembers how long was waited."""

    def __init__(self):
        self.client = boto3.client("events")
        self.stubber = Stubber(self.client)
        self.pauses = []

    def answers(self, sent: int, *codes: str | None, error: str | None = None) -> None:
        """Expect a call with so many entries; answer each with a code, or the call with an error."""
        if error:
            self.stubber.add_client_error("put_events", error)
            return
        answered = [{"ErrorCode": code} if code else {"EventId": "1"} for code in codes or [None] * sent]
        failed = sum(code is not None for code in codes)
        self.stubber.add_response("put_events", {"FailedEntryCount": failed, "Entries": answered})

    def publish(self, events):
        with self.stubber:
            EventBridgePublisher(self.client, "ml", self.pauses.append).publish(events)
        self.stubber.assert_no_pending_responses()


@pytest.fixture
def bus(isolated_from_aws):
    return StubbedBus()


def test_an_event_reaches_the_bus_with_its_source_and_stack(isolated_from_aws, monkeypatch):
    monkeypatch.setenv("STACK_NAME", "ml")
    with mock_aws():
        queue = boto3.client("sqs")
        url = queue.create_queue(QueueName="heard")["QueueUrl"]
        arn = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        boto3.client("events").put_rule(Name="heard", EventPattern=json.dumps({"source": ["millrace"]}))
        boto3.client("events").put_targets(Rule="heard", Targets=[{"Id": "queue", "Arn": arn}])
        event_publisher().publish(make_events(MAX_ENTRIES + 1))
        heard = []
        while messages := queue.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            heard += [json.loads(message["Body"]) for message in messages]
            for message in messages:
                queue.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert sorted(event["detail"]["event_id"] for event in heard) == sorted(f"e{n}" for n in range(MAX_ENTRIES + 1))
    assert {(event["source"], event["detail-type"]) for event in heard} == {("millrace", "ModelPromoted")}
    assert {event["detail"]["stack"] for event in heard} == {"ml"}  # each stack listens to its own


def test_nothing_to_say_is_no_call(bus):
    bus.publish([])


def test_only_what_was_refused_is_sent_again(bus):
    bus.answers(3, None, "ThrottlingException", None)
    bus.answers(1, "InternalFailure")
    bus.answers(1)
    bus.publish(make_events(3))
    assert len(bus.pauses) == 2
    assert 0.1 <= bus.pauses[0] <= 0.3
    assert 0.2 <= bus.pauses[1] <= 0.6


def test_a_bus_that_stays_busy_is_told_to_the_caller(bus):
    for _ in range(4):
        bus.answers(1, "ThrottlingException")
    with pytest.raises(ServiceUnavailableError, match="1 event"):
        bus.publish(make_events(1))


def test_a_refusal_for_good_is_not_repeated(bus):
    bus.answers(2, None, "NotAuthorizedForSourceException")
    with pytest.raises(ConfigurationError, match="NotAuthorizedForSource"):
        bus.publish(make_events(2))
    assert bus.pauses == []


def test_a_call_that_fails_as_a_whole_is_translated(bus):
    bus.answers(1, error="ThrottlingException")
    with pytest.raises(ServiceUnavailableError):
        bus.publish(make_events(1))


def test_a_call_never_holds_more_bytes_than_it_may(bus):
    bus.answers(2)
    bus.answers(1)
    bus.publish(make_events(3, size=100_000))


def test_deployments_and_rollbacks_are_counted_once_they_are_published(bus, capfd):
    names = ["ModelPromoted", "ModelPromoted", "ReleaseRolledBack", "ModelRegistered"]
    bus.answers(4)
    bus.publish([Event(name, {"event_id": f"e{number}"}, NOW) for number, name in enumerate(names)])
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    counts = [{name: line[name] for name in ("Deployments", "Rollbacks") if name in line} for line in lines]
    assert counts == [{"Deployments": 2}, {"Rollbacks": 1}]
    bus.answers(1, "NotAuthorized")
    with pytest.raises(ConfigurationError):
        bus.publish(make_events(1))
    assert capfd.readouterr().out == ""
