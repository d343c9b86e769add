"""The catalogue of metrics: one record holds everything about one of them.

To add a metric, write its statistic in :mod:`millrace.metrics.classification` or :mod:`millrace.metrics.regression`,
add a record here and a row to the table of ``docs/evaluation.md``. Every other list is derived from the records.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from millrace.errors import FieldError, InvalidInputError
from millrace.metrics import classification, regression
from millrace.metrics.bootstrap import FloatArray, Statistic
from millrace.schema import TASKS, Task

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of predictions.

    Parameters
    ----------
    name : str
        In specs, documents and reports.
    label : str
        For people.
    tasks : tuple of Task
        Tasks that have it.
    greater_is_better : bool
        False for errors and losses.
    range : tuple of float
        Least and greatest possible value.
    statistic_of : callable
        From targets and float64 predictions to a function of row weights.
    row_loss : callable
        From targets and predictions to the loss of each row that stands for the metric on slices.
    always_defined : bool, default=True
        False where single-class or constant targets have no value.
    is_share : bool, default=False
        Whether it is a share of the rows, which has a Wilson interval.
    estimated_from : {'probabilities', 'errors'} or None, default=None
        Basis of the monitor's estimate without ground truth; None where there is no estimate.
    """

    name: str
    label: str
    tasks: tuple[Task, ...]
    greater_is_better: bool
    range: tuple[float, float]
    statistic_of: Callable[[Array, FloatArray], Statistic]
    row_loss: Callable[[Array, Array], FloatArray]
    always_defined: bool = True
    is_share: bool = False
    estimated_from: Literal["probabilities", "errors"] | None = None

    @property
    def best(self) -> float:
        """Value of a perfect model."""
        return self.range[1] if self.greater_is_better else self.range[0]

    @property
    def change_is_relative(self) -> bool:
        """True where a change counts as a share of the value: errors and losses have no common scale."""
        return not self.greater_is_better

    def gain(self, challenger: float, other: float) -> float:
        """Return the improvement of ``challenger`` over ``other``; negative when it is worse."""
        return challenger - other if self.greater_is_better else other - challenger

    def statistic(self, target: Array, predictions: Array) -> Statistic:
        """Return the metric of these predictions as a function of row weights.

        Parameters
        ----------
        target : array of shape (n_rows,)
            Class indices or values.
        predictions : array of shape (n_rows, n_classes) or (n_rows,)
            Probabilities in the order of the schema's classes, or values.
        """
        return self.statistic_of(target, predictions.astype(np.float64))

    def compute(self, target: Array, predictions: Array) -> float:
        """Return the metric with every row counted once; NaN where it is not defined.

        Raises
        ------
        ValueError
            When there are no rows, or a prediction is not a finite number.
        """
        if not len(target) or not np.isfinite(predictions).all():
            raise ValueError("a metric needs rows, and finite predictions")
        return float(self.statistic(target, predictions)(np.ones((1, len(target))))[0])


_BINARY: tuple[Task, ...] = ("binary",)
_MULTICLASS: tuple[Task, ...] = ("multiclass",)
_CLASSIFICATION: tuple[Task, ...] = ("binary", "multiclass")
_REGRESSION: tuple[Task, ...] = ("regression",)
_INFINITY = float("inf")

