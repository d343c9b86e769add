"""The winner is fitted once more, on training and validation rows, and nothing is measured on what it has seen."""

import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from millrace.contracts import TrialOutcome
from millrace.errors import WorkerCrashedError
from millrace.layout import evaluation_key, split_key, trial_key
from millrace.schema import TASKS
from millrace.serving.model import OnnxModel
from millrace.training import fitting
from millrace.training.fitting import HeldOutRows
from millrace.training.search_plan import TrainingCapacity
from millrace.training.search_space import SEARCH_SPACES
from millrace.training.trial import reproduce_trial
from millrace.training.trial_record import ParityReport, TrialRecord

from tests.prepared_data import make_dataset
from tests.registry_builders import make_trial
from tests.training_run import MODEL, RUN_ID, TrainingRun

LINEAR = "logistic_regression"
PAIRS = [(space.candidate, task) for space in SEARCH_SPACES for task in TASKS if task in space.tasks]


def searched(task: str = "binary", candidate: str = LINEAR, rows: int = 200, **training: object) -> TrainingRun:
    """Return a run whose only trial has been refitted."""
    return TrainingRun.prepared(
        make_dataset(task, "missing values", rows=rows),
        candidates=(candidate,),
        training={"trials": 1, "folds": 1, **training},
    )


def stored(world: TrainingRun, trial_id: str, name: str) -> bytes:
    return world.model_store.get(trial_key(MODEL, RUN_ID, trial_id, name))


def evaluation(world: TrainingRun) -> dict:
    return json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))


@pytest.mark.parametrize(("candidate", "task", "folds"), [*((*pair, 1) for pair in PAIRS), (LINEAR, "binary", 3)])
def test_every_candidate_is_refitted_and_trained_again_byte_for_byte(candidate, task, folds):
    world = searched(task, candidate, folds=folds)

    (outcome,) = world.search()

    assert outcome == TrialOutcome(trial_id=f"02-{candidate}-refitted", outcome="succeeded")
    won, record = (
        TrialRecord.read(stored(world, name, "trial.json")) for name in (f"01-{candidate}", outcome.trial_id)
    )
    assert record.refit_of == (won.trial_id,)
    assert (record.round, record.rounds, record.rows) == (2, 1, {"train": 100, "validation": 50})
    assert record.parity.passed
    assert (record.metrics, record.validation_metrics, record.fold_metrics, record.scaling) == (
        won.metrics,
        won.validation_metrics,
        won.fold_metrics,
        won.scaling,
    )
    assert stored(world, won.trial_id, "held_out.npz") == stored(world, outcome.trial_id, "held_out.npz")
    assert set(won.artifacts) == {"model.onnx", "held_out.npz"}
    kept = set() if candidate == "hist_gradient_boosting" else {"estimator.skops"}  # it may have many trees
    assert kept <= set(record.artifacts) - {"model.onnx", "held_out.npz"} <= {"estimator.skops"}
    bodies = {name: world.data_store.get(split_key(MODEL, RUN_ID, name)) for name in ("train", "validation")}
    schema = make_dataset(task).schema
    assert reproduce_trial(record, schema, bodies, stored(world, outcome.trial_id, "model.onnx")).byte_equal


def test_the_refitted_model_has_learnt_from_validation_rows_and_is_the_one_that_is_measured():
    world = searched("regression", "nearest_neighbours")
    dataset = make_dataset("regression", "missing values", rows=200)
    verdict = world.evaluate(world.search())

    assert verdict.trial_id == "02-nearest_neighbours-refitted"
    document = evaluation(world)
    assert [(entry["trial_id"], entry["rank"]) for entry in document["leaderboard"]] == [
        ("02-nearest_neighbours-refitted", 1),
        ("01-nearest_neighbours", 2),
    ]
    rows = dataset.splits["validation"]
    model = OnnxModel.load(stored(world, verdict.trial_id, "model.onnx"), dataset.schema)
    error = float(np.sqrt(np.mean((model.run(rows.features) - rows.target) ** 2)))
    measured = document["fit"]["splits"]["validation"]["metrics"]["rmse"]
    held_out = HeldOutRows.load(stored(world, verdict.trial_id, "held_out.npz"))
    np.testing.assert_array_equal(held_out.target, rows.target)
    assert measured == pytest.approx(float(np.sqrt(np.mean((held_out.predictions - rows.target) ** 2))))
    assert error < measured  # it has seen them, so it says nothing of itself by them
    assert document["prediction_intervals"]["rows"] == len(rows)


