"""Monitoring on moto: the shipped state machine, the shipped handler, and a model that was really trained."""

import gzip
import inspect
import json
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from millrace.aws import clients
from millrace.captures.activity import mark_activity
from millrace.captures.records import CapturedRow
from millrace.errors import ConfigurationError, ServiceUnavailableError
from millrace.layout import captures_key, version_key
from millrace.registry.promotion import retire
from millrace.settings import MonitoringSettings, load_settings

from tests.integration.application import (
    DATA_BUCKET,
    MODELS_BUCKET,
    MONITORING_ARN,
    TOPIC_ARN,
    Application,
)
from tests.integration.executions import wait_for_execution, wait_for_machine
from tests.integration.test_training_pipeline import as_csv, features_of, make_rows
from tests.registered_versions import RegisteredVersions, acting

MODEL = "churn"


def monitor(application: Application, name: str, given: dict | None = None) -> dict:
    """Run the state machine; returns its execution."""
    states = boto3.client("stepfunctions")
    arn = states.start_execution(stateMachineArn=MONITORING_ARN, name=name, input=json.dumps(given or {}))
    return wait_for_execution(arn["executionArn"])


def check(application: Application, minute: int = 7) -> list[str]:
    """Let the schedule fire; return the statuses of the executions that follow."""
    known = wait_for_machine(MONITORING_ARN)
    found = application.call("find_due_models", {"scheduled_at": f"2026-05-03T10:{minute:02d}:00Z"})
    statuses = [status for name, status in wait_for_machine(MONITORING_ARN).items() if name not in known]
    assert len(statuses) == found["executions"]
    return statuses


def monitored(application: Application) -> list[str]:
    return [event["model"] for name, event in application.invocations if name == "monitor_model"]


def capture(hour: datetime, rows: list[dict], name: str) -> None:
    """Lay captured rows where ``deliver_captures`` would."""
    lines = [
        CapturedRow(
            prediction_id=f"{name}-{number}",
            request_id="r",
            request_rows=1,
            predicted_at=hour + timedelta(seconds=number),
            model=MODEL,
            version=1,
            protocol="mlflow",
            row_id=None,
            sampling_rate=1.0,
            features=features_of(row) | {"joined": f"{row['joined']}T00:00:00Z", "active": row["active"] == "yes"},
            unknown=(),
            omitted=0,
            prediction={"label": str(row["label"]), "probabilities": {"0": 0.5, "1": 0.5}},
        ).to_line()
        for number, row in enumerate(rows)
    ]
    body = gzip.compress("\n".join(lines).encode())
    boto3.client("s3").put_object(Bucket=DATA_BUCKET, Key=captures_key(MODEL, hour, name), Body=body)


def latest(application: Application) -> dict:
    return application.read(DATA_BUCKET, f"monitoring/{MODEL}/reports/latest.json")


def subscribe() -> str:
    """A queue that hears what people are told."""
    queue = boto3.client("sqs")
    url = queue.create_queue(QueueName="people")["QueueUrl"]
    arn = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    boto3.client("sns").subscribe(TopicArn=TOPIC_ARN, Protocol="sqs", Endpoint=arn)
    return url


def test_a_trained_model_is_monitored_and_a_shift_told_once(application: Application):
    application.upload(MODEL, "churn.csv", as_csv(make_rows(400)))
    application.wait_until_quiet()
    application.published_events()
    people = subscribe()
    profile = application.read(MODELS_BUCKET, version_key(MODEL, 1, "prediction_profile.json"))
    assert sum(sum(row) for row in profile["outcomes"]["confusion"]) > 20
    manifest = application.read(MODELS_BUCKET, version_key(MODEL, 1, "manifest.json"))
    assert {"reference.json", "prediction_profile.json"} <= manifest["artifacts"].keys()

    assert check(application, 7) == ["SUCCEEDED"], "a model with a new champion is due"
    assert check(application, 8) == [], "nothing is due: no execution, and so no state transition"
    assert monitored(application) == [MODEL]
    assert application.keys(DATA_BUCKET, f"monitoring/{MODEL}/reports") == []

    now = datetime.now(UTC)
    for turn in range(3):
        shifted = [row | {"age": (int(row["age"] or 40) + 40)} for row in make_rows(300, seed=10 + turn)]
        capture(now - timedelta(minutes=10 - turn), shifted, f"shifted{turn}")
        mark_activity(clients.registry_store(), [MODEL], "traffic", now, {})
        assert check(application, 10 + turn) == ["SUCCEEDED"]
    drifted = next(one for one in latest(application)["findings"] if one["subject"] == "age")
    assert (drifted["verdict"], drifted["status"]) == ("feature_drift", "breach"), "skew is known after a whole day"
    events = [(kind, detail) for kind, detail in application.published_events() if kind == "DriftDetected"]
    assert len(events) == 1
    messages = boto3.client("sqs").receive_message(QueueUrl=people, MaxNumberOfMessages=10)["Messages"]
    told = [json.loads(message["Body"]) for message in messages]
    assert any(message["Subject"] == f"[open] {MODEL}: feature drift" for message in told)
    assert (
        b"<!DOCTYPE html>"
        in boto3.client("s3")
        .get_object(Bucket=DATA_BUCKET, Key=f"monitoring/{MODEL}/reports/latest.html")["Body"]
        .read()
    )


