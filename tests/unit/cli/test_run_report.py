import io

from millrace_cli.output import UncroppedConsole, make_table
from millrace_cli.prediction_output import predictions_table
from millrace_cli.run_progress import RunProgress, Snapshot
from millrace_cli.run_report import run_report
from rich.console import Console

EVALUATION = {
    "decision": "promote",
    "trial_id": "t1",
    "primary_metric": "roc_auc",
    "confidence": 0.95,
    "leaderboard": [
        {"trial_id": "t1", "candidate": "boosting", "rank": 1, "metrics": {"accuracy": 0.9, "roc_auc": 0.91234}},
        {"trial_id": "t2", "candidate": "forest", "rank": None, "metrics": {}, "reason": "killed [by] the system"},
    ],
    "holdout": {"rows": 80, "metrics": {"roc_auc": {"value": 0.9, "low": 0.8, "high": 0.95}}},
    "baseline": {"metrics": {"roc_auc": 0.5}},
    "champion": None,
    "gate": [{"name": "baseline", "passed": False, "explanation": "not better than the baseline"}],
}


def printed(renderable):
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()


def test_a_report_has_the_leaderboard_the_holdout_the_gate_and_the_verdict():
    text = printed(run_report("churn", {"status": "succeeded", "version": 3, "reasons": ["first"]}, [], EVALUATION))

    for expected in ("boosting *", "0.9123", "killed [by] the system", "0.8 to 0.95", "not better than the baseline"):
        assert expected in text
    assert "FAIL" in text
    assert "churn: run succeeded, gate: promote, version 3" in text
    assert "- first" in text
    assert text.index("roc_auc") < text.index("accuracy")


def test_a_report_without_an_evaluation_shows_trials_and_reasons():
    trials = [{"candidate": "linear", "status": "failed", "reason": "no memory"}]
    text = printed(run_report("churn", {"status": "failed", "reasons": ["every trial failed"]}, trials, None))

    assert "no memory" in text
    assert "every trial failed" in text


def test_predictions_show_labels_or_values():
    assert "yes 0.75" in printed(predictions_table({"predictions": [{"label": "yes", "probabilities": {"yes": 0.75}}]}))
    assert "12.5" in printed(predictions_table({"predictions": [12.5]}))


def test_a_narrow_terminal_cuts_no_identifier_off():
    console = UncroppedConsole(file=io.StringIO(), width=80)
    arn = "arn:aws:states:us-east-1:000000000000:stateMachine:millrace-local-training"
    console.print(
        make_table("", ("name", "value", "reason"), [("TrainingPipelineArn", arn, "a sentence [that] wraps " * 5)])
    )

    assert f"TrainingPipelineArn  {arn}" in console.file.getvalue()


def test_a_table_without_rows_is_its_headers():
    assert printed(make_table("", ("name", "value"), [])).split() == ["name", "value"]


def test_off_a_terminal_each_change_is_one_line():
    console = Console(file=io.StringIO(), width=100)
    trials = ({"candidate": "linear", "status": "succeeded"},)
    snapshots = [
        Snapshot("churn", "pending"),
        Snapshot("churn", "started", run_id="r", run={"status": "running", "stage": "training"}),
        Snapshot("churn", "started", run_id="r", run={"status": "running", "stage": "training"}, trials=trials),
        Snapshot("churn", "started", run_id="r", run={"status": "succeeded", "stage": "finished"}, trials=trials),
    ]
    with RunProgress(console, clock=lambda: 0.0) as progress:
        for snapshot in snapshots:
            progress.show([snapshot])

    lines = [line.partition("churn: ")[2].strip() for line in console.file.getvalue().splitlines()]
    assert lines == [
        "waiting for the active run to finish",
        "training",
        "linear succeeded",
        "succeeded",
    ]


def test_the_leaderboard_tells_trials_of_one_candidate_apart():
    entries = [
        {"trial_id": f"{number:02}-boosting", "candidate": "boosting", "rank": number, "metrics": {"rmse": 25_870.4}}
        for number in (3, 9)
    ]

    text = printed(run_report("homes", {"status": "succeeded"}, [], {**EVALUATION, "leaderboard": entries}))

    assert "03-boosting" in text
    assert "09-boosting" in text
    assert "25,870" in text


def test_the_leaderboard_has_the_gains_over_the_champion_where_trials_were_compared():
    entry = {"candidate": "boosting", "metrics": {"rmse": 25_870.4}}
    entries = [
        entry | {"trial_id": "03-boosting", "rank": 1, "measured_gain": 12.5, "gain": {"low": -1.5, "high": 20.25}},
        entry | {"trial_id": "09-boosting", "rank": 2, "measured_gain": -3.0, "gain": None},
        entry | {"trial_id": "10-boosting", "rank": None},
    ]
    comparison = {"version": 4, "rows": 300, "not_compared": None}
    evaluation = EVALUATION | {"leaderboard": entries, "trials_comparison": comparison}

    text = printed(run_report("homes", {"status": "succeeded"}, [], evaluation))

    assert "gain over v4" in text
    assert "12.5 (-1.5 to 20.25)" in text
    assert "-3" in text
    bare = evaluation | {"trials_comparison": comparison | {"rows": 0, "not_compared": "it is retired"}}
    assert "gain over" not in printed(run_report("homes", {"status": "succeeded"}, [], bare))


def test_a_metric_without_an_interval_says_why():
    metric = {"value": 0.9, "low": None, "high": None, "reason": "3 rows of one class; an interval needs 5"}
    holdout = {"rows": 60, "metrics": {"roc_auc": metric}}
    text = printed(run_report("churn", {"status": "succeeded"}, [], {**EVALUATION, "holdout": holdout}))

    assert "too few rows: 3 rows of one class; an interval needs 5" in text
