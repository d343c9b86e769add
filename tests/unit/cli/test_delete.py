"""Confirmation, request and output of `millrace delete`."""

import json

import pytest
from millrace_cli.commands import models
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

RUN_ID = "20260503T141500-0f3a9c2b7d1e"
STATE = {"model": "churn", "aliases": {"champion": 3}, "latest_version": 4}
DELETION = {
    "model": "churn",
    "outcome": "deleted",
    "deleted_at": "2026-05-03T14:15:00+00:00",
    "from_version": 3,
    "stopped_run": RUN_ID,
    "waiting": 2,
    "retired": [3, 4],
    "schedules": ["retraining: rate(7 days) (UTC) -> none"],
}


@pytest.fixture
def run(monkeypatch):
    """Delete churn, with what is typed; returns the result and the requests."""

    def run_command(*options, typed=None, answer=DELETION):
        answers = [(200, STATE), (200, answer)] if "--yes" not in options else [(200, answer)]
        api = FakeApi({"/models/churn": answers})
        answer_commands(monkeypatch, api)
        monkeypatch.setattr(models, "_is_interactive", lambda: typed is not None)
        result = CliRunner().invoke(app, ["delete", "churn", "--reason", "not needed", *options], input=typed)
        return result, [(request.method, json.loads(request.content or b"{}")) for request in api.requests]

    return run_command


def test_the_typed_name_deletes_after_the_effects_are_listed(run):
    result, requests = run(typed="churn\n")
    assert requests == [("GET", {}), ("DELETE", {"reason": "not needed"})]
    assert "churn: version 3 of 4 serves. When the model is deleted," in result.stderr
    assert "captured predictions and feedback stay in the buckets, under their lifecycle rules" in result.stderr
    assert "millrace gc churn" in result.stderr
    assert result.stdout.endswith(
        "churn: deleted; version 3 served until now\n"
        f"  stopped run: {RUN_ID}\n"
        "  cancelled: 2 waiting causes\n"
        "  schedule retraining: rate(7 days) (UTC) -> none\n"
        "  retired versions: 3, 4\n"
        "  history: millrace why churn\n"
    )


def test_another_name_deletes_nothing(run):
    result, requests = run(typed="chrun\n")
    assert result.exit_code == 1
    assert "was not deleted" in result.stderr
    assert requests == [("GET", {})]


def test_without_a_terminal_yes_is_required(run):
    result, requests = run()
    assert (result.exit_code, requests) == (1, [("GET", {})])
    assert "--yes" in result.stderr
    result, requests = run("--yes", "--json")
    assert (json.loads(result.stdout), requests) == (DELETION, [("DELETE", {"reason": "not needed"})])


def test_what_was_deleted_before_says_when(run):
    again = {**DELETION, "outcome": "already", "stopped_run": None, "waiting": 0, "retired": [], "schedules": []}
    result, _ = run("--yes", answer=again)
    assert result.stdout.startswith("churn: already deleted, 2026-05-03")


def test_a_model_that_never_served_is_deleted_without_a_dash(run):
    result, _ = run("--yes", answer={**DELETION, "from_version": None})

    assert "churn: deleted; no version served\n" in result.stdout
