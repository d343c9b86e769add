"""Errors of estimates without ground truth, from parts of the holdout: they widen the estimates' intervals.

Monitoring expects a classifier's metrics from its probabilities, calibrated on the whole holdout. On a part of the
holdout the expectation and the metric itself differ by more than chance where the model is not calibrated within parts.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation.slices import conditions_of
from millrace.histograms.outcomes import OutcomeHistogram
from millrace.histograms.predictions import locate_probabilities
from millrace.metrics.bootstrap import Statistic, weighted_mean
from millrace.metrics.catalogue import ACCURACY, METRICS
from millrace.schema import TableSchema

Array = npt.NDArray[Any]

#: Rows of a part, and outside it.
MIN_ROWS = 30
#: With fewer parts there is no spread to measure.
MIN_PARTS = 4
_MAX_PARTS = 100
_MAX_ROWS = 10_000
#: Draws of outcomes from the calibrated probabilities, for the deviation that chance alone gives.
_DRAWS = 20
#: Smallest variance of a part that counts, so that no single part has all the weight.
_LEAST_VARIANCE = 1e-4


def measure_estimate_errors(
    schema: TableSchema,
    predictions: Array,
    target: Array,
    *,
    columns: Mapping[str, Array],
    outcomes: OutcomeHistogram,
    seed: int,
) -> dict[str, dict[str, float]] | None:
    """Return the error of each metric's estimate, per unit of distance between a window and training in each feature.

    The parts are the values, or quartiles, of each feature. A part that has the share ``p`` of the rows is at the
    distance ``1 - p`` from the whole (total variation). The variance of the errors beyond chance is a weighted mean
    over the parts (DerSimonian and Laird 1986, *Controlled Clinical Trials* 7: 177-188), plus its standard error: over
    those of the feature or over all, whichever is greater.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (rows,)
        Values of the holdout's features.
    outcomes : OutcomeHistogram
        The holdout's predictions and outcomes, which calibrate the probabilities.

    Returns
    -------
    dict or None
        By name of metric and of feature; None where the holdout is too small, or has no features, to have parts.
    """
    rows = np.arange(0, len(target), -(-len(target) // _MAX_ROWS))
    probabilities, truth = predictions[rows].astype(np.float64), target[rows].astype(np.int64)
    parts = _find_parts(schema, {name: values[rows] for name, values in columns.items()}, len(rows))
    if len(parts) < MIN_PARTS:
        return None
    masks, names = np.array([mask for _, mask in parts], dtype=np.float64), np.array([name for name, _ in parts])
    calibrated = outcomes.calibration_map()
    chances = np.take_along_axis(calibrated.T, locate_probabilities(probabilities, calibrated.shape[1]), axis=0)
    chances /= chances.sum(axis=1, keepdims=True)
    distances = 1.0 - masks.mean(axis=1)
    drawn = list(_draw_outcomes(chances, seed))
    found: dict[str, dict[str, float]] = {}
    for metric in METRICS[schema.task]:
        if not metric.has_estimate:
            continue
        if schema.task == "binary":
            expected = _expect(metric.statistic_of(*_each_outcome(probabilities)), chances)(masks)
        elif metric is ACCURACY:
            expected = weighted_mean(chances[np.arange(len(rows)), probabilities.argmax(axis=1)])(masks)
        else:
            continue
        errors = metric.statistic_of(truth, probabilities)(masks) - expected
        by_chance = [metric.statistic_of(outcome, probabilities)(masks) - expected for outcome in drawn]
        variances = np.mean(np.square(by_chance), axis=0)
        overall = _spread(errors, variances, distances)
        found[metric.name] = {
            name: max(overall, _spread(errors[own], variances[own], distances[own]))
            for name, own in ((name, names == name) for name in np.unique(names).tolist())
        }
    return found


def _find_parts(schema: TableSchema, columns: Mapping[str, Array], rows: int) -> list[tuple[str, Array]]:
    """Return the feature and the mask of each part."""
    conditions = [
        condition
        for column in schema.features
        if column.name in columns
        for condition in conditions_of(column, columns[column.name])
    ]
    masks = [(condition.column, condition.mask(columns)) for condition in conditions]
    large = [(name, mask) for name, mask in masks if MIN_ROWS <= np.count_nonzero(mask) <= rows - MIN_ROWS]
    return large[:: max(1, -(-len(large) // _MAX_PARTS))]


def _each_outcome(probabilities: Array) -> tuple[Array, Array]:
    """Return every row once with each class as its outcome."""
    rows, classes = probabilities.shape
    return np.repeat(np.arange(classes), rows), np.tile(probabilities, (classes, 1))


def _expect(statistic: Statistic, chances: Array) -> Statistic:
    """Return the expectation of a statistic of every outcome, whose weight is its chance."""
    return lambda weights: statistic((weights[:, np.newaxis, :] * chances.T).reshape(len(weights), -1))


def _draw_outcomes(chances: Array, seed: int) -> Iterator[Array]:
    generator, cumulated = np.random.default_rng(seed), np.cumsum(chances, axis=1)[:, :-1]
    for _ in range(_DRAWS):
        yield np.asarray((generator.random((len(chances), 1)) > cumulated).sum(axis=1))


def _spread(errors: Array, variances: Array, distances: Array) -> float:
    """Return the root of the mean square of the errors beyond chance, per unit of distance."""
    known = np.isfinite(errors) & np.isfinite(variances)
    if not known.any():
        return 0.0
    weights = 1.0 / (variances[known] + _LEAST_VARIANCE)
    weights /= weights.sum()
    squares = (errors[known] ** 2 - variances[known]) / distances[known] ** 2
    mean = float(np.sum(weights * squares))
    error = float(np.sqrt(np.sum(weights**2 * (squares - mean) ** 2)))
    return float(np.sqrt(max(0.0, mean + error)))
