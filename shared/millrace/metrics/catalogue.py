"""Which metrics there are, and which way is better; :mod:`millrace.metrics.scores` computes them.

Planning refuses unknown names before anything is fitted, in a function without scikit-learn, so this module must not
need it.
"""

from dataclasses import dataclass

from millrace.errors import FieldError, InvalidInputError
from millrace.schema import Task


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Parameters
    ----------
    name : str
        As reports, floors and specs name it.
    greater_is_better : bool
        False for errors and losses.
    """

    name: str
    greater_is_better: bool

    def gain(self, challenger: float, other: float) -> float:
        """Return by how much ``challenger`` is better than ``other``; negative when it is worse."""
        return challenger - other if self.greater_is_better else other - challenger


#: Every task's metrics; the first is its primary one.
METRICS: dict[Task, tuple[Metric, ...]] = {
    "binary": (
        Metric("roc_auc", greater_is_better=True),
        Metric("pr_auc", greater_is_better=True),
        Metric("log_loss", greater_is_better=False),
        Metric("brier", greater_is_better=False),
        Metric("accuracy", greater_is_better=True),
        Metric("f1", greater_is_better=True),
    ),
    "multiclass": (
        Metric("log_loss", greater_is_better=False),
        Metric("brier", greater_is_better=False),
        Metric("accuracy", greater_is_better=True),
        Metric("macro_f1", greater_is_better=True),
        Metric("roc_auc_ovr", greater_is_better=True),
    ),
    "regression": (
        Metric("rmse", greater_is_better=False),
        Metric("mae", greater_is_better=False),
        Metric("r2", greater_is_better=True),
        Metric("error_p50", greater_is_better=False),
        Metric("error_p90", greater_is_better=False),
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
