"""The learning curve: the winner's recipe fitted on shares of the rows, to tell whether more rows would help."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace.data.prepared import PreparedSplit
from millrace.errors import MillraceError
from millrace.registry.entities import Trial
from millrace.schema import TableSchema
from millrace.training.metric_catalogue import Metric

#: Shares of the training rows, the smallest first; the whole is the winner itself.
SHARES = (0.1, 0.25, 0.5)
MIN_ROWS = 50
#: Rows of the training split on which a fit is measured, too.
MAX_TRAIN_ROWS = 5_000

#: From a trial, a schema, training rows and a list of splits to the model's metrics on each.
Refit = Callable[[Trial, TableSchema, PreparedSplit, list[PreparedSplit]], list[Mapping[str, float]]]


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The primary metric against the number of training rows.

    Parameters
    ----------
    points : tuple of (rows, train value, validation value)
        The smallest first.
    note : str
        Why there are no points, or fewer than there could be.
    """

    metric: str
    points: tuple[tuple[int, float, float], ...]
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "metric": self.metric,
            "points": [{"rows": rows, "train": train, "validation": value} for rows, train, value in self.points],
            "note": self.note,
        }


def learning_curve(
    trial: Trial,
    schema: TableSchema,
    train: PreparedSplit,
    validation: PreparedSplit,
    *,
    metric: Metric,
    whole: tuple[float | None, float | None],
    refit: Refit,
    seconds: float,
    clock: Callable[[], float],
) -> LearningCurve:
    """Fit the winner's recipe on shares of the training rows, while the time allows it.

    Parameters
    ----------
    whole : tuple of float or None
        The winner's metric on its training rows and on the validation split.
    refit : callable
        Fits and measures.
    seconds : float
        What all refits may take; one is not begun when it would, going by the winner's own time, not end in time.
    clock : callable
        Seconds from any fixed point, monotonic.
    """
    order = np.random.default_rng(trial.seed).permutation(len(train))
    points: list[tuple[int, float, float]] = []
    note = ""
    begun = clock()
    for share in SHARES:
        rows = int(share * len(train))
        if rows < MIN_ROWS:
            note = f"Shares of fewer than {MIN_ROWS} rows are left out."
            continue
        if clock() - begun + share * (trial.duration_seconds or 0.0) > seconds:
            note = "Further refits would have taken longer than evaluation.learning_curve_seconds."
            break
        part = train.take(np.sort(order[:rows]))
        try:
            metrics = refit(trial, schema, part, [part.take(np.arange(min(rows, MAX_TRAIN_ROWS))), validation])
        except (MillraceError, ValueError, ArithmeticError):
            note = "Some shares of the rows could not be learnt from, for instance because a class is missing."
            continue
        values = [measured.get(metric.name) for measured in metrics]
        if values[0] is not None and values[1] is not None:
            points.append((rows, values[0], values[1]))
    if points and whole[0] is not None and whole[1] is not None:
        points.append((len(train), whole[0], whole[1]))
    return LearningCurve(metric.name, tuple(points), note)
