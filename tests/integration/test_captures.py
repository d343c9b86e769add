"""Predictions, their log lines, feedback, and both joined: the real handlers on moto."""

import base64
import gzip
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from millrace.aws.clients import object_store, registry
from millrace.captures.joining import join_window
from millrace.captures.window import read_window
from millrace.entities import LedgerEntry, ModelVersion
from millrace.errors import InvalidInputError
from millrace.layout import schema_key, version_key
from millrace.observability import logger
from millrace.spec import ModelSpec
from moto import mock_aws

from tests.integration.application import DATA_BUCKET, MODELS_BUCKET, PROJECT, Application, deploy
from tests.log_filter import passing_lines
from tests.registry_builders import point_alias
from tests.serving_models import CHURN_RECORD, churn_background, churn_onnx, churn_schema, sha256, version_artifacts

MODEL = "churn"
NOW = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
EVENTS = PROJECT / "events"


def entry(entry_id: str) -> LedgerEntry:
    return LedgerEntry(MODEL, entry_id, NOW, "test", "alias_moved", "")


def promote(version: int, reference: bytes | None = None) -> None:
    """Register a version and make it the champion, as the pipeline does."""
    artifacts = version_artifacts(churn_onnx(seed=version), churn_schema(), churn_background(), reference)
    for name, body in artifacts.items():
        boto3.client("s3").put_object(Bucket=MODELS_BUCKET, Key=version_key(MODEL, version, name), Body=body)
    hash_of_manifest = sha256(artifacts["manifest.json"])
    registry().put_version(
        ModelVersion(MODEL, version, "1.0.0", "run", "trial", "ridge", "binary", {}, (), 1, hash_of_manifest, NOW),
        entry(f"v{version}"),
    )
    point_alias(registry(), "champion", version)


