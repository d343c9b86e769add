"""Calibrated probabilities: chosen where they pay, the same in ONNX, recorded and trained again."""

import json

import numpy as np
import pytest
from millrace.data.prepared import PreparedSplit
from millrace.features import FeatureMatrix
from millrace.layout import evaluation_key, split_key, trial_key
from millrace.metrics.functions import log_losses
from millrace.schema import Column, TableSchema
from millrace.serving.model import OnnxModel
from millrace.training.export import append_scaling, check_scaling
from millrace.training.fitting import HeldOutRows
from millrace.training.probability_scaling import ProbabilityScaling, choose_scaling
from millrace.training.trial import reproduce_trial
from millrace.training.trial_record import TrialRecord

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun

FOLDS = 5
CLASSIFIERS = (
    "extra_trees",
    "hist_gradient_boosting",
    "logistic_regression",
    "nearest_neighbours",
    "neural_network",
    "random_forest",
)


def softmax(scores):
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def labelled(rows: int, classes: int, weights: float, bias: float, seed: int = 0):
    """Return targets, probabilities that ``weights`` and ``bias`` would make true, and folds."""
    rng = np.random.default_rng(seed)
    true = softmax(rng.normal(size=(rows, classes)) * 1.5)
    target = (true.cumsum(axis=1) > rng.random(rows)[:, None]).argmax(axis=1)
    scores = (np.log(true) - bias * np.eye(classes)[-1]) / weights
    return target, softmax(scores).astype(np.float32), np.arange(rows) % FOLDS


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("weights", "bias", "expected"), [(0.4, 0.0, "temperature"), (2.0, 1.0, "platt")])
def test_probabilities_that_are_wrong_are_calibrated_by_the_simplest_form(classes, weights, bias, expected):
    target, probabilities, folds = labelled(1_500, classes, weights, bias)
    chosen = choose_scaling(target, probabilities, folds)
    assert chosen.report.method == chosen.scaling.method == expected
    np.testing.assert_allclose(chosen.scaling.weights, weights, rtol=0.2)
    assert chosen.scaling.bias[-1] == pytest.approx(bias, abs=0.3)
    assert chosen.report.log_loss - chosen.report.scaled_log_loss > chosen.report.standard_error
    new, wrong, _ = labelled(4_000, classes, weights, bias, seed=1)
    assert log_losses(new, chosen.scaling.apply(wrong)).mean() < log_losses(new, wrong).mean()


@pytest.mark.parametrize("classes", [2, 4])
def test_probabilities_that_are_right_stay_as_they_are(classes):
    chosen = [choose_scaling(*labelled(600, classes, 1.0, 0.0, seed)).scaling for seed in range(8)]
    assert chosen.count(None) >= 7


@pytest.mark.parametrize(
    "target", [np.zeros(300, dtype=np.int64), np.r_[np.zeros(295), np.ones(5)].astype(np.int64), np.arange(60) % 2]
)
def test_too_few_rows_or_one_class_are_not_calibrated(target):
    probabilities = np.tile(np.float32([0.5, 0.5]), (len(target), 1))
    chosen = choose_scaling(target, probabilities, np.arange(len(target)) % FOLDS)
    assert chosen.scaling is None
    assert chosen.report.method == "none"
    assert chosen.probabilities is probabilities


def test_separable_classes_and_certain_probabilities_give_finite_weights():
    target = np.arange(400) % 2
    for probabilities in (np.eye(2)[target], np.eye(2)[target] * 0.2 + 0.4, np.eye(2)[1 - target]):
        chosen = choose_scaling(target, probabilities.astype(np.float32), np.arange(400) % FOLDS)
        if chosen.scaling:
            assert np.isfinite(chosen.scaling.bias).all()
            assert ((chosen.scaling.weights >= 0.05) & (chosen.scaling.weights <= 20.0)).all()
        assert np.isfinite(chosen.probabilities).all()


@pytest.mark.parametrize(
    ("task", "candidate", "kind"),
    [
        ("binary", "logistic_regression", "missing values"),
        ("multiclass", "hist_gradient_boosting", "missing values"),
        ("multiclass", "baseline", "missing values"),
        *(("binary", candidate, "numbers without gaps") for candidate in CLASSIFIERS),
    ],
)
def test_the_graph_computes_the_formula_and_keeps_the_raw_probabilities(task, candidate, kind):
    """Numbers without gaps need few kinds of nodes, so that their graph names an early version of the operators."""
    dataset = steep_dataset(400) if kind == "numbers without gaps" else make_dataset(task, kind, rows=200)
    world = TrainingRun.prepared(
        dataset, candidates=[candidate], training={"trials": 1, "folds": 1, "calibrate": "never"}
    )
    (outcome,) = world.train_all()
    body = world.model_store.get(trial_key(MODEL, RUN_ID, outcome.trial_id, "model.onnx"))
    classes = len(dataset.schema.classes)
    scaling = ProbabilityScaling("beta", np.linspace(0.5, 1.5, classes), np.linspace(-2.0, 2.0, classes))

    scaled = append_scaling(body, scaling)

    assert scaled == append_scaling(body, scaling)
    raw, model = OnnxModel.load(body, dataset.schema), OnnxModel.load(scaled, dataset.schema)
    rows = dataset.splits["test"].features
    check_scaling(scaling, raw, model, rows)
    np.testing.assert_allclose(model.run(rows), scaling.apply(raw.run(rows)), atol=2e-6)
    np.testing.assert_array_equal(model.run_raw(rows), raw.run(rows))
    assert raw.run_raw(rows) is None
    inputs = {"numbers": rows.numbers, "strings": rows.strings.astype(object)}
    (labels,) = model.session.run(["label"], {one.name: inputs[one.name] for one in model.session.get_inputs()})
    np.testing.assert_array_equal(labels, model.run(rows).argmax(axis=1))


