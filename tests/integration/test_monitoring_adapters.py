"""Monitoring's adapters on moto: the people's topic and the metrics of requests."""

import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from millrace.aws.clients import notifier
from millrace.aws.serving_metrics import CloudWatchServingMetrics
from millrace.errors import ConfigurationError
from millrace.ports import ServingCounts
from millrace.serving.protocols import PROTOCOLS
from moto import mock_aws

NOW = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)


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


class CloudWatch:
    """Stands for CloudWatch: moto knows no percentiles of a series without values."""

    def __init__(self, series):
        self.series = series

    def get_metric_data(self, MetricDataQueries, StartTime, EndTime):
        assert EndTime - StartTime == timedelta(hours=1)
        results = []
        for query in MetricDataQueries:
            metric = query["MetricStat"]["Metric"]
            assert metric["Namespace"] == "Millrace"
            assert query["MetricStat"]["Period"] == 3_600
            named = {one["Name"]: one["Value"] for one in metric["Dimensions"]}
            assert named.pop("model") == "churn"
            values = self.series.get(tuple(named.values()), {})
            statistic = f"{metric['MetricName']} {query['MetricStat']['Stat']}"
            results.append({"Id": query["Id"], "Values": [values[statistic]] if statistic in values else []})
        return {"MetricDataResults": results}


SERIES = {
    ("3", "mlflow"): {
        "PredictionLatency SampleCount": 20.0,
        "PredictionLatency p95": 50.0,
        "PredictedRows Sum": 200.0,
        "BadRows Sum": 50.0,
        "ColdStarts Sum": 2.0,
    },
    ("3", "kserve_v1"): {
        "PredictionLatency SampleCount": 10.0,
        "PredictionLatency p95": 900.0,
        "ColdStarts Sum": 1.0,
    },
    ("3", "open_inference"): {"PredictionLatency SampleCount": 1.0, "PredictionLatency p95": 9_000.0},
    ("2", "mlflow"): {"PredictionLatency SampleCount": 50.0, "PredictionLatency p95": 5_000.0},
}


def test_latency_is_that_of_the_slowest_protocol_with_enough_requests():
    found = CloudWatchServingMetrics(CloudWatch(SERIES)).read("churn", 3, NOW - timedelta(hours=1), NOW)
    assert found == ServingCounts(requests=31, errors=0, cold_starts=3, latency_ms=900.0, rows=250, refused_rows=50)


def test_requests_that_failed_are_requests_of_the_model_whatever_version_it_was():
    failed = {"FailedRequests Sum": 4.0}
    read = CloudWatchServingMetrics(CloudWatch({**SERIES, ("api",): failed})).read
    found = read("churn", 3, NOW - timedelta(hours=1), NOW)
    assert (found.requests, found.errors) == (35, 4)
    assert read("churn", 4, NOW - timedelta(hours=1), NOW) == ServingCounts(requests=4, errors=4)


def test_of_a_version_that_nobody_asked_nothing_is_known():
    assert CloudWatchServingMetrics(CloudWatch(SERIES)).read("churn", 4, NOW - timedelta(hours=1), NOW) is None


def test_names_of_protocols_are_those_of_stored_metrics():
    assert [protocol.name for protocol in PROTOCOLS] == ["mlflow", "open_inference", "kserve_v1"]