@pytest.fixture
def application(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    """The application with version 1 of ``churn`` and its schema."""
    with mock_aws():
        app = deploy(monkeypatch)
        registry().put_spec(MODEL, ModelSpec())
        body = json.dumps(churn_schema().to_dict()).encode()
        boto3.client("s3").put_object(Bucket=DATA_BUCKET, Key=schema_key(MODEL, 1), Body=body)
        registry().set_schema_version(MODEL, 1)
        promote(1)
        yield app


@pytest.fixture
def printed(capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Returns what went to the log since the last call."""

    def lines() -> list[str]:
        return capfd.readouterr().out.splitlines()

    return lines


def deliver(application: Application, lines: list[str], stream: str = "s") -> dict[str, Any]:
    """Deliver log lines as a subscription does, those that its pattern finds."""
    events = [
        {"id": sha256(line.encode())[:56], "timestamp": 0, "message": line}
        for line in lines
        if "millrace.capture" in line
    ]
    document = {"messageType": "DATA_MESSAGE", "logGroup": "g", "logStream": stream, "logEvents": events}
    data = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
    return dict(application.call("deliver_captures", {"awslogs": {"data": data}}))


def sample(function: str, name: str) -> dict[str, Any]:
    return dict(json.loads((EVENTS / function / f"{name}.json").read_text()))


def feedback(application: Application, body: Any) -> tuple[int, dict[str, Any]]:
    event = sample("record_feedback", "valid_one") | {"body": json.dumps(body)}
    response = application.call("record_feedback", event)
    return response["statusCode"], json.loads(response["body"])


def coverage(application: Application) -> dict[str, Any]:
    response = application.call("record_feedback", sample("record_feedback", "valid_coverage"))
    assert response["statusCode"] == 200
    return dict(json.loads(response["body"]))


def test_predictions_and_feedback_around_a_swap_are_all_found_once_and_joined(application, printed):
    lines: list[str] = []
    outcomes: dict[str, str] = {}
    versions: dict[str, int] = {}
    for number in range(12):
        if number == 6:
            promote(2)
        records = [
            CHURN_RECORD | {"customer_id": f"C-{number}-{row}", "age": 20 + number} for row in range(1 + number % 3)
        ]
        status, reply = application.predict(MODEL, {"dataframe_records": records})
        assert status == 200
        lines += printed()
        for row in range(len(records)):
            outcomes[f"{reply['prediction_id']}-{row}"] = "true" if (number + row) % 2 else "false"
            versions[f"{reply['prediction_id']}-{row}"] = reply["model_version"]
        if number in (3, 6, 9):  # before, during and after: everything that is known so far, again and again
            reports = [{"prediction_id": name, "outcome": outcome} for name, outcome in outcomes.items()]
            assert feedback(application, {"feedback": reports})[0] == 200
            assert deliver(application, lines)["malformed"] == 0
            assert deliver(application, lines[len(lines) // 3 :])["delivered"] == {MODEL: 0}
    deliver(application, lines)
    feedback(application, {"feedback": [{"prediction_id": name, "outcome": said} for name, said in outcomes.items()]})

    now = datetime.now(UTC)
    store = object_store(DATA_BUCKET)
    window = read_window(store, MODEL, now - timedelta(hours=1), now + timedelta(hours=1))
    joined = join_window(store, window, now + timedelta(hours=1))

    assert window.report.duplicates == 0
    assert dict(zip(window.prediction_ids, window.versions, strict=True)) == versions
    assert set(versions.values()) == {1, 2}
    assert dict(zip(window.prediction_ids, joined.outcomes, strict=True)) == outcomes
    assert joined.report.unmatched == 0
    assert sorted(window.row_ids) == sorted(f"C-{n}-{row}" for n in range(12) for row in range(1 + n % 3))
    described = coverage(application)
    assert (described["predictions"], described["labelled"]) == (24, 24)
    assert [part["version"] for part in described["versions"]] == [1, 2]


def test_what_was_captured_is_what_was_answered(application, printed):
    record = CHURN_RECORD | {"plan": "gold", "balance": None}
    _, reply = application.predict(MODEL, {"dataframe_records": [record]})
    deliver(application, printed())
    now = datetime.now(UTC)
    window = read_window(object_store(DATA_BUCKET), MODEL, now - timedelta(hours=1), now + timedelta(hours=1))
    (prediction,) = reply["predictions"]
    assert window.labels.tolist() == [str(prediction["label"]).lower()]
    assert {name: values.tolist() for name, values in window.probabilities.items()} == {
        name: [value] for name, value in prediction["probabilities"].items()
    }
    assert window.unknown["plan"].tolist() == [True]
    assert window.features["age"].tolist() == [41.0]
    typed = window.typed_features(churn_schema())
    assert typed["plan"].tolist() == ["gold"]
    assert str(typed["signed_up"][0]) == "2024-02-03T10:00:00.000000"
    assert window.request_ids.tolist() == ["r"]


def test_the_captured_rows_of_a_large_request_survive_the_log(application, printed):
    records = [CHURN_RECORD | {"customer_id": f"C-{row}", "age": 20 + row % 60} for row in range(10_000)]
    body = {"dataframe_records": records}
    assert application.predict(MODEL, body)[0] == 200
    lines = [line for line in printed() if "millrace.capture" in line]
    assert ["latency_ms" in line for line in lines] == [True] + [False] * (len(lines) - 1)
    # Lambda writes longer lines as several events.
    assert max(len(line.encode()) for line in lines) < 256 * 1_024 - 26
    assert passing_lines("\n".join(lines), "ERROR") == lines
    delivery = deliver(application, lines)
    assert (delivery["malformed"], delivery["delivered"]) == (0, {MODEL: 1_000})  # ``capture.max_rows``


def test_a_request_of_the_documented_size_fits_into_an_event():
    body = json.dumps({"dataframe_records": [CHURN_RECORD] * 100_000})[:4_500_000]
    event = sample("predict", "valid_custom_domain") | {"body": body}
    assert len(json.dumps(event)) < 6 * 1_024**2
    assert len(json.dumps(event | {"body": body * 2})) > 6 * 1_024**2


def test_nothing_is_captured_where_the_stack_says_so(application, printed, monkeypatch):
    monkeypatch.setenv("CAPTURE_PREDICTIONS", "false")
    assert application.predict(MODEL, {"dataframe_records": [CHURN_RECORD]})[0] == 200
    (line,) = [line for line in printed() if "millrace.capture" in line]  # the request is counted, without its rows
    assert not {"positions", "columns", "cells", "row_ids", "probabilities", "values"} & json.loads(line).keys()
    assert deliver(application, [line])["delivered"] == {}


def test_a_fault_of_capturing_is_logged_and_the_caller_has_the_answer(application, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)

    def fail(*_: object) -> None:
        raise RuntimeError("no disk")

    monkeypatch.setattr("millrace.serving.capture.CaptureWriter.lines", fail)
    assert application.predict(MODEL, {"dataframe_records": [CHURN_RECORD]})[0] == 200
    assert "prediction not captured" in log.getvalue()
    assert "no disk" in log.getvalue()


@pytest.mark.parametrize("path", sorted((EVENTS / "deliver_captures").glob("*.json")), ids=lambda path: path.stem)
def test_sample_deliveries(application, printed, path):
    event = json.loads(path.read_text())
    if path.stem == "valid_queue":
        failed = application.call("deliver_captures", event)
        assert failed == {"batchItemFailures": [{"itemIdentifier": "m3"}]}
        assert len(application.keys(DATA_BUCKET, "captures/")) == 1
        return
    if path.stem.startswith("refused"):
        with pytest.raises(InvalidInputError):
            application.call("deliver_captures", event)
        return
    delivery = application.call("deliver_captures", event)
    again = application.call("deliver_captures", event)
    rows = {"valid": 2, "valid_mixed": 2, "valid_test_message": 0}[path.stem]
    assert (sum(delivery["delivered"].values()), again["repeated"]) == (rows, rows)
    assert delivery["malformed"] == (path.stem == "valid_mixed")
    measured = [json.loads(line) for line in printed() if '"_aws"' in line]
    assert [line["MalformedCaptures"] for line in measured if "MalformedCaptures" in line] == [1] * 2 * (
        path.stem == "valid_mixed"
    )


@pytest.mark.parametrize("path", sorted((EVENTS / "record_feedback").glob("*.json")), ids=lambda path: path.stem)
def test_sample_feedback(application, path):
    event = json.loads(path.read_text())
    response = application.call("record_feedback", event)
    status, body = response["statusCode"], json.loads(response["body"])
    if path.stem.startswith("valid"):
        assert status == 200
    elif path.stem == "refused_unknown_model":
        assert status == 404
    else:
        assert status == 400
        assert body["fields"]
    assert bool(application.keys(DATA_BUCKET, "feedback/")) == (status == 200 and event["httpMethod"] == "POST")
