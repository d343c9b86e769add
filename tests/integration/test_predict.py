import gzip
import io
import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from millrace.aws.clients import registry
from millrace.aws.serving_source import AwsModelSource, aws_model_source
from millrace.aws.signed_client import SignedClient
from millrace.captures.records import expand_line, find_request
from millrace.entities import Cause, KeyScope, LedgerEntry, ModelVersion, Run
from millrace.errors import (
    ArtifactNotFoundError,
    ConfigurationError,
    ModelNotFoundError,
    VersionNotFoundError,
)
from millrace.layout import version_key
from millrace.observability import logger
from millrace.registry.transactions import AssignOutcome, DeleteModel, MoveAlias, RegistryTransaction, RetireVersion
from millrace.settings import load_settings
from moto import mock_aws

from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, create_table
from tests.gateway import make_event
from tests.integration.application import Handler, lambda_context, load_handler
from tests.limits import within
from tests.registry_builders import point_alias
from tests.rounding import rounded
from tests.serving_models import CHURN_RECORD, churn_onnx, churn_schema, sha256, version_artifacts

PROJECT = Path(__file__).resolve().parents[2]
EVENTS = PROJECT / "events" / "predict"
NOW = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
BUCKET = "models"
REFUSALS = {
    "refused_bad_fields": (400, ["row 1: age", "row 1: active", "row 1: signed_up"]),
    "refused_missing_column": (400, ["age"]),
    "refused_ragged_split": (400, ["row 1"]),
    "refused_ragged_csv": (400, ["row 0"]),
    "refused_both_shapes": (400, []),
    "refused_not_json": (400, []),
    "refused_no_body": (400, []),
    "refused_content_type": (415, []),
    "refused_model_name": (400, []),
    "refused_unknown_model": (404, []),
    "refused_unknown_version": (404, []),
}
#: Refused in the words of KServe's clients: one sentence.
PLAIN_REFUSALS = {
    "refused_infer_bad_field": (400, "row 0: age expects a number, got a string"),
    "refused_infer_shape": (400, "inputs[0].data has 1 values for a shape of 2"),
    "refused_infer_unknown_model": (404, "there is no model called 'nobody'"),
    "refused_kserve_v1_bad_field": (400, "row 0: age expects a number, got a string"),
    "refused_kserve_v1_action": (404, "a model's only action is ':predict'"),
}
#: The same two rows, in every shape.
TWO_ROWS = ("valid_records", "valid_split", "valid_instances", "valid_inputs", "valid_csv", "valid_kserve_v1")
#: The same request in the shapes that API Gateway gives it. It decompresses bodies, and keeps ``Content-Encoding``.
GATEWAY_SHAPES = (
    "valid_gzip",
    "valid_gzip_binary",
    "valid_csv_binary",
    "valid_custom_domain",
    "valid_no_stage",
    "valid_key",
    "valid_multi_value",
)
ONE_ROW = ("valid_version", "valid_alias")
OTHERS = (
    "valid_openapi",
    "valid_ping",
    "valid_infer",
    "valid_infer_version",
    "valid_metadata",
    "valid_model_ready",
    "valid_kserve_v1_ready",
)


def entry(entry_id: str, action: str) -> LedgerEntry:
    return LedgerEntry("churn", entry_id, NOW, "test", action, "")


def register(version: int, artifacts: dict[str, bytes]) -> None:
    """Store and promote a version as the pipeline does."""
    for name, body in artifacts.items():
        boto3.client("s3").put_object(Bucket=BUCKET, Key=version_key("churn", version, name), Body=body)
    models = registry()
    models.put_version(
        ModelVersion(
            model="churn",
            version=version,
            semantic_version=f"1.0.{version}",
            run_id="run",
            trial_id="trial",
            candidate="logistic_regression",
            task="binary",
            metrics={"roc_auc": 0.9},
            dataset_ids=(),
            schema_version=1,
            manifest_sha256=sha256(artifacts["manifest.json"]),
            created_at=NOW,
        ),
        entry(f"registered-{version}", "model_registered"),
    )
    point_alias(models, "champion", version)


def claim_model(model: str) -> None:
    """Make a model known that has no version yet."""
    run = Run(model, "20260503T120000-0f3a9c2b7d1f", ("c",), "manual", NOW)
    requested = LedgerEntry(model, "r", NOW, "test", "run_requested", "")
    registry().claim_cause(Cause("c", model, "manual", NOW), run, requested)


