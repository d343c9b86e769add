"""Split-conformal intervals and prediction sets: calibration from rows that a model was not fitted on, and their use.

A calibration holds the conformity scores of such rows: ``|y - prediction|``, divided by a scale that depends on the
prediction, for regression; ``1 - probability of the true class`` for classes. With the quantile of rank
``ceil((rows + 1) * level)`` a new row, exchangeable with them, is covered with a probability of at least ``level``
(Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005; Lei et al., "Distribution-free predictive
inference for regression", JASA 113, 2018; Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers", JASA
114, 2019). Registration and serving share this module, so it needs numpy alone.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from millrace.errors import InvalidInputError

FloatArray = npt.NDArray[np.float64]
Method = Literal["absolute_residual", "label"]

FORMAT = 1
#: Levels that can be requested.
MIN_LEVEL, MAX_LEVEL = 0.5, 0.99

#: Scores kept: those of these ranks, denser towards the greatest. A level's quantile is at most 0.2 points too wide.
MAX_SCORES = 400
#: Digits of a stored score, which is rounded up.
SCORE_DIGITS = 6

#: A bin of predicted values for each so many rows, and at most so many: fewer rows estimate no scale.
ROWS_PER_BIN, MAX_BINS = 40, 10
#: Parts of the rows; each one's scores are divided by the scale of the others.
SCALE_FOLDS = 5
#: Smallest scale of a bin, as a share of that of all rows: a bin without an error has one all the same.
MIN_SCALE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class ResidualScale:
    """Typical size of residuals by predicted value: ``values`` of the bins that ``edges`` divide, one more."""

    edges: FloatArray
    values: FloatArray

    @classmethod
    def fit(cls, predictions: FloatArray, residuals: FloatArray) -> "ResidualScale | None":
        """Return the mean absolute residual in bins of like numbers of rows; None for too few rows."""
        bins = min(MAX_BINS, len(predictions) // ROWS_PER_BIN)
        overall = float(residuals.mean()) if len(residuals) else 0.0
        if bins < 2 or not overall > 0.0:  # noqa: PLR2004  # one bin is no scale
            return None
        edges = np.unique(np.quantile(predictions, np.linspace(0.0, 1.0, bins + 1)[1:-1], method="inverted_cdf"))
        edges = edges[edges < predictions.max()]
        if not len(edges):
            return None
        positions = np.searchsorted(edges, predictions)
        counts = np.bincount(positions, minlength=len(edges) + 1)
        means = np.bincount(positions, residuals, len(edges) + 1) / counts
        return cls(edges, np.maximum(means, MIN_SCALE_SHARE * overall))

    def of(self, predictions: npt.ArrayLike) -> FloatArray:
        """Return the scale of each prediction."""
        return self.values[np.searchsorted(self.edges, np.asarray(predictions, dtype=np.float64))]


@dataclass(frozen=True, slots=True)
class ConformalCalibration:
    """Conformity scores of calibration rows.

    ``scores`` ascend; ``ranks`` are their ranks among the scores of all ``rows``, from 1, and end with the greatest.
    """

    rows: int
    method: Method
    scores: FloatArray
    ranks: npt.NDArray[np.int64]
    scale: ResidualScale | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "ConformalCalibration":
        """Read ``confidence`` of a ``signature.json``; raises ``ValueError``, ``KeyError`` or ``TypeError``."""
        if document["format"] != FORMAT or document["method"] not in ("absolute_residual", "label"):
            raise ValueError(f"confidence of format {document['format']} and method {document['method']} is unknown")
        scores = np.asarray(document["scores"], dtype=np.float64)
        ranks = np.asarray(document["ranks"], dtype=np.int64)
        rows, stored, scale = int(document["rows"]), document.get("scale"), None
        _ensure_ascending(scores, len(ranks), "scores")
        if not len(ranks) or (np.diff(ranks) < 1).any() or ranks[0] < 1 or ranks[-1] != rows:
            raise ValueError("ranks of confidence do not ascend to the number of rows")
        if stored is not None:
            scale = ResidualScale(*(np.asarray(stored[name], dtype=np.float64) for name in ("edges", "values")))
            _ensure_ascending(scale.edges, len(scale.values) - 1, "edges")
            if not (np.isfinite(scale.values) & (scale.values > 0.0)).all():
                raise ValueError("values of confidence's scale are not positive numbers")
        return cls(rows, document["method"], scores, ranks, scale)

    def to_document(self) -> dict[str, Any]:
        """Return the JSON form; see :meth:`from_document`."""
        document = {
            "format": FORMAT,
            "rows": self.rows,
            "method": self.method,
            "scores": self.scores.tolist(),
            "ranks": self.ranks.tolist(),
        }
        if self.scale is not None:
            document["scale"] = {"edges": self.scale.edges.tolist(), "values": self.scale.values.tolist()}
        return document

    @property
    def greatest_level(self) -> float:
        """Greatest level that these rows suffice for, in steps of 0.001; 0 where they suffice for none."""
        greatest = min(MAX_LEVEL, math.floor(self.rows / (self.rows + 1) * 1000) / 1000)
        return greatest if greatest >= MIN_LEVEL else 0.0

    def quantile(self, level: float) -> float:
        """Return the score that covers a share of ``level`` of rows, at least.

        Raises ``InvalidInputError`` for a level outside 0.5 to 0.99, or one that there are too few rows for.
        """
        if not MIN_LEVEL <= level <= MAX_LEVEL:
            raise InvalidInputError(f"interval has to be between {MIN_LEVEL} and {MAX_LEVEL}, not {level}")
        rank = _rank(level, self.rows)
        if rank > self.rows:
            possible = f"request at most {self.greatest_level}" if self.greatest_level else "request none"
            rows = f"{self.rows} calibration row{'s' * (self.rows != 1)}"
            raise InvalidInputError(f"an interval of {level} needs more than this version's {rows}: {possible}")
        return float(self.scores[np.searchsorted(self.ranks, rank)])

    def intervals(self, predictions: npt.ArrayLike, level: float) -> tuple[FloatArray, FloatArray]:
        """Return the lower and the upper ends of intervals around a regression's predictions, shape (n_rows,)."""
        values = np.asarray(predictions, dtype=np.float64)
        width = self.quantile(level) * (1.0 if self.scale is None else self.scale.of(values))
        return values - width, values + width

    def sets(self, probabilities: npt.ArrayLike, level: float) -> npt.NDArray[np.bool_]:
        """Return the classes in each row's prediction set, shape (n_rows, n_classes); the likeliest is always in it."""
        shares = np.asarray(probabilities, dtype=np.float64)
        inside = 1.0 - shares <= self.quantile(level)
        inside[np.arange(len(shares)), shares.argmax(axis=1)] = True
        return np.asarray(inside)

    def covered(self, predictions: npt.ArrayLike, target: npt.ArrayLike, level: float) -> npt.NDArray[np.bool_]:
        """Return the rows whose true value, or class index, is in the interval or set of their prediction."""
        truth = np.asarray(target)
        if self.method == "label":
            return np.asarray(self.sets(predictions, level)[np.arange(len(truth)), truth.astype(np.int64)])
        low, high = self.intervals(predictions, level)
        return np.asarray((low <= truth) & (truth <= high))


