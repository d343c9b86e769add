import io

import pytest
from millrace_cli import output
from millrace_cli.commands import monitor
from millrace_cli.commands.monitor import incident_lines
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

FINDING = {
    "verdict": "feature_drift",
    "subject": "age",
    "status": "breach",
    "message": "age is distributed otherwise than in training",
    "measure": "psi",
    "value": 0.41,
    "threshold": 0.1,
    "rows": 400,
}
INCIDENT = {
    "event": "DriftDetected",
    "since": "2026-05-03T14:15:00+00:00",
    "resolved_at": None,
    "troubles": {"feature_drift:age": {}, "staleness:model": {}},
    "actions": [],
}
REPORT = {
    "model": "churn",
    "version": 3,
    "made_at": "2026-05-03T16:00:00+00:00",
    "verdicts": [
        {"verdict": "feature_drift", "status": "alarm", "breaches": 1, "judged": 12, "threshold": 0.1, "min_rows": 200},
        {"verdict": "bias", "status": "unknown", "breaches": 0, "judged": 0, "threshold": 0.1, "min_rows": 100},
    ],
    "findings": [FINDING, {**FINDING, "subject": "plan", "status": "ok"}],
    "incidents": [
        {**INCIDENT, "resolved_at": "2026-05-03T15:00:00+00:00", "event": "ModelStale"},
        {**INCIDENT, "actions": ["asked for a training run: run r1 is training"]},
    ],
}
RUN = "20260503T141500-0f3a9c2b7d1e"
PATH, PAGE = "/models/churn/monitoring", "monitoring/churn/reports/latest.html"


class FakeTarget:
    poll_seconds = 0.0

    def output(self, name):
        return "data"

    def client(self, service):
        return self

    def get_object(self, *, Bucket, Key):
        assert (Bucket, Key) == ("data", PAGE)
        return {"Body": io.BytesIO(b"<html></html>")}


@pytest.fixture
def run(monkeypatch):
    opened = []

    def run_command(*arguments, report=REPORT, statuses=("running", "succeeded")):
        polls = [(200, {"model": "churn", "run": RUN, "status": status}) for status in statuses]
        answer = (200, {"model": "churn", "report": report, "page": PAGE, "run": RUN})
        api = FakeApi({PATH: [answer], f"{PATH}/{RUN}": polls})
        answer_commands(monkeypatch, api, FakeTarget())
        monkeypatch.setattr(monitor.webbrowser, "open", opened.append)
        monkeypatch.setattr(output.out, "_width", 200)
        result = CliRunner().invoke(app, ["monitor", "churn", *arguments])
        return result, [f"{request.method} {request.url.path}" for request in api.requests], opened

    return run_command


def test_verdicts_what_is_out_of_order_and_incidents_are_shown(run):
    result, asked, _ = run()
    assert (result.exit_code, asked) == (0, [f"GET {PATH}"])
    assert "churn version 3" in result.stdout
    assert "1 of 12" in result.stdout
    assert "age is distributed otherwise than in training" in result.stdout
    assert "plan" not in result.stdout
    open_line, action, resolved_line = result.stdout.splitlines()[-3:]
    assert action == "  asked for a training run: run r1 is training"
    assert open_line.startswith("DriftDetected: open since")
    assert "(age, model)" in open_line
    assert resolved_line.startswith("ModelStale: resolved")


def test_a_model_that_has_too_few_rows_is_shown_as_such(run):
    words = "inputs are not evaluated: 20 rows a day"
    assert words in run(report={**REPORT, "too_few_rows": words})[0].stdout
    assert "inputs are not evaluated" not in run()[0].stdout


def test_the_headline_is_shown(run):
    result, _, _ = run(report={**REPORT, "headline": "6 past threshold, waiting for a second window"})
    assert "\n6 past threshold, waiting for a second window\n" in result.stdout


def test_verdicts_on_quality_are_told_apart():
    troubles = {"live_quality:quality": {}, "estimated_quality:quality": {}}
    [line] = incident_lines({**REPORT, "incidents": [{**INCIDENT, "troubles": troubles}]})
    assert "(live quality, estimated quality)" in line
    troubles = {"live_quality:log_loss": {}, "live_quality:accuracy": {}, "feature_drift:home_town": {}}
    [line] = incident_lines({**REPORT, "incidents": [{**INCIDENT, "troubles": troubles}]})
    assert "(live quality: log loss, live quality: accuracy, home_town)" in line


def test_now_waits_for_the_monitoring_run(run):
    result, asked, _ = run("--now")
    assert result.exit_code == 0
    assert asked == [f"POST {PATH}", *[f"GET {PATH}/{RUN}"] * 2, f"GET {PATH}"]


def test_a_failed_monitoring_run_names_the_logs(run):
    result, asked, _ = run("--now", statuses=("failed",))
    assert result.exit_code == 1
    assert "the monitoring run of churn failed" in result.stderr
    assert asked[-1] == f"GET {PATH}/{RUN}"


def test_a_slow_monitoring_run_times_out(run, monkeypatch):
    times = iter([0.0, 1_000.0])
    monkeypatch.setattr(monitor.time, "monotonic", lambda: next(times))
    result, _, _ = run("--now", statuses=("running",))
    assert result.exit_code == 1
    assert "exceeds 900 seconds" in result.stderr


def test_the_page_is_saved_and_opened(run, tmp_path):
    path = tmp_path / "churn.html"
    result, _, opened = run("--report", str(path))
    assert result.exit_code == 0
    assert path.read_bytes() == b"<html></html>"
    assert opened == [path.as_uri()]
    assert run("--report", str(path), "--no-browser")[2] == [path.as_uri()]


def test_a_page_that_cannot_be_written_is_a_sentence(run, tmp_path):
    result, _, opened = run("--report", str(tmp_path / "nowhere" / "churn.html"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    assert opened == []


def test_before_anything_was_judged_it_says_what_it_takes(run):
    result, _, _ = run(report=None)
    assert result.exit_code == 0
    assert "it needs traffic" in result.stderr


def test_on_a_terminal_the_report_opens(run, monkeypatch):
    monkeypatch.setattr(output.out, "_force_terminal", True)
    _, _, (opened,) = run()
    assert opened.endswith("/churn.html")
    assert run("--json")[2] == [opened]


def test_an_incident_names_each_subject_once():
    incident = {"event": "QualityDegraded", "since": "2026-05-03T14:15:00+00:00", "resolved_at": None}
    troubles = {"quality:": {}, "estimated_quality:quality": {}, "quality:quality": {}}

    (line,) = incident_lines({"model": "bike", "incidents": [{**incident, "troubles": troubles}]})

    assert line.endswith("(quality, estimated quality); millrace why bike")
