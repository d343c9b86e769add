"""Curves and tables behind a model's figures, thinned to what a figure can show."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.metrics.bootstrap import wilson
from millrace.schema import TableSchema
from millrace.spec.training import CostSpec

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which probability on a row is called positive.

    Parameters
    ----------
    value : float
        Included.
    rule : {'expected_cost', 'cheapest_on_validation'}
        How it was found.
    validation_cost : float
        What a row of the validation split costs with it, on average.
    """

    value: float
    rule: str
    validation_cost: float


def choose_threshold(target: Array, scores: Array, costs: CostSpec) -> Threshold:
    """Choose a threshold on the validation split.

    Parameters
    ----------
    target : array of shape (n_rows,)
        1 for the positive class, else 0.
    scores : array of shape (n_rows,)
        Its probability.
    costs : CostSpec
        Of wrong decisions.
    """
    expected = costs.false_positive / (costs.false_positive + costs.false_negative)
    positive = target == 1
    order = np.argsort(scores, kind="stable")
    ordered, is_positive = scores[order].astype(np.float64), positive[order]
    # Called positive are the rows from a position on: missed positives lie before it, false alarms behind it.
    missed = np.r_[0, np.cumsum(is_positive)]
    alarms = np.sum(~is_positive) - np.r_[0, np.cumsum(~is_positive)]
    total = costs.false_negative * missed + costs.false_positive * alarms
    possible = np.r_[True, ordered[1:] != ordered[:-1], True]
    positions = np.flatnonzero(possible)
    cheapest = int(positions[np.argmin(total[positions])])
    at_expected = int(np.searchsorted(ordered, expected, "left"))
    rows = len(target)
    if total[at_expected] - total[cheapest] <= _standard_error(is_positive, cheapest, at_expected, costs):
        return Threshold(expected, "expected_cost", float(total[at_expected] / rows))
    return Threshold(_between(ordered, cheapest), "cheapest_on_validation", float(total[cheapest] / rows))


def _standard_error(is_positive: npt.NDArray[np.bool_], first: int, second: int, costs: CostSpec) -> float:
    """Return the standard error of the difference of two total costs: only rows between the thresholds differ."""
    between = is_positive[min(first, second) : max(first, second)]
    differences = np.where(between, costs.false_negative, -costs.false_positive)
    rows = len(is_positive)
    variance = np.sum(differences**2) - np.sum(differences) ** 2 / rows
    return float(np.sqrt(max(0.0, variance)))


def _between(ordered: npt.NDArray[np.float64], position: int) -> float:
    """Return a threshold that has this many scores below it: halfway to the next, or past the end."""
    if position == 0:
        return float(max(0.0, ordered[0] / 2))
    if position == len(ordered):
        return float(min(1.0, (ordered[-1] + 1.0) / 2)) if ordered[-1] < 1.0 else float(np.nextafter(1.0, 2.0))
    return float((ordered[position - 1] + ordered[position]) / 2)


def decisions(probabilities: Array, value: float | None) -> npt.NDArray[np.bool_]:
    """Tell which rows of a binary task are called positive; without a threshold, those where it is the likelier."""
    if value is None:
        return np.asarray(probabilities.argmax(axis=1) == 1, dtype=np.bool_)
    return np.asarray(probabilities[:, 1] >= value, dtype=np.bool_)


def decision_costs(target: Array, called: npt.NDArray[np.bool_], costs: CostSpec) -> npt.NDArray[np.float64]:
    """Return what each row's decision costs."""
    wrong_alarm = called & (target != 1)
    missed = ~called & (target == 1)
    return np.asarray(costs.false_positive * wrong_alarm + costs.false_negative * missed, dtype=np.float64)


FloatArray = npt.NDArray[np.float64]

#: Points of a curve, cells of a calibration curve or a histogram, rows of a scatter plot.
MAX_POINTS = 80
CALIBRATION_CELLS = 10
RESIDUAL_CELLS = 24
MAX_SCATTERED = 250
#: Classes whose confusion matrix is kept whole; of more, the commonest confusions are.
MAX_MATRIX_CLASSES = 40
MAX_CONFUSIONS = 30
MAX_CLASSES = 100

_ROUNDING = 1e-9


def classification_curves(
    schema: TableSchema, target: Array, probabilities: Array, confidence: float
) -> dict[str, Any]:
    """Return calibration, and for a binary task the ROC and precision-recall curves."""
    wide = probabilities.astype(np.float64)
    if schema.task == "binary":
        positive = target == 1
        curves: dict[str, Any] = {"calibration": calibration(wide[:, 1], positive, confidence)}
        if positive.any() and not positive.all():
            curves |= _ranking_curves(positive, wide[:, 1])
        return curves
    return {"calibration": calibration(wide.max(axis=1), wide.argmax(axis=1) == target, confidence)}


def _ranking_curves(positive: npt.NDArray[np.bool_], scores: FloatArray) -> dict[str, Any]:
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    found = np.cumsum(positive[order])[last]
    retrieved = last + 1
    recall = found / found[-1]
    false_alarms = (retrieved - found) / (len(positive) - found[-1])
    return {
        "roc": _thinned(np.r_[0.0, false_alarms], np.r_[0.0, recall]),
        "precision_recall": _thinned(recall, found / retrieved),
        "positive_share": float(positive.mean()),
    }


