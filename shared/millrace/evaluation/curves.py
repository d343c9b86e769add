"""Decision threshold, curves, confusion matrix and residuals, thinned to the resolution of a chart."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from millrace import evaluation_results as results
from millrace.metrics.bootstrap import FloatArray, wilson
from millrace.metrics.confidence_intervals import CalibrationBins, TooFewRows, calibration_error_interval
from millrace.schema import TableSchema
from millrace.spec.training import CostSpec

Array = npt.NDArray[Any]

MAX_POINTS = 80
CALIBRATION_BINS = 10
RESIDUAL_BINS = 24
MAX_SCATTERED = 250
#: Classes whose confusion matrix is kept whole; of more, the commonest confusions are.
MAX_MATRIX_CLASSES = 40
MAX_CONFUSIONS = 30
MAX_CLASSES = 100

_ROUNDING = 1e-9
#: Probability above which an outcome is predicted.
_LIKELIER = 0.5


@dataclass(frozen=True, slots=True)
class DecisionThreshold:
    """The probability from which on, included, a row is predicted positive; ``validation_cost`` is the mean a row."""

    value: float
    rule: str
    validation_cost: float


def choose_threshold(target: Array, scores: Array, costs: CostSpec) -> DecisionThreshold:
    """Choose a threshold on the validation split, from targets (1 for the positive class) and its probabilities."""
    expected = costs.false_positive / (costs.false_positive + costs.false_negative)
    positive = target == 1
    order = np.argsort(scores, kind="stable")
    ordered, is_positive = scores[order].astype(np.float64), positive[order]
    # Rows from a position on are predicted positive: missed positives lie before it, false alarms behind it.
    missed = np.r_[0, np.cumsum(is_positive)]
    alarms = np.sum(~is_positive) - np.r_[0, np.cumsum(~is_positive)]
    total = costs.false_negative * missed + costs.false_positive * alarms
    positions = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
    cheapest = int(positions[np.argmin(total[positions])])
    at_expected = int(np.searchsorted(ordered, expected, "left"))
    rows = len(target)
    if total[at_expected] - total[cheapest] <= _standard_error(is_positive, cheapest, at_expected, costs):
        return DecisionThreshold(expected, "expected_cost", float(total[at_expected] / rows))
    return DecisionThreshold(_between(ordered, cheapest), "cheapest_on_validation", float(total[cheapest] / rows))


def _standard_error(is_positive: npt.NDArray[np.bool_], first: int, second: int, costs: CostSpec) -> float:
    """Return the standard error of the difference of two total costs: only rows between the thresholds differ."""
    between = is_positive[min(first, second) : max(first, second)]
    differences = np.where(between, costs.false_negative, -costs.false_positive)
    variance = np.sum(differences**2) - np.sum(differences) ** 2 / len(is_positive)
    return float(np.sqrt(max(0.0, variance)))


def _between(ordered: FloatArray, position: int) -> float:
    """Return a threshold that has this many scores below it: halfway to the next, or past the end."""
    if position == 0:
        return float(max(0.0, ordered[0] / 2))
    if position == len(ordered):
        return float(min(1.0, (ordered[-1] + 1.0) / 2)) if ordered[-1] < 1.0 else float(np.nextafter(1.0, 2.0))
    return float((ordered[position - 1] + ordered[position]) / 2)


def predict_positive(probabilities: Array, threshold: float | None) -> npt.NDArray[np.bool_]:
    """Return the rows of a binary task that are predicted positive; without a threshold, where it is likelier."""
    if threshold is None:
        return np.asarray(probabilities.argmax(axis=1) == 1, dtype=np.bool_)
    return np.asarray(probabilities[:, 1] >= threshold, dtype=np.bool_)


def decision_costs(target: Array, positive: npt.NDArray[np.bool_], costs: CostSpec) -> FloatArray:
    """Return the cost of each row's decision."""
    false_alarm = positive & (target != 1)
    missed = ~positive & (target == 1)
    return np.asarray(costs.false_positive * false_alarm + costs.false_negative * missed, dtype=np.float64)


def classification_curves(
    schema: TableSchema, target: Array, probabilities: Array, confidence: float
) -> results.Curves:
    """Return calibration, and for a binary task the ROC and precision-recall curves."""
    wide = probabilities.astype(np.float64)
    if schema.task != "binary":
        right = wide.argmax(axis=1) == target
        return results.Curves(calibration=calibration_curve(wide.max(axis=1), right, confidence))
    positive, scores = target == 1, wide[:, 1]
    calibration = calibration_curve(scores, positive, confidence)
    if positive.all() or not positive.any():
        return results.Curves(calibration=calibration)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    found = np.cumsum(positive[order])[last]
    retrieved = last + 1
    recall = found / found[-1]
    false_alarms = (retrieved - found) / (len(positive) - found[-1])
    return results.Curves(
        calibration=calibration,
        roc=_thinned(np.r_[0.0, false_alarms], np.r_[0.0, recall]),
        precision_recall=_thinned(recall, found / retrieved),
        positive_share=float(positive.mean()),
    )


def _thinned(x: FloatArray, y: FloatArray) -> list[results.Point]:
    """Return at most :data:`MAX_POINTS` points, evenly along the curve, its ends among them."""
    length = np.r_[0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))]
    wanted = np.linspace(0.0, length[-1], MAX_POINTS)
    chosen = np.unique(np.searchsorted(length, wanted, "left").clip(0, len(x) - 1))
    return [(round(float(x[i]), 4), round(float(y[i]), 4)) for i in np.unique(np.r_[0, chosen, len(x) - 1])]


