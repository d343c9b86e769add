"""A model that a data scientist logged, from its registration with MLflow to the endpoint, on the shipped pipeline."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3
import numpy as np
import pytest
from millrace.aws.clients import object_store, registry, registry_store, training_pipeline
from millrace.aws.object_store import S3ObjectStore
from millrace.errors import ServiceUnavailableError
from millrace.tracking.model_mirror import ModelMirror
from millrace.tracking.tracking_api import TrackingRequest, respond_to
from millrace.tracking.tracking_calls import TrackingCall
from sklearn.pipeline import Pipeline

from tests.integration.application import MODELS_BUCKET, PIPELINE_ARN, REGION, Application, Handler
from tests.integration.test_training_pipeline import as_csv, features_of, make_rows, run_of
from tests.logged_models import churn_files, churn_matrix, fit_churn

ROOT = f"s3://{MODELS_BUCKET}/mlflow/experiments"
FOLDER = "mlflow/experiments/1/r1/artifacts/model"
#: Of a state that calls a function: one, and its retries.
ATTEMPTS = 5
SOURCE = f"s3://{MODELS_BUCKET}/{FOLDER}"


@pytest.fixture
def addresses(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write by presigned address in moto's bucket, by the rights of the function that signed."""
    sign_read, sign_write = S3ObjectStore.sign_read, S3ObjectStore.sign_write

    def authorized(name: str, sign: Callable[[S3ObjectStore, str], str]) -> Callable[[S3ObjectStore, str], str]:
        def signed(store: S3ObjectStore, key: str) -> str:
            operation = SimpleNamespace(name=name, service_model=SimpleNamespace(service_name="s3"))
            application.authorize({"Bucket": store.bucket_name, "Key": key}, operation)
            return sign(store, key)

        return signed

    def place(url: str) -> dict[str, str]:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert "X-Amz-Signature" in parts.query
        host, path = str(parts.hostname), unquote(parts.path).lstrip("/")
        bucket, _, region = host.partition(".s3.")
        assert region == f"{REGION}.amazonaws.com"
        return {"Bucket": bucket, "Key": path}

    def without_rights(call: Any) -> Any:
        caller, application._caller.name = application._caller.name, None
        try:
            return call()
        finally:
            application._caller.name = caller

    s3 = boto3.client("s3")
    monkeypatch.setattr(S3ObjectStore, "sign_read", authorized("GetObject", sign_read))
    monkeypatch.setattr(S3ObjectStore, "sign_write", authorized("PutObject", sign_write))
    monkeypatch.setattr(
        "millrace.aws.presigned.read_object",
        lambda url, _: without_rights(lambda: s3.get_object(**place(url)))["Body"].read(),
    )
    monkeypatch.setattr(
        "millrace.aws.presigned.write_object",
        lambda url, body: without_rights(lambda: s3.put_object(**place(url), Body=body)),
    )


def log(pipeline: Pipeline, rows: list[dict[str, Any]]) -> None:
    for name, body in churn_files(pipeline, rows).items():
        boto3.client("s3").put_object(Bucket=MODELS_BUCKET, Key=f"{FOLDER}/{name}", Body=body)


def ask(method: str, path: str, **arguments: Any) -> Any:
    call = TrackingCall(
        store=registry_store(),
        objects=object_store(MODELS_BUCKET),
        artifact_root=ROOT,
        actor="ann",
        now=datetime.now(UTC),
        make_id=lambda: uuid.uuid4().hex,
        registry=registry,
        mirror=ModelMirror(registry_store(), registry, ROOT),
        pipeline=lambda: training_pipeline(PIPELINE_ARN),
    )
    query = {name: [value] for name, value in arguments.items()} if method == "GET" else {}
    return respond_to(TrackingRequest(method, f"/api/2.0/mlflow/{path}", query, {} if query else arguments), call)


def raising(error: type[Exception]) -> Handler:
    def handler(*_: object) -> Any:
        raise error("while it was called")

    return handler


def propose(application: Application, runs: int = 1) -> tuple[str, dict[str, Any]]:
    """Register the logged model as a version of Millrace's; returns its last run, and the version as that left it."""
    before = application.wait_until_quiet().keys()
    proposed = ask("POST", "model-versions/create", name="churn", source=SOURCE)["model_version"]
    assert proposed["status"] == "PENDING_REGISTRATION"
    started = application.wait_until_quiet().keys() - before
    assert len(started) == runs
    run_id = next(run.run_id for run in registry().list_runs("churn") if run.run_id in started)
    return run_id, ask("GET", "model-versions/get", name="churn", version=proposed["version"])["model_version"]


def test_a_logged_model_is_checked_evaluated_and_serves_its_authors_numbers_once_promoted(
    application: Application, addresses: None
) -> None:
    rows = make_rows()
    application.upload("churn", "churn.csv", as_csv(rows))
    pipeline = fit_churn(rows)
    log(pipeline, rows)
    # A model without the flavour.
    mlmodel = boto3.client("s3").get_object(Bucket=MODELS_BUCKET, Key=f"{FOLDER}/MLmodel")["Body"].read()
    boto3.client("s3").put_object(Bucket=MODELS_BUCKET, Key=f"{FOLDER}/MLmodel", Body=b"flavors: {}")
    _, refused = propose(application)
    assert refused["status"] == "FAILED_REGISTRATION"
    assert "no onnx flavor" in refused["status_message"]
    boto3.client("s3").put_object(Bucket=MODELS_BUCKET, Key=f"{FOLDER}/MLmodel", Body=mlmodel)
    # A model on which the check dies.
    check = application.handlers["check_logged_model"]
    application.handlers["check_logged_model"] = raising(type("Runtime.ExitError", (Exception,), {}))
    _, died = propose(application)
    assert died["status"] == "FAILED_REGISTRATION"
    assert "its check did not finish: Runtime.ExitError" in died["status_message"]
    # An outage, which says nothing about the model: the run fails, and the next one has the same number.
    unavailable = raising(ServiceUnavailableError)
    left = iter([unavailable] * ATTEMPTS)

    def check_after_an_outage(*arguments: Any) -> Any:
        return next(left, check)(*arguments)

    application.handlers["check_logged_model"] = check_after_an_outage
    run_id, found = propose(application, runs=2)

    run = run_of(application, "churn", run_id)
    assert run["run"]["status"] == "succeeded", run["run"]["reasons"]
    assert [(one["candidate"], one["status"]) for one in run["trials"]] == [("mlflow", "succeeded")]
    assert application.denied == []
    assert (found["status"], found["version"], found["aliases"]) == ("READY", "4", ["challenger"])
    assert registry().get_state("churn").aliases == {"champion": 1, "challenger": 4}

    ask("POST", "registered-models/alias", name="churn", alias="champion", version="4")

    status, served = application.predict("churn", {"dataframe_records": [features_of(row) for row in rows]})
    assert status == 200, served
    assert served["model_version"] == 4
    expected = pipeline.predict_proba(churn_matrix(rows))[:, 1]
    np.testing.assert_allclose([one["probabilities"]["1"] for one in served["predictions"]], expected, atol=1e-5)
