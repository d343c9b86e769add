"""Statistics and row losses of classification and of regression.

A classifier's predictions are probabilities of shape (n_rows, n_classes); its targets are class indices. A statistic is
a function of row weights, with everything that does not depend on them (losses, the order of the scores) computed once:
five hundred bootstrap draws cost little more than one.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.metrics.bootstrap import FloatArray, Statistic, weighted_mean

Array = npt.NDArray[Any]

#: With more classes than this, the area under the curve is linear in the weights instead of exact.
MAX_SORTED_CLASSES = 10
_TWO_CLASSES = 2
_ROUNDING = 1e-12


def log_losses(target: Array, probabilities: Array) -> FloatArray:
    """Return each row's negative log-likelihood, of probabilities that are scaled to a sum of one."""
    wide = probabilities.astype(np.float64)  # float32 rows do not sum to one exactly
    smallest = np.finfo(np.float64).eps
    of_target = wide[np.arange(len(target)), target] / wide.sum(axis=1)
    return np.asarray(-np.log(np.clip(of_target, smallest, 1 - smallest)))


def brier_losses(target: Array, probabilities: Array) -> FloatArray:
    """Return each row's squared distance: of the second of two classes, or summed over several (Brier, 1950)."""
    wide = probabilities.astype(np.float64)
    if wide.shape[1] == _TWO_CLASSES:
        return np.asarray((wide[:, 1] - target) ** 2)
    return np.asarray((wide**2).sum(axis=1) - 2 * wide[np.arange(len(target)), target] + 1)


def zero_one_losses(target: Array, probabilities: Array) -> FloatArray:
    """Return 1 for each row whose most probable class is wrong, else 0."""
    return np.asarray(probabilities.argmax(axis=1) != target, dtype=np.float64)


def accuracy(target: Array, probabilities: FloatArray) -> Statistic:
    """Share of rows whose most probable class is right."""
    return weighted_mean(1.0 - zero_one_losses(target, probabilities))


def f1(target: Array, probabilities: FloatArray) -> Statistic:
    """F1 score of the second class; 0 where it is neither present nor predicted."""
    actual = (target == 1).astype(np.float64)
    predicted = (probabilities.argmax(axis=1) == 1).astype(np.float64)

    def statistic(weights: FloatArray) -> FloatArray:
        members = weights @ (actual + predicted)
        return np.asarray(2 * (weights @ (actual * predicted)) / np.where(members > 0, members, 1.0))

    return statistic


def macro_f1(target: Array, probabilities: FloatArray) -> Statistic:
    """Mean F1 score of all classes, counted in one pass over the rows of a draw: there may be hundreds of classes."""
    classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    hits = np.flatnonzero(predicted == target)

    def statistic(weights: FloatArray) -> FloatArray:
        scores = np.empty(len(weights))
        for draw, row_weights in enumerate(weights):
            members = np.bincount(target, row_weights, classes) + np.bincount(predicted, row_weights, classes)
            found = np.bincount(target[hits], row_weights[hits], classes)
            scores[draw] = np.mean(2 * found / np.where(members > 0, members, 1.0))
        return scores

    return statistic


def roc_auc(target: Array, probabilities: FloatArray) -> Statistic:
    """Area under the ROC curve of the second class; NaN where a class is absent."""
    return _ranking(target == 1, probabilities[:, 1], _roc_area)


def pr_auc(target: Array, probabilities: FloatArray) -> Statistic:
    """Average precision of the second class; NaN where it is absent."""
    return _ranking(target == 1, probabilities[:, 1], _average_precision)


def roc_auc_ovr(target: Array, probabilities: FloatArray) -> Statistic:
    """Mean area of one class versus the rest; NaN where a class is absent."""
    proper = probabilities / probabilities.sum(axis=1, keepdims=True)
    if proper.shape[1] > MAX_SORTED_CLASSES:
        return _linear_roc_auc(target, proper)
    areas = [_ranking(target == label, proper[:, label], _roc_area) for label in range(proper.shape[1])]
    return lambda weights: np.asarray(np.mean([area(weights) for area in areas], axis=0))


def _ranking(positive: Array, scores: FloatArray, area_of: Callable[[FloatArray, FloatArray], FloatArray]) -> Statistic:
    """Sort once, best score first; pass the positives and negatives of each distinct score to ``area_of``."""
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    is_positive = positive[order].astype(np.float64)

    def statistic(weights: FloatArray) -> FloatArray:
        ranked = weights[:, order]
        total = np.add.reduceat(ranked, starts, axis=1)
        positives = np.add.reduceat(ranked * is_positive, starts, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return area_of(positives, total - positives)

    return statistic


def _roc_area(positives: FloatArray, negatives: FloatArray) -> FloatArray:
    """Chance that a positive scores above a negative, a tie counting half (Hanley and McNeil, 1982)."""
    better = np.cumsum(positives, axis=1) - positives / 2
    return np.asarray((negatives * better).sum(axis=1) / (positives.sum(axis=1) * negatives.sum(axis=1)))


def _average_precision(positives: FloatArray, negatives: FloatArray) -> FloatArray:
    """Precision at each score, weighted by the recall it adds."""
    found = np.cumsum(positives, axis=1)
    retrieved = found + np.cumsum(negatives, axis=1)
    precision = found / np.where(retrieved > 0, retrieved, 1.0)
    return np.asarray((precision * positives).sum(axis=1) / positives.sum(axis=1))


def _linear_roc_auc(target: Array, probabilities: FloatArray) -> Statistic:
    """Macro area to first order in the weights, from each row's placement values (DeLong et al., 1988).

    Sorting once a class and draw would take hours with hundreds of classes; so each row's influence is computed once,
    and a draw is a sum of influences.
    """
    rows, classes = probabilities.shape
    influence, area = np.zeros(rows), 0.0
    counts = np.bincount(target, minlength=classes)
    if (counts == 0).any() or (counts == rows).any():
        return lambda weights: np.full(len(weights), np.nan)
    for label in range(classes):
        scores, positive = probabilities[:, label], target == label
        above = share_below(scores[positive], scores[~positive])
        below = 1.0 - share_below(scores[~positive], scores[positive])
        of_class = float(above.mean())
        area += of_class / classes
        influence[positive] += (above - of_class) / len(above) / classes
        influence[~positive] += (below - of_class) / len(below) / classes
    return lambda weights: np.asarray(area + (weights - 1.0) @ influence)


def share_below(scores: FloatArray, others: FloatArray) -> FloatArray:
    """Share of ``others`` below each score, a tie counting half."""
    ordered = np.sort(others)
    both = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    return np.asarray(both / (2.0 * len(ordered)))


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
