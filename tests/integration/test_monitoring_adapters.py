"""Monitoring's adapter on moto: the people's topic."""

import json

import boto3
import pytest
from millrace.aws.clients import notifier
from millrace.errors import ConfigurationError
from millrace.serving.protocols import PROTOCOLS
from moto import mock_aws


@pytest.fixture(autouse=True)
def mocked(isolated_from_aws):
    with mock_aws():
        yield


def test_people_get_the_words_under_a_subject_that_sns_takes():
    topic = boto3.client("sns").create_topic(Name="people")["TopicArn"]
    queue = boto3.client("sqs")
    url = queue.create_queue(QueueName="people")["QueueUrl"]
    arn = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    notifier(topic).notify("[open] «churn»\nhas drifted " + "x" * 200, "age: mean 39 → 49")
    [message] = queue.receive_message(QueueUrl=url)["Messages"]
    told = json.loads(message["Body"])
    assert told["Subject"].startswith("[open] ?churn? has drifted")
    assert len(told["Subject"]) == 100
    assert told["Message"] == "age: mean 39 → 49"


def test_a_topic_that_is_not_there_is_a_fault_of_the_deployment():
    with pytest.raises((ConfigurationError, Exception), match=r"NotFound|does not exist"):
        notifier("arn:aws:sns:eu-west-1:123456789012:nobody").notify("a", "b")


def test_names_of_protocols_are_those_of_stored_captures():
    assert [protocol.name for protocol in PROTOCOLS] == ["mlflow", "open_inference", "kserve_v1"]
