"""A run that averages its best trials: recorded, measured on rows outside the fits, reproducible, within limits."""

import json

import numpy as np
import pytest
from millrace.data.prepared import PreparedSplit
from millrace.layout import evaluation_key, split_key, trial_key
from millrace.serving.model import OnnxModel
from millrace.training.fitting import HeldOutRows
from millrace.training.trial import reproduce_trial
from millrace.training.trial_record import TrialRecord

from tests.prepared_data import Dataset, make_dataset
from tests.training_run import MODEL, RUN_ID, TickingClock, TrainingRun

LINEAR = {"binary": "logistic_regression", "multiclass": "logistic_regression", "regression": "ridge"}


def waves(task):
    """Return rows of a line and a wave: one is a linear model's, the other its neighbours'."""
    dataset = make_dataset(task, "numbers only", rows=600)
    splits = {}
    for seed, (name, split) in enumerate(dataset.splits.items()):
        numbers = split.features.numbers
        signal = 2.0 * numbers[:, 0] + 2.0 * np.sin(2.0 * numbers[:, 2])
        signal = signal + 0.5 * np.random.default_rng(seed).normal(size=len(split))
        target = signal.astype(np.float64) if task == "regression" else (signal > 0).astype(np.int64)
        splits[name] = PreparedSplit(split.features, target, split.row_ids)
    return Dataset(dataset.schema, splits)


def searched(task="binary", *, training=None, **spec):
    """Return a run of a linear model and neighbours, which err in ways of their own."""
    world = TrainingRun.prepared(
        waves(task),
        candidates=(LINEAR[task], "nearest_neighbours"),
        training={"trials": 2, "folds": 1, **(training or {})},
        **spec,
    )
    world.clock = TickingClock(step=0.001)
    return world


def refitted(world):
    (outcome,) = world.search()
    assert outcome.outcome == "succeeded", outcome
    return TrialRecord.read(stored(world, outcome.trial_id, "trial.json"))


def stored(world, trial_id, name):
    return world.model_store.get(trial_key(MODEL, RUN_ID, trial_id, name))


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.parametrize("folds", [1, 3])
def test_average_is_recorded_measured_outside_the_fits_and_trained_again_byte_for_byte(task, folds):
    world = searched(task, training={"folds": folds})
    record = refitted(world)

    members = record.ensemble.members
    assert [member.trial_id for member in members] == list(record.refit_of)
    assert len(members) == 2
    assert sum(member.weight for member in members) == pytest.approx(1.0)
    assert record.ensemble.ensemble_loss < record.ensemble.loss
    assert record.parity.passed
    outside = HeldOutRows.load(stored(world, record.trial_id, "held_out.npz"))
    of_members = [HeldOutRows.load(stored(world, member.trial_id, "held_out.npz")).predictions for member in members]
    averaged = sum(member.weight * rows for member, rows in zip(members, of_members, strict=True))
    if record.scaling is None or record.scaling.method == "none":
        np.testing.assert_allclose(outside.predictions, averaged)
    bodies = {name: world.data_store.get(split_key(MODEL, RUN_ID, name)) for name in ("train", "validation")}
    onnx = stored(world, record.trial_id, "model.onnx")
    again = reproduce_trial(record, waves(task).schema, bodies, onnx)
    assert again.byte_equal
    verdict = world.evaluate([])
    document = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))
    assert verdict.trial_id == document["leaderboard"][0]["trial_id"] == record.trial_id


def test_spec_may_keep_the_best_trial_alone():
    record = refitted(searched(training={"ensemble": "never"}))

    assert len(record.refit_of) == 1
    assert record.ensemble.members == ()
    assert record.ensemble.reason == "there is one trial"


@pytest.mark.parametrize(
    ("gate", "step", "reason"),
    [
        ({"max_model_bytes": 1_000}, 0.001, "bytes exceed the limit of 1,000"),
        ({"max_row_milliseconds": 0.01}, 0.001, "ms for one row come too near to the limit of 0.01"),
        ({"max_batch_milliseconds": 50}, 0.03, "ms for 1,000 rows come too near to the limit of 50"),
    ],
)
def test_average_beyond_the_limits_of_the_gate_gives_way_to_the_best_trial(gate, step, reason):
    world = searched(gate=gate)
    world.clock = TickingClock(step=step)
    record = refitted(world)

    assert len(record.refit_of) == 1
    assert record.ensemble.members == ()
    assert reason in record.ensemble.reason
    alone = refitted(searched(training={"ensemble": "never"}))
    assert record.artifacts["model.onnx"] == alone.artifacts["model.onnx"]


def test_the_served_model_is_the_average_of_the_members():
    world = searched("regression")
    record = refitted(world)
    model = OnnxModel.load(stored(world, record.trial_id, "model.onnx"), waves("regression").schema)

    values = model.run(waves("regression").splits["test"].features)

    assert np.isfinite(values).all()
    assert {node.name for node in model.session.get_outputs()} == {"value"}
