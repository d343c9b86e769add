"""Models with their status, and rejected uploads."""

import json

import pytest
from millrace_cli import output
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

REJECTED = {
    "model": "wrongt",
    "run_id": "r1",
    "status": "rejected",
    "requested_at": "2026-05-03T14:15:00+00:00",
    "sources": [{"key": "incoming/wrongt/penguins.csv"}],
    "reasons": ["there is no column 'Specis'"],
}


def api_of(model, runs=()):
    last = next(iter(runs), None)
    return FakeApi(
        {
            "/models": [(200, {"models": [{"model": "wrongt", "latest_version": 0, **model, "last_run": last}]})],
            "/models/wrongt/runs": [(200, {"runs": list(runs)})],
            "/uploads/refused": [(200, {"refused": []})],
        }
    )


@pytest.mark.parametrize(
    ("model", "runs", "status"),
    [
        ({"aliases": {"champion": 2}}, [REJECTED], "serving"),
        (
            {"aliases": {"champion": 2}},
            [{**REJECTED, "status": "skipped", "reasons": ["all known"]}],
            "serving; all known",
        ),
        ({"active_run_id": "r2"}, [REJECTED], "training"),
        ({"deleted_at": "2026-05-03T14:15:00+00:00"}, [], "deleted"),
        ({}, [REJECTED], "last run rejected"),
        ({}, [{**REJECTED, "status": "failed"}, REJECTED], "last run failed"),
        ({}, [], "no runs"),
    ],
)
def test_every_model_has_a_status(monkeypatch, model, runs, status):
    answer_commands(monkeypatch, api_of(model, runs))
    monkeypatch.setattr(output.out, "_width", 200)

    assert status in CliRunner().invoke(app, ["models"]).stdout
    assert json.loads(CliRunner().invoke(app, ["models", "--json"]).stdout)["models"][0]["status"] == status


def test_an_upload_that_a_run_rejected_is_listed_as_refused(monkeypatch):
    answer_commands(monkeypatch, api_of({}, [REJECTED, {**REJECTED, "status": "succeeded", "reasons": ["fine"]}]))

    result = CliRunner().invoke(app, ["uploads", "refused"], env={"COLUMNS": "160"})

    assert "penguins.csv" in result.stdout
    assert "there is no column 'Specis'" in result.stdout
    assert "fine" not in result.stdout


def test_without_rejections_that_is_said(monkeypatch):
    answer_commands(monkeypatch, api_of({}))

    assert "no upload was rejected" in CliRunner().invoke(app, ["uploads", "refused"]).stderr
