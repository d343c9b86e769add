"""Windows of outcomes and their metrics: measured as outcomes arrive, pooled when they are old.

Hours differ: a model of hourly demand has larger errors at noon than at night, each day. So each metric has its value
on the holdout's rows of such predictions beside it: the holdout's metric, moved by as much as reweighting the holdout
to the window's predictions moves it (importance weighting: Shimodaira 2000, *Journal of Statistical Planning and
Inference* 90: 227-244).
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add
from typing import Self

import numpy as np
from msgspec.structs import replace

from millrace.documents import Record
from millrace.histograms.bins import NumberBins
from millrace.histograms.outcomes import MEAN_ERROR, AnyOutcomes, ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import PredictionHistogram
from millrace.metrics import catalogue
from millrace.metrics.catalogue import METRICS_BY_NAME
from millrace.monitoring.quality import (
    PointEstimate,
    average_precision,
    binned_roc_auc,
    bounded_interval,
    calibration_growth,
    mean_estimate,
    measure_outcomes,
)
from millrace.monitoring.seasonality import TimeSpan

_DAY = timedelta(days=1)
#: A shorter window has hours of its own.
_SHORT = timedelta(hours=12)
#: Windows do not begin and end on the stroke.
_GRACE = timedelta(hours=1)
#: Days whose like hours are pooled.
_LIKE_DAYS = 7
#: Time in which windows that are no longer kept are pooled by the hour, later by a quarter of a day.
_POOLED_BY_HOUR = timedelta(days=9)
#: Counts are kept for a day, and for windows that end late.
COUNTS_KEPT = timedelta(hours=30)
#: Days whose differences from the day before show how far days vary.
_VARYING_DAYS = 28
#: Rows of the holdout whose mean errors are those of a range of predicted values.
_ENOUGH_ROWS = 30.0
_TWO = 2
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


class WindowMetric(Record, frozen=True, kw_only=True):
    """A metric of a window of outcomes."""

    value: float
    error: float  # standard error
    low: float
    high: float
    expected: float | None = None  # of the holdout's rows with such predictions; None where it cannot be known


class MeasuredWindow(TimeSpan, frozen=True, kw_only=True):
    """A window of outcomes and its metrics."""

    outcomes: int
    metrics: dict[str, WindowMetric] = {}  # noqa: RUF012  # msgspec copies the default
    covered: int | None = None  # outcomes that their intervals held; None for a version without a calibration
    calibration: float | None = None  # growth of the calibration error since the holdout; None without classes

    @classmethod
    def measure(
        cls,
        outcomes: AnyOutcomes,
        profile: PredictionProfile | None,
        target: NumberBins | None,
        span: tuple[datetime, datetime],
    ) -> Self:
        """Measure a window that begins and ends at such times; ``target`` are the bins of a regression's target."""
        metrics = measure_window(outcomes, profile, target)
        growth = calibration_growth(profile.outcomes, outcomes) if profile else None
        begin, end = span
        return cls(
            begin=begin,
            end=end,
            outcomes=outcomes.rows,
            metrics=metrics,
            covered=outcomes.covered,
            calibration=growth,
        )


class PooledWindow(MeasuredWindow, frozen=True, kw_only=True):
    """Earlier windows whose middles are in the same hour, or the same quarter of a day, as one."""

    counts: AnyOutcomes | None = None  # coarsely, for a day

    @classmethod
    def pool(cls, windows: Sequence["MeasuredWindow"], counts: Sequence[AnyOutcomes | None]) -> Self:
        """Average the metrics that all have by their outcomes, and add up the rest."""
        names = set[str].intersection(*(set(one.metrics) for one in windows))
        covered = [one.covered for one in windows if one.covered is not None]
        known = [one for one in counts if one is not None]
        return cls(
            begin=min(one.begin for one in windows),
            end=max(one.end for one in windows),
            outcomes=sum(one.outcomes for one in windows),
            metrics={name: pool_metric(name, windows) for name in sorted(names)},
            covered=sum(covered) if len(covered) == len(windows) else None,
            counts=reduce(add, known) if len(known) == len(windows) else None,
        )


