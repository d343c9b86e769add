"""Weighted metrics are held to scikit-learn's own, on rows repeated as often as their weight says."""

import numpy as np
import pytest
from millrace.metrics.bootstrap import draw_weights
from millrace.metrics.catalogue import METRICS
from millrace.metrics.scores import METRIC_FUNCTIONS
from millrace.metrics.weighted import statistic
from millrace.schema import TASKS

ROWS = 60


def example(task: str, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    if task == "regression":
        target = 1e6 + rng.normal(size=ROWS)
        return target, (target + rng.normal(size=ROWS)).astype(np.float64)
    classes = 2 if task == "binary" else 3
    target = rng.integers(0, classes, ROWS)
    scores = rng.normal(size=(ROWS, classes)) + 1.5 * np.eye(classes)[target]
    if ties:
        scores = np.round(scores)
    probabilities = np.exp(scores)
    return target, (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize(
    ("task", "metric"),
    [pytest.param(task, metric, id=f"{metric.name}-{task}") for task in TASKS for metric in METRICS[task]],
)
def test_weighted_metric_is_scikit_learns_on_repeated_rows(task, metric, ties):
    target, predictions = example(task, ties)
    weights = np.concatenate(list(draw_weights(ROWS, 20, seed=1)))

    values = statistic(metric.name, target, predictions)(weights)

    assert values.shape == (20,)
    for value, counts in zip(values, weights.astype(int), strict=True):
        rows = np.repeat(np.arange(ROWS), counts)
        assert value == pytest.approx(METRIC_FUNCTIONS[metric.name](target[rows], predictions[rows]), rel=1e-6)


@pytest.mark.parametrize("name", ["roc_auc", "pr_auc"])
def test_curve_without_a_positive_is_not_a_number(name):
    target, predictions = np.array([0, 0, 1]), np.array([[0.5, 0.5], [0.4, 0.6], [0.3, 0.7]])

    values = statistic(name, target, predictions)(np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 1.0]]))

    assert np.isnan(values[0])
    assert values[1] == 1.0


def test_variance_explained_of_equal_targets_is_not_a_number():
    values = statistic("r2", np.array([1.0, 2.0]), np.array([1.0, 2.0]))(np.array([[2.0, 0.0]]))

    assert np.isnan(values[0])
