"""Metrics of outcome histograms, each with its standard error.

The same metrics as :mod:`millrace.metrics.catalogue`, which computes them from rows. Shares, losses and errors are
exact; areas under curves are computed on bins of probability and are off by less than a bin's share.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram
from millrace.metrics.catalogue import (
    ACCURACY,
    BRIER,
    F1,
    LOG_LOSS,
    MACRO_F1,
    MAE,
    PR_AUC,
    R2,
    RMSE,
    ROC_AUC,
    ROC_AUC_OVR,
)

Floats = npt.NDArray[np.float64]
_TWO = 2


@dataclass(frozen=True, slots=True)
class PointEstimate:
    """Estimate of a metric or a share, with its standard error and the number of outcomes."""

    value: float
    error: float
    rows: int

    def interval(self, width: float = 1.96) -> tuple[float, float]:
        """Return the normal interval, by default of 95 %."""
        return self.value - width * self.error, self.value + width * self.error


def measure_outcomes(outcomes: AnyOutcomes) -> dict[str, PointEstimate]:
    """Return every metric of the outcomes, by its name in :mod:`millrace.metrics.catalogue`."""
    if not outcomes.rows:
        return {}
    measured = _measure_errors(outcomes) if isinstance(outcomes, ErrorSums) else _measure_classes(outcomes)
    return {name: one for name, one in measured.items() if math.isfinite(one.value) and math.isfinite(one.error)}


def _measure_classes(outcomes: OutcomeHistogram) -> dict[str, PointEstimate]:
    rows, classes = outcomes.rows, len(outcomes.confusion)
    measured = {ACCURACY.name: proportion(int(np.trace(outcomes.confusion)), rows)}
    measured[LOG_LOSS.name] = _mean(outcomes.losses[0], outcomes.losses[1], rows)
    measured[BRIER.name] = _mean(outcomes.losses[2], outcomes.losses[3], rows)
    areas = [_area(outcomes, index) for index in range(classes)]
    if classes == _TWO:
        measured[F1.name] = _f1(outcomes.confusion, 1)
        measured[ROC_AUC.name] = areas[1]
        measured[PR_AUC.name] = _average_precision(outcomes)
    else:
        measured[MACRO_F1.name] = _average([_f1(outcomes.confusion, index) for index in range(classes)], rows)
        measured[ROC_AUC_OVR.name] = _average(areas, rows)
    return measured


def proportion(hits: int, rows: int) -> PointEstimate:
    """Return a share with the standard error of Agresti and Coull (1998, *The American Statistician* 52: 119-126)."""
    share = hits / rows
    smoothed = (hits + 2.0) / (rows + 4.0)
    return PointEstimate(share, math.sqrt(smoothed * (1.0 - smoothed) / (rows + 4.0)), rows)


def _mean(total: float, squares: float, rows: int) -> PointEstimate:
    mean = float(total) / rows
    variance = max(0.0, float(squares) / rows - mean**2) * rows / max(1, rows - 1)
    return PointEstimate(mean, math.sqrt(variance / rows), rows)


def _average(parts: list[PointEstimate], rows: int) -> PointEstimate:
    values = np.array([(part.value, part.error) for part in parts])
    return PointEstimate(float(values[:, 0].mean()), float(np.sqrt(np.sum(values[:, 1] ** 2)) / len(parts)), rows)


def _f1(confusion: npt.NDArray[np.int64], index: int) -> PointEstimate:
    """Return one class's F1; its error by the delta method from ``F1 = 2q / (1 + q)``, q = TP / (TP + FP + FN)."""
    hits = int(confusion[index, index])
    union = int(confusion[index].sum() + confusion[:, index].sum()) - hits
    if not union:
        return PointEstimate(0.0, 0.0, int(confusion.sum()))
    part = proportion(hits, union)
    return PointEstimate(2.0 * part.value / (1.0 + part.value), 2.0 / (1.0 + part.value) ** 2 * part.error, union)


def _area(outcomes: OutcomeHistogram, index: int) -> PointEstimate:
    """Return the area under one class's ROC curve; its error after Hanley and McNeil (1982, *Radiology* 143: 29-36)."""
    return binned_roc_auc(
        outcomes.hits[index].astype(np.float64), (outcomes.totals[index] - outcomes.hits[index]).astype(np.float64)
    )


def binned_roc_auc(positives: Floats, negatives: Floats) -> PointEstimate:
    """Return the area under the ROC curve of (possibly fractional) counts over bins of the score."""
    many, few = float(positives.sum()), float(negatives.sum())
    if many <= 0 or few <= 0:
        return PointEstimate(math.nan, math.nan, round(many + few))
    below = np.cumsum(negatives) - negatives
    area = float(np.sum(positives * (below + negatives / 2.0)) / (many * few))
    first, second = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    spread = area * (1.0 - area) + (many - 1.0) * (first - area**2) + (few - 1.0) * (second - area**2)
    return PointEstimate(area, math.sqrt(max(0.0, spread) / (many * few)), round(many + few))


def _average_precision(outcomes: OutcomeHistogram) -> PointEstimate:
    hits, totals = (counts[1][::-1].astype(np.float64) for counts in (outcomes.hits, outcomes.totals))
    positives = float(hits.sum())
    if positives <= 0:
        return PointEstimate(math.nan, math.nan, outcomes.rows)
    found, seen = np.cumsum(hits), np.cumsum(totals)
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    value = float(np.sum(precision * hits) / positives)
    return PointEstimate(value, math.sqrt(value * (1.0 - value) / positives), outcomes.rows)


def _measure_errors(outcomes: ErrorSums) -> dict[str, PointEstimate]:
    rows = outcomes.rows
    _, absolute, squares, fourths, values, value_squares = outcomes.sums.tolist()
    mae, mse = _mean(absolute, squares, rows), _mean(squares, fourths, rows)
    rmse = math.sqrt(mse.value)
    measured = {MAE.name: mae, RMSE.name: PointEstimate(rmse, mse.error / (2.0 * rmse) if rmse > 0 else 0.0, rows)}
    variance = value_squares / rows - (values / rows) ** 2
    if rows >= _TWO and variance > 0:
        measured[R2.name] = PointEstimate(1.0 - mse.value / variance, mse.error / variance, rows)
    return measured
