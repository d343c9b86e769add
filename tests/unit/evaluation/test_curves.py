"""The numbers behind figures are those of scikit-learn, thinned."""

import numpy as np
import pytest
from millrace.documents import to_plain
from millrace.evaluation.curves import (
    MAX_POINTS,
    MAX_SCATTERED,
    calibration_curve,
    classification_curves,
    confusion_matrix,
    residuals,
)
from millrace.metrics.catalogue import ROC_AUC_OVR
from millrace.metrics.functions import MAX_SORTED_CLASSES
from millrace.schema import Column, TableSchema
from sklearn import metrics
from sklearn.metrics import auc, precision_recall_curve, roc_auc_score, roc_curve

BINARY = TableSchema((Column("y", "category", "target"),), "binary", ("no", "yes"))


def example(rows=3_000, seed=0):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(rows), 3)
    target = (rng.random(rows) < scores).astype(np.int64)
    return target, np.stack([1 - scores, scores], axis=1)


def test_curves_lie_on_scikit_learns():
    target, probabilities = example()
    curves = to_plain(classification_curves(BINARY, target, probabilities, 0.95))
    x, y, _ = roc_curve(target, probabilities[:, 1], drop_intermediate=False)
    for false_alarms, recall in curves["roc"]:
        assert np.min(np.abs(x - false_alarms) + np.abs(y - recall)) < 2e-4
    assert auc(*np.transpose(curves["roc"])) == pytest.approx(roc_auc_score(target, probabilities[:, 1]), abs=5e-3)
    precision, recall, _ = precision_recall_curve(target, probabilities[:, 1])
    for at, value in curves["precision_recall"][5:]:
        assert np.min(np.abs(precision - value) + np.abs(recall - at)) < 2e-3
    assert curves["roc"][0] == [0.0, 0.0]
    assert curves["roc"][-1] == [1.0, 1.0]
    assert len(curves["roc"]) <= MAX_POINTS + 2


def test_calibration_of_calibrated_scores_covers_the_diagonal():
    target, probabilities = example()
    found = to_plain(calibration_curve(probabilities[:, 1], target == 1, 0.95))
    inside = [cell["low"] <= cell["predicted"] <= cell["high"] for cell in found["cells"]]
    assert sum(inside) >= 8
    assert found["expected_error"] < 0.05
    assert sum(cell["rows"] for cell in found["cells"]) == 3_000


@pytest.mark.parametrize(("stretch", "rows"), [(1.0, 60), (1.6, 200)])
def test_interval_of_the_calibration_error_discounts_its_noise(stretch, rows):
    rng = np.random.default_rng(3)
    signal = 1.5 * rng.normal(size=50_000)
    happened, stated = rng.random(50_000) < 1 / (1 + np.exp(-signal)), 1 / (1 + np.exp(-stretch * signal))
    truth = calibration_curve(stated, happened, 0.95).expected_error
    drawn = [rng.integers(0, 50_000, rows) for _ in range(150)]
    curves = [calibration_curve(stated[some], happened[some], 0.95) for some in drawn]

    held = np.mean([curve.expected_error_low <= truth <= curve.expected_error_high for curve in curves])
    assert np.mean([curve.expected_error for curve in curves]) > 1.2 * truth
    assert held > 0.9


def test_interval_of_the_calibration_error_needs_rows():
    found = to_plain(calibration_curve(np.linspace(0.1, 0.9, 12), np.arange(12) % 2 == 0, 0.95))
    assert "expected_error_low" not in found
    assert found["expected_error_reason"] == "12 rows; an interval needs 20"
    perfect = to_plain(calibration_curve(np.tile([0.0, 1.0], 30), np.tile([False, True], 30), 0.95))
    assert (perfect["expected_error"], "expected_error_low" in perfect) == (0.0, False)
    assert perfect["expected_error_reason"] == "0 rows are predicted wrong; an interval needs 2"


