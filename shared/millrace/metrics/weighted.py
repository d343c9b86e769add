"""The metrics of :mod:`millrace.metrics.scores` once more, for many weightings of the same rows at a time.

A bootstrap draw is a weight for each row. What does not depend on the weights (losses, the order of the scores) is
computed once, so that five hundred draws cost little more than one. Tests hold each to scikit-learn's own value.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.metrics.bootstrap import FloatArray, Statistic

Array = npt.NDArray[Any]

#: With more classes than this, areas under the curve are linear in the weights instead of exact.
MAX_SORTED_CLASSES = 10

_ROUNDING = 1e-12


def statistic(name: str, target: Array, predictions: Array) -> Statistic:
    """Return the metric called ``name`` of these predictions, as a function of weights.

    Parameters
    ----------
    target : array of shape (n_rows,)
        Class indices or values.
    predictions : array of shape (n_rows, n_classes) or (n_rows,)
        Probabilities or values.
    """
    return _BUILDERS[name](target, predictions.astype(np.float64))


def _mean_of(losses: FloatArray) -> Statistic:
    return lambda weights: np.asarray(weights @ losses / weights.sum(axis=1))


def _log_loss(target: Array, probabilities: Array) -> Statistic:
    proper = probabilities / probabilities.sum(axis=1, keepdims=True)
    smallest = np.finfo(np.float64).eps
    chosen = np.clip(proper[np.arange(len(target)), target], smallest, 1 - smallest)
    return _mean_of(-np.log(chosen))


def _accuracy(target: Array, probabilities: Array) -> Statistic:
    return _mean_of((probabilities.argmax(axis=1) == target).astype(np.float64))


def _brier(target: Array, probabilities: Array) -> Statistic:
    if probabilities.shape[1] == 2:  # noqa: PLR2004  # a binary task
        return _mean_of((probabilities[:, 1] - target) ** 2)
    of_target = probabilities[np.arange(len(target)), target]
    return _mean_of((probabilities**2).sum(axis=1) - 2 * of_target + 1)


def _f1_of_class(target: Array, probabilities: Array, label: int) -> Statistic:
    actual = (target == label).astype(np.float64)
    predicted = (probabilities.argmax(axis=1) == label).astype(np.float64)

    def f1(weights: FloatArray) -> FloatArray:
        members = weights @ (actual + predicted)
        return np.asarray(2 * (weights @ (actual * predicted)) / np.where(members > 0, members, 1.0))

    return f1


def _f1(target: Array, probabilities: Array) -> Statistic:
    return _f1_of_class(target, probabilities, 1)


def _macro_f1(target: Array, probabilities: Array) -> Statistic:
    """Count members of every class in one pass over the rows of a draw: there may be hundreds of classes."""
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    hits = np.flatnonzero(predicted == target)

    def macro_f1(weights: FloatArray) -> FloatArray:
        scores = np.empty(len(weights))
        for draw, row_weights in enumerate(weights):
            members = np.bincount(target, row_weights, classes) + np.bincount(predicted, row_weights, classes)
            found = np.bincount(target[hits], row_weights[hits], classes)
            scores[draw] = np.mean(2 * found / np.where(members > 0, members, 1.0))
        return scores

    return macro_f1


def _mean_over(statistics: list[Statistic]) -> Statistic:
    return lambda weights: np.asarray(np.mean([part(weights) for part in statistics], axis=0))


def _counts_by_score(
    positive: Array, scores: FloatArray, weights_to_area: Callable[[FloatArray, FloatArray], FloatArray]
) -> Statistic:
    """Sort once, best score first; hand over the positives and negatives of each distinct score of each draw."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    is_positive = positive[order].astype(np.float64)

    def area(weights: FloatArray) -> FloatArray:
        ranked = weights[:, order]
        total = np.add.reduceat(ranked, starts, axis=1)
        positives = np.add.reduceat(ranked * is_positive, starts, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return weights_to_area(positives, total - positives)

    return area


def _roc_area(positives: FloatArray, negatives: FloatArray) -> FloatArray:
    """Chance that a positive scores above a negative, a tie counting half (Hanley and McNeil, 1982)."""
    better = np.cumsum(positives, axis=1) - positives / 2
    return np.asarray((negatives * better).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1)))


def _precision_area(positives: FloatArray, negatives: FloatArray) -> FloatArray:
    """Average precision: precision at each score, weighted by the recall it adds."""
    found = np.cumsum(positives, axis=1)
    retrieved = found + np.cumsum(negatives, axis=1)
    precision = found / np.where(retrieved > 0, retrieved, 1.0)
    return np.asarray((precision * positives).sum(axis=1) / positives.sum(axis=1))


