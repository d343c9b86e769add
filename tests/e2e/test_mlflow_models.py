"""Millrace's models in the deployed MLflow API, with IAM on: shown, and promoted by their alias."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from millrace_cli.api import RequestSigner

from tests.clients.conversations import run
from tests.e2e.conftest import DeployedStack
from tests.httpx_signing import SignedRequests
from tests.mlflow_plugin import plugin_path
from tests.mlflow_server import client_environment

pytestmark = pytest.mark.e2e

MODEL = "mirrored"
API = "/mlflow/api/2.0/mlflow"


@pytest.fixture(scope="module")
def client(stack: DeployedStack) -> Iterator[httpx.Client]:
    stack.serve_churn(MODEL)
    stack.register_churn(MODEL, 2, seed=1)
    context = ssl.create_default_context(cafile=stack.target.authority)
    auth = SignedRequests(RequestSigner(stack.target.credentials, stack.target.region))
    url = stack.target.api_url + API
    with httpx.Client(base_url=url, auth=auth, verify=context, trust_env=False, timeout=120) as made:
        yield made


def get(client: httpx.Client, path: str, **query: Any) -> Any:
    response = client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_alias_champion_promotes_with_iam_on(stack: DeployedStack, client: httpx.Client) -> None:
    model = get(client, "/registered-models/get", name=MODEL)["registered_model"]
    assert model["aliases"] == [{"alias": "champion", "version": "1"}]
    moved = client.post("/registered-models/alias", json={"name": MODEL, "alias": "champion", "version": "2"})
    assert (moved.status_code, moved.json()) == (200, {}), moved.text
    entry = stack.api.get(f"/models/{MODEL}/ledger")["entries"][0]
    assert entry["action"] == "model_promoted"
    assert entry["actor"].startswith("arn:")
    assert stack.api.get(f"/models/{MODEL}")["aliases"] == {"champion": 2}


def test_other_changes_are_refused_in_words(client: httpx.Client) -> None:
    body = json.dumps({"name": MODEL, "alias": "champion"})
    refused = client.request("DELETE", "/registered-models/alias", content=body)
    assert (refused.status_code, refused.json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert "read-only here" in refused.json()["message"]


def test_aliases_of_users_models_move_in_a_ledger_of_their_own(stack: DeployedStack, client: httpx.Client) -> None:
    client.post("/registered-models/create", json={"name": "my net"}).raise_for_status()
    client.post("/model-versions/create", json={"name": "my net", "source": "s3://elsewhere/1"}).raise_for_status()
    alias = {"name": "my net", "alias": "best", "version": "1"}
    client.post("/registered-models/alias", json=alias).raise_for_status()
    assert get(client, "/registered-models/alias", name="my net", alias="best")["model_version"]["version"] == "1"
    found = get(client, "/registered-models/search", filter="name = 'my net'", order_by=["name", "timestamp"])
    assert [one["name"] for one in found["registered_models"]] == ["my net"]
    assert stack.api.get("/aliases")["ledger"][0]["details"]["registered_model"] == "my net"
    assert stack.api.get("/aliases/verification")["is_intact"]
    client.request("DELETE", "/registered-models/delete", json={"name": "my net"}).raise_for_status()


@pytest.mark.parametrize(("tool", "version", "steps"), [("clients", "3.", 10), ("older_clients", "2.22", 8)])
def test_a_stock_client_takes_the_tour_with_iam_on(
    stack: DeployedStack, tmp_path: Path, tool: str, version: str, steps: int
) -> None:
    target, key = stack.target, stack.target.credentials
    authority = str(target.authority)
    environment = client_environment(f"{target.api_url}/mlflow", str(target.endpoint)) | {
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        "AWS_DEFAULT_REGION": target.region,
        "MLFLOW_TRACKING_AUTH": "millrace",
        "PYTHONPATH": plugin_path(tmp_path),
        "REQUESTS_CA_BUNDLE": authority,
        "AWS_CA_BUNDLE": authority,
    }
    found = run("tour_mlflow.py", tool=tool, **environment)
    assert found["version"].startswith(version)
    assert len(found["done"]) == steps
