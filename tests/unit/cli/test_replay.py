"""Requests and output of `millrace release replay`."""

import json
from types import SimpleNamespace

import pytest
from millrace_cli.commands import replay
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands
from tests.replay_report import make_document

ID = "20261130T030000-0f3a9c2b7d1e"
TARGET = SimpleNamespace(poll_seconds=0.0)


@pytest.fixture
def run(monkeypatch):
    def run_command(arguments, *polled):
        requested = make_document(status="requested", progress=0.0)
        api = FakeApi(
            {
                "/models/churn/replays": [(202, requested)],
                f"/models/churn/replays/{ID}": [(200, one) for one in polled],
            }
        )
        answer_commands(monkeypatch, api, TARGET)
        result = CliRunner().invoke(app, ["release", "replay", "churn", "7", *arguments], env={"COLUMNS": "160"})
        return result, api.requests

    return run_command


def test_the_command_waits_and_shows_the_report(run):
    result, requests = run(["--since", "24h"], make_document(status="running", progress=0.4), make_document())
    assert json.loads(requests[0].content) == {"version": 7, "since": "24h"}
    assert (result.exit_code, len(requests)) == (0, 3)
    for part in (
        "100 replayed of 110 captured",
        "99 of 100 equal, 1 rounded",
        "90 %",
        "plan is <basic>",
        "0.01 to 0.09",
    ):
        assert part in result.stdout
    assert "age expects at most 50" in result.stdout


def test_no_wait_says_the_id(run):
    result, requests = run(["--no-wait"])
    assert (result.exit_code, len(requests)) == (0, 1)
    assert f"replay {ID} requested" in result.stdout


@pytest.mark.parametrize("status", ["void", "refused"])
def test_a_replay_that_says_nothing_about_the_candidate_is_exit_code_1(run, status):
    nothing = {"deviations": None, "quality": None, "estimates": (), "agreement": None}
    nothing |= dict.fromkeys(("days", "changes", "slices", "shifts", "metrics", "notes"), ())
    result, _ = run([], make_document(status=status, reason="the champion's replay differs", **nothing))
    assert result.exit_code == 1
    assert "the champion's replay differs" in " ".join(result.stdout.split())


def test_json_is_the_document(run):
    result, _ = run(["--json"], make_document())
    assert json.loads(result.stdout) == make_document()


def test_the_page_is_saved(run, monkeypatch, tmp_path):
    saved = []
    monkeypatch.setattr(replay, "save_report", lambda target, key, file: saved.append((key, file)))
    result, _ = run(["--report", str(tmp_path / "r.html")], make_document())
    assert (result.exit_code, saved) == (0, [(f"replays/churn/{ID}/report.html", tmp_path / "r.html")])


def test_a_replay_without_a_sign_of_life_is_given_up(run, monkeypatch):
    monkeypatch.setattr(replay, "_SILENT_SECONDS", -1.0)
    result, _ = run([], make_document(status="requested", progress=0.0))
    assert result.exit_code != 0
    assert "did not finish" in result.output + str(result.stderr)


def test_without_a_version_the_replays_are_listed_and_one_is_shown_by_its_id(monkeypatch):
    one = make_document()["replay"] | {"rows": 100}
    listed = {"model": "churn", "replays": [one]}
    api = FakeApi({"/models/churn/replays": [(200, listed)], f"/models/churn/replays/{ID}": [(200, make_document())]})
    answer_commands(monkeypatch, api, TARGET)
    result = CliRunner().invoke(app, ["release", "replay", "churn"], env={"COLUMNS": "160"})
    assert "7 beside 6" in result.stdout
    shown = CliRunner().invoke(app, ["release", "replay", "churn", "--id", ID], env={"COLUMNS": "160"})
    assert "100 replayed of 110 captured" in shown.stdout
    assert {request.method for request in api.requests} == {"GET"}