def _roc_auc(target: Array, probabilities: Array) -> Statistic:
    return _counts_by_score(target == 1, probabilities[:, 1], _roc_area)


def _roc_auc_ovr(target: Array, probabilities: Array) -> Statistic:
    proper = probabilities / probabilities.sum(axis=1, keepdims=True)
    labels = range(proper.shape[1])
    if len(labels) > MAX_SORTED_CLASSES:
        return _linear_roc_auc(target, proper)
    return _mean_over([_counts_by_score(target == label, proper[:, label], _roc_area) for label in labels])


def _linear_roc_auc(target: Array, probabilities: FloatArray) -> Statistic:
    """Return the macro area to first order in the weights, from each row's placement values (DeLong et al., 1988).

    Going through the sorted rows once a class and draw would take hours with hundreds of classes; so every row's
    influence is computed once, and a draw is a sum of influences.
    """
    rows, classes = probabilities.shape
    influence, area = np.zeros(rows), 0.0
    counts = np.bincount(target, minlength=classes)
    if (counts == 0).any() or (counts == rows).any():
        return lambda weights: np.full(len(weights), np.nan)
    for label in range(classes):
        scores, positive = probabilities[:, label], target == label
        above = _share_below(scores[positive], scores[~positive])
        below = 1.0 - _share_below(scores[~positive], scores[positive])
        of_class = float(above.mean())
        area += of_class / classes
        influence[positive] += (above - of_class) / len(above) / classes
        influence[~positive] += (below - of_class) / len(below) / classes
    return lambda weights: np.asarray(area + (weights - 1.0) @ influence)


def _share_below(scores: FloatArray, others: FloatArray) -> FloatArray:
    """Return the share of ``others`` below each score, a tie counting half."""
    ordered = np.sort(others)
    both = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return np.asarray(both / (2.0 * len(ordered)))


def _pr_auc(target: Array, probabilities: Array) -> Statistic:
    return _counts_by_score(target == 1, probabilities[:, 1], _precision_area)


def _rmse(target: Array, values: Array) -> Statistic:
    squares = _mean_of((values - target) ** 2)
    return lambda weights: np.sqrt(squares(weights))


def _mae(target: Array, values: Array) -> Statistic:
    return _mean_of(np.abs(values - target))


def _r2(target: Array, values: Array) -> Statistic:
    centred = target - target.mean()  # so that the squares below lose no digits to a large mean
    squares = _mean_of((values - target) ** 2)
    first, second = _mean_of(centred), _mean_of(centred**2)

    def r2(weights: FloatArray) -> FloatArray:
        variance = second(weights) - first(weights) ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(np.where(variance > 0, 1 - squares(weights) / variance, np.nan))

    return r2


def _error_quantile(share: float) -> Callable[[Array, Array], Statistic]:
    """Sort once; in each draw the quantile is the first error at which the weights reach the share."""

    def build(target: Array, values: Array) -> Statistic:
        errors = np.abs(values - target)
        order = np.argsort(errors, kind="stable")
        ordered = errors[order]

        def quantile(weights: FloatArray) -> FloatArray:
            reached = np.cumsum(weights[:, order], axis=1)
            position = (reached < share * reached[:, -1:] * (1 - _ROUNDING)).sum(axis=1)
            return np.asarray(ordered[position])

        return quantile

    return build


_BUILDERS: dict[str, Callable[[Array, Array], Statistic]] = {
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


#: The loss that goes with each metric; it is additive over rows, which areas and F-scores are not.
LOSSES = {
    "roc_auc": "log_loss",
    "roc_auc_ovr": "log_loss",
    "pr_auc": "log_loss",
    "log_loss": "log_loss",
    "brier": "brier",
    "accuracy": "error",
    "f1": "error",
    "macro_f1": "error",
    "rmse": "squared_error",
    "r2": "squared_error",
    "mae": "absolute_error",
    "error_p50": "absolute_error",
    "error_p90": "absolute_error",
}


def row_losses(loss: str, target: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> FloatArray:
    """Return the loss of each row; ``loss`` is a value of :data:`LOSSES`."""
    wide = predictions.astype(np.float64)
    if loss == "squared_error":
        return np.asarray((wide - target) ** 2)
    if loss == "absolute_error":
        return np.asarray(np.abs(wide - target))
    if loss == "error":
        return np.asarray(wide.argmax(axis=1) != target, dtype=np.float64)
    of_target = wide[np.arange(len(target)), target]
    if loss == "brier":
        return np.asarray((wide**2).sum(axis=1) - 2 * of_target + 1)
    smallest = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(of_target / wide.sum(axis=1), smallest, 1.0)))
