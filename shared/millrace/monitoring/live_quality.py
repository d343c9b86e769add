"""Live quality: every metric that matters for the task, in windows of any length, against the holdout.

Hours differ: a model of hourly demand has larger errors at noon than at night, each day. So a short window is compared
with the holdout's rows of such predictions: the holdout's metric, moved by as much as reweighting the holdout to the
window's predictions moves it (importance weighting: Shimodaira 2000, *Journal of Statistical Planning and Inference*
90: 227-244). The day that ends with the window is compared with the whole holdout too, so that a loss that lasts is a
breach in every window, at whatever hour, until a day is in order. As with drift
(:mod:`millrace.monitoring.seasonality`), a loss is suppressed when it comes back with the hours while the day is in
order, or with the weekday while the week is; or when days differ so much from one another while the week is in order.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Self

import numpy as np

from millrace.documents import Record
from millrace.histograms.bins import NumberBins
from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import PredictionHistogram
from millrace.metrics import catalogue
from millrace.metrics.catalogue import METRICS, METRICS_BY_NAME
from millrace.monitoring.quality import (
    PointEstimate,
    average_precision,
    binned_roc_auc,
    bounded_interval,
    calibration_growth,
    mean_estimate,
    measure_drop,
    measure_outcomes,
)
from millrace.monitoring.seasonality import TimeSpan
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.schema import Task
from millrace.spec.monitoring import QualityRule
from millrace.stats.distances import benjamini_hochberg, normal_tail

#: Mean of the errors; the catalogue has no metric that may have either sign.
MEAN_ERROR = "mean_error"
#: Metrics that are evaluated beside the primary one.
_METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": (catalogue.LOG_LOSS.name, catalogue.ACCURACY.name),
    "multiclass": (catalogue.LOG_LOSS.name, catalogue.ACCURACY.name),
    "regression": (catalogue.RMSE.name, catalogue.MAE.name, MEAN_ERROR),
}
#: Means over rows: that of a day is the mean of its windows'. The area under a curve within an hour is another one.
_MEANS = frozenset({*(name for names in _METRICS.values() for name in names), catalogue.BRIER.name})
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
#: A shorter window has hours of its own.
_SHORT = timedelta(hours=12)
#: Windows do not begin and end on the stroke.
_GRACE = timedelta(hours=1)
#: Days whose like hours are pooled.
_LIKE_DAYS = 7
#: Days whose differences from the day before show how far days vary, and the least number of them.
_VARYING_DAYS = 28
_FEWEST_DAYS = 14
#: Least number of pairs of the same hours that show how far they vary.
_FEWEST_PAIRS = 30
#: Quantiles of the absolute value of a standard normal variable, for most steps, and for those of a heavy tail too.
_MOST: Mapping[float, float] = {0.5: 0.6745}
_TAIL: Mapping[float, float] = {**_MOST, 0.9: 1.6449}
#: Rows of the holdout whose mean errors are those of a range of predicted values.
_ENOUGH_ROWS = 30.0
_TWO = 2
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_VERDICT = "live_quality"
_LIKE_ROWS = "on the holdout's rows with such predictions"


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


def _middle(window: TimeSpan) -> datetime:
    return window.begin + (window.end - window.begin) / 2


@dataclass(frozen=True, slots=True)
class RecentOutcomes:
    """A window of outcomes, and the version's windows before it."""

    window: MeasuredWindow
    earlier: Sequence[MeasuredWindow] = ()
    #: Counts of the window and of those before it, by which a day is summed; None where they were not kept.
    counts: Sequence[AnyOutcomes | None] = ()
    is_full: bool = False  # True when as many windows are kept as may be

    @classmethod
    def of_a_day(cls, outcomes: AnyOutcomes, profile: PredictionProfile | None, target: NumberBins | None) -> Self:
        """Return outcomes whose times do not matter."""
        return cls(MeasuredWindow.measure(outcomes, profile, target, (_SOME_DAY, _SOME_DAY + _DAY)))

    @property
    def is_short(self) -> bool:
        """True for a window that has hours of its own."""
        return self.window.end - self.window.begin < _SHORT

    @property
    def covers_day(self) -> bool:
        """True when the day that ends with the window is known."""
        return not self.is_short or self.is_full or self.covers(_DAY)

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
        last, known = self.window.end - _DAY, [one for one in self.earlier if one.end - one.begin < _SHORT]
        known = sorted((one for one in known if one.end <= last), key=_middle)
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
    return {name: _describe(name, one, expected.get(name)) for name, one in measured.items()}


