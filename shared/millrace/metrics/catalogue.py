"""The catalogue of metrics: one record holds everything about one of them.

To add a metric, write its statistic in :mod:`millrace.metrics.functions`,
add a record here and a row to the table of ``docs/evaluation.md``. Every other list is derived from the records.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import FieldError, InvalidInputError
from millrace.metrics.bootstrap import ConfidenceInterval, FloatArray, Statistic, mean_loss
from millrace.metrics.confidence_intervals import (
    Interval,
    IntervalOf,
    OtherRows,
    TooFewRows,
    accuracy_interval,
    error_quantile_interval,
    f1_interval,
    macro_f1_interval,
    mean_error_interval,
    mean_loss_interval,
    pr_auc_interval,
    r2_interval,
    rmse_interval,
    roc_auc_interval,
    roc_auc_ovr_interval,
)
from millrace.metrics.functions import (
    absolute_errors,
    accuracy,
    brier_losses,
    error_quantile,
    f1,
    log_losses,
    macro_f1,
    pr_auc,
    r2,
    rmse,
    roc_auc,
    roc_auc_ovr,
    squared_errors,
    zero_one_losses,
)
from millrace.schema import TASKS, Task

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric of predictions; errors and losses are better when they are less."""

    name: str
    label: str
    tasks: tuple[Task, ...]
    range: tuple[float, float]
    #: From targets and float64 predictions to a function of row weights.
    statistic_of: Callable[[Array, FloatArray], Statistic]
    #: Loss of each row, for slices.
    row_loss: Callable[[Array, Array], FloatArray]
    #: From targets, float64 predictions and a confidence level to an interval, or to the reason for none.
    interval_of: IntervalOf
    _: KW_ONLY
    greater_is_better: bool
    #: False where single-class or constant targets have no value.
    always_defined: bool = True
    #: True where monitoring estimates it without ground truth, from probabilities.
    has_estimate: bool = False
    #: True where only the order of the second class's probabilities counts, which a calibration leaves as it is.
    sees_order_only: bool = False
    #: True where few errors may decide the value: its interval takes the largest from other rows as well.
    is_decided_by_few: bool = False

    @property
    def loss_label(self) -> str:
        """Name of the loss of a row."""
        return _LOSS_LABELS[self.row_loss]

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

    def sees_alike(self, first: Array, second: Array) -> bool:
        """Return whether these predictions of the same rows are the same to the metric."""
        if self.sees_order_only:
            first, second = (np.unique(one[:, 1], return_inverse=True)[1] for one in (first, second))
        return np.array_equal(first, second)

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

    def interval(
        self, target: Array, predictions: Array, confidence: float, others: OtherRows | None = None
    ) -> Interval:
        """Return the metric's confidence interval, or the reason for which the rows do not support one.

        ``others`` are the targets and predictions of further rows that the model was not fitted on.
        """
        further = (others,) if self.is_decided_by_few else ()
        interval = self.interval_of(target, predictions.astype(np.float64), confidence, *further)
        if isinstance(interval, TooFewRows):
            return interval
        return ConfidenceInterval(max(interval.low, self.range[0]), min(interval.high, self.range[1]))

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


_LOSS_LABELS: Mapping[Callable[..., FloatArray], str] = {
    log_losses: "log loss",
    brier_losses: "Brier score",
    zero_one_losses: "share of wrong rows",
    squared_errors: "squared error",
    absolute_errors: "absolute error",
}

_BINARY: tuple[Task, ...] = ("binary",)
_MULTICLASS: tuple[Task, ...] = ("multiclass",)
_CLASSIFICATION: tuple[Task, ...] = ("binary", "multiclass")
_REGRESSION: tuple[Task, ...] = ("regression",)
_UNIT, _POSITIVE = (0.0, 1.0), (0.0, float("inf"))