def calibration_curve(
    probabilities: FloatArray, happened: npt.NDArray[np.bool_], confidence: float
) -> results.CalibrationCurve:
    """Return observed frequencies in equally full bins of the predicted probability."""
    order = np.argsort(probabilities, kind="stable")
    pieces = [piece for piece in np.array_split(order, min(CALIBRATION_BINS, len(order))) if len(piece)]
    merged: list[Array] = []
    for piece in pieces:  # rows of one probability stay in one bin
        if merged and probabilities[piece[-1]] == probabilities[merged[-1][0]]:
            merged[-1] = np.r_[merged[-1], piece]
        else:
            merged.append(piece)
    parts = []
    for piece in merged:
        share = float(happened[piece].mean())
        low, high = wilson(share, len(piece), NormalDist().inv_cdf((1 + confidence) / 2))
        parts.append(results.CalibrationBin(float(probabilities[piece].mean()), share, low, high, len(piece)))
    bins = CalibrationBins(
        predicted=np.array([part.predicted for part in parts]),
        observed=np.array([part.observed for part in parts]),
        spread=np.array([np.var(probabilities[piece]) for piece in merged]),
        errors=np.array([_bin_error(probabilities[piece], happened[piece]) for piece in merged]),
        counts=np.array([part.rows for part in parts], dtype=np.float64),
    )
    expected = float(bins.counts @ np.abs(bins.predicted - bins.observed) / len(probabilities))
    curve = results.CalibrationCurve(bins=parts, expected_error=expected)
    wrong = int(np.sum((probabilities > _LIKELIER) != happened))
    interval = calibration_error_interval(bins, wrong, confidence)
    if isinstance(interval, TooFewRows):
        return msgspec.structs.replace(curve, expected_error_reason=interval.reason)
    return msgspec.structs.replace(curve, expected_error_low=interval.low, expected_error_high=interval.high)


def _bin_error(probabilities: FloatArray, happened: npt.NDArray[np.bool_]) -> float:
    """Return the standard error of a bin's difference; two rows of the stated variance count beside those of the bin.

    Without them, a bin in which nothing happened would be free of error.
    """
    rows = len(probabilities)
    observed = rows * float(np.var(happened - probabilities))
    stated = float(np.mean(probabilities * (1 - probabilities)))
    return float(np.sqrt(max((observed + 2 * stated) / (rows + 1) / rows, _ROUNDING)))


def confusion_matrix(schema: TableSchema, target: Array, predicted: Array) -> results.ConfusionMatrix:
    """Count rows by true and predicted class index; with many classes, keep the commonest confusions only."""
    names, count = schema.class_names, len(schema.classes)
    matrix = np.bincount(target * count + predicted, minlength=count * count).reshape(count, count)
    wrong = matrix - np.diag(np.diag(matrix))
    commonest = np.argsort(-wrong, axis=None, kind="stable")[:MAX_CONFUSIONS].tolist()
    rows, columns, right = matrix.sum(axis=1), matrix.sum(axis=0), np.diag(matrix)
    recall = np.where(rows > 0, right / np.maximum(rows, 1), np.nan)
    # Of many classes, those with the lowest recall are shown.
    shown = np.arange(count) if count <= MAX_CLASSES else np.argsort(recall, kind="stable")[:MAX_CLASSES]
    is_whole = count <= MAX_MATRIX_CLASSES
    return results.ConfusionMatrix(
        classes=list(names) if is_whole else None,
        matrix=matrix.tolist() if is_whole else None,
        per_class=[
            results.ClassResult(
                names[one],
                int(rows[one]),
                recall=float(recall[one]) if rows[one] else None,
                precision=float(right[one] / columns[one]) if columns[one] else None,
            )
            for one in shown.tolist()
        ],
        left_out_classes=max(0, count - MAX_CLASSES),
        commonest=[
            results.Misclassification(actual=names[actual], predicted=names[other], rows=int(wrong[actual, other]))
            for actual, other in (divmod(position, count) for position in commonest)
            if wrong[actual, other]
        ],
    )


def residuals(target: FloatArray, values: Array, seed: int, *, hides_values: bool = False) -> results.Residuals:
    """Return a regression's errors: histogram, quantiles, and, unless hidden, true values beside predicted ones."""
    predicted = values.astype(np.float64)
    errors = predicted - target
    low, high = np.quantile(errors, [0.005, 0.995])
    if high - low <= _ROUNDING * max(abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(errors, low, high), RESIDUAL_BINS, (low, high))
    chosen = np.arange(len(target))
    if len(target) > MAX_SCATTERED:
        chosen = np.sort(np.random.default_rng(seed).choice(len(target), MAX_SCATTERED, replace=False))
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    if hides_values:
        chosen, predicted = chosen[:0], predicted[:0]
    pieces = [part for part in np.array_split(np.argsort(predicted, kind="stable"), CALIBRATION_BINS) if len(part)]
    return results.Residuals(
        mean=float(errors.mean()),
        quantiles={str(q): float(v) for q, v in zip(levels, np.quantile(errors, levels), strict=True)},
        histogram=results.ErrorHistogram(edges.tolist(), counts.tolist()),
        points=[(float(predicted[i]), float(target[i])) for i in chosen],
        by_prediction=[
            results.ErrorsByPrediction(
                float(predicted[piece].mean()),
                float(errors[piece].mean()),
                float(np.abs(errors[piece]).mean()),
                len(piece),
            )
            for piece in pieces
        ],
    )
