"""What a run inferred from its data, before, during and after training."""

import io
import json

import pytest
from millrace_cli.commands.train import run_document
from millrace_cli.run_progress import RunProgress, Snapshot, read_cause
from millrace_cli.training_data import read_training_data, training_data_line, training_data_report
from rich.console import Console

from tests.fakes.fake_api import FakeApi

ID = "ab12" + "0" * 60
RUN = {
    "model": "churn",
    "run_id": "r1",
    "status": "running",
    "stage": "training",
    "dataset_ids": ["cd34" + "0" * 60, ID],
    "summary": {"rows": 269, "quarantined_rows": 7, "task": "binary", "target": "churned"},
}
DATASET = {
    "dataset": {"dataset_id": ID, "schema_version": 2, "schema_revision": 1},
    "manifest": {"run_id": "r1"},
    "findings": [
        {
            "severity": "warning",
            "check": "unknown_class",
            "message": "7 rows were set aside: class 'Adeli'",
            "count": 7,
        },
        {"severity": "warning", "check": "malformed_rows", "message": "7 of 276 rows were set aside", "count": 7},
        {
            "severity": "warning",
            "check": "leakage",
            "message": "'alive' predicts the target nearly alone",
            "count": None,
        },
        {"severity": "info", "check": "missing", "message": "few values are missing", "count": 3},
    ],
}
SCHEMA = {
    "classes": ["0", "1"],
    "columns": [
        {"name": "id", "type": "text", "role": "identifier", "reason": "unique"},
        {"name": "age of owner", "type": "integer", "role": "feature"},
        {"name": "plan", "type": "category", "role": "feature"},
        {"name": "note", "type": "category", "role": "ignored", "reason": "constant"},
        {"name": "churned", "type": "integer", "role": "target"},
    ],
}


def answers():
    return {
        f"/models/churn/datasets/{ID}": [(200, DATASET)],
        "/models/churn/schema": [(200, SCHEMA)],
        "/models/churn/spec": [(200, {"spec": {"primary_metric": None}})],
        "/models/churn/causes/c": [(200, {"status": "started", "run_id": "r1"})],
        "/models/churn/runs/r1": [(200, {"run": RUN, "trials": [], "evaluation": None})],
    }


def printed(renderable, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable, crop=False)
    return console.file.getvalue()


def test_rows_reasons_features_and_warnings_are_read_from_the_api():
    data = read_training_data(FakeApi(answers()).client(), RUN)

    assert data["dataset_id"] == ID
    assert data["quarantined"] == ["7 rows were set aside: class 'Adeli'"]
    assert data["warnings"] == ["'alive' predicts the target nearly alone"]
    assert data["features"] == {"integer": ["age of owner"], "category": ["plan"]}
    assert data["not_used"]["note"] == {"role": "ignored", "reason": "constant"}
    assert data["metric"] == "roc_auc"


def test_the_report_names_everything_and_how_to_change_it():
    data = read_training_data(FakeApi(answers()).client(), RUN)

    text = printed(training_data_report("churn", data, file="my table.csv"))

    for expected in (
        "269 of 276 rows used, 7 quarantined",
        "class 'Adeli'",
        "churned: binary (0, 1)",
        "1 integer: age of owner",
        "note (ignored, constant)",
        "'alive' predicts the target nearly alone",
        "millrace train churn 'my table.csv' --target churned --task regression --schema replace\n",
        "millrace spec set churn primary_metric=pr_auc\n",
        "--ignore 'age of owner' --schema replace\n",
        f"millrace data show churn {ID[:12]}\n",
    ):
        assert expected in text


def test_without_findings_the_report_says_so():
    clean = {**RUN, "summary": {**RUN["summary"], "quarantined_rows": 0, "features": {"integer": 2}}}

    data = read_training_data(FakeApi({}).client(), clean)

    assert "none quarantined" in printed(training_data_report("churn", data))
    assert training_data_line(data) == (
        "269 rows used, none quarantined, 2 features, binary of 'churned' by roc_auc, 0 warnings"
    )


def test_before_validation_there_is_nothing_to_report():
    assert read_training_data(FakeApi({}).client(), {**RUN, "summary": {}}) is None


def test_the_progress_shows_the_data_once_and_before_the_trials():
    api = FakeApi(answers())
    first = read_cause(api.client(), "churn", "c")
    second = read_cause(api.client(), "churn", "c", first)
    console = Console(file=io.StringIO(), width=200)

    with RunProgress(console, clock=lambda: 0.0) as progress:
        progress.show([first])
        progress.show([second])

    assert console.file.getvalue().count("269 of 276 rows used") == 1
    assert "warning: 'alive' predicts" in console.file.getvalue()
    assert [request.url.path for request in api.requests].count(f"/models/churn/datasets/{ID}") == 1


def test_json_has_the_same():
    snapshot = read_cause(FakeApi(answers()).client(), "churn", "c")

    document = json.loads(json.dumps(run_document(snapshot)))

    assert document["training_data"]["quarantined_rows"] == 7
    assert set(document) == {"run", "training_data", "trials", "evaluation"}


@pytest.mark.parametrize("finished", [1, 5])
def test_a_long_stage_says_that_it_goes_on_and_how_long(finished):
    trials = tuple({"status": "succeeded" if number < finished else "planned"} for number in range(10))
    snapshot = Snapshot("churn", "started", run_id="r1", run=RUN, trials=trials)
    console, now = Console(file=io.StringIO(), width=200), [0.0]

    with RunProgress(console, clock=lambda: now[0]) as progress:
        progress.show([snapshot])
        now[0] = 30.0
        progress.show([snapshot])

    seconds = {1: "about 4 min left", 5: "about 30 s left"}[finished]
    assert f"still training, {finished} of 10 trials, {seconds}" in console.file.getvalue()


def test_an_upload_that_waits_shows_a_sign_of_life():
    console, now = Console(file=io.StringIO(), width=200), [0.0]

    with RunProgress(console, clock=lambda: now[0]) as progress:
        progress.show([Snapshot("churn", "unseen")])
        now[0] = 12.0
        progress.show([Snapshot("churn", "unseen")])

    assert "still waiting for the stack to receive the upload" in console.file.getvalue()
