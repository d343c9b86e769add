"""Clients of the deployed stack: other people's, through a proxy that signs, and those with an API key."""

import json
import os
import re
import shlex
import shutil
import ssl
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from millrace_cli import options
from millrace_cli.api import RequestSigner
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.clients.conversations import (
    send_what_the_document_makes,
    talk_with_kserve,
    talk_with_mlflow,
    talk_with_triton,
)
from tests.e2e.conftest import PATIENCE_SECONDS, DeployedStack
from tests.httpx_signing import SignedRequests
from tests.limits import within
from tests.serving_models import CHURN_RECORD
from tests.signing_proxy import signing_proxy
from tests.template.template_file import ROOT

pytestmark = pytest.mark.e2e

MODEL = "clients"


@pytest.fixture(scope="module")
def expected(stack: DeployedStack) -> dict[str, Any]:
    """Register a model that every client can be asked about; returns its prediction of ``CHURN_RECORD``."""
    stack.serve_churn(MODEL)
    reply = stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": [CHURN_RECORD]})
    return dict(reply["predictions"][0])


def connect(stack: DeployedStack, url: str, **options: Any) -> httpx.Client:
    context = ssl.create_default_context(cafile=stack.target.authority)
    return httpx.Client(base_url=url, verify=context, trust_env=False, timeout=60, **options)


@pytest.fixture(scope="module")
def url(stack: DeployedStack) -> Iterator[str]:
    auth = SignedRequests(RequestSigner(stack.target.credentials, stack.target.region))
    with connect(stack, stack.target.api_url, auth=auth) as client, signing_proxy(client) as address:
        yield address


@pytest.mark.parametrize("talk", [talk_with_kserve, talk_with_triton, talk_with_mlflow])
def test_a_client_that_cannot_sign_works_behind_a_proxy_that_does(
    url: str, expected: dict[str, Any], talk: Callable[..., None]
) -> None:
    talk(url, MODEL, expected)


def test_the_deployed_endpoint_keeps_what_its_document_promises(url: str, expected: dict[str, Any]) -> None:
    assert send_what_the_document_makes(url, MODEL, 3) > 20


def readme_python() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return str(code).replace("/models/churn/", f"/models/{MODEL}/")


def readme_curl() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    curl (.*?)-d ", text, re.DOTALL | re.MULTILINE)
    body = json.dumps({"dataframe_records": [CHURN_RECORD]})
    words = shlex.split(command.replace("\\\n", " ").replace("/models/churn/", f"/models/{MODEL}/"))
    return ["curl", "--silent", *words, "-d", body]