def fit_regression(
    target: npt.ArrayLike, predictions: npt.ArrayLike, seed: int, *, scaled: bool = True
) -> ConformalCalibration:
    """Calibrate a regression's intervals on rows that its model was not fitted on.

    The scores of each fifth of the rows are divided by a scale that the others give, so that they are as large as those
    of new rows are when divided by the scale of all.

    Parameters
    ----------
    target, predictions : array-like of shape (n_rows,)
        True and predicted values.
    seed : int
        Of the division into fifths.
    scaled : bool, default=True
        Whether widths follow the predicted value where there are rows enough.

    Raises
    ------
    InvalidInputError
        When there are no rows, or a value is not a finite number.
    """
    truth, values = np.asarray(target, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
    _ensure_finite(truth, values)
    residuals = np.abs(truth - values)
    scale = ResidualScale.fit(values, residuals) if scaled else None
    if scale is None:
        return _calibration("absolute_residual", residuals)
    folds = np.random.default_rng(seed).permutation(len(values)) % SCALE_FOLDS
    scores = np.empty_like(residuals)
    for fold in range(SCALE_FOLDS):
        inside = folds == fold
        others = ResidualScale.fit(values[~inside], residuals[~inside]) or scale
        scores[inside] = residuals[inside] / others.of(values[inside])
    return _calibration("absolute_residual", scores, scale)


def fit_classes(target: npt.ArrayLike, probabilities: npt.ArrayLike) -> ConformalCalibration:
    """Calibrate prediction sets on rows that the model was not fitted on.

    Parameters
    ----------
    target : array-like of int, shape (n_rows,)
        Index of each row's true class.
    probabilities : array-like of shape (n_rows, n_classes)
        Predicted ones.

    Raises
    ------
    InvalidInputError
        When there are no rows, or a probability is not a finite number.
    """
    truth, shares = np.asarray(target, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
    _ensure_finite(truth, shares)
    return _calibration("label", 1.0 - shares[np.arange(len(truth)), truth])


def _calibration(method: Method, scores: FloatArray, scale: ResidualScale | None = None) -> ConformalCalibration:
    """Keep the scores of the ranks that levels from the least on can need."""
    rows, ascending = len(scores), np.sort(scores)
    misses = (1.0 - MIN_LEVEL) * np.linspace(1.0, 0.0, MAX_SCORES) ** 2
    ranks = np.arange(_rank(MIN_LEVEL, rows), rows + 1)
    if len(ranks) > MAX_SCORES:
        ranks = np.unique(np.ceil(rows - misses * rows).astype(np.int64))
    kept = np.maximum.accumulate(_round_up(ascending[ranks - 1]))  # rounding may move a score past the next one
    return ConformalCalibration(rows, method, kept, ranks, scale)


def _rank(level: float, rows: int) -> int:
    """Return the rank of a level's quantile; 100 * 0.55 is 55, not the float above it."""
    return math.ceil((rows + 1) * level - 1e-9 * rows)


def _round_up(scores: FloatArray) -> FloatArray:
    """Round to few digits, never down."""

    def rounded(values: FloatArray) -> FloatArray:
        return np.array([float(f"{value:.{SCORE_DIGITS - 1}e}") for value in values])

    nearest = rounded(scores)
    raised = np.maximum(rounded(scores * (1.0 + 0.5 * 10.0 ** (1 - SCORE_DIGITS))), scores)
    return np.where(nearest >= scores, nearest, raised)


def _ensure_ascending(values: FloatArray, count: int, name: str) -> None:
    if values.ndim != 1 or len(values) != count or not np.isfinite(values).all() or (np.diff(values) < 0.0).any():
        raise ValueError(f"{name} of confidence are not {count} ascending numbers")


def _ensure_finite(target: npt.NDArray[Any], predictions: FloatArray) -> None:
    if not len(target) or len(target) != len(predictions):
        raise InvalidInputError(
            f"a calibration needs rows with their predictions: {len(target)} rows, {len(predictions)} predictions"
        )
    if not (np.isfinite(target).all() and np.isfinite(predictions).all()):
        raise InvalidInputError("a calibration needs finite numbers: a true or predicted value is none")