def test_out_of_fold_predictions_stand_for_the_validation_rows():
    world = searched("binary", folds=3)
    verdict = world.evaluate(world.search())
    held_out = HeldOutRows.load(stored(world, verdict.trial_id, "held_out.npz"))
    document = evaluation(world)

    assert len(held_out.target) == 150
    assert document["prediction_intervals"]["source"] == "out_of_fold"
    assert document["fit"]["splits"]["validation"]["metrics"]["accuracy"] == pytest.approx(
        float(np.mean(held_out.predictions[-50:].argmax(axis=1) == held_out.target[-50:]))
    )


def test_a_refit_with_other_predictions_in_onnx_leaves_the_winner_as_it_was(monkeypatch):
    world = searched()
    plan = world.plan()
    outcomes = [world.train(pointer) for pointer in plan.trials]
    (pointer,) = world.plan(1, outcomes).trials
    monkeypatch.setattr(fitting, "check_parity", lambda *args: ParityReport(0.25, 0, 400, passed=False))

    outcome = world.train(pointer)
    verdict = world.evaluate([outcome])

    assert outcome.reason == "the ONNX model differs from its estimator by up to 0.25 in a probability"
    assert verdict.trial_id == f"01-{LINEAR}"
    refit = evaluation(world)["leaderboard"][1]
    assert (refit["status"], refit["reason"], refit["rank"]) == ("failed", outcome.reason, None)


@pytest.mark.parametrize("died", [False, True])
def test_a_refit_that_is_not_started_or_dies_leaves_the_winner_as_it_was(died):
    world = searched(max_seconds=60)
    outcomes = world.train_all()
    (pointer,) = world.plan(1, outcomes).trials
    if died:
        outcome = TrialOutcome(trial_id=pointer.trial_id, outcome="crashed", reason="the worker did not finish: Killed")
    else:
        outcome = world.train(pointer, after=timedelta(seconds=61))
        assert outcome.outcome == "skipped"

    verdict = world.evaluate([outcome])

    assert verdict.trial_id == f"01-{LINEAR}"
    assert evaluation(world)["leaderboard"][1]["reason"] == outcome.reason


@pytest.mark.parametrize(
    ("training", "reason"),
    [
        ({"refit": "never"}, "the spec says so"),
        ({"max_rows": 50}, "it would have no more rows: the spec trains on at most 50 rows"),
    ],
)
def test_a_run_without_a_refit_says_why(training, reason):
    world = searched(**training)
    plan = world.plan()

    assert plan.last_round
    search = world.run.summary["search"]
    assert (search["refit"], search["why_not_refitted"]) == (False, reason)
    (outcome,) = [world.train(pointer) for pointer in plan.trials]
    assert "estimator.skops" in TrialRecord.read(stored(world, outcome.trial_id, "trial.json")).artifacts


def test_training_and_validation_rows_that_do_not_fit_together_are_not_joined(monkeypatch):
    world = searched()
    monkeypatch.setattr(TrainingCapacity, "max_rows", lambda *_: 120)

    assert world.plan().last_round
    assert world.run.summary["search"]["why_not_refitted"] == (
        "functions of 3,008 MB do not hold training and validation rows together"
    )


def test_planning_the_refit_again_changes_nothing():
    world = searched()
    outcomes = world.train_all()
    plan = world.plan(1, outcomes)
    trials = world.registry.list_trials(MODEL, RUN_ID)

    assert (plan.round, plan.last_round, len(plan.trials)) == (2, True, 1)
    assert world.plan(1, outcomes) == plan
    assert world.registry.list_trials(MODEL, RUN_ID) == trials


def test_where_no_trial_succeeded_there_is_nothing_to_refit():
    world = searched()
    (pointer,) = world.plan().trials
    failed = TrialOutcome(trial_id=pointer.trial_id, outcome="failed", reason="no ONNX form")

    assert world.plan(1, [failed]).lanes == []
    assert world.evaluate([]).decision == "reject"


def test_workers_that_all_died_are_a_fault_before_the_refit():
    world = searched()
    (pointer,) = world.plan().trials
    crashed = TrialOutcome(trial_id=pointer.trial_id, outcome="crashed", reason="dead")

    with pytest.raises(WorkerCrashedError, match="workers died or ran out of time"):
        world.plan(1, [crashed])


def test_an_estimator_of_many_trees_is_not_kept_for_people(monkeypatch):
    monkeypatch.setattr(fitting, "MAX_DUMPED_TREES", 4)
    dataset = make_dataset("binary")
    parameters = {"max_iter": 5, "early_stopping": False}
    trial = replace(make_trial("t1"), candidate="hist_gradient_boosting", parameters=parameters)

    many = fitting.fit_trial(trial, dataset.schema, dataset.splits["train"], dataset.splits["validation"])
    few = fitting.fit_trial(
        replace(trial, parameters=parameters | {"max_iter": 4}),
        dataset.schema,
        dataset.splits["train"],
        dataset.splits["validation"],
    )

    assert many.estimator_bytes is None
    assert "estimator.skops" not in many.artifacts
    assert few.estimator_bytes