def _thinned(x: FloatArray, y: FloatArray) -> list[list[float]]:
    """Return at most :data:`MAX_POINTS` points, evenly along the curve, its ends among them."""
    length = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
    wanted = np.linspace(0.0, length[-1], MAX_POINTS)
    chosen = np.unique(np.searchsorted(length, wanted, "left").clip(0, len(x) - 1))
    return [[round(float(x[i]), 4), round(float(y[i]), 4)] for i in np.unique(np.r_[0, chosen, len(x) - 1])]


def calibration(probabilities: FloatArray, happened: npt.NDArray[np.bool_], confidence: float) -> dict[str, Any]:
    """Return how often what was given a probability happened, in equally full cells, with Wilson's intervals.

    ``expected_error`` is the expected calibration error: the mean distance, weighted by rows (Naeini et al., 2015).
    """
    order = np.argsort(probabilities, kind="stable")
    pieces = [piece for piece in np.array_split(order, min(CALIBRATION_CELLS, len(order))) if len(piece)]
    merged: list[Array] = []
    for piece in pieces:  # rows of one probability stand in one cell
        if merged and probabilities[piece[-1]] == probabilities[merged[-1][0]]:
            merged[-1] = np.r_[merged[-1], piece]
        else:
            merged.append(piece)
    cells = []
    for piece in merged:
        share = float(happened[piece].mean())
        low, high = wilson(share, len(piece), NormalDist().inv_cdf((1 + confidence) / 2))
        cells.append(
            {
                "predicted": float(probabilities[piece].mean()),
                "observed": share,
                "low": low,
                "high": high,
                "rows": len(piece),
            }
        )
    distance = sum(cell["rows"] * abs(cell["predicted"] - cell["observed"]) for cell in cells)
    return {"cells": cells, "expected_error": distance / len(probabilities)}


def confusion(schema: TableSchema, target: Array, called: Array) -> dict[str, Any] | None:
    """Return counts by true class (rows) and called class (columns), and each class's precision and recall.

    With many classes the matrix is left out and the commonest confusions are named. None for regression.
    """
    if schema.task == "regression":
        return None
    count = len(schema.classes)
    matrix = np.bincount(target * count + called, minlength=count * count).reshape(count, count)
    document: dict[str, Any] = {
        "classes": list(schema.classes) if count <= MAX_MATRIX_CLASSES else None,
        "matrix": matrix.tolist() if count <= MAX_MATRIX_CLASSES else None,
        "per_class": _per_class(schema, matrix),
        "left_out_classes": max(0, count - MAX_CLASSES),
        "commonest": [],
    }
    wrong = matrix - np.diag(np.diag(matrix))
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSIONS].tolist():
        actual, predicted = divmod(cell, count)
        if wrong[actual, predicted]:
            names = {"actual": schema.classes[actual], "called": schema.classes[predicted]}
            document["commonest"].append(names | {"rows": int(wrong[actual, predicted])})
    return document


def _per_class(schema: TableSchema, matrix: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """Return every class's figures; of many classes those with the lowest recall."""
    rows, called, right = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
    recall = np.where(rows > 0, right / np.maximum(rows, 1), np.nan)
    positions = np.arange(len(rows)) if len(rows) <= MAX_CLASSES else np.argsort(recall, kind="stable")[:MAX_CLASSES]
    return [
        {
            "name": schema.classes[position],
            "rows": int(rows[position]),
            "recall": float(recall[position]) if rows[position] else None,
            "precision": float(right[position] / called[position]) if called[position] else None,
        }
        for position in positions.tolist()
    ]


def residuals(target: FloatArray, values: Array, seed: int) -> dict[str, Any]:
    """Return what a regression's errors look like: histogram, quantiles, true values beside predicted ones."""
    predicted = values.astype(np.float64)
    errors = predicted - target
    low, high = np.quantile(errors, [0.005, 0.995])
    if high - low <= _ROUNDING * max(abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(errors, low, high), RESIDUAL_CELLS, (low, high))
    chosen = np.arange(len(target))
    if len(target) > MAX_SCATTERED:
        chosen = np.sort(np.random.default_rng(seed).choice(len(target), MAX_SCATTERED, replace=False))
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    return {
        "mean": float(errors.mean()),
        "quantiles": {str(q): float(v) for q, v in zip(levels, np.quantile(errors, levels), strict=True)},
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "points": [[float(predicted[i]), float(target[i])] for i in chosen],
        "by_prediction": _by_prediction(predicted, errors),
    }


def _by_prediction(predicted: FloatArray, errors: FloatArray) -> list[Mapping[str, float]]:
    """Return the errors of equally full cells of the prediction: where the model is too high, too low, or unsure."""
    pieces = [p for p in np.array_split(np.argsort(predicted, kind="stable"), CALIBRATION_CELLS) if len(p)]
    return [
        {
            "predicted": float(predicted[piece].mean()),
            "mean_error": float(errors[piece].mean()),
            "absolute_error": float(np.abs(errors[piece]).mean()),
            "rows": len(piece),
        }
        for piece in pieces
    ]
