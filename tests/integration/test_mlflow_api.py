"""``serve_mlflow``: the shipped handler, on moto and on stores in memory."""

import json
import os
import uuid
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from millrace.aws import tracking
from millrace.aws.clients import clear_clients
from millrace.aws.registry_store import DynamoRegistryStore
from millrace.tracking import tracking_api
from moto import mock_aws

from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, TRACKING_TABLE_NAME, create_table
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry, MemoryRegistryStore
from tests.integration.application import DATA_BUCKET, MODELS_BUCKET, REGION, lambda_context, load_handler
from tests.mlflow_server import ENVIRONMENT, make_event

EVENTS = sorted((Path(__file__).resolve().parents[2] / "events" / "serve_mlflow").glob("*.json"))
FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
PATH = "/mlflow/api/2.0/mlflow/"


@pytest.fixture
def handler(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        clear_clients()
        create_table()
        for bucket in (DATA_BUCKET, MODELS_BUCKET):
            boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield load_handler("serve_mlflow")
        clear_clients()


def ask(handler, method, path, body=None):
    response = handler(
        make_event(method, path, None if body is None else json.dumps(body)), lambda_context("serve_mlflow")
    )
    return response["statusCode"], json.loads(response["body"])


@pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
def test_sample_events(handler, path):
    response = handler(json.loads(path.read_text(encoding="utf-8")), lambda_context("serve_mlflow"))
    if path.stem.startswith("valid"):
        assert response["statusCode"] == 200, response["body"]
    else:
        assert 400 <= response["statusCode"] < 500
        assert {"error_code", "message"} <= set(json.loads(response["body"]))


def test_the_base_path_of_a_custom_domain_is_no_part_of_the_path(handler):
    event = make_event("GET", f"{PATH}experiments/get?experiment_id=0")
    response = handler(event | {"path": "/mlflow-of-ml/mlflow/api"}, lambda_context("serve_mlflow"))
    assert json.loads(response["body"])["experiment"]["name"] == "Default"


def test_an_unknown_endpoint_has_mlflows_code(handler):
    assert ask(handler, "POST", "/mlflow/api/3.0/mlflow/traces", {}) == (
        404,
        {"error_code": "ENDPOINT_NOT_FOUND", "message": "Millrace has no endpoint POST /api/3.0/mlflow/traces"},
    )


def test_chunks_are_read_back_from_dynamodb(handler):
    run = ask(handler, "POST", f"{PATH}runs/create", {"start_time": 1})[1]["run"]["info"]["run_id"]
    for begin in range(0, 3_000, 1_000):
        metrics = [{"key": "m", "value": i / 2, "timestamp": i, "step": i} for i in range(begin, begin + 1_000)]
        assert ask(handler, "POST", f"{PATH}runs/log-batch", {"run_id": run, "metrics": metrics}) == (200, {})
    _, first = ask(handler, "GET", f"{PATH}metrics/get-history?run_id={run}&metric_key=m&max_results=1700")
    token = first["next_page_token"]
    _, second = ask(handler, "GET", f"{PATH}metrics/get-history?run_id={run}&metric_key=m&page_token={token}")
    assert [one["step"] for one in (*first["metrics"], *second["metrics"])] == list(range(3_000))


def test_a_busy_table_makes_clients_wait(handler, monkeypatch):
    def throttle(*_, **__):
        raise ClientError({"Error": {"Code": "ThrottlingException"}}, "GetItem")

    client = boto3.client("dynamodb")
    monkeypatch.setattr(client, "get_item", throttle)
    store = DynamoRegistryStore(client, TABLE_NAME, RUNS_TABLE_NAME, TRACKING_TABLE_NAME)
    monkeypatch.setattr(tracking, "tracking_store", lambda: store)
    response = handler(make_event("GET", f"{PATH}experiments/get?experiment_id=1"), lambda_context("serve_mlflow"))
    assert response["statusCode"] == 429
    assert response["headers"]["Retry-After"] == "1"
    assert json.loads(response["body"])["error_code"] == "REQUEST_LIMIT_EXCEEDED"


def test_a_fault_of_ours_says_no_more(handler, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "tracking_store", lambda: None)
    status, body = ask(handler, "GET", f"{PATH}experiments/get?experiment_id=1")
    assert (status, body["error_code"]) == (500, "INTERNAL_ERROR")
    assert "NoneType" not in body["message"]
    assert "FailedRequests" in capsys.readouterr().out


# -- hostile requests, on stores that refuse what DynamoDB cannot hold
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["0", "\ud800", "x" * 3_000, "NaN", "e30=", "m-" + "0" * 32, "0" * 32, "metrics.a > 1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "value", "timestamp", "step", "dataset", "field_name"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
ENDPOINTS = [endpoint for module in tracking_api.MODULES for endpoint in module.ENDPOINTS]


@st.composite
def requests(draw):
    endpoint = draw(st.sampled_from(ENDPOINTS))
    method = draw(st.sampled_from(endpoint.methods))
    names = [*endpoint.arguments, "status", "model_id", "page_token"]
    body = draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=len(names)))
    path = endpoint.path.replace("{model_id}", draw(st.sampled_from(["m-" + "0" * 32, "x", "é" * 900])))
    event = make_event(method, f"/mlflow/api/{endpoint.api}/mlflow/{path.replace('{tag_key}', 'k')}")
    if method == "GET":
        event["multiValueQueryStringParameters"] = {
            name: [value if isinstance(value, str) else json.dumps(value)] for name, value in body.items()
        }
    else:
        event["body"] = json.dumps(body)
    return event


@pytest.fixture(scope="module")
def memory_handler():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        store, objects, registry = MemoryRegistryStore(), MemoryObjectStore(), MemoryRegistry()
        patch.setattr(tracking, "tracking_store", lambda: store)
        patch.setattr(tracking, "object_store", lambda _name: objects)
        patch.setattr(tracking, "registry", lambda: registry)
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=0))
        clear_clients()
        yield load_handler("serve_mlflow")
        clear_clients()


@settings(max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(event=requests())
def test_whatever_is_sent_it_is_answered_or_refused(memory_handler, event):
    response = memory_handler(event, lambda_context("serve_mlflow"))
    assert 200 <= response["statusCode"] < 500, (event, response["body"])