def measure_metrics(outcomes: AnyOutcomes) -> dict[str, PointEstimate]:
    """Return the metrics that live quality knows: those of the catalogue, and the mean error of a regression."""
    measured = measure_outcomes(outcomes)
    if isinstance(outcomes, ErrorSums) and outcomes.rows:
        total, _, squares = outcomes.sums[:3].tolist()
        measured[MEAN_ERROR] = mean_estimate(total, squares, outcomes.rows)
    return measured


def _describe(name: str, estimate: PointEstimate, expected: float | None) -> WindowMetric:
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


def evaluated_metrics(task: Task, wanted: str | None, primary: str | None, known: Iterable[str]) -> list[str]:
    """Return the metrics to evaluate: the wanted one alone, or the primary one and those that matter for the task."""
    available = set(known)
    if wanted is not None and wanted in available:
        return [wanted]
    names = dict.fromkeys([primary or METRICS[task][0].name, *_METRICS[task]])
    return [name for name in names if name in available]


@dataclass(frozen=True, slots=True)
class _Period:
    """A metric over one or several windows, and its expectation by the holdout's rows with such predictions."""

    now: PointEstimate
    expected: PointEstimate
    phrase: str = ""


@dataclass(frozen=True, slots=True)
class _Loss:
    """Comparison of a metric with a reference."""

    period: _Period
    before: PointEstimate
    reference: str
    drop: float
    threshold: float
    p_value: float

    @property
    def is_large(self) -> bool:
        return self.drop >= self.threshold

    def is_breach(self, rate: float) -> bool:
        return self.is_large and self.p_value <= rate