@pytest.fixture
def handler(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handler]:
    """The function, beside a registry with version 1 of ``churn``; it reads the alias at every request."""
    monkeypatch.setenv("REGISTRY_TABLE", TABLE_NAME)
    monkeypatch.setenv("RUNS_TABLE", RUNS_TABLE_NAME)
    monkeypatch.setenv("MODELS_BUCKET", BUCKET)
    monkeypatch.setenv("ALIAS_REFRESH_SECONDS", "0")
    monkeypatch.setenv("MAX_ROWS_PER_REQUEST", "50")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        create_table()
        cause = Cause("cause", "churn", "manual", NOW)
        run = Run("churn", "20260503T120000-0f3a9c2b7d1e", ("cause",), "manual", NOW)
        registry().claim_cause(cause, run, entry("requested", "run_requested"))
        register(1, version_artifacts(churn_onnx(), churn_schema()))
        yield load_handler("predict")


def sample(name: str) -> dict[str, Any]:
    return dict(json.loads((EVENTS / f"{name}.json").read_text()))


def ask(handler: Handler, event: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    response = handler(event, lambda_context("predict"))
    json.dumps(response)
    return response["statusCode"], json.loads(response["body"])


def ask_records(handler: Handler, *records: dict[str, Any], model: str = "churn") -> tuple[int, dict[str, Any]]:
    event = sample("valid_records") | {
        "pathParameters": {"model": model},
        "body": json.dumps({"dataframe_records": records}),
    }
    return ask(handler, event)


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """What the function wrote so far: log lines, then metrics. A request's line with neither is tested on its own."""
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in [*log.getvalue().splitlines(), *capsys.readouterr().out.splitlines()]]
        return [line for line in found if line.get("record") != "millrace.capture" or "_aws" in line]

    return lines


