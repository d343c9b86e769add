"""`millrace card`: a version's card, or a run's evaluation, as a file."""

import io
import json

import pytest
from millrace_cli.main import app
from millrace_cli.run_report import run_report
from rich.console import Console
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands
from tests.unit.reports.test_model_card import make_card

RUN = "20260503T141500-0f3a9c2b7d1e"


@pytest.fixture
def api(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    card = make_card("binary")
    rejected = card["evaluation"] | {"decision": "reject", "reasons": ["roc_auc is 0.4 and must be at least 0.7"]}
    run = {"model": "churn", "run_id": RUN, "status": "rejected", "kind": "upload", "dataset_ids": ["d1"]}
    run["requested_at"] = "2026-05-03T14:15:00+00:00"
    made = FakeApi(
        {
            "/models/churn/versions/champion/card": [(200, card)],
            "/models/churn/versions/3": [(200, {"service": {"periods": [], "releases": []}})],
            f"/models/churn/runs/{RUN}": [(200, {"run": run, "trials": [], "evaluation": rejected})],
            "/models/churn/runs/early": [(200, {"run": run | {"run_id": "early"}, "trials": [], "evaluation": None})],
        }
    )
    answer_commands(monkeypatch, made)
    return made


def invoke(*arguments):
    return CliRunner().invoke(app, [*arguments])


def test_the_champions_card_is_a_page_named_after_its_version(api, tmp_path):
    result = invoke("card", "churn")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "churn-3.card.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "Version 3 (1.0.3)" in page
    assert "It has not been the champion." in page
    assert "churn-3.card.html" in result.stderr


def test_a_rejected_run_has_a_page_without_a_version(api, tmp_path):
    result = invoke("card", "churn", "--run", RUN, "-o", "why.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "why.html").read_text(encoding="utf-8")
    for text in ("Evaluation of a run", "rejected", "roc_auc is 0.4 and must be at least 0.7", "Calibration"):
        assert text in page
    assert "Intended use" not in page


@pytest.mark.parametrize("form", ["md", "json"])
def test_other_forms_go_to_standard_output_too(api, form):
    result = invoke("card", "churn", "-f", form, "-o", "-")
    assert result.exit_code == 0
    if form == "json":
        assert json.loads(result.stdout)["model"] == "churn"
    else:
        assert result.stdout.startswith("# churn, version 3 (1.0.3)")


def test_a_run_without_an_evaluation_says_so(api):
    result = invoke("card", "churn", "--run", "early")
    assert result.exit_code == 2
    assert "has no evaluation" in result.stderr


def test_a_runs_report_tells_the_rest_of_an_evaluation_in_lines():
    console = Console(width=400, file=io.StringIO())
    console.print(run_report("churn", {"run_id": RUN, "status": "succeeded"}, (), make_card("binary")["evaluation"]))
    text = console.file.getvalue()
    assert "fit sound: roc_auc is" in text
    assert "threshold: yes at a probability of" in text
    assert "most important features: n1" in text
    assert "fairness gaps by s0:" in text
    assert f"full evaluation: millrace card churn --run {RUN}" in text