def pool_metric(name: str, windows: Sequence[MeasuredWindow]) -> WindowMetric:
    """Average a metric over windows by their outcomes; a root of squares is averaged as squares."""
    own = [one.metrics[name] for one in windows]
    values, errors = np.array([(one.value, one.error) for one in own]).T
    expected = np.array([np.nan if one.expected is None else one.expected for one in own])
    rows = sum(one.outcomes for one in windows)
    weights = np.array([one.outcomes for one in windows]) / rows
    is_root = name == catalogue.RMSE.name
    if is_root:
        values, errors, expected = values**2, 2.0 * values * errors, expected**2
    value, error, reference = (
        float(part) for part in (weights @ values, np.hypot.reduce(weights * errors), weights @ expected)
    )
    if is_root:
        value, reference = math.sqrt(value), math.sqrt(reference)
        error = error / (2.0 * value) if value else 0.0
    return describe_metric(name, PointEstimate(value, error, rows), None if math.isnan(reference) else reference)


def pool_old(
    pooled: Sequence[PooledWindow], left: Sequence[tuple[MeasuredWindow, AnyOutcomes | None]]
) -> tuple[PooledWindow, ...]:
    """Add windows that are no longer kept to the pooled ones, of up to four weeks.

    Like hours, and days that end with any window, can be summed of hours; how far days vary, of quarters of a day.
    """
    windows = [*((one, one.counts) for one in pooled), *left]
    if not windows:
        return ()
    latest = max(one.end for one, _ in windows)
    parts: dict[tuple[timedelta, int], list[tuple[MeasuredWindow, AnyOutcomes | None]]] = {}
    for one, counts in windows:
        age = latest - one.end
        length = timedelta(hours=1) if age <= _POOLED_BY_HOUR else _DAY / 4
        known = counts if age <= COUNTS_KEPT else None
        if age <= _VARYING_DAYS * _DAY:
            parts.setdefault((length, int((_middle(one) - _SOME_DAY) / length)), []).append((one, known))
    return tuple(sorted((_pool(own) for own in parts.values()), key=_middle))


def _pool(windows: Sequence[tuple[MeasuredWindow, AnyOutcomes | None]]) -> PooledWindow:
    first, counts = windows[0]
    if len(windows) == 1 and isinstance(first, PooledWindow):
        return first if counts is first.counts else replace(first, counts=counts)
    return PooledWindow.pool(*zip(*windows, strict=True))


def _middle(window: TimeSpan) -> datetime:
    return window.begin + (window.end - window.begin) / 2


@dataclass(frozen=True, slots=True)
class RecentOutcomes:
    """A window of outcomes, and the version's windows before it."""

    window: MeasuredWindow
    earlier: Sequence[MeasuredWindow] = ()
    #: Counts of the window and of those before it, by which a day is summed; None where they were not kept.
    counts: Sequence[AnyOutcomes | None] = ()

    @classmethod
    def of_a_day(cls, outcomes: AnyOutcomes, profile: PredictionProfile | None, target: NumberBins | None) -> Self:
        """Return outcomes whose times do not matter."""
        return cls(MeasuredWindow.measure(outcomes, profile, target, (_SOME_DAY, _SOME_DAY + _DAY)))

    @property
    def is_dated(self) -> bool:
        """False for outcomes whose times do not matter."""
        return self.window.begin != _SOME_DAY

    @property
    def is_short(self) -> bool:
        """True for a window that has hours of its own."""
        return self.window.end - self.window.begin < _SHORT

    @property
    def covers_day(self) -> bool:
        """True when the day that ends with the window is known."""
        return not self.is_short or self.covers(_DAY)

    def covers(self, length: timedelta) -> bool:
        """Return whether the windows go so far back."""
        since = min((one.begin for one in self.earlier), default=self.window.begin)
        return since <= self.window.end - length + _GRACE

    def last(self, length: timedelta, before: timedelta = timedelta()) -> list[MeasuredWindow]:
        """Return the windows that ended within the time before the window's end, or before a time before it."""
        end = self.window.end - before
        return [one for one in (*self.earlier, self.window) if end - length < one.end <= end]

    def days_before(self) -> list[list[MeasuredWindow]]:
        """Return the windows of each day before the last; latest first."""
        days: dict[int, list[MeasuredWindow]] = {}
        for one in self.earlier:
            number = int((self.window.end - one.end) / _DAY)
            if 1 <= number <= _VARYING_DAYS:
                days.setdefault(number, []).append(one)
        return [days[number] for number in sorted(days)]

    def days_apart(self) -> list[tuple[MeasuredWindow, MeasuredWindow]]:
        """Return pairs of short windows at the same hour of two days in a row, before the last day."""
        last, longest = self.window.end - _DAY, 2 * max(_GRACE, self.window.end - self.window.begin)
        known = [one for one in self.earlier if one.end <= last and one.end - one.begin <= longest]
        known = sorted(known, key=_middle)
        middles, found = [_middle(one) for one in known], []
        for one in known:
            near, before = max(_GRACE / 2, (one.end - one.begin) / 4), _middle(one) - _DAY
            place = bisect_left(middles, before - near)
            if middles[place] <= before + near:
                found.append((known[place], one))
        return found

    def like(self, every: int = 1) -> list[MeasuredWindow]:
        """Return the windows at the same time of earlier days, or of every so many."""
        length = self.window.end - self.window.begin
        middle, near = _middle(self.window), max(_GRACE / 2, length / 4)
        found = []
        for one in self.earlier:
            apart = middle - _middle(one)
            days = round(apart / _DAY)
            if 1 <= days <= _LIKE_DAYS and not days % every and abs(apart - days * _DAY) <= near:
                found.append(one)
        return found

    @property
    def hourly_miscalibration(self) -> float:
        """Growth of the calibration error that exceeds what earlier windows had: half as much again as nearly all."""
        known = [one.calibration for one in self.earlier if one.calibration is not None]
        return 1.5 * max(0.0, float(np.quantile(known, 0.95))) if known else 0.0

    def sum_day(self, own: AnyOutcomes) -> AnyOutcomes | None:
        """Return the outcomes of the day that ends with the window, coarsely; None while no day is known."""
        coarse = own.coarsen()
        if not self.is_short or coarse is None:
            return own
        if not self.covers_day:
            return None
        windows = zip(self.earlier, self.counts, strict=False)
        counts = [kept for one, kept in windows if one.end > self.window.end - _DAY]
        known = [one for one in counts if one is not None]
        return reduce(add, known, coarse) if len(known) == len(counts) else None


