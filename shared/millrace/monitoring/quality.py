"""Model quality: metrics of outcomes as they arrive, against the holdout.

Metrics are those of :mod:`millrace.metrics.catalogue`, which computes them from rows. Shares, losses and errors are
exact; areas under curves are computed on bins of probability and are off by less than a bin's share. A drop must reach
its threshold and be significant: its z-value must exceed the limit that the false discovery rate sets (normal limit of
the difference of two estimates).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.histograms.bins import Floats
from millrace.histograms.outcomes import CALIBRATION_BINS, AnyOutcomes, ErrorSums, OutcomeHistogram
from millrace.metrics import catalogue
from millrace.metrics.catalogue import METRICS, Metric
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.schema import Task
from millrace.spec.monitoring import CalibrationRule, QualityRule
from millrace.stats.distances import chi_square_tail

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


def bounded_interval(estimate: PointEstimate, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the normal interval on a scale without bounds: of logits between 0 and 1, of logarithms above 0.

    At a bound, or so near that the error is larger than the distance from it, and of a metric without bounds, it is the
    interval on the metric's own scale, cut at the bounds.
    """
    value, (low, high) = estimate.value, bounds
    # Means of windows without a fault may miss the bound by a rounding error, far less than their standard error.
    if bounds == (0.0, 1.0) and estimate.error < min(value, 1.0 - value):
        middle, error = math.log(value / (1.0 - value)), estimate.error / (value * (1.0 - value))
        ends = PointEstimate(middle, error, estimate.rows).interval()
        return 1.0 / (1.0 + math.exp(-ends[0])), 1.0 / (1.0 + math.exp(-ends[1]))
    if low == 0.0 and high > 1.0 and estimate.error < value:
        factor = math.exp(1.96 * estimate.error / value)
        return value / factor, min(high, value * factor)
    first, last = estimate.interval()
    return max(low, first), min(high, last)


def measure_outcomes(outcomes: AnyOutcomes) -> dict[str, PointEstimate]:
    """Return every metric of the outcomes, by its name in :mod:`millrace.metrics.catalogue`."""
    if not outcomes.rows:
        return {}
    measured = _measure_errors(outcomes) if isinstance(outcomes, ErrorSums) else _measure_classes(outcomes)
    return {name: one for name, one in measured.items() if math.isfinite(one.value) and math.isfinite(one.error)}


def _measure_classes(outcomes: OutcomeHistogram) -> dict[str, PointEstimate]:
    rows, classes = outcomes.rows, len(outcomes.confusion)
    measured = {catalogue.ACCURACY.name: proportion(int(np.trace(outcomes.confusion)), rows)}
    measured[catalogue.LOG_LOSS.name] = mean_estimate(outcomes.losses[0], outcomes.losses[1], rows)
    measured[catalogue.BRIER.name] = mean_estimate(outcomes.losses[2], outcomes.losses[3], rows)
    areas = [_area(outcomes, index) for index in range(classes)]
    if classes == _TWO:
        measured[catalogue.F1.name] = _f1(outcomes.confusion, 1)
        measured[catalogue.ROC_AUC.name] = areas[1]
        measured[catalogue.PR_AUC.name] = _average_precision(outcomes)
    else:
        measured[catalogue.MACRO_F1.name] = _average([_f1(outcomes.confusion, index) for index in range(classes)], rows)
        measured[catalogue.ROC_AUC_OVR.name] = _average(areas, rows)
    return measured


def proportion(hits: int, rows: int) -> PointEstimate:
    """Return a share with the standard error of Agresti and Coull (1998, *The American Statistician* 52: 119-126)."""
    share = hits / rows
    smoothed = (hits + 2.0) / (rows + 4.0)
    return PointEstimate(share, math.sqrt(smoothed * (1.0 - smoothed) / (rows + 4.0)), rows)


def mean_estimate(total: float, squares: float, rows: int) -> PointEstimate:
    """Return the mean of values with their sum and the sum of their squares."""
    mean = float(total) / rows
    variance = max(0.0, float(squares) / rows - mean**2)
    return PointEstimate(mean, math.sqrt(variance / max(1, rows - 1)), rows)


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
    """Return the area under one class's ROC curve."""
    return binned_roc_auc(
        outcomes.hits[index].astype(np.float64), (outcomes.totals[index] - outcomes.hits[index]).astype(np.float64)
    )


