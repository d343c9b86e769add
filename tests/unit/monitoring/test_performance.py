"""Metrics from sketches against scikit-learn's from rows, and their errors against what resampling shows."""

import numpy as np
import pytest
from millrace.histograms.outcomes import ErrorSums, OutcomeHistogram
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.metrics.catalogue import METRICS, compute_metrics
from millrace.monitoring.estimates import estimate_quality
from millrace.monitoring.quality import measure_calibration, measure_outcomes

from tests.unit.histograms.test_histograms import make_predictions

#: Areas are computed on a hundred cells; what is exact is exact.
TOLERANCES = {"roc_auc": 0.003, "pr_auc": 0.02, "roc_auc_ovr": 0.02}


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", 3), ("multiclass", 12)])
def test_metrics_are_scikit_learns(task, classes):
    answers, outcomes = make_predictions(classes=classes)
    exact = compute_metrics(task, outcomes, answers.probabilities)
    found = measure_outcomes(OutcomeHistogram.count(answers, outcomes))
    # Only what rows themselves are needed for is left out.
    assert METRICS[task][0].name in found
    for name, estimate in found.items():
        assert estimate.value == pytest.approx(exact[name], abs=TOLERANCES.get(name, 1e-9)), name


def test_metrics_of_a_regression_are_scikit_learns():
    draw = np.random.default_rng(1)
    truth = 500.0 + draw.normal(size=800)
    guess = truth + 0.5 * draw.normal(size=800)
    exact = compute_metrics("regression", truth, guess)
    found = measure_outcomes(ErrorSums.measure(guess, truth, origin=500.0))
    assert METRICS["regression"][0].name in found
    assert {name: one.value for name, one in found.items()} == pytest.approx(
        {name: exact[name] for name in found}, rel=1e-9
    )


def test_errors_are_what_repetition_shows():
    many = [measure_outcomes(OutcomeHistogram.count(*make_predictions(400, seed))) for seed in range(150)]
    for name in ("accuracy", "roc_auc", "log_loss", "brier", "f1"):
        spread = np.std([one[name].value for one in many])
        stated = np.mean([one[name].error for one in many])
        assert 0.7 < stated / spread < 1.5, name


def test_of_no_outcomes_there_are_no_metrics():
    assert measure_outcomes(OutcomeHistogram.empty(2)) == {}
    assert measure_outcomes(ErrorSums.empty()) == {}


def test_one_class_has_no_area():
    answers = ClassPredictions(np.array([1, 1]), np.array([[0.2, 0.8], [0.4, 0.6]]))
    found = measure_outcomes(OutcomeHistogram.count(answers, np.array([1, 1])))
    assert "roc_auc" not in found
    assert found["accuracy"].value == 1.0


def test_calibrated_probabilities_have_no_excess_and_a_sensible_p_value():
    found = [measure_calibration(OutcomeHistogram.count(*make_predictions(1_000, seed))) for seed in range(100)]
    assert np.mean([one.p_value < 0.05 for one in found]) < 0.12
    assert np.median([one.excess for one in found]) < 0.01


def test_overconfident_probabilities_show():
    answers, outcomes = make_predictions(3_000)
    extreme = answers.probabilities**3 / (answers.probabilities**3).sum(axis=1, keepdims=True)
    found = measure_calibration(OutcomeHistogram.count(ClassPredictions(answers.decided, extreme), outcomes))
    assert found.excess > 0.08
    assert found.p_value < 1e-6


@pytest.mark.parametrize("classes", [2, 3])
def test_the_estimate_without_labels_is_near_the_truth_when_only_inputs_move(classes):
    holdout, outcomes = make_predictions(8_000, classes=classes)
    calibrated = OutcomeHistogram.count(holdout, outcomes).calibration_map()
    # Harder rows: only those of which the model is unsure.
    later, truth = make_predictions(20_000, 7, classes=classes)
    unsure = later.confidence < 0.75
    exact = measure_outcomes(OutcomeHistogram.count(later.take(unsure), truth[unsure]))
    estimated = estimate_quality(PredictionHistogram.count(later.take(unsure)), calibrated)
    estimable = {metric.name for metric in METRICS["binary"] if metric.has_estimate}
    assert set(estimated) == (estimable if classes == 2 else {"accuracy"})
    for name, estimate in estimated.items():
        assert estimate.value == pytest.approx(exact[name].value, abs=0.03), name
    assert (
        estimated["accuracy"].value
        < estimate_quality(PredictionHistogram.count(holdout), calibrated)["accuracy"].value - 0.03
    )