def measure_window(
    outcomes: AnyOutcomes, profile: PredictionProfile | None, target: NumberBins | None
) -> dict[str, WindowMetric]:
    """Return every metric of a window, and its value on the holdout's rows with such predictions."""
    measured = measure_metrics(outcomes)
    expected = _expect(outcomes, profile, target, measure_metrics(profile.outcomes)) if profile else {}
    return {name: describe_metric(name, one, expected.get(name)) for name, one in measured.items()}


def measure_metrics(outcomes: AnyOutcomes) -> dict[str, PointEstimate]:
    """Return the metrics that live quality knows: those of the catalogue, and the mean error of a regression."""
    measured = measure_outcomes(outcomes)
    if isinstance(outcomes, ErrorSums) and outcomes.rows:
        total, _, squares = outcomes.sums[:3].tolist()
        measured[MEAN_ERROR] = mean_estimate(total, squares, outcomes.rows)
    return measured


def describe_metric(name: str, estimate: PointEstimate, expected: float | None) -> WindowMetric:
    """Return an estimate with its interval."""
    low, high = estimate.interval() if name == MEAN_ERROR else bounded_interval(estimate, METRICS_BY_NAME[name].range)
    return WindowMetric(value=estimate.value, error=estimate.error, low=low, high=high, expected=expected)


def _expect(
    outcomes: AnyOutcomes,
    profile: PredictionProfile,
    target: NumberBins | None,
    holdout: Mapping[str, PointEstimate],
) -> dict[str, float]:
    """Move the holdout's metrics by as much as reweighting to the window's predictions moves their estimates."""
    if isinstance(outcomes, ErrorSums):
        return _expect_errors(outcomes, profile, target, holdout)
    known, predictions = profile.outcomes, profile.predictions
    if not isinstance(known, OutcomeHistogram) or not isinstance(predictions, PredictionHistogram):
        return {}
    before, now = (_estimate_metrics(rows, known, predictions) for rows in (known, outcomes))
    expected = {}
    for name in holdout.keys() & before.keys() & now.keys():
        if not METRICS_BY_NAME[name].change_is_relative:
            moved = holdout[name].value + now[name] - before[name]
            expected[name] = min(1.0, max(0.0, moved))
        elif before[name] > 0:
            expected[name] = holdout[name].value * now[name] / before[name]
    return {name: value for name, value in expected.items() if math.isfinite(value)}