def test_one_model_may_be_named_and_one_that_fails_stops_no_other(application: Application):
    application.upload(MODEL, "churn.csv", as_csv(make_rows(160)))
    application.upload("other", "other.csv", as_csv(make_rows(160, seed=3)))
    application.wait_until_quiet()
    named = monitor(application, "named", {"model": MODEL})
    assert [one["model"] for one in json.loads(named["output"])["monitored"]] == [MODEL]
    boto3.client("s3").delete_object(Bucket=MODELS_BUCKET, Key=version_key("other", 1, "signature.json"))
    assert monitored(application) == [MODEL]
    listed = {"models": [{"model": model, "round": 0} for model in ("other", MODEL)]}
    assert monitor(application, "both", listed)["status"] == "FAILED"
    assert sorted(monitored(application)) == [MODEL, MODEL, "other"]
    assert check(application) == ["FAILED"], "the model that failed is still due, and the other is not"
    assert monitored(application)[3:] == ["other"]


def test_an_execution_without_a_model_ends_without_work(application: Application):
    assert monitor(application, "earlier-release")["status"] == "SUCCEEDED"
    assert monitored(application) == []


@pytest.mark.parametrize(("rounds", "runs"), [(3, 3), (99, 8)])
def test_a_model_with_more_to_read_is_monitored_again_and_at_most_eight_times(application, rounds, runs):
    def read_on(event, context):
        number = event["round"] + 1
        return {"model": event["model"], "outcome": "more" if number < rounds else "judged", "round": number}

    application.handlers["monitor_model"] = read_on
    assert monitor(application, "backlog", {"model": MODEL})["status"] == "SUCCEEDED"
    assert len(monitored(application)) == runs


def test_an_undelivered_alert_leaves_the_model_due(application: Application, monkeypatch: pytest.MonkeyPatch):
    application.upload(MODEL, "churn.csv", as_csv(make_rows(160)))
    application.wait_until_quiet()
    assert check(application, 7) == ["SUCCEEDED"]

    def busy(*_):
        raise ServiceUnavailableError("SNS is busy")

    with monkeypatch.context() as patched:
        patched.setitem(inspect.unwrap(application.handlers["monitor_model"]).__globals__, "deliver_alerts", busy)
        with pytest.raises(ServiceUnavailableError):
            application.call("monitor_model", {"model": MODEL})
    assert check(application, 8) == ["SUCCEEDED"]
    assert check(application, 9) == []


def test_what_listeners_were_not_told_of_is_told_within_the_hour(
    application: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    versions = RegisteredVersions(1, clients.registry(), clients.object_store(MODELS_BUCKET))
    retire(MODEL, 1, acting(), registry=versions.registry)

    def busy(*_):
        raise ServiceUnavailableError("EventBridge is busy")

    with monkeypatch.context() as patched:
        patched.setattr("millrace.aws.events.EventBridgePublisher.publish", busy)
        application.call("find_due_models", {})
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["events wait in the outbox"]
    assert application.published_events() == []
    application.call("find_due_models", {})
    assert [name for name, _ in application.published_events()] == ["ModelRetired"]
    assert versions.registry.list_unpublished() == []


def test_settings_name_what_is_missing(application: Application, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ALARM_TOPIC_ARN")
    monkeypatch.delenv("MODELS_BUCKET")
    load_settings.cache_clear()
    with pytest.raises(ConfigurationError, match="MODELS_BUCKET, ALARM_TOPIC_ARN"):
        load_settings(MonitoringSettings)