def test_the_readmes_examples_work(stack: DeployedStack, expected: dict[str, Any]) -> None:
    credentials = stack.target.credentials.get_frozen_credentials()
    environment = {
        "PATH": os.environ["PATH"],
        "API_URL": stack.target.api_url,
        "AWS_REGION": stack.target.region,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_SESSION_TOKEN": credentials.token or "",
        "SSL_CERT_FILE": str(stack.target.authority),
        "CURL_CA_BUNDLE": str(stack.target.authority),
        "NO_PROXY": "*",
    }
    code = f"row = {CHURN_RECORD!r}\n{readme_python()}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([expected])
    curl = shutil.which("curl")
    if curl is None:
        return
    command = [string.Template(word).safe_substitute(environment) for word in readme_curl()]
    done = subprocess.run([curl, *command[1:]], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"] == [expected], done.stdout


def test_a_key_asks_for_predictions_tells_what_became_true_and_nothing_else(
    stack: DeployedStack, expected: dict[str, Any]
) -> None:
    key_id = stack.target.output("ApiKeyId")
    key = stack.client("apigateway").get_api_key(apiKey=key_id, includeValue=True)["value"]
    key_url = stack.target.api_url.replace(stack.target.output("ApiId"), stack.resource("KeyApi"))
    body = {"dataframe_records": [CHURN_RECORD]}
    with connect(stack, key_url) as client:
        answer = client.post(f"/models/{MODEL}/invocations", json=body, headers={"x-api-key": key})
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == [expected]
        for headers in ({}, {"x-api-key": "x" * 40}):
            assert client.post(f"/models/{MODEL}/invocations", json=body, headers=headers).status_code == 403
        assert client.get(f"/models/{MODEL}", headers={"x-api-key": key}).status_code in (403, 404)
        # What became true may be told by key too: the function reads it, and names what it lacks.
        untrue = client.post(f"/models/{MODEL}/feedback", json={"feedback": [{}]}, headers={"x-api-key": key})
        assert untrue.json()["error_code"] in {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"}, untrue.text
        assert client.post(f"/models/{MODEL}/feedback", json={"feedback": [{}]}).status_code == 403
        assert client.get(f"/models/{MODEL}/feedback", headers={"x-api-key": key}).status_code in (403, 404)
    with connect(stack, stack.target.api_url) as client:
        refused = client.post(f"/models/{MODEL}/invocations", json=body, headers={"x-api-key": key})
    assert refused.status_code == 403


def test_a_key_is_held_to_its_plan_and_works_only_with_one(stack: DeployedStack, expected: dict[str, Any]) -> None:
    gateway, stage = stack.client("apigateway"), {"apiId": stack.resource("KeyApi"), "stage": "v1"}
    plan = gateway.get_usage_plan(usagePlanId=stack.resource("KeyUsagePlan"))
    limits = plan["throttle"]["burstLimit"], plan["throttle"]["rateLimit"], plan["quota"]["limit"]
    assert tuple(map(float, limits)) == (20, 10, 100_000)
    keys = {key["id"] for key in gateway.get_usage_plan_keys(usagePlanId=plan["id"])["items"]}
    assert keys == {stack.target.output("ApiKeyId")}

    key = gateway.create_api_key(name="small", enabled=True)
    small = gateway.create_usage_plan(name="small", apiStages=[stage], quota={"limit": 2, "period": "DAY"})
    try:
        value = gateway.get_api_key(apiKey=key["id"], includeValue=True)["value"]
        with connect(stack, stack.target.key_api_url, headers={"x-api-key": value}) as client:

            def send() -> int:
                path, body = f"/models/{MODEL}/invocations", {"dataframe_records": [CHURN_RECORD]}
                return client.post(path, json=body).status_code

            assert send() == 403  # a key without a plan
            gateway.create_usage_plan_key(usagePlanId=small["id"], keyId=key["id"], keyType="API_KEY")
            assert [send() for _ in range(4)] == [200, 200, 429, 429]
            gateway.delete_usage_plan_key(usagePlanId=small["id"], keyId=key["id"])
            assert send() == 403
    finally:
        gateway.delete_usage_plan(usagePlanId=small["id"])
        gateway.delete_api_key(apiKey=key["id"])


def send_in_each_protocol(client: httpx.Client, model: str) -> set[int]:
    """Send a request of each kind that names the model; returns their statuses."""
    row = {"dataframe_records": [CHURN_RECORD]}
    requests = [
        ("POST", f"/models/{model}/invocations", row),
        ("POST", f"/models/{model}/invocations?explain=true", row),
        ("POST", f"/models/{model}/versions/1/invocations", row),
        ("POST", f"/v1/models/{model}:predict", {"instances": [CHURN_RECORD]}),
        ("GET", f"/v2/models/{model}/ready", None),
    ]
    return {client.request(method, path, json=body).status_code for method, path, body in requests}


def test_a_key_works_for_the_models_that_it_was_made_for(
    stack: DeployedStack, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "find_target", lambda *_: stack.target)
    stack.serve_churn("clients-2")

    def keys(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, ["keys", *arguments, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.stderr
        return dict(json.loads(result.stdout))

    reason = ("--reason", "a client of one model")
    key = keys("create", "shop", "--model", MODEL, *reason)
    identity = {"x-api-key": key["value"]}
    try:
        with connect(stack, key["url"], headers=identity) as client:
            assert send_in_each_protocol(client, MODEL) == {200}
            assert send_in_each_protocol(client, "clients-2") == {403}
            refused = client.post("/models/clients-2/feedback", json={"row_id": 1, "outcome": 1})
            assert (refused.status_code, refused.json()["error_code"]) == (403, "PERMISSION_DENIED")
            assert "not for the model 'clients-2'" in refused.json()["message"]
            # The model has no schema of uploads; it is the key that lets the request through.
            assert client.post(f"/models/{MODEL}/feedback", json={"row_id": 1, "outcome": 1}).status_code == 404

            keys("scope", key["key_id"], "--model", "clients-2", *reason)
            for _ in within(PATIENCE_SECONDS, pause=1.0):
                if send_in_each_protocol(client, MODEL) == {403}:
                    break
            assert send_in_each_protocol(client, "clients-2") == {200}
    finally:
        keys("revoke", key["key_id"], *reason)
    listed = {known["key_id"]: known["models"] for known in keys("list")["keys"]}
    assert listed == {stack.target.output("ApiKeyId"): None}
    assert stack.api.get("/keys/verification")["is_intact"]
    with connect(stack, key["url"], headers=identity) as client:
        assert send_in_each_protocol(client, "clients-2") == {403}
