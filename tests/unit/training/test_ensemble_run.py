"""A run that averages its best trials: recorded, measured on rows outside the fits, reproducible, within limits."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from millrace.layout import evaluation_key, split_key, trial_key
from millrace.metrics.catalogue import get_metric
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training import contenders, refit, trial
from millrace.training.ensemble import EnsembleChoice
from millrace.training.fitting import HELD_OUT_NAME, HeldOutRows, fit_pipeline
from millrace.training.repeated_fits import REPEATS
from millrace.training.trial import reproduce_trial
from millrace.training.trial_record import EnsembleReport, TrialRecord

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TickingClock, TrainingRun

LINEAR = {"binary": "logistic_regression", "multiclass": "logistic_regression", "regression": "ridge"}


@pytest.fixture(autouse=True)
def _averaged(monkeypatch):
    """Take an average of any two trials: whether one pays is tested elsewhere."""

    def choose(rows, _metric, _seed):
        names = list(rows.predictions)
        weights = {names[0]: 0.75, names[1]: 0.25} if len(names) > 1 else {names[0]: 1.0}
        averaged = sum(weight * rows.predictions[name].astype(np.float64) for name, weight in weights.items())
        return EnsembleChoice(weights, EnsembleReport(rows=len(rows.target), reason="chosen", loss=1.0), averaged)

    monkeypatch.setattr(contenders, "choose_ensemble", choose)


def searched(task="binary", *, training=None, **spec):
    """Return a run of a linear model and neighbours, which err in ways of their own."""
    world = TrainingRun.prepared(
        make_dataset(task, "missing values"),
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
    assert record.parity.passed
    outside = HeldOutRows.load(stored(world, record.trial_id, "held_out.npz"))
    of_members = [HeldOutRows.load(stored(world, member.trial_id, "held_out.npz")).predictions for member in members]
    averaged = sum(member.weight * rows for member, rows in zip(members, of_members, strict=True))
    if record.scaling is None or record.scaling.method == "none":
        # Both are sums of 32-bit floats, rounded otherwise on other processors.
        np.testing.assert_allclose(outside.predictions, averaged, rtol=1e-5, atol=1e-6)
    bodies = {name: world.data_store.get(split_key(MODEL, RUN_ID, name)) for name in ("train", "validation")}
    onnx = stored(world, record.trial_id, "model.onnx")
    again = reproduce_trial(record, make_dataset(task).schema, bodies, onnx)
    assert again.byte_equal
    verdict = world.evaluate([])
    document = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))
    assert verdict.trial_id == document["leaderboard"][0]["trial_id"] == record.trial_id


def test_a_network_of_an_average_is_fitted_several_times(monkeypatch):
    monkeypatch.setitem(REPEATS, 0.2, 3)  # its weight here is a quarter
    world = TrainingRun.prepared(
        make_dataset("binary"), candidates=(LINEAR["binary"], "neural_network"), training={"trials": 2, "folds": 1}
    )
    world.clock = TickingClock(step=0.001)
    record = refitted(world)

    repeats = {member.candidate: member.repeats for member in record.ensemble.members}
    assert repeats == {LINEAR["binary"]: 1, "neural_network": 3}
    bodies = {name: world.data_store.get(split_key(MODEL, RUN_ID, name)) for name in ("train", "validation")}
    assert reproduce_trial(record, make_dataset("binary").schema, bodies).byte_equal


def test_spec_may_keep_the_best_trial_alone():
    record = refitted(searched(training={"ensemble": "never"}))

    assert len(record.refit_of) == 1
    assert record.ensemble.members == ()
    assert record.ensemble.reason == "chosen"


@pytest.mark.parametrize(
    ("gate", "step", "reason"),
    [
        ({"max_model_bytes": 1_000}, 0.001, "bytes exceed the limit of 1,000"),
        ({"max_row_milliseconds": 0.01}, 0.001, "ms for one row come too near to the limit of 0.01"),
        ({"max_batch_milliseconds": 50}, 0.03, "ms for 1,000 rows come too near to the limit of 50"),
    ],
)
def test_average_beyond_the_limits_of_the_gate_gives_way_to_the_best_trial(gate, step, reason, monkeypatch):
    world = searched(gate=gate)
    world.clock = TickingClock(step=step)
    fits = []
    monkeypatch.setattr(
        refit, "fit_pipeline", lambda trial, *rows, **more: fits.append(trial) or fit_pipeline(trial, *rows, **more)
    )
    record = refitted(world)

    assert len(fits) == 2  # the best was fitted for the average

    assert len(record.refit_of) == 1
    assert record.ensemble.members == ()
    assert reason in record.ensemble.reason
    alone = refitted(searched(training={"ensemble": "never"}))
    assert record.artifacts["model.onnx"] == alone.artifacts["model.onnx"]


def test_the_served_model_is_the_average_of_the_members():
    world = searched("regression")
    record = refitted(world)
    model = OnnxModel.load(stored(world, record.trial_id, "model.onnx"), make_dataset("regression").schema)

    values = model.run(make_dataset("regression", "missing values").splits["test"].features)

    assert np.isfinite(values).all()
    assert {node.name for node in model.session.get_outputs()} == {"value"}


def test_the_baseline_is_averaged_with_nothing(monkeypatch):
    rivals = [
        SimpleNamespace(
            status="succeeded",
            refit_of=(),
            candidate="ridge",
            rows=None,
            artifacts={HELD_OUT_NAME: ""},
            trial_id="02-ridge",
            metrics={"rmse": 1.0},
        )
    ]
    refit = SimpleNamespace(model=MODEL, run_id=RUN_ID, refit_of=("01-baseline",), candidate="baseline", rows=None)
    monkeypatch.setattr(trial.TrialRecord, "read", lambda body: body)
    registry = SimpleNamespace(list_trials=lambda *_: rivals)
    store = SimpleNamespace(get=lambda key: key)
    found = trial._read_contenders(refit, ModelSpec(), get_metric("regression", None), registry, store)
    assert [one.record for one in found] == [trial_key(MODEL, RUN_ID, "01-baseline", "trial.json")]