#: A score is better when it is greater; an error or a loss is better when it is less.
_score = partial(Metric, greater_is_better=True)
_loss = partial(Metric, greater_is_better=False)
#: The monitor estimates these from the predicted probabilities.
_class_score = partial(_score, has_estimate=True)
_class_loss = partial(_loss, has_estimate=True)

ROC_AUC = _class_score(
    "roc_auc",
    "ROC AUC",
    _BINARY,
    _UNIT,
    roc_auc,
    log_losses,
    roc_auc_interval,
    always_defined=False,
    sees_order_only=True,
)
PR_AUC = _score(
    "pr_auc",
    "PR AUC",
    _BINARY,
    _UNIT,
    pr_auc,
    log_losses,
    pr_auc_interval,
    always_defined=False,
    sees_order_only=True,
)
LOG_LOSS = _class_loss(
    "log_loss",
    "log loss",
    _CLASSIFICATION,
    _POSITIVE,
    mean_loss(log_losses),
    log_losses,
    mean_loss_interval(log_losses),
)
BRIER = _class_loss(
    "brier",
    "Brier score",
    _CLASSIFICATION,
    (0.0, 2.0),
    mean_loss(brier_losses),
    brier_losses,
    mean_loss_interval(brier_losses),
)
ACCURACY = _class_score("accuracy", "accuracy", _CLASSIFICATION, _UNIT, accuracy, zero_one_losses, accuracy_interval)
F1 = _class_score("f1", "F1", _BINARY, _UNIT, f1, zero_one_losses, f1_interval)
MACRO_F1 = _score("macro_f1", "macro F1", _MULTICLASS, _UNIT, macro_f1, zero_one_losses, macro_f1_interval)
ROC_AUC_OVR = _score(
    "roc_auc_ovr",
    "ROC AUC, one versus rest",
    _MULTICLASS,
    _UNIT,
    roc_auc_ovr,
    log_losses,
    roc_auc_ovr_interval,
    always_defined=False,
)
RMSE = _loss("rmse", "RMSE", _REGRESSION, _POSITIVE, rmse, squared_errors, rmse_interval, is_decided_by_few=True)
MAE = _loss(
    "mae",
    "MAE",
    _REGRESSION,
    _POSITIVE,
    mean_loss(absolute_errors),
    absolute_errors,
    mean_error_interval(absolute_errors),
)
R2 = _score(
    "r2",
    "R\N{SUPERSCRIPT TWO}",
    _REGRESSION,
    (float("-inf"), 1.0),
    r2,
    squared_errors,
    r2_interval,
    always_defined=False,
    is_decided_by_few=True,
)
ERROR_P50 = _loss(
    "error_p50",
    "median absolute error",
    _REGRESSION,
    _POSITIVE,
    error_quantile(0.5),
    absolute_errors,
    error_quantile_interval(0.5),
)
ERROR_P90 = _loss(
    "error_p90",
    "90th percentile of absolute errors",
    _REGRESSION,
    _POSITIVE,
    error_quantile(0.9),
    absolute_errors,
    error_quantile_interval(0.9),
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
#: The metric of each task by which a model is nearly perfect, from :data:`NEARLY_PERFECT` on.
_PERFECTION: Mapping[Task, Metric] = {"binary": ROC_AUC, "multiclass": ACCURACY, "regression": R2}
NEARLY_PERFECT = 0.999
#: With fewer rows a model may be perfect by chance.
MIN_PERFECT_ROWS = 50


def nearly_perfect(task: Task, metrics: Mapping[str, float | None], rows: int) -> Metric | None:
    """Return the metric by which a model is nearly perfect on a holdout, or None: then it is not, or nobody knows."""
    metric = _PERFECTION[task]
    value = metrics.get(metric.name)
    return metric if rows >= MIN_PERFECT_ROWS and value is not None and value >= NEARLY_PERFECT else None


def get_metric(task: Task, name: str | None, field: str = "primary_metric") -> Metric:
    """Return a task's metric by name, or its primary one.

    Raises ``InvalidInputError`` when the task has no such metric: it lists those it has, under the spec's ``field``.
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
