"""Metrics of predictions, by scikit-learn, in one table.

Predictions are probabilities of shape (n_rows, n_classes) in the order of the schema's classes, or values of shape
(n_rows,) for regression; targets are class indices or values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from millrace.errors import FieldError, InvalidInputError
from millrace.schema import Task

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name : str
        As reports, floors and specs name it.
    greater_is_better : bool
        False for errors and losses.
    function : callable
        From target and predictions to a number; NaN where the metric is not defined, as an area under the curve is
        not for a single class.
    """

    name: str
    greater_is_better: bool
    function: Callable[[Array, Array], float]

    def gain(self, challenger: float, other: float) -> float:
        """Return by how much ``challenger`` is better than ``other``; negative when it is worse."""
        return challenger - other if self.greater_is_better else other - challenger


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
    return float(np.mean((probabilities[:, 1].astype(np.float64) - target) ** 2))


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


#: Every task's metrics; the first is its primary one.
METRICS: dict[Task, tuple[Metric, ...]] = {
    "binary": (
        Metric("roc_auc", greater_is_better=True, function=_roc_auc),
        Metric("pr_auc", greater_is_better=True, function=_pr_auc),
        Metric("log_loss", greater_is_better=False, function=_log_loss),
        Metric("brier", greater_is_better=False, function=_brier),
        Metric("accuracy", greater_is_better=True, function=_accuracy),
        Metric("f1", greater_is_better=True, function=_f1),
    ),
    "multiclass": (
        Metric("log_loss", greater_is_better=False, function=_log_loss),
        Metric("accuracy", greater_is_better=True, function=_accuracy),
        Metric("macro_f1", greater_is_better=True, function=_macro_f1),
        Metric("roc_auc_ovr", greater_is_better=True, function=_roc_auc_ovr),
    ),
    "regression": (
        Metric("rmse", greater_is_better=False, function=_rmse),
        Metric("mae", greater_is_better=False, function=_mae),
        Metric("r2", greater_is_better=True, function=_r2),
    ),
}


def get_metric(task: Task, name: str | None, field: str = "primary_metric") -> Metric:
    """Return a task's metric by name, or its primary one.

    Raises
    ------
    InvalidInputError
        When the task has no such metric; lists those it has. ``field`` says where in the spec it stood.
    """
    known = {metric.name: metric for metric in METRICS[task]}
    if name is None:
        return METRICS[task][0]
    if name not in known:
        fault = FieldError(field, f"known for {task} are: {', '.join(known)}")
        raise InvalidInputError(f"{name!r} is no metric; {fault.message}", [fault])
    return known[name]


def compute_metrics(task: Task, target: Array, predictions: Array) -> dict[str, float]:
    """Return every metric of the task that is defined on these rows, by name."""
    values = {metric.name: metric.function(target, predictions) for metric in METRICS[task]}
    return {name: value for name, value in values.items() if np.isfinite(value)}
