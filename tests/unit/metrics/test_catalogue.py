"""Metrics: values known by hand, and what happens where one is not defined."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from millrace.errors import InvalidInputError
from millrace.metrics.catalogue import CATALOGUE, METRICS, compute_metrics, get_metric
from millrace.schema import TASKS

ROOT = Path(__file__).resolve().parents[3]
TARGET = np.array([0, 0, 1, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.6, 0.4]], dtype=np.float32)


def test_binary_metrics_by_hand():
    values = compute_metrics("binary", TARGET, PROBABILITIES)

    assert values["roc_auc"] == pytest.approx(0.75)
    assert values["pr_auc"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert values["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.7, 0.4]).mean(), rel=1e-6)
    assert values["brier"] == pytest.approx(np.mean([0.01, 0.36, 0.09, 0.36]), rel=1e-6)
    assert values["accuracy"] == pytest.approx(0.5)
    assert values["f1"] == pytest.approx(0.5)


def test_regression_metrics_by_hand():
    values = compute_metrics("regression", np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 5.0], dtype=np.float32))

    assert values == pytest.approx(
        {"rmse": np.sqrt(4 / 3), "mae": 2 / 3, "r2": -1.0, "error_p50": 0.0, "error_p90": 2.0}
    )


def test_multiclass_metrics_of_a_perfect_model():
    values = compute_metrics("multiclass", np.array([0, 1, 2]), np.eye(3, dtype=np.float32))

    perfect = {"log_loss": 0.0, "brier": 0.0, "accuracy": 1.0, "macro_f1": 1.0, "roc_auc_ovr": 1.0}
    assert values == pytest.approx(perfect, abs=1e-12)


def test_curve_over_one_class_is_left_out():
    assert "roc_auc" not in compute_metrics("binary", np.zeros(4, int), PROBABILITIES)
    assert "pr_auc" not in compute_metrics("binary", np.zeros(4, int), PROBABILITIES)
    assert "roc_auc_ovr" not in compute_metrics("multiclass", np.array([0, 1]), np.eye(3)[:2])
    assert "r2" not in compute_metrics("regression", np.ones(3), np.ones(3))


@pytest.mark.parametrize("task", TASKS)
def test_perfect_predictions_gain_over_constant_ones_by_every_metric(task):
    target = np.array([0, 1, 2, 0, 1, 2] if task == "multiclass" else [0, 1, 0, 1])
    classes = 3 if task == "multiclass" else 2
    perfect = target.astype(float) if task == "regression" else np.eye(classes)[target]
    constant = np.full_like(perfect, 0.25) if task == "regression" else np.full_like(perfect, 1 / classes)

    for metric in METRICS[task]:
        best = metric.compute(target, perfect)
        assert best == pytest.approx(metric.best, abs=1e-12), metric.name
        assert metric.gain(best, metric.compute(target, constant)) > 0, metric.name


@pytest.mark.parametrize(
    ("task", "primary"), [("binary", "roc_auc"), ("multiclass", "log_loss"), ("regression", "rmse")]
)
def test_primary_metric_of_a_task(task, primary):
    assert get_metric(task, None).name == primary


def test_unknown_metric_lists_those_there_are():
    with pytest.raises(
        InvalidInputError, match="unknown metric 'auc'; the metrics of a regression task are: rmse, mae, r2"
    ):
        get_metric("regression", "auc")


@pytest.mark.parametrize("predictions", [np.array([1.0, np.nan]), np.array([np.inf, 1.0]), np.array([])])
def test_predictions_that_are_no_numbers_and_no_rows_are_refused(predictions):
    with pytest.raises(ValueError, match="finite predictions"):
        compute_metrics("regression", np.ones(len(predictions)), predictions)


@pytest.mark.parametrize("task", TASKS)
def test_every_metric_has_a_row_loss(task):
    rng = np.random.default_rng(0)
    target = rng.normal(size=20) if task == "regression" else rng.integers(0, 2, 20)
    predictions = rng.normal(size=20) if task == "regression" else np.full((20, 2), 0.5)
    for metric in METRICS[task]:
        values = metric.row_loss(target, predictions)
        assert values.shape == (20,)
        assert (values >= 0).all()


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_every_metric_is_documented(metric):
    text = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| `{metric.name}` |")]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1] == metric.label
    assert cells[2] == ", ".join(metric.tasks)
    assert cells[3] == ("greater" if metric.greater_is_better else "less")


def test_only_the_catalogue_names_metrics():
    names = "|".join(metric.name for metric in CATALOGUE)
    literal = re.compile(rf"""["']({names})["']""")
    sources = [*(ROOT / "shared" / "millrace").rglob("*.py"), *(ROOT / "functions").rglob("*.py")]
    found = [path.relative_to(ROOT) for path in sources if literal.search(path.read_text(encoding="utf-8"))]
    assert {path.parent.as_posix() for path in found} == {"shared/millrace/metrics"}


def test_catalogue_and_documents_import_without_scikit_learn_and_onnx():
    modules = "millrace.metrics.catalogue, millrace.evaluation_results, millrace.training.trial_record"
    script = (
        f"import sys, {modules}; print(sorted(sys.modules.keys() & {{'sklearn', 'onnx', 'onnxruntime', 'pandas'}}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
