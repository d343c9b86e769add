"""`millrace keys`: the gateway's keys and the registry's scopes, so that no key works before it has its scope."""

import json

import pytest
from millrace_cli.aws_session import key_session, make_client
from millrace_cli.main import app
from millrace_cli.target import Target
from moto import mock_aws
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

REASON = ["--reason", "the web shop"]
CHANGE = {"changed_at": "2026-05-03T14:15:00+00:00", "changed_by": "ann"}


class World:
    """API Gateway with one usage plan, and an API that stores scopes unless it is to refuse."""

    def __init__(self, monkeypatch):
        session = key_session("k", "s", "eu-west-1")
        self.gateway = make_client(session, "apigateway")
        self.plan = self.gateway.create_usage_plan(name="keys")["id"]
        self.outputs = {"KeyApiUrl": "https://keys.test/v1", "KeyUsagePlanId": self.plan}
        self.scopes, self.calls, self.refuses = {}, [], False
        api = FakeApi({"/keys": [(200, {"keys": [], "ledger": []})]})
        monkeypatch.setattr(api, "answers", self)
        answer_commands(monkeypatch, api, Target(session, "millrace", self.outputs))
        self.api = api

    def get(self, path):
        """Respond as the API."""
        request = self.api.requests[-1]
        self.calls.append(f"{request.method} {path} plan={self.in_plan}")
        if request.method == "GET":
            return [(200, {"keys": list(self.scopes.values()), "ledger": []})]
        if self.refuses:
            return [(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "there is no model called 'churm'"})]
        key_id = path.rsplit("/", 1)[1]
        self.scopes[key_id] = {"key_id": key_id, "models": json.loads(request.content)["models"], **CHANGE}
        return [(200, self.scopes[key_id])]

    @property
    def in_plan(self):
        return [key["id"] for key in self.gateway.get_usage_plan_keys(usagePlanId=self.plan)["items"]]

    @property
    def existing(self):
        return [key["id"] for key in self.gateway.get_api_keys()["items"]]

    def run(self, *arguments, exit_code=0):
        result = CliRunner().invoke(app, ["keys", *arguments])
        assert result.exit_code == exit_code, result.output
        return result


@pytest.fixture
def world(isolated_from_aws, monkeypatch):
    with mock_aws():
        yield World(monkeypatch)


def test_a_key_has_its_scope_before_it_has_its_plan(world):
    made = json.loads(world.run("create", "shop", "--model", "churn", "--model", "orders", *REASON, "--json").stdout)
    assert (made["name"], made["models"], made["url"]) == ("shop", ["churn", "orders"], "https://keys.test/v1")
    assert made["value"] == world.gateway.get_api_key(apiKey=made["key_id"], includeValue=True)["value"]
    assert world.calls == [f"PUT /keys/{made['key_id']} plan=[]"]
    assert world.in_plan == [made["key_id"]]


def test_a_key_whose_scope_is_refused_is_gone(world):
    world.refuses = True
    assert "no model called 'churm'" in world.run("create", "shop", "--model", "churm", *REASON, exit_code=1).stderr
    assert (world.existing, world.in_plan) == ([], [])


def test_keys_are_listed_with_their_models_and_without_their_values(world):
    world.run("create", "shop", "--model", "churn", *REASON)
    world.run("create", "office", "--all-models", *REASON)
    old = world.gateway.create_api_key(name="old", enabled=True)
    world.gateway.create_usage_plan_key(usagePlanId=world.plan, keyId=old["id"], keyType="API_KEY")
    world.gateway.create_api_key(name="of another stack", enabled=True)
    listed = world.run("list").stdout
    for name, models in (("shop", "churn"), ("office", "every model"), ("old", "every model (no scope)")):
        assert any(name in line and models in line for line in listed.splitlines()), listed
    assert "another stack" not in listed
    values = [world.gateway.get_api_key(apiKey=key, includeValue=True)["value"] for key in world.existing]
    assert not [value for value in values if value in listed + world.run("list", "--json").stdout]
    models = {key["name"]: key["models"] for key in json.loads(world.run("list", "--json").stdout)["keys"]}
    assert models == {"shop": ["churn"], "office": ["*"], "old": None}


def test_a_key_is_scoped_anew_and_revoked(world):
    made = json.loads(world.run("create", "shop", "--model", "churn", *REASON, "--json").stdout)
    assert "orders" in world.run("scope", made["key_id"], "--model", "orders", *REASON).stdout
    assert world.scopes[made["key_id"]]["models"] == ["orders"]
    assert "revoked" in world.run("revoke", made["key_id"], *REASON).stdout
    # Its scope is empty before the gateway forgets it, which takes it a while.
    assert (world.scopes[made["key_id"]]["models"], world.existing) == ([], [])
    assert "no keys; create one" in world.run("list").stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "shop"], "name the models of the key, or all of them"),
        (["create", "shop", "--model", "churn", "--all-models"], "name the models of the key, or all of them"),
        (["scope", "nobody", "--model", "churn"], "there is no API key nobody"),
        (["revoke", "nobody"], "there is no API key nobody"),
    ],
)
def test_what_names_no_key_or_no_models_changes_nothing(world, arguments, message):
    assert message in world.run(*arguments, *REASON, exit_code=2).stderr
    assert (world.calls, world.existing) == ([], [])


@pytest.mark.parametrize("arguments", [["list"], ["create", "shop", "--all-models", *REASON], ["revoke", "k", *REASON]])
def test_a_stack_without_keys_says_how_to_have_them(world, arguments):
    del world.outputs["KeyApiUrl"]
    assert "ApiAccess=IAM_AND_KEY" in world.run(*arguments, exit_code=1).stderr