def binned_roc_auc(positives: Floats, negatives: Floats) -> PointEstimate:
    """Return the area under the ROC curve of (possibly fractional) counts over bins of the score.

    Its error is the larger of Hanley and McNeil's (1982, *Radiology* 143: 29-36) and that of DeLong, DeLong and
    Clarke-Pearson (1988, *Biometrics* 44: 837-845).
    """
    many, few = float(positives.sum()), float(negatives.sum())
    if many <= 0 or few <= 0:
        return PointEstimate(math.nan, math.nan, round(many + few))
    below = np.cumsum(negatives) - negatives
    area = float(np.sum(positives * (below + negatives / 2.0)) / (many * few))
    first, second = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    spread = area * (1.0 - area) + (many - 1.0) * (first - area**2) + (few - 1.0) * (second - area**2)
    beaten = (below + negatives / 2.0) / few
    beating = (many - np.cumsum(positives) + positives / 2.0) / many
    by_rows = (
        float(positives @ (beaten - area) ** 2) / (many * max(1.0, many - 1.0)),
        float(negatives @ (beating - area) ** 2) / (few * max(1.0, few - 1.0)),
    )
    return PointEstimate(area, math.sqrt(max(0.0, spread / (many * few), sum(by_rows))), round(many + few))


def _average_precision(outcomes: OutcomeHistogram) -> PointEstimate:
    value, positives = average_precision(outcomes.hits[1], outcomes.totals[1]), float(outcomes.hits[1].sum())
    error = math.sqrt(value * (1.0 - value) / positives) if positives else math.nan
    return PointEstimate(value, error, outcomes.rows)


def average_precision(hits: npt.NDArray[Any], totals: npt.NDArray[Any]) -> float:
    """Return the area under the precision-recall curve of (possibly fractional) counts over bins of the score."""
    hits, totals = hits[::-1].astype(np.float64), totals[::-1].astype(np.float64)
    positives = float(hits.sum())
    if positives <= 0:
        return math.nan
    found, seen = np.cumsum(hits), np.cumsum(totals)
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    return float(np.sum(precision * hits) / positives)


def _measure_errors(outcomes: ErrorSums) -> dict[str, PointEstimate]:
    rows = outcomes.rows
    _, absolute, squares, fourths, values, value_squares = outcomes.sums.tolist()
    mae, mse = mean_estimate(absolute, squares, rows), mean_estimate(squares, fourths, rows)
    rmse = math.sqrt(mse.value)
    measured = {
        catalogue.MAE.name: mae,
        catalogue.RMSE.name: PointEstimate(rmse, mse.error / (2.0 * rmse) if rmse > 0 else 0.0, rows),
    }
    variance = value_squares / rows - (values / rows) ** 2
    if rows >= _TWO and variance > 0:
        measured[catalogue.R2.name] = PointEstimate(1.0 - mse.value / variance, mse.error / variance, rows)
    return measured


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error, its excess beyond chance, and the Brier score.

    The p-value is that of Hosmer and Lemeshow's statistic for the class that agrees least, times the number of classes.
    """

    error: float
    excess: float
    p_value: float
    brier: float


def measure_calibration(outcomes: OutcomeHistogram) -> Calibration:
    """Return the calibration of a classifier."""
    classes = range(1, _TWO) if len(outcomes.confusion) == _TWO else range(len(outcomes.confusion))
    parts = [_calibrate_class(outcomes, index) for index in classes]
    error, expected = (float(np.mean([part[place] for part in parts])) for place in (0, 1))
    p_value = min(1.0, min(part[2] for part in parts) * len(parts))
    rows = max(1, outcomes.rows)
    return Calibration(error, max(0.0, error - expected), p_value, float(outcomes.losses[2]) / rows)


def _calibrate_class(outcomes: OutcomeHistogram, index: int) -> tuple[float, float, float]:
    """Return one class's calibration error, its expectation by chance, and the p-value."""
    counts = (outcomes.totals, outcomes.hits, outcomes.probability_sums)
    totals, hits, sums = (_coarse(kind[index]) for kind in counts)
    used = totals > 0
    totals, hits, sums = totals[used], hits[used], sums[used]
    rows = max(1.0, float(totals.sum()))
    means = sums / totals
    variances = np.maximum(totals * means * (1.0 - means), 1e-9)
    error = float(np.abs(hits - sums).sum() / rows)
    expected = float(np.sqrt(2.0 * variances / np.pi).sum() / rows)
    # A bin with hardly any variance has no normal limit.
    tested = variances >= 1.0
    statistic = float(np.sum((hits - sums)[tested] ** 2 / variances[tested]))
    return error, expected, chi_square_tail(statistic, int(tested.sum()))