@pytest.fixture
def model_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let metrics by model be written; they are off by default."""
    monkeypatch.setenv("MODEL_METRICS", "true")


def test_a_prediction_has_label_probabilities_version_and_id(handler):
    status, reply = ask(handler, sample("valid_records"))
    assert status == 200
    assert (reply["model"], reply["model_version"]) == ("churn", 1)
    assert len(reply["prediction_id"]) == 36
    for prediction in reply["predictions"]:
        probabilities = prediction["probabilities"]
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert prediction["label"] is (probabilities["true"] > probabilities["false"])
    assert {warning["field"] for warning in reply["warnings"]} == {"balance", "plan"}


@pytest.mark.parametrize("name", [*TWO_ROWS, *GATEWAY_SHAPES])
def test_every_shape_has_the_same_answer_under_different_ids(handler, name):
    (_, records), (status, other) = ask(handler, sample("valid_records")), ask(handler, sample(name))
    assert status == 200
    assert records.pop("prediction_id") != other.pop("prediction_id")
    assert records == other


@pytest.mark.parametrize("name", ONE_ROW)
def test_a_version_is_asked_by_number_or_alias(handler, name):
    status, reply = ask(handler, sample(name))
    assert (status, reply["model_version"]) == (200, 1)
    assert rounded(reply["predictions"]) == rounded(ask(handler, sample("valid_records"))[1]["predictions"][:1])


def test_an_older_version_answers_by_its_number_after_a_promotion(handler):
    before = ask(handler, sample("valid_version"))[1]
    register(2, version_artifacts(churn_onnx(seed=1), churn_schema()))
    champion = ask(handler, sample("valid_alias"))[1]
    pinned = ask(handler, sample("valid_version"))[1]
    assert (champion["model_version"], pinned["model_version"]) == (2, 1)
    assert pinned["predictions"] == before["predictions"] != champion["predictions"]


@pytest.mark.parametrize("version", ["0", "7", "challenger", "..", "a b", "9" * 70])
def test_a_version_that_is_not_there_is_not_found(handler, version):
    event = sample("valid_version")
    event["pathParameters"]["version"] = version
    status, body = ask(handler, event)
    assert (status, body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_the_open_inference_protocol_answers_the_outputs_that_were_asked_for(handler):
    status, reply = ask(handler, sample("valid_infer"))
    expected = ask(handler, sample("valid_records"))[1]["predictions"]
    assert (status, reply["id"], reply["model_name"], reply["model_version"]) == (200, "request-1", "churn", "1")
    (probabilities,) = reply["outputs"]
    assert (probabilities["name"], probabilities["shape"]) == ("probabilities", [2, 2])
    assert probabilities["data"] == [value for row in expected for value in row["probabilities"].values()]
    assert "plan 1 value not seen in training" in reply["parameters"]["warnings"]
    status, reply = ask(handler, sample("valid_infer_version"))
    assert (status, reply["id"]) == (200, reply["parameters"]["prediction_id"])
    assert reply["outputs"][0] == {"name": "label", "datatype": "BOOL", "shape": [1], "data": [expected[0]["label"]]}


def test_a_model_describes_itself(handler):
    status, metadata = ask(handler, sample("valid_metadata"))
    assert (status, metadata["name"], metadata["versions"]) == (200, "churn", ["1"])
    assert [tensor["name"] for tensor in metadata["inputs"]] == list(CHURN_RECORD)
    for name in ("valid_model_ready", "valid_kserve_v1_ready"):
        assert ask(handler, sample(name)) == (200, {"name": "churn", "ready": True})
    assert ask(handler, sample("valid_ping"))[0] == 200
    status, document = ask(handler, sample("valid_openapi"))
    assert (status, document["openapi"]) == (200, "3.1.0")


@pytest.mark.parametrize("name", PLAIN_REFUSALS)
def test_kserves_clients_are_told_in_one_sentence(handler, name):
    status, said = PLAIN_REFUSALS[name]
    answered, body = ask(handler, sample(name))
    assert answered == status
    assert set(body) == {"error"}
    assert said in body["error"]


def test_kserves_clients_wait_for_a_model_that_has_no_champion_yet(handler):
    claim_model("new")
    for name in ("valid_infer", "valid_model_ready"):
        event = sample(name)
        event["pathParameters"]["model"] = "new"
        status, body = ask(handler, event)
        assert (status, body) == (503, {"error": "model 'new' has no champion to serve yet"})


def test_another_path_is_not_found(handler):
    assert ask(handler, sample("valid_ping") | {"resource": "/other"})[0] == 404


def test_base64_and_gzip_bodies_are_read(handler):
    event = sample("valid_records")
    event["body"] = b64encode(gzip.compress(event["body"].encode())).decode()
    event["isBase64Encoded"] = True
    event["headers"]["Content-Encoding"] = "gzip"
    assert ask(handler, event)[0] == 200


def test_every_sample_event_is_accounted_for():
    names = {path.stem for path in EVENTS.glob("*.json")}
    assert names == {*TWO_ROWS, *GATEWAY_SHAPES, *ONE_ROW, *OTHERS, *REFUSALS, *PLAIN_REFUSALS}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_request_is_told_every_bad_field(handler, name):
    status, fields = REFUSALS[name]
    answered, body = ask(handler, sample(name))
    assert answered == status
    assert [fault["field"] for fault in body.get("fields", [])] == fields
    assert body["message"]


def test_too_many_rows_are_too_large_a_request(handler):
    assert ask_records(handler, *[CHURN_RECORD] * 50)[0] == 200
    status, body = ask_records(handler, *[CHURN_RECORD] * 51)
    assert (status, body["error_code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_model_without_a_champion_is_not_found(handler):
    claim_model("new")
    status, body = ask_records(handler, CHURN_RECORD, model="new")
    assert (status, body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "no champion" in body["message"]


def test_a_deleted_model_is_not_found_any_more_under_any_name(handler):
    by_number = sample("valid_version")
    assert ask_records(handler, CHURN_RECORD)[0] == ask(handler, by_number)[0] == 200
    models = registry()
    state = models.get_state("churn")
    move = MoveAlias("champion", 1, None)
    models.commit(
        RegistryTransaction(
            entry("deleted", "model_deleted"),
            state.revision,
            (
                move,
                DeleteModel(),
            ),
        )
    )
    models.commit(RegistryTransaction(entry("retired", "model_retired"), state.revision + 1, (RetireVersion(1),)))
    for answer in (lambda: ask_records(handler, CHURN_RECORD), lambda: ask(handler, by_number)):
        # What is loaded answers until the thread beside the requests has looked.
        for _ in within(60, pause=0.01):
            if (status := answer()[0]) != 200:
                break
        assert status == 404
    status, body = ask_records(handler, CHURN_RECORD)
    assert (status, body["message"]) == (404, "the model 'churn' was deleted")
    assert ask(handler, by_number)[1]["message"] == "version 1 of model 'churn' is retired"


def test_a_promoted_version_serves_without_a_restart(handler):
    before = ask_records(handler, CHURN_RECORD)[1]
    register(2, version_artifacts(churn_onnx(seed=1), churn_schema()))
    after = ask_records(handler, CHURN_RECORD)[1]
    assert (before["model_version"], after["model_version"]) == (1, 2)
    assert before["predictions"] != after["predictions"]


def test_a_damaged_version_never_serves_and_the_log_and_a_metric_say_so(handler, written):
    ask_records(handler, CHURN_RECORD)
    artifacts = version_artifacts(churn_onnx(seed=1), churn_schema())
    register(2, artifacts | {"model.onnx": artifacts["model.onnx"] + b"\0"})
    status, reply = ask_records(handler, CHURN_RECORD)
    assert (status, reply["model_version"]) == (200, 1)
    lines = written()
    assert any("ArtifactIntegrityError" in line.get("reason", "") for line in lines)
    assert [line["model"] for line in lines if "AliasRefreshFailures" in line] == ["churn"]


def test_a_cold_start_with_a_damaged_champion_serves_the_last_good_version(handler, written):
    for version in (2, 3, 4):
        register(version, version_artifacts(churn_onnx(seed=version), churn_schema()))
    outcomes = {1: "promoted", 2: "promoted", 3: "kept"}
    for version, outcome in outcomes.items():
        change = AssignOutcome(version, "pending", outcome)
        state = registry().get_state("churn")
        registry().commit(RegistryTransaction(entry(f"o{version}", "test"), state.revision, (change,)))
    boto3.client("s3").delete_object(Bucket=BUCKET, Key=version_key("churn", 4, "model.onnx"))
    event = sample("valid_records") | {"body": json.dumps({"dataframe_records": [CHURN_RECORD]})}
    response = handler(event, lambda_context("predict"))
    assert (response["statusCode"], json.loads(response["body"])["model_version"]) == (200, 2)
    assert response["headers"]["X-Millrace-Instead-Of-Version"] == "4"
    lines = written()
    assert any("version 4 is damaged" in line.get("reason", "") for line in lines)
    assert {line["model_version"] for line in lines if "AliasRefreshFailures" in line} == {"2"}
    artifacts = version_artifacts(churn_onnx(seed=4), churn_schema())
    boto3.client("s3").put_object(
        Bucket=BUCKET, Key=version_key("churn", 4, "model.onnx"), Body=artifacts["model.onnx"]
    )
    for _ in within(60):
        response = handler(event, lambda_context("predict"))
        if "X-Millrace-Instead-Of-Version" not in response["headers"]:
            break
    assert json.loads(response["body"])["model_version"] == 4
    assert "X-Millrace-Instead-Of-Version" not in response["headers"]


def test_a_damaged_only_version_is_our_fault_and_says_no_more(handler, written):
    boto3.client("s3").put_object(Bucket=BUCKET, Key=version_key("churn", 1, "model.onnx"), Body=b"damaged")
    status, body = ask_records(handler, CHURN_RECORD)
    assert (status, body["error_code"]) == (500, "ARTIFACT_CORRUPT")
    assert "model.onnx" not in body["message"]
    logged, measured = written()
    assert logged["level"] == "ERROR"
    assert (measured["FailedRequests"], measured["service"], measured["model"]) == (1, "api", "churn")


def test_the_last_version_serves_while_the_registry_is_gone(handler):
    ask_records(handler, CHURN_RECORD)
    boto3.client("dynamodb").delete_table(TableName=TABLE_NAME)
    for _ in range(3):
        status, reply = ask_records(handler, CHURN_RECORD)
        assert (status, reply["model_version"]) == (200, 1)


def test_an_unexpected_fault_is_answered_without_detail_and_logged_once(handler, monkeypatch, written):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("millrace.serving.rows.RowReader.read", fail)
    status, body = ask_records(handler, CHURN_RECORD)
    assert status == 500
    assert "secret" not in json.dumps(body)
    line, measured = written()
    assert "secret detail" in line["exception"]
    assert measured["FailedRequests"] == 1
    assert measured["request_id"] == line["correlation_id"] == sample("valid_records")["requestContext"]["requestId"]


def test_missing_settings_are_our_fault(handler, monkeypatch):
    monkeypatch.delenv("MODELS_BUCKET")
    status, body = ask_records(handler, CHURN_RECORD)
    assert status == 500
    assert "MODELS_BUCKET" not in body["message"]


@pytest.mark.usefixtures("model_metrics")
def test_rows_and_latency_are_metrics_of_model_version_and_dialect(handler, written):
    _, reply = ask_records(handler, CHURN_RECORD, CHURN_RECORD)
    (line,) = written()
    assert (line["model"], line["model_version"], line["dialect"]) == ("churn", "1", "mlflow")
    assert (line["PredictedRows"], line["prediction_id"]) == (2, reply["prediction_id"])
    assert line["PredictionLatency"] > 0
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "Millrace"
    assert directive["Dimensions"] == [["model", "model_version", "dialect"]]
    assert {metric["Name"] for metric in directive["Metrics"]} == {"PredictionLatency", "PredictedRows", "ColdStarts"}


@pytest.mark.usefixtures("model_metrics")
def test_the_first_request_of_an_environment_is_its_cold_start(handler, written):
    for _ in range(3):
        ask_records(handler, CHURN_RECORD)
    assert [line.get("ColdStarts") for line in written()] == [1, None, None]


@pytest.mark.usefixtures("model_metrics")
def test_who_only_asks_whether_we_live_takes_the_cold_start(handler, written):
    ask(handler, sample("valid_ping"))
    ask_records(handler, CHURN_RECORD)
    assert "ColdStarts" not in written()[-1]


@pytest.mark.usefixtures("model_metrics")
def test_a_failure_is_its_model_s_once_the_registry_has_named_it(handler, monkeypatch, written):
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    def dimensions() -> list[list[str]]:
        (line,) = [line for line in written() if "FailedRequests" in line]
        return list(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"])

    with monkeypatch.context() as broken:
        broken.setattr(AwsModelSource, "read_alias", fail)
        assert ask_records(handler, CHURN_RECORD)[0] == 500
        assert dimensions() == [["service"]]
    ask_records(handler, CHURN_RECORD)
    monkeypatch.setattr("millrace.serving.rows.RowReader.read", fail)
    by_kserve = sample("valid_kserve_v1")
    for failing in (sample("valid_records"), by_kserve):
        assert ask(handler, failing)[0] == 500
    told = [line for line in written() if "FailedRequests" in line][-2:]
    assert [line["model"] for line in told] == ["churn", "churn"]
    for line in told:
        assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"], ["service", "model"]]


def test_unknown_categories_missing_values_and_bad_rows_are_counted_where_there_are_some(
    handler, written, model_metrics
):
    strange = CHURN_RECORD | {"plan": "gold", "city": "Rome", "balance": None}
    event = sample("valid_records") | {"queryStringParameters": {"on_error": "partial"}}
    event["body"] = json.dumps({"dataframe_records": [strange, CHURN_RECORD | {"age": "old"}]})
    assert ask(handler, event)[0] == 200
    (line,) = written()
    assert (line["UnknownCategories"], line["MissingValues"], line["BadRows"], line["PredictedRows"]) == (2, 1, 1, 1)


def test_refusals_are_counted_by_reason_and_never_under_a_name_that_a_stranger_made_up(handler, written):
    claim_model("new")
    for model, expected in (("nobody" * 9, "RESOURCE_DOES_NOT_EXIST"), ("new", "MODEL_NOT_READY")):
        ask_records(handler, CHURN_RECORD, model=model)
        (line,) = [line for line in written() if "RefusedRequests" in line and line.get("requested_model") == model]
        assert line["reason"] == expected
        assert "model" not in line
        assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]


class TestLines:
    """The one line of a request for predictions, from which it is counted."""

    @pytest.fixture
    def lines(self, capsys):
        return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines() if "millrace.capture" in line]

    def test_a_request_has_one_line_with_its_rows_and_its_counts(self, handler, lines):
        event = sample("valid_records") | {"queryStringParameters": {"on_error": "partial"}}
        event["body"] = json.dumps({"dataframe_records": [CHURN_RECORD, CHURN_RECORD | {"age": "old"}]})
        for cold in (True, False):
            _, reply = ask(handler, event)
            (line,) = lines()
            assert (line["prediction_id"], line["rows"], line["refused_rows"]) == (reply["prediction_id"], 2, 1)
            assert line["latency_ms"] > 0
            assert ("cold_start" in line, "_aws" in line) == (cold, False)
            assert line["positions"] == [0]

    @pytest.mark.parametrize("why", ["CAPTURE_PREDICTIONS", "sampling"])
    def test_a_request_that_is_not_captured_is_counted_without_its_rows(self, handler, lines, monkeypatch, why):
        if why == "sampling":
            monkeypatch.setattr("millrace.serving.capture.CaptureWriter.lines", lambda *_: [])
        else:
            monkeypatch.setenv(why, "false")
        _, reply = ask(handler, sample("valid_records"))
        (line,) = lines()
        assert "cells" not in line
        assert expand_line(line) == []
        model, _, request = find_request(line)
        assert (model, request.request, request.version, request.status, request.rows) == (
            "churn",
            reply["prediction_id"],
            1,
            200,
            2,
        )

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"body": "["}, ("churn", 1, 400)),
            ({"body": json.dumps({"dataframe_records": [CHURN_RECORD | {"age": "old"}]})}, ("churn", 1, 400)),
            ({"isBase64Encoded": True, "body": "?"}, ("churn", 0, 400)),
            ({"pathParameters": {"model": "nobody"}}, (None, 0, 404)),
        ],
    )
    def test_a_failed_request_is_counted_as_far_as_it_is_known(self, handler, lines, change, expected):
        ask(handler, sample("valid_records"))
        lines()
        assert ask(handler, sample("valid_records") | change)[0] == expected[-1]
        (line,) = lines()
        model, _, request = find_request(line)
        assert (model, request.version, request.status) == expected
        assert request.rows == 0
        assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["service"]]

    def test_only_requests_for_predictions_are_counted(self, handler, lines):
        for name in ("valid_ping", "valid_model_ready", "valid_openapi"):
            ask(handler, sample(name))
        unready = sample("valid_model_ready")
        unready["pathParameters"]["model"] = "nobody"
        ask(handler, unready)
        assert lines() == []


def test_a_poll_of_a_model_that_is_not_ready_is_no_failure_of_ours(handler, written):
    claim_model("new")
    event = sample("valid_model_ready")
    event["pathParameters"]["model"] = "new"
    assert ask(handler, event)[0] == 503
    assert not [line for line in written() if "FailedRequests" in line]


@pytest.mark.usefixtures("model_metrics")
def test_the_age_of_a_version_is_measured_from_its_registration(handler, written):
    artifacts = version_artifacts(churn_onnx(seed=1), churn_schema())
    created = datetime.now(UTC) - timedelta(hours=1)
    manifest = json.loads(artifacts["manifest.json"]) | {"created_at": created.isoformat()}
    register(2, artifacts | {"manifest.json": json.dumps(manifest).encode()})
    ask_records(handler, CHURN_RECORD)
    latest = (datetime.now(UTC) - created).total_seconds()
    (age,) = [line["ModelAge"] for line in written() if "ModelAge" in line]
    assert 3_600 <= age <= round(latest)  # whole seconds


# -- bad rows beside good ones -----------------------------------------------------------------------------------------
def partly(document: dict[str, Any], path: str, **query: str) -> dict[str, Any]:
    return make_event("POST", path, json.dumps(document)) | {"queryStringParameters": query or None}


BAD = CHURN_RECORD | {"age": "old", "plan": 5}
OTHER = CHURN_RECORD | {"age": 20}
PARTIAL = {"on_error": "partial"}


@pytest.mark.parametrize(
    ("document", "path", "query"),
    [
        ({"dataframe_records": [BAD, OTHER, BAD, CHURN_RECORD]}, "/models/churn/invocations", PARTIAL),
        ({"instances": [BAD, OTHER, BAD, CHURN_RECORD], "params": PARTIAL}, "/models/churn/invocations", {}),
        ({"instances": [BAD, OTHER, BAD, CHURN_RECORD], "parameters": PARTIAL}, "/v1/models/churn:predict", {}),
    ],
)
def test_good_rows_are_answered_and_bad_ones_carry_their_errors(handler, document, path, query):
    _, alone = ask_records(handler, OTHER, CHURN_RECORD)
    status, reply = ask(handler, partly(document, path, **query))
    assert status == 200
    nothing = {"label": None, "probabilities": None, "decision": None}
    assert reply["predictions"] == [nothing, alone["predictions"][0], nothing, alone["predictions"][1]]
    fields = [
        {"field": "age", "message": "expects a number, got a string"},
        {"field": "plan", "message": "expects a string, got a number"},
    ]
    assert reply["errors"] == [{"row": 0, "fields": fields}, {"row": 2, "fields": fields}]
    assert "warnings" not in reply


def test_the_open_inference_protocol_leaves_bad_rows_out_too(handler):
    _, alone = ask_records(handler, CHURN_RECORD)
    columns = {name: [CHURN_RECORD[name]] * 2 for name in CHURN_RECORD} | {
        "signed_up": ["soon", "2024-02-03T10:00:00Z"]
    }
    types = {"age": "INT64", "balance": "FP64", "active": "BOOL"}
    inputs = [
        {"name": name, "shape": [2], "datatype": types.get(name, "BYTES"), "data": data}
        for name, data in columns.items()
    ]
    status, reply = ask(handler, partly({"inputs": inputs, "parameters": PARTIAL}, "/v2/models/churn/infer"))
    assert status == 200
    label, probabilities, decision = (output["data"] for output in reply["outputs"])
    expected = alone["predictions"][0]
    assert (label, decision) == ([None, expected["label"]], [None, expected["decision"]])
    assert probabilities == [None, None, *expected["probabilities"].values()]
    assert reply["parameters"]["errors"].startswith("row 0: signed_up expects a date in")


@pytest.mark.parametrize("rows", [[BAD], [BAD] * 40])
def test_when_no_row_is_good_the_request_is_refused(handler, rows):
    event = partly({"dataframe_records": rows}, "/models/churn/invocations", on_error="partial")
    status, body = ask(handler, event)
    assert (status, len(body["fields"])) == (400, 2 * len(rows))


def test_a_column_that_no_row_has_refuses_them_all(handler):
    rows = [{name: value for name, value in CHURN_RECORD.items() if name != "age"}, BAD]
    split = {"columns": ["active", "plan"], "data": [[True, "basic"], [5, "basic"]]}
    event = partly({"dataframe_split": split}, "/models/churn/invocations", on_error="partial")
    assert ask(handler, event)[0] == 400
    event = partly({"dataframe_records": rows}, "/models/churn/invocations", on_error="partial")
    assert [fault["field"] for fault in ask(handler, event)[1]["fields"]] == ["row 0: age", "row 1: age", "row 1: plan"]


def test_the_query_goes_before_the_body_and_other_words_are_refused(handler):
    document = {"instances": [BAD, CHURN_RECORD], "params": PARTIAL}
    assert ask(handler, partly(document, "/models/churn/invocations", on_error="refuse"))[0] == 400
    status, body = ask(handler, partly(document, "/models/churn/invocations", on_error="ignore"))
    assert (status, body["fields"]) == (400, [{"field": "on_error", "message": "expects 'refuse' or 'partial'"}])


# -- what errors tell --------------------------------------------------------------------------------------------------
@pytest.fixture
def reticent(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> Handler:
    monkeypatch.setenv("ERROR_DETAIL", "reduced")
    return handler


@pytest.mark.parametrize("name", [*REFUSALS, *PLAIN_REFUSALS])
def test_reduced_errors_name_no_column(reticent, name):
    status, body = ask(reticent, sample(name))
    assert status == (REFUSALS | PLAIN_REFUSALS)[name][0]
    assert "fields" not in body
    assert not {*re.findall(r"\w+", json.dumps(body))} & {*CHURN_RECORD}


def test_reduced_replies_name_no_column_either_and_the_log_has_everything(reticent, written):
    rows = [CHURN_RECORD | {"plan": "gold", "shoes": 5}, BAD]
    event = partly({"dataframe_records": rows}, "/models/churn/invocations", on_error="partial")
    _, reply = ask(reticent, event)
    assert reply["errors"] == [{"row": 1, "fields": [{"field": "*", "message": "cannot be scored"}]}]
    assert "warnings" not in reply
    ask_records(reticent, BAD)
    (line,) = [line for line in written() if "reason" in line and "fields" in line]
    assert [fault["field"] for fault in line["fields"]] == ["row 0: age", "row 0: plan"]


def test_another_word_for_the_detail_is_a_fault_of_the_deployment(handler, monkeypatch):
    monkeypatch.setenv("ERROR_DETAIL", "none")
    assert ask_records(handler, CHURN_RECORD)[0] == 500


# -- keys --------------------------------------------------------------------------------------------------------------
def with_key(name: str, **parameters: str) -> dict[str, Any]:
    """Return a sample as the API of keys sends it, whatever headers its client adds."""
    event = sample(name)
    event["requestContext"]["identity"] = {**sample("valid_key")["requestContext"]["identity"]}
    event["headers"] = {**event["headers"], "x-api-key": "of another key"}
    event["pathParameters"] = (event["pathParameters"] or {}) | parameters
    return event


def scope_key(*models: str) -> None:
    key_id = sample("valid_key")["requestContext"]["identity"]["apiKeyId"]
    entry_id = f"{key_id} {models}"
    registry().put_key_scope(KeyScope(key_id, models, NOW, "ann"), LedgerEntry("_keys", entry_id, NOW, "ann", "x", ""))


ALL_SAMPLES = (*TWO_ROWS, *GATEWAY_SHAPES, *ONE_ROW, *OTHERS)


@pytest.mark.parametrize("name", ALL_SAMPLES)
def test_a_key_works_for_its_models_alone_in_every_protocol(handler, name):
    expected = ask(handler, sample(name))[0]
    assert ask(handler, with_key(name))[0] == expected == 200  # without a scope, as before there were any
    for models in (("churn",), ("orders", "churn"), ("*",)):
        scope_key(*models)
        assert ask(handler, with_key(name))[0] == 200, models
    for models in (("orders",), ()):
        scope_key(*models)
        status, body = ask(handler, with_key(name))
        assert status == (200 if name == "valid_ping" else 403), models
        if status == 403:
            assert "the API key is not for the model 'churn'" in str(body)
            assert name == "valid_key" or ask(handler, sample(name))[0] == 200, "signed requests are as they were"


def test_a_key_for_other_models_does_not_learn_which_models_there_are(handler):
    scope_key("orders")
    for model in ("churn", "nobody"):
        status, body = ask(handler, with_key("valid_records", model=model))
        assert (status, body["error_code"]) == (403, "PERMISSION_DENIED")
        assert body["message"] == f"the API key is not for the model {model!r}: ask for a key that is"


def test_a_scoped_key_gets_explanations_of_its_models_alone(handler):
    event = with_key("valid_records") | {"queryStringParameters": {"explain": "true"}}
    scope_key("orders")
    assert ask(handler, event)[0] == 403


# -- the source --------------------------------------------------------------------------------------------------------
def model_source() -> AwsModelSource:
    return aws_model_source(TABLE_NAME, BUCKET)


def test_the_source_reads_what_the_registry_writes(handler):
    source = model_source()
    assert source.read_alias("churn", "champion").version == registry().get_state("churn").aliases["champion"] == 1
    assert source.manifest_sha256("churn", 1) == registry().get_version("churn", 1).manifest_sha256
    assert sha256(source.artifact("churn", 1, "manifest.json")) == source.manifest_sha256("churn", 1)


def test_what_the_source_does_not_find_it_names(handler):
    source = model_source()
    with pytest.raises(ModelNotFoundError, match="no model called 'other'"):
        source.read_alias("other", "champion")
    with pytest.raises(ModelNotFoundError, match="no challenger"):
        source.read_alias("churn", "challenger")
    with pytest.raises(VersionNotFoundError):
        source.manifest_sha256("churn", 9)
    with pytest.raises(ArtifactNotFoundError):
        source.artifact("churn", 9, "model.onnx")


def test_a_table_that_is_not_there_is_a_fault_of_the_deployment(handler):
    boto3.client("dynamodb").delete_table(TableName=TABLE_NAME)
    with pytest.raises(ConfigurationError):
        model_source().read_alias("churn", "champion")


def test_a_throttled_table_is_503_at_first_and_later_served_by_the_version_that_is_loaded(handler, throttled_table):
    throttled_table.always = True
    refused = handler(sample("valid_records"), lambda_context("predict"))
    assert (refused["statusCode"], refused["headers"]["Retry-After"]) == (503, "1")
    assert json.loads(refused["body"])["error_code"] == "TEMPORARILY_UNAVAILABLE"

    throttled_table.always = False
    assert ask(handler, sample("valid_records"))[0] == 200

    throttled_table.always = True
    status, reply = ask(handler, sample("valid_records"))
    assert (status, reply["model_version"]) == (200, 1)


# -- what a prediction does not need -----------------------------------------------------------------------------------
IMPORT_AND_LIST = """
import importlib.util, json, sys
specification = importlib.util.spec_from_file_location("app", sys.argv[1])
module = importlib.util.module_from_spec(specification)
specification.loader.exec_module(module)
print(json.dumps(sorted(sys.modules)))
"""


def test_the_handler_imports_nothing_that_a_prediction_does_not_need():
    command = [sys.executable, "-c", IMPORT_AND_LIST, str(PROJECT / "functions" / "predict" / "app.py")]
    environment = {"PYTHONPATH": str(PROJECT / "shared"), "POWERTOOLS_TRACE_DISABLED": "true"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    loaded = set(json.loads(finished.stdout))
    assert {"numpy", "onnxruntime", "millrace.serving.scoring"} <= loaded
    heavy = {
        "pandas",
        "sklearn",
        "scipy",
        "skl2onnx",
        "onnx",
        "pydantic",
        "pyarrow",
        "aws_xray_sdk",
        "boto3",
        "botocore",
        "http.client",  # on Lambda it is imported as well, where the processor is whole
        "millrace.settings",
        "aws_lambda_powertools",
        "millrace.serving.explain",
        "millrace.ports",
        "millrace.serving.openapi",
    }
    assert not heavy & loaded


def test_a_snapshot_holds_no_client_no_setting_and_no_identifier(monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "predict")
    module = load_handler("predict").__globals__
    assert "millrace.aws.serving_source" in sys.modules
    assert module["_endpoint"].cache_info().currsize == 0
    assert load_settings.cache_info().currsize == 0


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What Lambda's runtime calls before it takes a snapshot."""
    registered: list[Callable[[], None]] = []
    runtime = SimpleNamespace(register_before_snapshot=registered.append)
    monkeypatch.setitem(sys.modules, "snapshot_restore_py", runtime)
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    return registered


