"""Metrics are those of scikit-learn, unweighted and on rows repeated as often as their weight says."""

import numpy as np
import pytest
from millrace.metrics.bootstrap import draw_weights
from millrace.metrics.catalogue import METRICS, R2, get_metric
from millrace.schema import TASKS

from tests.unit.metrics.scikit_learn import REFERENCE

ROWS = 60


def example(task: str, ties: bool, seed: int = 4, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    if task == "regression":
        target = 1e6 + rng.normal(size=rows)
        return target, (target + rng.normal(size=rows)).astype(np.float64)
    classes = 2 if task == "binary" else 3
    target = rng.integers(0, classes, rows)
    scores = rng.normal(size=(rows, classes)) + 1.5 * np.eye(classes)[target]
    if ties:
        scores = np.round(scores)
    probabilities = np.exp(scores)
    return target, (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)


EVERY_METRIC = pytest.mark.parametrize(
    ("task", "metric"),
    [pytest.param(task, metric, id=f"{metric.name}-{task}") for task in TASKS for metric in METRICS[task]],
)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@EVERY_METRIC
def test_weighted_metric_is_scikit_learns_on_repeated_rows(task, metric, ties):
    target, predictions = example(task, ties)
    weights = np.concatenate(list(draw_weights(ROWS, 20, seed=1)))

    values = metric.statistic(target, predictions)(weights)

    assert values.shape == (20,)
    for value, counts in zip(values, weights.astype(int), strict=True):
        rows = np.repeat(np.arange(ROWS), counts)
        assert value == pytest.approx(REFERENCE[metric.name](target[rows], predictions[rows]), rel=1e-6)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@EVERY_METRIC
def test_metric_is_scikit_learns_on_tables_of_any_size(task, metric, ties):
    sizes = np.random.default_rng(9).integers(2, 400, 40)
    for seed, rows in enumerate(sizes.tolist()):
        target, predictions = example(task, ties, seed, rows)
        expected = REFERENCE[metric.name](target, predictions)
        assert metric.compute(target, predictions) == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("constant", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("label", [0, 1])
def test_extreme_probabilities_and_one_class_are_scikit_learns(constant, label):
    target = np.full(7, label)
    predictions = np.tile([1 - constant, constant], (7, 1)).astype(np.float32)
    for metric in METRICS["binary"]:
        expected = REFERENCE[metric.name](target, predictions)
        assert metric.compute(target, predictions) == pytest.approx(expected, abs=1e-12, nan_ok=True), metric.name


@pytest.mark.parametrize("name", ["roc_auc", "pr_auc"])
def test_curve_without_a_positive_is_not_a_number(name):
    target, predictions = np.array([0, 0, 1]), np.array([[0.5, 0.5], [0.4, 0.6], [0.3, 0.7]])

    values = get_metric("binary", name).statistic(target, predictions)(np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]]))

    assert np.isnan(values[0])
    assert values[1] == 1.0


def test_variance_explained_of_equal_targets_is_not_a_number():
    values = R2.statistic(np.array([1.0, 2.0]), np.array([1.0, 2.0]))(np.array([[2.0, 0.0]]))

    assert np.isnan(values[0])
