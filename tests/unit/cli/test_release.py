"""Requests and output of `millrace release`."""

import json

import pytest
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

RELEASE = {
    "model": "churn",
    "release_id": "r-20261130T030000-0a1b2c3d",
    "status": "running",
    "baseline": 6,
    "candidate": 7,
    "weight": 0.05,
    "steps": [0.05, 0.25, 0.5],
    "stage": 0,
    "stage_since": "2026-11-30T03:00:00+00:00",
    "started_at": "2026-11-30T03:00:00+00:00",
    "decision": "held at 0.05",
    "alpha": 0.05,
    "slow_over_ms": 12.5,
    "stage_requests": {"champion": 950, "candidate": 50},
    "guards": [
        {
            "guard": "errors",
            "log_e": 1.2,
            "windows": 5,
            "champion_bad": 3,
            "champion_requests": 950,
            "candidate_bad": 1,
            "candidate_requests": 50,
        }
    ],
}


@pytest.fixture
def run(monkeypatch):
    def run_command(arguments, answers):
        api = FakeApi({path: [(200, answer)] for path, answer in answers.items()})
        answer_commands(monkeypatch, api)
        result = CliRunner().invoke(app, ["release", *arguments], env={"COLUMNS": "160"})
        return result, [json.loads(request.content) for request in api.requests if request.method == "POST"]

    return run_command


def test_start_sends_the_steps_and_says_who_serves(run):
    answer = {"outcome": "started", "release": RELEASE}
    arguments = ["start", "churn", "7", "--steps", "5,25,50", "--bake", "2h", "--reason", "new tariff"]
    result, bodies = run(arguments, {"/models/churn/releases": answer})
    assert bodies == [{"version": 7, "reason": "new tariff", "steps": [5, 25, 50], "bake": "2h"}]
    assert "started; version 7 at 5 %, the rest by version 6" in " ".join(result.stdout.split())


def test_steps_that_are_no_numbers_are_refused_with_an_example(run):
    result, bodies = run(["start", "churn", "7", "--steps", "a few", "--reason", "x"], {})
    assert (result.exit_code, bodies) == (2, [])
    assert "--steps 5,25,50" in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("action", ["pause", "resume", "promote", "abort"])
def test_a_change_is_one_of_the_active_release(run, action):
    path = f"/models/churn/releases/active/{action}"
    ended = {**RELEASE, "status": "aborted", "decision": "aborted: complaints"}
    result, bodies = run([action, "churn", "--reason", "complaints"], {path: {"outcome": "aborted", "release": ended}})
    assert bodies == [{"reason": "complaints"}]
    assert "aborted: complaints" in " ".join(result.stdout.split())


def test_show_lists_releases_and_the_evidence_of_the_active_one(run):
    document = {"model": "churn", "releases": [RELEASE], "pending_candidate": {"version": 8, "champion": 6}}
    result, _ = run(["show", "churn"], {"/models/churn/releases": document})
    for part in ("6 -> 7", "errors", "1 of 50", "3 of 950", "version 8 waits"):
        assert part in result.stdout


def test_show_of_a_model_without_releases(run):
    document = {"model": "churn", "releases": [], "pending_candidate": None}
    result, _ = run(["show", "churn"], {"/models/churn/releases": document})
    assert "churn has had no release" in result.stdout


def test_show_of_one_release(run):
    result, _ = run(
        ["show", "churn", RELEASE["release_id"]], {f"/models/churn/releases/{RELEASE['release_id']}": RELEASE}
    )
    assert "1 of 3" in result.stdout