def _coarse(counts: npt.NDArray[Any]) -> Floats:
    return np.asarray(np.asarray(counts, dtype=np.float64).reshape(CALIBRATION_BINS, -1).sum(axis=1))


def calibration_growth(holdout: AnyOutcomes | None, present: AnyOutcomes) -> float | None:
    """Return the growth of the calibration error beyond chance since the holdout; None where there are no classes."""
    if not isinstance(holdout, OutcomeHistogram) or not isinstance(present, OutcomeHistogram):
        return None
    return measure_calibration(present).excess - measure_calibration(holdout).excess


def find_miscalibration(
    holdout: OutcomeHistogram,
    present: OutcomeHistogram,
    rule: CalibrationRule,
    rate: float,
    *,
    hourly: float = 0.0,
    phrase: str = "",
) -> WindowFinding:
    """Evaluate calibration against the holdout; ``hourly`` is the growth that single hours have had."""
    if present.rows < rule.min_rows:
        return too_few("calibration", "probabilities", present.rows, rule.min_rows, "outcomes")
    before, now = measure_calibration(holdout), measure_calibration(present)
    growth = now.excess - before.excess
    breach = growth >= max(rule.threshold, hourly) and now.p_value <= rate
    state = "differ from the observed frequencies" if breach else "agree with the observed frequencies"
    mean = ", a class on average" if len(present.confusion) > _TWO else ""
    return WindowFinding(
        verdict="calibration",
        subject="probabilities",
        status=breach_or_ok(breach),
        message=f"probabilities {state}: expected calibration error{mean} {before.error:.3f} on the holdout, "
        f"{now.error:.3f} on {present.rows:,} outcomes{phrase}; Brier score {before.brier:.3f} → {now.brier:.3f}",
        measure="expected calibration error beyond chance",
        value=growth,
        threshold=max(rule.threshold, hourly),
        rows=present.rows,
        p_value=now.p_value,
        details={"before": before.error, "now": now.error, "brier_before": before.brier, "brier_now": now.brier},
    )


def choose_metric(task: Task, wanted: str | None, *measured: Mapping[str, PointEstimate]) -> Metric | None:
    """Return the metric to compare: the wanted one, or the task's first, that all measurements have."""
    order = sorted(METRICS[task], key=lambda metric: metric.name != wanted)
    return next((metric for metric in order if all(metric.name in one for one in measured)), None)


def measure_drop(metric: Metric, before: float, now: float, rule: QualityRule) -> tuple[float, float]:
    """Return a metric's drop and its threshold, in its own unit or as a share of what it was."""
    lost = metric.gain(before, now)
    if not metric.change_is_relative:
        return lost, rule.threshold
    share = lost / abs(before) if before else math.inf if lost > 0 else 0.0
    return share, rule.relative_threshold


def find_concept_drift(quality: Sequence[WindowFinding], *, inputs_hold: bool | None) -> WindowFinding:
    """Evaluate the relation between inputs and outcome: it changed when live quality drops and the inputs hold.

    ``quality`` are findings on metrics. ``inputs_hold`` is False when an input verdict is in breach, and None when none
    of them is known.
    """
    subject = "relation to the outcome"
    order = ("breach", "ok", "unknown")
    worst = min(quality, key=lambda finding: order.index(finding.status))
    if worst.status == "unknown" or inputs_hold is None:
        reason = worst.message if worst.status == "unknown" else "the state of the inputs is not known"
        return WindowFinding("concept_drift", subject, "unknown", reason, rows=worst.rows)
    breach = worst.status == "breach" and inputs_hold
    if breach:
        message = f"{worst.message}; the inputs have not drifted, so the relation to the outcome has changed"
    elif worst.status == "breach":
        message = "quality dropped, and the inputs drifted too, which may be the reason"
    else:
        message = "quality holds"
    status = breach_or_ok(breach)
    return replace(worst, verdict="concept_drift", subject=subject, status=status, message=message, details={})