def _estimate_metrics(
    outcomes: OutcomeHistogram, holdout: OutcomeHistogram, predictions: PredictionHistogram
) -> dict[str, float]:
    """Estimate metrics of rows by their probabilities alone, as if classes were as frequent as on the holdout."""
    counts = outcomes.totals.astype(np.float64)
    classes, bins = counts.shape
    rows = counts[0].sum()
    if not rows:
        return {}
    middles = np.tile((np.arange(bins) + 0.5) / bins, (classes, 1))
    known = np.divide(holdout.probability_sums, holdout.totals, out=middles, where=holdout.totals > 0)
    stated = np.divide(outcomes.probability_sums, counts, out=known.copy(), where=counts > 0)
    known, stated = np.clip(known, 1e-7, 1.0 - 1e-7), np.clip(stated, 1e-7, 1.0 - 1e-7)
    # Within a bin frequencies are in proportion to probabilities, which matters in the lowest one.
    chances = np.minimum(1.0, holdout.calibration_map() * stated / known)
    # Share of the rows with such a probability of a class that are predicted to be of it.
    default = (stated >= 1.0 / classes).astype(np.float64)
    decided = np.divide(
        predictions.decided, predictions.probabilities, out=default, where=predictions.probabilities > 0
    )
    chosen = counts * decided
    chosen *= rows / max(chosen.sum(), 1e-9)
    hits = chosen * chances
    true = counts * chances
    squares = counts * (chances * (1.0 - stated) ** 2 + (1.0 - chances) * stated**2)
    found = {
        catalogue.ACCURACY.name: float(hits.sum() / rows),
        catalogue.LOG_LOSS.name: float(-np.sum(true * np.log(stated)) / rows),
        catalogue.BRIER.name: float((squares[1] if classes == _TWO else squares).sum() / rows),
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2.0 * hits.sum(axis=1) / (chosen.sum(axis=1) + true.sum(axis=1))
    areas = [binned_roc_auc(true[index], counts[index] - true[index]).value for index in range(classes)]
    if classes == _TWO:
        found[catalogue.F1.name], found[catalogue.ROC_AUC.name] = float(f1[1]), areas[1]
        found[catalogue.PR_AUC.name] = average_precision(true[1], counts[1])
    else:
        found[catalogue.MACRO_F1.name], found[catalogue.ROC_AUC_OVR.name] = float(f1.mean()), float(np.mean(areas))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _expect_errors(
    outcomes: ErrorSums, profile: PredictionProfile, target: NumberBins | None, holdout: Mapping[str, PointEstimate]
) -> dict[str, float]:
    errors = profile.errors_by_value
    if errors is None or target is None or outcomes.predicted is None or not outcomes.rows:
        return {}
    kinds = [*errors.sums, *([] if errors.signed is None else [errors.signed])]
    sums = np.stack(kinds)
    if not sums[0].sum():
        return {}
    # Neighbouring bins are merged until they have enough rows.
    groups = np.unique((np.cumsum(sums[0]) - sums[0]) // _ENOUGH_ROWS, return_inverse=True)[1]
    merged = np.stack([np.bincount(groups, weights=kind) for kind in sums])
    means = (merged / np.maximum(merged[0], 1.0))[:, groups]
    now = means @ outcomes.predicted / outcomes.rows
    before = means @ sums[0] / sums[0].sum()
    mae, rmse = holdout[catalogue.MAE.name].value, holdout[catalogue.RMSE.name].value
    expected = {
        catalogue.MAE.name: mae * now[1] / before[1] if before[1] else mae,
        catalogue.RMSE.name: rmse * math.sqrt(now[2] / before[2]) if before[2] else rmse,
    }
    if errors.signed is not None:
        expected[MEAN_ERROR] = holdout[MEAN_ERROR].value + now[3] - before[3]
    values, squares = outcomes.sums[4:].tolist()
    variance = squares / outcomes.rows - (values / outcomes.rows) ** 2
    if variance > 0:
        expected[catalogue.R2.name] = 1.0 - expected[catalogue.RMSE.name] ** 2 / variance
    return {name: float(value) for name, value in expected.items()}


def is_relative(name: str) -> bool:
    """Return True for losses and errors, whose changes count as shares of themselves."""
    return name != MEAN_ERROR and METRICS_BY_NAME[name].change_is_relative