@dataclass(frozen=True, slots=True)
class QualityComparison:
    """Comparison of the latest outcomes with the holdout, by the rule of a verdict."""

    task: Task
    recent: RecentOutcomes
    holdout: Mapping[str, PointEstimate]
    rule: QualityRule
    rate: float
    primary: str | None = None
    coverage: float | None = None  # share of the predictions with an outcome

    def findings(self) -> list[WindowFinding]:
        """Return a finding on live quality for each evaluated metric."""
        window, rule = self.recent.window, self.rule
        known = self.holdout.keys() & window.metrics.keys() if window.outcomes >= rule.min_rows else self.holdout
        names = evaluated_metrics(self.task, rule.metric, self.primary, known)
        if window.outcomes < rule.min_rows:
            return [too_few(_VERDICT, name, window.outcomes, rule.min_rows, "outcomes") for name in names]
        if not names:
            message = "the holdout and these rows have no metric in common"
            return [WindowFinding(_VERDICT, "every metric", "unknown", message)]
        return list(self._evaluate(names))

    def _evaluate(self, names: Sequence[str]) -> Iterator[WindowFinding]:
        """Evaluate the day that ends with a short window, then the window itself."""
        recent = self.recent
        here = {name: self._pool(name, [recent.window]) for name in names}
        days: dict[str, _Period] = here if not recent.is_short else {}
        if recent.is_short and recent.covers_day:
            days = {name: self._pool(name, recent.last(_DAY), " in the last day") for name in names}
        # Two looks share the rate; in each of them all metrics do (Benjamini-Hochberg).
        rate = self.rate / 2.0 if recent.is_short else self.rate
        of_days = self._significance([loss for name, day in days.items() for loss in self._losses(name, day)], rate)
        hours = {name: self._compare(name, now, now.expected, _LIKE_ROWS) for name, now in here.items()}
        of_hours = self._significance([loss for name, loss in hours.items() if name != MEAN_ERROR], rate)
        for name in names:
            found = None
            if days:
                loss = self._worst(name, days[name], of_days)
                found = self._report(name, loss, of_days, self._explain_day(name, loss, of_days))
            if recent.is_short and name == MEAN_ERROR and not found:
                message = "a mean error is evaluated on whole days, and these are not a day yet"
                found = WindowFinding(_VERDICT, name, "unknown", message, rows=recent.window.outcomes)
            elif recent.is_short and name != MEAN_ERROR and (not found or found.status == "ok"):
                loss = hours[name]
                found = self._report(name, loss, of_hours, self._explain_hours(name, loss, of_hours))
            if found:
                yield found

    @staticmethod
    def _significance(losses: Sequence[_Loss], rate: float) -> float:
        """Return the largest p-value that is significant; less than any when none is."""
        p_values = [loss.p_value for loss in losses]
        found = zip(p_values, benjamini_hochberg(p_values, rate), strict=True)
        return max((p_value for p_value, significant in found if significant), default=-1.0)

    def _explain_day(self, name: str, loss: _Loss, rate: float) -> str:
        recent = self.recent
        if not loss.is_breach(rate) or not recent.is_short or not recent.covers(_WEEK):
            return ""
        if self._is_lasting(name):
            return ""
        last = self._with(name, recent.last(_DAY, before=_WEEK))
        if last and not self._compare(name, loss.period, self._pool(name, last).now).is_large:
            return "as on that day of the week before, while the week is as on the holdout"
        known = [self._pool(name, own) for windows in recent.days_before() if (own := self._with(name, windows))]
        if len(known) >= _FEWEST_DAYS and not self._widen(name, loss, [*pairwise(known)], _MOST).is_breach(self.rate):
            return "as days differ from one another, while the week is as on the holdout"
        return ""

    def _is_lasting(self, name: str) -> bool:
        return self._worst(name, self._pool(name, self.recent.last(_WEEK)), self.rate).is_breach(self.rate)

    def _explain_hours(self, name: str, loss: _Loss, rate: float) -> str:
        if not loss.is_breach(rate) or not self.recent.covers_day:
            return ""
        for every, phrase in ((1, "of earlier days"), (_LIKE_DAYS, "of the week before")):
            like = self._with(name, self.recent.like(every))
            if like and not self._compare(name, loss.period, self._pool(name, like).now).is_large:
                return f"as in the same hours {phrase}, while the day is as on the holdout"
        pairs = [pair for pair in self.recent.days_apart() if len(self._with(name, pair)) == _TWO]
        periods = [(self._pool(name, [first]), self._pool(name, [second])) for first, second in pairs]
        if len(periods) >= _FEWEST_PAIRS and not self._widen(name, loss, periods, _TAIL).is_breach(self.rate):
            return "as the same hours of two days differ from one another, while the day is as on the holdout"
        return ""

    @staticmethod
    def _with(name: str, windows: Iterable[MeasuredWindow]) -> list[MeasuredWindow]:
        return [one for one in windows if name in one.metrics]

    def _pool(self, name: str, windows: Sequence[MeasuredWindow], phrase: str = "") -> _Period:
        """Average a metric over windows by their outcomes; a root of squares is averaged as squares."""
        holdout, own = self.holdout[name], self._with(name, windows)
        parts = [(one.metrics[name], one.outcomes) for one in own]
        table = [(one.value, one.error, holdout.value if one.expected is None else one.expected) for one, _ in parts]
        values, errors, expected = np.array(table).T
        rows = sum(outcomes for _, outcomes in parts)
        weights = np.array([outcomes for _, outcomes in parts]) / rows
        is_root = name == catalogue.RMSE.name
        if is_root:
            values, errors, expected = values**2, 2.0 * values * errors, expected**2
        value, error, reference = float(weights @ values), float(np.hypot.reduce(weights * errors)), weights @ expected
        if is_root:
            value, reference = math.sqrt(value), math.sqrt(reference)
            error = error / (2.0 * value) if value else 0.0
        scale = reference / holdout.value if is_relative(name) and holdout.value > 0 else 1.0
        return _Period(
            PointEstimate(value, error, rows), PointEstimate(float(reference), holdout.error * scale, rows), phrase
        )

    def _widen(
        self, name: str, loss: _Loss, pairs: Sequence[tuple[_Period, _Period]], quantiles: Mapping[float, float]
    ) -> _Loss:
        """Add to the error of a period how far earlier ones vary beyond what their rows do.

        Rows of a day, or of an hour, share its weather, so that they are not independent. The variance is half that of
        the steps from one to the next (von Neumann 1941, *Annals of Mathematical Statistics* 12: 367-395), by their
        quantiles: a lasting loss is one step, and does not hide itself.
        """

        def unit(one: _Period) -> float:
            return one.expected.value if is_relative(name) and one.expected.value > 0 else 1.0

        def lost(one: _Period) -> float:
            return (one.now.value - one.expected.value) / unit(one)

        steps = np.quantile([abs(lost(second) - lost(first)) for first, second in pairs], list(quantiles))
        step = float(np.max(steps / list(quantiles.values())))
        by_rows = float(np.mean([(one.now.error / unit(one)) ** 2 for pair in pairs for one in pair]))
        period = loss.period
        spread = unit(period) * math.sqrt(max(0.0, step**2 / 2.0 - by_rows))
        now = replace(period.now, error=math.hypot(period.now.error, spread))
        return self._compare(name, replace(period, now=now), loss.before, loss.reference)

    def _losses(self, name: str, period: _Period) -> list[_Loss]:
        """Compare a day or more with the holdout and with its like rows."""
        like = self._compare(name, period, period.expected, _LIKE_ROWS)
        whole = self._compare(name, period, self.holdout[name], "on the holdout")
        return [whole, like] if name in _MEANS or not self.recent.is_short else [like]

    def _worst(self, name: str, period: _Period, rate: float) -> _Loss:
        losses = self._losses(name, period)
        return max((loss for loss in losses if loss.is_breach(rate)), key=lambda loss: loss.drop, default=losses[0])

    def _compare(self, name: str, period: _Period, before: PointEstimate, reference: str = "") -> _Loss:
        now, rule = period.now, self.rule
        deviation = math.hypot(before.error, now.error)
        if name == MEAN_ERROR:
            lost, unit = abs(now.value) - abs(before.value), self.holdout[catalogue.RMSE.name].value
            drop, threshold = lost / unit if unit else math.inf if lost > 0 else 0.0, rule.relative_threshold
        else:
            metric = METRICS_BY_NAME[name]
            lost = metric.gain(before.value, now.value)
            drop, threshold = measure_drop(metric, before.value, now.value, rule)
        p_value = normal_tail(lost / deviation) if deviation > 0 else float(lost <= 0)
        return _Loss(period, before, reference, drop, threshold, p_value)

    def _report(self, name: str, loss: _Loss, rate: float, reason: str = "") -> WindowFinding:
        now, before = loss.period.now, loss.before.value
        shown = _describe(name, now, None)
        label = "mean error" if name == MEAN_ERROR else METRICS_BY_NAME[name].label
        message = (
            f"{label} {before:.3f} {loss.reference} → {now.value:.3f} ({shown.low:.3f} to {shown.high:.3f})"
            f"{loss.period.phrase}, on {now.rows:,} outcomes"
        )
        message += "" if self.coverage is None else f", {self.coverage:.0%} of the predictions"
        details = {"metric": name, "before": before, "now": now.value, "low": shown.low, "high": shown.high}
        details |= {"coverage": self.coverage, "reference": loss.reference} | ({"season": reason} if reason else {})
        return WindowFinding(
            verdict=_VERDICT,
            subject=name,
            status=breach_or_ok(loss.is_breach(rate) and not reason),
            message=f"{message}; {reason}" if reason else message,
            measure=f"drop of {name}",
            value=loss.drop,
            threshold=loss.threshold,
            rows=now.rows,
            p_value=loss.p_value,
            details=details,
        )


def is_relative(name: str) -> bool:
    """Return True for losses and errors, whose changes count as shares of themselves."""
    return name != MEAN_ERROR and METRICS_BY_NAME[name].change_is_relative
