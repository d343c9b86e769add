"""Calibration of intervals and prediction sets in an evaluation: what is stored, and what the holdout says."""

import json

import numpy as np
import pytest
from millrace.conformal import ConformalCalibration
from millrace.data.prepared import dump_columns
from millrace.layout import confidence_key, evaluation_key, prepared_key, trial_key
from millrace.schema import TASKS
from millrace.training.fitting import HeldOutRows
from millrace.training.trial import sha256_of

from tests.prepared_data import Dataset, make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun

ONE = {"binary": "logistic_regression", "multiclass": "logistic_regression", "regression": "ridge"}


def evaluate(dataset: Dataset, **spec: object) -> tuple[dict, ConformalCalibration | None]:
    world = TrainingRun.prepared(dataset, candidates=[ONE[dataset.schema.task]], **spec)
    outcomes = world.train_all()
    city = dataset.splits["test"].features.strings[:, 0]
    world.data_store.put(prepared_key(MODEL, RUN_ID, "holdout_columns.npz"), dump_columns({"s0": city}))
    world.evaluate(outcomes)
    evaluation = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))
    key = confidence_key(MODEL, RUN_ID)
    if key not in world.model_store.keys(key):
        return evaluation, None
    body = world.model_store.get(key)
    assert len(body) < 20_000
    return evaluation, ConformalCalibration.from_document(json.loads(body))


@pytest.mark.parametrize("task", TASKS)
def test_the_validation_rows_calibrate_and_the_holdout_measures(task):
    dataset = make_dataset(task, rows=1_600)
    evaluation, calibration = evaluate(
        dataset, sensitive_groups=["s0"], evaluation={"slices": [{"by": ["s0"]}], "learning_curve": False}
    )
    intervals = evaluation["prediction_intervals"]

    assert intervals["rows"] == calibration.rows == 400
    assert intervals["source"] == "validation"
    assert [part["level"] for part in intervals["levels"]] == [0.8, 0.9, 0.95]
    assert all(part["rows"] == 400 and part["size"] > 0 for part in intervals["levels"])
    assert all(
        part["covered"]["low"] < part["covered"]["value"] <= part["covered"]["high"] for part in intervals["levels"]
    )
    assert intervals["levels"][1]["covered"]["value"] == pytest.approx(0.9, abs=0.08)
    kinds = {part["kind"] for part in intervals["groups"]}
    assert kinds == {"slice", "group", "prediction" if task == "regression" else "class"}
    names = {part["name"] for part in intervals["groups"]}
    assert {"s0 is Oslo", "s0: Oslo"} <= names
    assert ("lowest third of the predictions" if task == "regression" else dataset.schema.classes[0]) in names
    assert all(part["level"] == 0.9 and part["rows"] >= 30 for part in intervals["groups"])
    by_class = [part for part in intervals["groups"] if part["kind"] in ("class", "prediction")]
    assert sum(part["rows"] for part in by_class) == 400


def test_few_rows_calibrate_the_levels_that_they_suffice_for():
    evaluation, calibration = evaluate(make_dataset("regression", rows=64))
    assert calibration.greatest_level == evaluation["prediction_intervals"]["greatest_level"] == 0.941
    assert [part["level"] for part in evaluation["prediction_intervals"]["levels"]] == [0.8, 0.9]


def test_a_model_without_finite_predictions_has_no_calibration():
    dataset = make_dataset("regression", rows=64)
    world = TrainingRun.prepared(dataset, candidates=["ridge"])
    outcomes = world.train_all()
    (trial,) = world.registry.list_trials(MODEL, RUN_ID)
    key = trial_key(MODEL, RUN_ID, trial.trial_id, "held_out.npz")
    held_out = HeldOutRows.load(world.model_store.get(key))
    held_out.predictions[0] = np.nan
    world.model_store.put(key, held_out.dump())
    digests = {**trial.artifacts, "held_out.npz": sha256_of(held_out.dump())}
    world.registry.update_trial(MODEL, RUN_ID, trial.trial_id, artifacts=digests)
    world.evaluate(outcomes)
    evaluation = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))
    assert evaluation["prediction_intervals"] is None
    assert confidence_key(MODEL, RUN_ID) not in world.model_store.keys(MODEL)
