"""Metrics of predictions, by scikit-learn.

Predictions are probabilities of shape (n_rows, n_classes) in the order of the schema's classes, or values of shape
(n_rows,) for regression; targets are class indices or values.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from millrace.metrics.catalogue import METRICS
from millrace.schema import Task

Array = npt.NDArray[Any]


def _proper(probabilities: Array) -> Array:
    """Return probabilities as float64 rows that sum to one exactly, which float32 rows do not."""
    wide = probabilities.astype(np.float64)
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))


def _log_loss(target: Array, probabilities: Array) -> float:
    return float(metrics.log_loss(target, _proper(probabilities), labels=np.arange(probabilities.shape[1])))


def _accuracy(target: Array, probabilities: Array) -> float:
    return float(metrics.accuracy_score(target, probabilities.argmax(axis=1)))


def _roc_auc(target: Array, probabilities: Array) -> float:
    if len(np.unique(target)) < 2:  # noqa: PLR2004  # a curve needs rows of both classes
        return float("nan")
    return float(metrics.roc_auc_score(target, probabilities[:, 1]))


def _roc_auc_ovr(target: Array, probabilities: Array) -> float:
    """Macro average of one-versus-rest areas; every class must be present."""
    classes = np.arange(probabilities.shape[1])
    if len(np.unique(target)) < len(classes):
        return float("nan")
    return float(metrics.roc_auc_score(target, _proper(probabilities), multi_class="ovr", labels=classes))


def _pr_auc(target: Array, probabilities: Array) -> float:
    if not (target == 1).any():
        return float("nan")
    return float(metrics.average_precision_score(target, probabilities[:, 1]))


def _brier(target: Array, probabilities: Array) -> float:
    """Brier's score: of the second of two classes; of more classes, summed over all of them (Brier, 1950)."""
    wide = probabilities.astype(np.float64)
    if wide.shape[1] == 2:  # noqa: PLR2004  # a binary task
        return float(np.mean((wide[:, 1] - target) ** 2))
    of_target = wide[np.arange(len(target)), target]
    return float(np.mean((wide**2).sum(axis=1) - 2 * of_target + 1))


def _f1(target: Array, probabilities: Array) -> float:
    return float(metrics.f1_score(target, probabilities.argmax(axis=1), zero_division=0.0))


def _macro_f1(target: Array, probabilities: Array) -> float:
    labels = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    return float(metrics.f1_score(target, predicted, labels=labels, average="macro", zero_division=0.0))


def _rmse(target: Array, values: Array) -> float:
    return float(metrics.root_mean_squared_error(target, values))


def _mae(target: Array, values: Array) -> float:
    return float(metrics.mean_absolute_error(target, values))


def _r2(target: Array, values: Array) -> float:
    if len(target) < 2 or np.ptp(target) == 0:  # noqa: PLR2004  # there is no variance to explain
        return float("nan")
    return float(metrics.r2_score(target, values))


def _error_quantile(share: float) -> Callable[[Array, Array], float]:
    """Return the absolute error that this share of the rows does not exceed."""

    def quantile(target: Array, values: Array) -> float:
        return float(np.quantile(np.abs(values.astype(np.float64) - target), share, method="inverted_cdf"))

    return quantile


#: From target and predictions to a number; NaN where a metric is not defined, as an area under the curve is not for
#: a single class.
METRIC_FUNCTIONS: Mapping[str, Callable[[Array, Array], float]] = {
    "roc_auc": _roc_auc,
    "pr_auc": _pr_auc,
    "log_loss": _log_loss,
    "brier": _brier,
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "roc_auc_ovr": _roc_auc_ovr,
    "rmse": _rmse,
    "mae": _mae,
    "r2": _r2,
    "error_p50": _error_quantile(0.5),
    "error_p90": _error_quantile(0.9),
}


def compute_metrics(task: Task, target: Array, predictions: Array) -> dict[str, float]:
    """Return every metric of the task that is defined on these rows, by name."""
    values = {metric.name: METRIC_FUNCTIONS[metric.name](target, predictions) for metric in METRICS[task]}
    return {name: value for name, value in values.items() if np.isfinite(value)}
