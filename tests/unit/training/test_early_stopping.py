"""Boosting stops by rows that it is not fitted on."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from millrace.layout import trial_key
from millrace.schema import TASKS
from millrace.training import fitting
from millrace.training.early_stopping import best_iteration, fixed, truncate
from millrace.training.export import predict_estimator
from millrace.training.fitting import fit_pipeline, fit_stopped, predict_folds
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
    assert 1 <= won.iterations < won.parameters["max_iter"] == 400
    assert refit.parameters == {
        **{name: value for name, value in won.parameters.items() if name != "patience"},
        "max_iter": won.iterations,
    }


def test_without_folds_a_validation_row_has_the_iterations_that_the_others_need(monkeypatch):
    dataset = make_dataset("regression", rows=200)
    _, trial = planned("regression")
    validation = dataset.splits["validation"]
    part_of = np.arange(len(validation)) % 3
    monkeypatch.setattr(fitting, "_parts", lambda *_: part_of)
    # The lowest losses of the three parts are after 2, 5 and 10 iterations; the last is by far the deepest.
    lowest, weight = np.array([2, 5, 10])[part_of], np.array([0.1, 1.0, 5.0])[part_of]
    stages = [np.abs(stage - lowest) * weight for stage in range(1, 12)]
    monkeypatch.setattr(fitting, "_staged_losses", lambda *_: iter(stages))
    fitted = []
    original = fitting._fit

    def fit(trial, schema, parameters, train, stop=None):
        fitted.append((len(train), len(stop)))
        return original(trial, schema, parameters | {"n_iter_no_change": 600, "max_iter": 20}, train, stop)

    monkeypatch.setattr(fitting, "_fit", fit)

    pipeline, _, held, iterations = fit_stopped(trial, dataset.schema, dataset.splits["train"], validation)

    assert fitted == [(len(dataset.splits["train"]), len(validation))]  # one fit, of all training rows
    assert iterations == len(pipeline[-1]._predictors) == 10
    short, _ = original(trial, dataset.schema, {**fixed(trial.parameters, 20)}, dataset.splits["train"])
    for part, expected in enumerate((10, 10, 5)):
        truncated = copy.deepcopy(short)
        truncate(truncated[-1], expected)
        own = part_of == part
        np.testing.assert_allclose(
            held.predictions[own],
            predict_estimator(truncated, validation.features.take(own), "regression"),
        )


def test_one_validation_row_stops_the_fit_that_predicts_it():
    dataset = make_dataset("binary", rows=200)
    _, trial = planned()
    one = dataset.splits["validation"].take(np.arange(1))

    pipeline, _, held, iterations = fit_stopped(trial, dataset.schema, dataset.splits["train"], one)

    assert len(pipeline[-1]._predictors) == iterations >= 1
    np.testing.assert_array_equal(held.predictions, predict_estimator(pipeline, one.features, "binary"))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_losses_that_stop_a_regression_are_of_its_centred_target(offset):
    dataset = make_dataset("regression", rows=200)
    _, trial = planned("regression")
    train, validation = (
        replace(split, target=split.target + offset)
        for split in (dataset.splits["train"], dataset.splits["validation"])
    )

    pipeline, _, held, _ = fit_stopped(trial, dataset.schema, train, validation)

    first, *_, last = (losses.mean() for losses in fitting._staged_losses(pipeline, dataset.schema, validation))
    assert last < first < 3.0  # of a target with a spread of one
    np.testing.assert_allclose(last, np.mean(((held.target - held.predictions) / pipeline.scale) ** 2), rtol=0.2)


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


def test_a_spec_bounds_the_iterations():
    parameters = {"hist_gradient_boosting": {"max_iter": {"values": [12]}}}
    world, trial = planned(parameters=parameters)
    assert trial.parameters["max_iter"] == 12
    outcome = world.train_all()[0]
    record = json.loads(world.model_store.get(trial_key(MODEL, RUN_ID, outcome.trial_id, "trial.json")))
    assert record["iterations"] <= 12