@pytest.mark.parametrize("rows", [60, 200, 1_000])
def test_interval_of_the_calibration_error_of_an_overconfident_model_counts_few_wrong_rows(rows):
    """Most rows have a stated probability near one; the wrong ones among them are few, and their number is chance."""
    rng = np.random.default_rng(5)
    true = np.where(rng.random(50_000) < 0.2, 0.7, 0.98) - 0.02 * rng.random(50_000)
    stated, happened = true ** rng.choice([0.1, 0.3, 1.0], 50_000), rng.random(50_000) < true
    truth = calibration_curve(stated, happened, 0.95).expected_error
    drawn = (rng.integers(0, 50_000, rows) for _ in range(200))
    curves = [calibration_curve(stated[some], happened[some], 0.95) for some in drawn]
    held = [c.expected_error_low <= truth <= c.expected_error_high for c in curves if not c.expected_error_reason]
    assert len(held) > 100
    assert np.mean(held) > 0.9


def test_rows_of_one_probability_stand_in_one_cell():
    found = to_plain(calibration_curve(np.array([0.2] * 50 + [0.7] * 50), np.arange(100) % 2 == 0, 0.95))
    assert [cell["rows"] for cell in found["cells"]] == [50, 50]
    assert len(calibration_curve(np.full(40, 0.3), np.zeros(40, bool), 0.95).bins) == 1


def test_confusion_is_scikit_learns():
    rng = np.random.default_rng(0)
    target, predicted = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    schema = TableSchema(BINARY.columns, "multiclass", ("a", "b", "c"))
    found = to_plain(confusion_matrix(schema, target, predicted))
    matrix = metrics.confusion_matrix(target, predicted)
    assert found["matrix"] == matrix.tolist()
    assert found["per_class"][1]["recall"] == pytest.approx(matrix[1, 1] / matrix[1].sum())
    assert found["per_class"][1]["precision"] == pytest.approx(matrix[1, 1] / matrix[:, 1].sum())
    assert found["commonest"][0]["rows"] == (matrix - np.diag(np.diag(matrix))).max()


def test_hundreds_of_classes_are_told_by_the_commonest_confusions():
    names = tuple(f"c{number:03d}" for number in range(500))
    schema = TableSchema(BINARY.columns, "multiclass", names)
    target = np.arange(2_000) % 500
    found = to_plain(confusion_matrix(schema, target, np.where(target < 50, 7, target)))
    assert (found["matrix"], found["classes"]) == (None, None)
    assert found["left_out_classes"] == 400
    assert found["per_class"][0]["recall"] == 0.0
    assert len(found["commonest"]) == 30
    assert found["commonest"][0] == {"actual": "c000", "called": "c007", "rows": 4}


def test_a_class_never_called_has_no_precision():
    found = to_plain(confusion_matrix(BINARY, np.array([0, 1, 1]), np.zeros(3, int)))
    assert found["per_class"][1] == {"name": "yes", "rows": 2, "recall": 0.0, "precision": None}


def test_residuals_say_where_errors_lie():
    rng = np.random.default_rng(0)
    target = rng.normal(size=1_000)
    found = to_plain(residuals(target, target + 1.0, 0))
    assert found["mean"] == pytest.approx(1.0)
    assert len(found["points"]) == MAX_SCATTERED
    assert sum(found["histogram"]["counts"]) == 1_000
    assert all(part["mean_error"] == pytest.approx(1.0) for part in found["by_prediction"])
    perfect = to_plain(residuals(np.ones(3), np.ones(3), 0))
    assert perfect["quantiles"]["0.5"] == 0.0


def test_many_classes_have_an_area_linear_in_the_weights():
    rng = np.random.default_rng(0)
    classes, rows = MAX_SORTED_CLASSES + 2, 600
    target = np.arange(rows) % classes
    probabilities = rng.random((rows, classes)) + 0.6 * np.eye(classes)[target]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    linear = ROC_AUC_OVR.statistic(target, probabilities)
    exact = roc_auc_score(target, probabilities, multi_class="ovr")
    assert linear(np.ones((1, rows)))[0] == pytest.approx(exact)
    weights = np.stack([np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(30)]).astype(float)
    repeated = [np.repeat(np.arange(rows), draw.astype(int)) for draw in weights]
    truth = [roc_auc_score(target[draw], probabilities[draw], multi_class="ovr") for draw in repeated]
    assert np.corrcoef(linear(weights), truth)[0, 1] > 0.97
    assert np.abs(linear(weights) - truth).max() < 0.01
    assert np.isnan(ROC_AUC_OVR.statistic(np.zeros(rows, int), probabilities)(np.ones((1, rows)))).all()