def steep_dataset(rows: int = 1_200):
    """Return rows on which a network of few rows is far too certain: its labels are noisy."""
    rng = np.random.default_rng(3)
    numbers = rng.normal(size=(rows, 8)).astype(np.float32)
    target = (numbers[:, 0] + 1.5 * rng.normal(size=rows) > 0).astype(np.int64)
    dataset = make_dataset("binary", "numbers only", rows=rows)
    columns = [Column(f"n{position}", "number") for position in range(8)]
    schema = TableSchema((*columns, Column("target", "category", role="target")), "binary", dataset.schema.classes)
    whole = PreparedSplit(
        FeatureMatrix(numbers, np.empty((rows, 0), np.str_)), target, np.arange(rows, dtype=np.uint64)
    )
    bounds = {"train": (0, rows // 2), "validation": (rows // 2, rows * 3 // 4), "test": (rows * 3 // 4, rows)}
    splits = {name: whole.take(np.arange(*part)) for name, part in bounds.items()}
    return type(dataset)(schema, splits)


@pytest.mark.parametrize("folds", [1, 2])
def test_a_trial_is_calibrated_recorded_evaluated_and_trained_again(folds):
    dataset = steep_dataset()
    # Boosting that validation rows stop is not too certain; extremely random trees are not certain enough.
    training = {"trials": 1, "folds": folds}
    world = TrainingRun.prepared(dataset, candidates=["extra_trees"], training=training)
    outcomes = world.train_all()
    (trial_id,) = [outcome.trial_id for outcome in outcomes]

    def stored(name: str) -> bytes:
        return world.model_store.get(trial_key(MODEL, RUN_ID, trial_id, name))

    record = TrialRecord.read(stored("trial.json"))
    assert record.calibrate
    assert record.scaling.method in ("temperature", "platt", "beta")
    assert record.scaling.rows == (300 if folds == 1 else 900)
    assert "held_out.npz" in record.artifacts
    assert record.validation_metrics["log_loss"] < 0.62
    if folds > 1:
        held = HeldOutRows.load(stored("held_out.npz"))
        target, probabilities = held.target, held.predictions
        assert log_losses(target, probabilities).mean() == pytest.approx(record.scaling.scaled_log_loss, abs=1e-5)
        assert record.metrics["log_loss"] == pytest.approx(record.scaling.scaled_log_loss, abs=0.01)
    else:
        assert record.metrics["log_loss"] == pytest.approx(record.scaling.scaled_log_loss, abs=1e-5)

    bodies = {name: world.data_store.get(split_key(MODEL, RUN_ID, name)) for name in ("train", "validation")}
    again = reproduce_trial(record, dataset.schema, bodies, stored("model.onnx"))
    assert again.byte_equal
    assert again.fitted.scaling == record.scaling

    world.evaluate(outcomes)
    evaluation = json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))
    calibration, intervals = evaluation["probability_calibration"], evaluation["prediction_intervals"]
    assert calibration["method"] == record.scaling.method
    assert calibration["holdout"]["log_loss"] < calibration["holdout"]["raw_log_loss"]
    assert calibration["holdout"]["expected_error"] < calibration["holdout"]["raw_expected_error"]
    assert calibration["holdout"]["log_loss"] == pytest.approx(evaluation["holdout"]["metrics"]["log_loss"]["value"])
    assert intervals["source"] == ("validation" if folds == 1 else "out_of_fold")
    assert intervals["rows"] == record.scaling.rows


def test_a_spec_may_refuse_calibration_and_a_record_of_before_has_none():
    world = TrainingRun.prepared(
        steep_dataset(400), candidates=["logistic_regression"], training={"trials": 1, "calibrate": "never"}
    )
    (outcome,) = world.train_all()
    body = world.model_store.get(trial_key(MODEL, RUN_ID, outcome.trial_id, "trial.json"))
    record = TrialRecord.read(body)
    assert (record.calibrate, record.scaling) == (False, None)
    earlier = {name: value for name, value in json.loads(body).items() if name not in ("calibrate", "scaling")}
    assert TrialRecord.read(earlier) == record
    world.evaluate([outcome])
    assert json.loads(world.model_store.get(evaluation_key(MODEL, RUN_ID)))["probability_calibration"] is None
