"""Boosting stops by rows that it is not fitted on."""

import json

import numpy as np
import pytest
from millrace.layout import trial_key
from millrace.schema import TASKS
from millrace.training import fitting
from millrace.training.early_stopping import best_iteration, truncate
from millrace.training.export import predict_estimator
from millrace.training.fitting import find_iterations, fit_pipeline, join_splits, predict_folds
from millrace.training.trial_record import TrialRecord

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun

FAST = {"hist_gradient_boosting": {"learning_rate": {"values": [0.2]}}}


def planned(task: str = "binary", rows: int = 200, **training: object):
    """Return a world with one trial of boosting, and the trial."""
    training = {"trials": 1, "folds": 1, "parameters": FAST, **training}
    world = TrainingRun.prepared(
        make_dataset(task, "missing values", rows=rows), candidates=("hist_gradient_boosting",), training=training
    )
    world.plan()
    (trial,) = world.registry.list_trials(MODEL, RUN_ID)
    return world, trial


def test_the_lowest_mean_of_the_curves_is_taken_and_a_curve_that_ended_stays_where_it_was():
    assert best_iteration([np.array([3.0, 2.0, 1.0, 2.0])]) == 2
    assert best_iteration([np.array([3.0, 2.0, 1.0, 2.0]), np.array([3.0, 1.0])]) == 2
    assert best_iteration([np.array([1.0, 2.0, 3.0])]) == 1  # one tree at least


@pytest.mark.parametrize("task", TASKS)
def test_the_record_has_the_iterations_and_the_refit_has_them_fixed(task):
    world, trial = planned(task)
    world.search()

    won, refit = (
        TrialRecord.read(world.model_store.get(trial_key(MODEL, RUN_ID, name, "trial.json")))
        for name in (trial.trial_id, "02-hist_gradient_boosting-refitted")
    )
    assert won.parameters["patience"] == 20
    assert 1 <= won.iterations < won.parameters["max_iter"] == 600
    assert refit.parameters == {
        **{name: value for name, value in won.parameters.items() if name != "patience"},
        "max_iter": won.iterations,
    }


def test_without_folds_the_training_rows_alone_stop_it():
    dataset = make_dataset("binary", rows=600)
    _, trial = planned()
    seen = []
    whole = dataset.splits["train"]

    def fit(trial, schema, parameters, train, stop=None):
        seen.append((train.row_ids, stop.row_ids))
        return original(trial, schema, parameters, train, stop)

    original = fitting._fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_fit", fit)
        find_iterations(trial, dataset.schema, whole)
    ((fitted, stopping),) = seen
    assert not set(fitted.tolist()) & set(stopping.tolist())
    assert set(fitted.tolist()) | set(stopping.tolist()) == set(whole.row_ids.tolist())
    assert 0.1 < len(stopping) / len(whole) < 0.25


def test_a_fold_has_the_iterations_that_the_other_folds_need(monkeypatch):
    dataset = make_dataset("regression", rows=200)
    _, trial = planned("regression", folds=3)
    # The lowest losses of the three folds are after 1, 4 and 9 iterations; the last is by far the deepest.
    curves = iter([np.abs(np.arange(11) - lowest) * weight for lowest, weight in ((1, 0.1), (4, 1.0), (9, 5.0))])
    monkeypatch.setattr(fitting, "losses_of", lambda estimator: next(curves).astype(np.float64))
    kept = []
    monkeypatch.setattr(fitting, "truncate", lambda estimator, iterations: kept.append(iterations))

    _, iterations = predict_folds(trial, dataset.schema, dataset.splits["train"], dataset.splits["validation"])

    assert kept == [9, 9, 4]
    assert iterations == 9


def test_a_truncated_model_predicts_by_its_first_trees():
    dataset = make_dataset("binary", rows=200)
    _, trial = planned()
    train, rows = dataset.splits["train"], dataset.splits["validation"].features
    whole, _ = fit_pipeline(trial, dataset.schema, train, 30)
    short, _ = fit_pipeline(trial, dataset.schema, train, 12)
    truncate(whole[-1], 12)

    np.testing.assert_array_equal(*(predict_estimator(pipeline, rows, "binary") for pipeline in (whole, short)))


def test_a_class_of_one_row_is_fitted_on():
    dataset = make_dataset("multiclass", rows=120)
    whole = join_splits(dataset.splits["train"], dataset.splits["validation"])
    rare = np.flatnonzero(whole.target == 2)
    for kept in rare[:8]:
        rows = whole.take(np.array([row for row in range(len(whole)) if row == kept or row not in set(rare.tolist())]))
        _, trial = planned("multiclass")
        assert find_iterations(trial, dataset.schema, rows) >= 1


def test_a_spec_bounds_the_iterations():
    parameters = {"hist_gradient_boosting": {"max_iter": {"values": [12]}}}
    world, trial = planned(parameters=parameters)
    assert trial.parameters["max_iter"] == 12
    outcome = world.train_all()[0]
    record = json.loads(world.model_store.get(trial_key(MODEL, RUN_ID, outcome.trial_id, "trial.json")))
    assert record["iterations"] <= 12