def test_a_process_from_a_snapshot_reads_the_alias_alone(handler, hooks, aws_calls, monkeypatch):
    monkeypatch.setenv("PRELOADED_MODELS", "churn, nobody")
    snapshotted = load_handler("predict")
    (prepare,) = hooks
    prepare()
    module = snapshotted.__globals__
    assert module["_endpoint"].cache_info().currsize == load_settings.cache_info().currsize == 0
    aws_calls.clear()
    assert ask(snapshotted, sample("valid_records"))[0] == 200
    assert set(aws_calls) == {"dynamodb:GetItem"}


def test_a_process_from_a_snapshot_signs_with_its_own_credentials(handler, hooks, monkeypatch):
    monkeypatch.setenv("PRELOADED_MODELS", "churn, nobody")
    snapshotted, keys = load_handler("predict"), []
    send = SignedClient._send

    def record(client: SignedClient, *arguments: Any) -> Any:
        keys.append(client._credentials.get().access_key)
        return send(client, *arguments)

    monkeypatch.setattr(SignedClient, "_send", record)
    hooks[0]()
    before = set(keys)
    keys.clear()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHERESTORED")
    assert ask(snapshotted, sample("valid_records"))[0] == 200
    assert set(keys) == {"AKIAOFTHERESTORED"} != before


def test_the_snapshot_says_which_model_it_lacks(handler, hooks, monkeypatch, written):
    monkeypatch.setenv("PRELOADED_MODELS", "churn, nobody")
    load_handler("predict")
    hooks[0]()
    (line,) = [line for line in written() if line.get("message") == "not preloaded"]
    assert (line["level"], line["model"]) == ("WARN", "nobody")


def test_a_snapshot_of_no_model_serves_too(handler, hooks):
    snapshotted = load_handler("predict")
    hooks[0]()
    assert ask(snapshotted, sample("valid_records"))[0] == 200
