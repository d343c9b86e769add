"""Two runs side by side: what differs, and only that."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from millrace.documents import from_plain, to_plain
from millrace.evaluation_results import HoldoutResult, MetricEstimate
from millrace.training.run_comparison import ComparedRun, compare_runs
from millrace.training.trial_record import TrialRecord

from tests.registry_builders import make_cause, make_run

SAMPLES = Path(__file__).resolve().parents[2] / "samples" / "f0571cb"
SUMMARY = {
    "rows_by_split": {"train": 60, "test": 20},
    "search": {"trials": 10, "folds": 5, "deadline": "2026-05-03T14:20:00+00:00"},
}
RECORD = TrialRecord.read((SAMPLES / "trial-binary.json").read_bytes())
RUN = ComparedRun.read(
    {
        "run": to_plain(make_run(make_cause(), dataset_ids=("d1",), summary=SUMMARY)),
        "evaluation": json.loads((SAMPLES / "evaluation-binary.json").read_bytes()),
    },
    RECORD,
)


def changed(record: Any, **changes: Any) -> Any:
    return from_plain(type(record), to_plain(record) | changes)


def test_a_run_compared_with_itself_differs_in_nothing():
    comparison = compare_runs(RUN, RUN)

    assert [comparison[part] for part in ("data", "search", "winner", "parameters", "versions")] == [{}] * 5
    assert comparison["metrics"]["roc_auc"][0] == comparison["metrics"]["roc_auc"][1] > 0.5
    assert comparison["same_holdout"]


def test_what_differs_is_named_with_both_values():
    search = {"trials": 12, "folds": 5, "deadline": "2027-01-01T00:00:00+00:00"}
    holdout = HoldoutResult(rows=60, metrics={"roc_auc": MetricEstimate(0.5), "mae": MetricEstimate(1.5)})
    other = ComparedRun(
        replace(RUN.run, run_id="r2", dataset_ids=("d1", "d2"), summary=SUMMARY | {"search": search}),
        msgspec.structs.replace(RUN.evaluation, holdout=holdout),
        changed(RECORD, parameters={"alpha": 3.0}, libraries=RECORD.libraries | {"numpy": "9"}),
    )

    comparison = compare_runs(RUN, other)

    assert comparison["runs"] == [RUN.run.run_id, "r2"]
    assert comparison["data"] == {"dataset_ids": [["d1"], ["d1", "d2"]]}
    assert comparison["search"] == {"trials": [10, 12]}
    assert comparison["winner"] == {}
    parameters = {name: [value, None] for name, value in RECORD.parameters.items()}
    assert comparison["parameters"] == parameters | {"alpha": [None, 3.0]}
    assert comparison["versions"] == {"numpy": [RECORD.libraries["numpy"], "9"]}
    assert comparison["metrics"]["roc_auc"] == [RUN.evaluation.holdout.metrics["roc_auc"].value, 0.5]
    assert comparison["metrics"]["mae"] == [None, 1.5]
    assert not comparison["same_holdout"]


def test_a_run_that_failed_early_is_compared_as_far_as_it_came():
    failed = ComparedRun.read({"run": to_plain(make_run(make_cause())), "trials": [], "evaluation": None}, None)

    comparison = compare_runs(failed, RUN)

    assert comparison["winner"]["trial"] == [None, RUN.evaluation.trial_id]
    assert comparison["winner"]["seed"] == [None, RECORD.seed]
    assert comparison["metrics"]["roc_auc"][0] is None
    assert not comparison["same_holdout"]