ROC_AUC = Metric(
    name="roc_auc",
    label="ROC AUC",
    tasks=_BINARY,
    greater_is_better=True,
    range=(0.0, 1.0),
    statistic_of=classification.roc_auc,
    row_loss=classification.log_losses,
    always_defined=False,
    estimated_from="probabilities",
)
PR_AUC = Metric(
    name="pr_auc",
    label="PR AUC",
    tasks=_BINARY,
    greater_is_better=True,
    range=(0.0, 1.0),
    statistic_of=classification.pr_auc,
    row_loss=classification.log_losses,
    always_defined=False,
)
LOG_LOSS = Metric(
    name="log_loss",
    label="log loss",
    tasks=_CLASSIFICATION,
    greater_is_better=False,
    range=(0.0, _INFINITY),
    statistic_of=classification.log_loss,
    row_loss=classification.log_losses,
    estimated_from="probabilities",
)
BRIER = Metric(
    name="brier",
    label="Brier score",
    tasks=_CLASSIFICATION,
    greater_is_better=False,
    range=(0.0, 2.0),
    statistic_of=classification.brier,
    row_loss=classification.brier_losses,
    estimated_from="probabilities",
)
ACCURACY = Metric(
    name="accuracy",
    label="accuracy",
    tasks=_CLASSIFICATION,
    greater_is_better=True,
    range=(0.0, 1.0),
    statistic_of=classification.accuracy,
    row_loss=classification.zero_one_losses,
    is_share=True,
    estimated_from="probabilities",
)
F1 = Metric(
    name="f1",
    label="F1",
    tasks=_BINARY,
    greater_is_better=True,
    range=(0.0, 1.0),
    statistic_of=classification.f1,
    row_loss=classification.zero_one_losses,
    estimated_from="probabilities",
)
MACRO_F1 = Metric(
    name="macro_f1",
    label="macro F1",
    tasks=_MULTICLASS,
    greater_is_better=True,
    range=(0.0, 1.0),
    statistic_of=classification.macro_f1,
    row_loss=classification.zero_one_losses,
)
ROC_AUC_OVR = Metric(
    name="roc_auc_ovr",
    label="ROC AUC, one versus rest",
    tasks=_MULTICLASS,
    greater_is_better=True,
    range=(0.0, 1.0),
    statistic_of=classification.roc_auc_ovr,
    row_loss=classification.log_losses,
    always_defined=False,
)
RMSE = Metric(
    name="rmse",
    label="RMSE",
    tasks=_REGRESSION,
    greater_is_better=False,
    range=(0.0, _INFINITY),
    statistic_of=regression.rmse,
    row_loss=regression.squared_errors,
    estimated_from="errors",
)
MAE = Metric(
    name="mae",
    label="MAE",
    tasks=_REGRESSION,
    greater_is_better=False,
    range=(0.0, _INFINITY),
    statistic_of=regression.mae,
    row_loss=regression.absolute_errors,
    estimated_from="errors",
)
R2 = Metric(
    name="r2",
    label="R\N{SUPERSCRIPT TWO}",
    tasks=_REGRESSION,
    greater_is_better=True,
    range=(-_INFINITY, 1.0),
    statistic_of=regression.r2,
    row_loss=regression.squared_errors,
    always_defined=False,
)
ERROR_P50 = Metric(
    name="error_p50",
    label="median absolute error",
    tasks=_REGRESSION,
    greater_is_better=False,
    range=(0.0, _INFINITY),
    statistic_of=regression.error_quantile(0.5),
    row_loss=regression.absolute_errors,
)
ERROR_P90 = Metric(
    name="error_p90",
    label="90th percentile of absolute errors",
    tasks=_REGRESSION,
    greater_is_better=False,
    range=(0.0, _INFINITY),
    statistic_of=regression.error_quantile(0.9),
    row_loss=regression.absolute_errors,
)

#: Every metric. A task's first is its primary one.
CATALOGUE: tuple[Metric, ...] = (
    *(ROC_AUC, PR_AUC, LOG_LOSS, BRIER, ACCURACY, F1, MACRO_F1, ROC_AUC_OVR),
    *(RMSE, MAE, R2, ERROR_P50, ERROR_P90),
)
METRICS: Mapping[Task, tuple[Metric, ...]] = {
    task: tuple(metric for metric in CATALOGUE if task in metric.tasks) for task in TASKS
}
METRICS_BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in CATALOGUE}


def get_metric(task: Task, name: str | None, field: str = "primary_metric") -> Metric:
    """Return a task's metric by name, or its primary one.

    Raises
    ------
    InvalidInputError
        When the task has no such metric; lists those it has, under the spec's ``field``.
    """
    if name is None:
        return METRICS[task][0]
    known = {metric.name: metric for metric in METRICS[task]}
    if name not in known:
        fault = FieldError(field, f"the metrics of a {task} task are: {', '.join(known)}")
        raise InvalidInputError(f"unknown metric {name!r}; {fault.message}", [fault])
    return known[name]


def compute_metrics(task: Task, target: Array, predictions: Array) -> dict[str, float]:
    """Return every metric of the task that is defined on these rows, by name; see :meth:`Metric.compute`."""
    values = {metric.name: metric.compute(target, predictions) for metric in METRICS[task]}
    return {name: value for name, value in values.items() if np.isfinite(value)}
