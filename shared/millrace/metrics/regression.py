"""Statistics and row losses of regression; predictions are values of shape (n_rows,)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.metrics.bootstrap import FloatArray, Statistic, weighted_mean

Array = npt.NDArray[Any]

_ROUNDING = 1e-12


def squared_errors(target: Array, values: Array) -> FloatArray:
    """Return each row's squared error."""
    return np.asarray((values.astype(np.float64) - target) ** 2)


def absolute_errors(target: Array, values: Array) -> FloatArray:
    """Return each row's absolute error."""
    return np.asarray(np.abs(values.astype(np.float64) - target))


def rmse(target: Array, values: FloatArray) -> Statistic:
    """Root mean squared error."""
    squares = weighted_mean(squared_errors(target, values))
    return lambda weights: np.sqrt(squares(weights))


def r2(target: Array, values: FloatArray) -> Statistic:
    """Coefficient of determination; NaN where the targets do not vary."""
    centred = target - target.mean()  # so that the squares below lose no digits to a large mean
    squares = weighted_mean(squared_errors(target, values))
    first, second = weighted_mean(centred), weighted_mean(centred**2)

    def statistic(weights: FloatArray) -> FloatArray:
        variance = second(weights) - first(weights) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(variance > 0, 1 - squares(weights) / variance, np.nan))

    return statistic


def error_quantile(share: float) -> Callable[[Array, FloatArray], Statistic]:
    """Absolute error that this share of the rows does not exceed."""

    def build(target: Array, values: FloatArray) -> Statistic:
        errors = absolute_errors(target, values)
        order = np.argsort(errors, kind="stable")
        ordered = errors[order]

        def statistic(weights: FloatArray) -> FloatArray:
            reached = np.cumsum(weights[:, order], axis=1)
            position = (reached < share * reached[:, -1:] * (1 - _ROUNDING)).sum(axis=1)
            return np.asarray(ordered[position])

        return statistic

    return build
