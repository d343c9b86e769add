"""Intervals and prediction sets on request: how far the truth may be from a prediction, at a level such as 0.9.

They come from the version's calibration (:mod:`millrace.conformal`), compiled once for each level to plain numbers: a
request of one row has no time for arrays. A set holds the label, and the decision as well: where a threshold decides
for a class that the set would not hold, that class joins it. So a set of one class is always the decision, and sets
cover no less than the level for it.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.conformal import ConformalCalibration
from millrace.errors import FieldError, InvalidInputError
from millrace.serving.array_column import ArrayColumn
from millrace.serving.model import LoadedModel
from millrace.serving.rows import FEW_ROWS
from millrace.serving.scoring import reach_threshold

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

#: Levels that are kept compiled; callers use few.
_MAX_LEVELS = 32


class Bounds:
    """Intervals or prediction sets of one version at one level."""

    def __init__(self, loaded: LoadedModel, calibration: ConformalCalibration, level: float) -> None:
        self._level = level
        self._labels = loaded.labels
        self._threshold = loaded.threshold
        self._quantile = calibration.quantile(level)
        self._edges = np.empty(0)
        self._widths = np.array([self._quantile])
        if calibration.scale is not None:
            self._edges = calibration.scale.edges
            self._widths = self._quantile * calibration.scale.values
        self._few_edges, self._few_widths = self._edges.tolist(), self._widths.tolist()

    def fields(self, predictions: Sequence[Any]) -> dict[str, Any]:
        """Return the fields of ``Scores`` for values or rows of probabilities; None for rows without a prediction.

        Few rows are read one by one, which is quicker than making arrays of them; the results are the same.
        """
        few = len(predictions) <= FEW_ROWS
        if self._labels:
            return {"level": self._level, "sets": self._sets(predictions) if few else self._many_sets(predictions)}
        found = self._intervals(predictions) if few else self._many_intervals(predictions)
        return {"level": self._level, "intervals": found}

    def find_ends(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the lower and upper ends of the intervals of finite values."""
        widths = self._widths[np.searchsorted(self._edges, values)]
        return values - widths, values + widths

    def rank_sets(self, probabilities: FloatArray) -> tuple[IntArray, IntArray]:
        """Return the classes of each row, most probable first, and how many of them its set holds."""
        # Ties are in the order of the classes, as the label's.
        ranked = np.argsort(-probabilities, axis=1, kind="stable")
        further = 1.0 - np.take_along_axis(probabilities, ranked[:, 1:], axis=1) <= self._quantile
        sizes = 1 + further.sum(axis=1)
        if self._threshold is not None:
            positive = reach_threshold(probabilities, self._threshold)
            sizes += (sizes == 1) & ((ranked[:, 0] == self._threshold.index) != positive)
        return ranked, sizes

    def _many_sets(self, probabilities: Sequence[Any]) -> list[list[Any] | None]:
        known = _known_numbers(probabilities)
        ranked, sizes = self.rank_sets(known.reshape(len(known), len(self._labels)))
        labels = [[self._labels[place] for place in row] for row in ranked.tolist()]
        return _with_gaps(probabilities, [row[:size] for row, size in zip(labels, sizes.tolist(), strict=True)])

    def _many_intervals(self, values: Sequence[Any]) -> list[list[float] | None]:
        return _with_gaps(values, np.stack(self.find_ends(_known_numbers(values)), axis=1).tolist())

    def _intervals(self, values: Sequence[float | None]) -> list[list[float] | None]:
        edges, widths = self._few_edges, self._few_widths
        found: list[list[float] | None] = []
        for value in values:
            if value is None:
                found.append(None)
            else:
                width = widths[bisect_left(edges, value)]
                found.append([value - width, value + width])
        return found

    def _sets(self, probabilities: Sequence[list[float] | None]) -> list[list[Any] | None]:
        labels, quantile, threshold = self._labels, self._quantile, self._threshold
        places = range(len(labels))
        found: list[list[Any] | None] = []
        for row in probabilities:
            if row is None:
                found.append(None)
                continue
            # Ties are in the order of the classes, as the label's.
            ranked = sorted(places, key=row.__getitem__, reverse=True)
            size = 1
            while size < len(ranked) and 1.0 - row[ranked[size]] <= quantile:
                size += 1
            if threshold is not None and size == 1:
                positive = row[threshold.index] >= threshold.value
                size += (ranked[0] == threshold.index) != positive
            found.append([labels[place] for place in ranked[:size]])
        return found


def _known_numbers(predictions: Sequence[Any]) -> FloatArray:
    """Return the predictions that there are, in float64."""
    if isinstance(predictions, ArrayColumn):
        known = predictions.array if predictions.known is None else predictions.array[predictions.known]
        return known.astype(np.float64)
    return np.array([one for one in predictions if one is not None], dtype=np.float64)


def _with_gaps(predictions: Sequence[Any], found: list[Any]) -> list[Any]:
    """Move results to the places of the predictions that there are."""
    if len(found) == len(predictions):
        return found
    rest = iter(found)
    return [None if prediction is None else next(rest) for prediction in predictions]


class _BoundsByLevel:
    """The bounds of one version that were requested."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._kept: dict[float, Bounds] = {}

    def at(self, level: float) -> Bounds:
        bounds = self._kept.get(level)
        if bounds is None:
            bounds = self._compile(level)
            if len(self._kept) >= _MAX_LEVELS:
                self._kept.clear()
            self._kept[level] = bounds
        return bounds

    def _compile(self, level: float) -> Bounds:
        loaded, calibration = self._loaded, self._loaded.calibration
        version = f"version {loaded.version} of {loaded.model}"
        if calibration is None:
            reason = f"{version} was registered without calibration rows"
            if loaded.calibration_fault:
                reason = f"the calibration of {version} cannot be read ({loaded.calibration_fault})"
            raise _refusal(f"is not known: {reason}; train a new version")
        greatest = calibration.greatest_level
        try:
            return Bounds(loaded, calibration, level)
        except InvalidInputError as error:
            rows = f"{version} has {calibration.rows} calibration rows"
            if not greatest:
                raise _refusal(f"is not known: {rows}, too few; train a new version with more rows") from error
            raise _refusal(f"expects at most {greatest}: {rows}; more of them allow more") from error


def _refusal(message: str) -> InvalidInputError:
    return InvalidInputError(f"interval {message}", [FieldError("interval", message)])


def find_bounds(loaded: LoadedModel, level: float) -> Bounds:
    """Return the bounds of a version; ``InvalidInputError`` when it has no calibration or too few rows for a level."""
    return loaded.built(_BoundsByLevel).at(level)
