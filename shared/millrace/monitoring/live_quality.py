"""Live quality: every metric that matters for the task, in windows of any length, against the holdout.

Hours differ: a model of hourly demand has larger errors at noon than at night, each day. So a window is compared with
the holdout's rows of such predictions: the holdout's metric, moved as far as its distribution of predictions would have
to be reweighted to the window's (importance weighting by the prediction: Shimodaira 2000, *Journal of Statistical
Planning and Inference* 90: 227-244). Lasting losses are found by the day that ends with the window, which is compared
with the whole holdout too. As with drift (:mod:`millrace.monitoring.seasonality`), a loss in a short window is
suppressed when the same hours of earlier days had it and the day as a whole is in order, and a loss of a day when the
same day of the week before had it and the week as a whole is in order.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import numpy as np
import numpy.typing as npt

from millrace.documents import Record
from millrace.histograms.bins import NumberBins
from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import PredictionHistogram
from millrace.metrics import catalogue
from millrace.metrics.catalogue import METRICS, METRICS_BY_NAME
from millrace.monitoring.estimates import calibration_map
from millrace.monitoring.quality import (
    PointEstimate,
    average_precision,
    binned_roc_auc,
    mean_estimate,
    measure_drop,
    measure_outcomes,
)
from millrace.monitoring.seasonality import TimeSpan
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.schema import Task
from millrace.spec.monitoring import QualityRule
from millrace.stats.distances import normal_tail

MEAN_ERROR = "mean_error"
#: Judged beside the primary metric.
_METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": (catalogue.LOG_LOSS.name, catalogue.ACCURACY.name),
    "multiclass": (catalogue.LOG_LOSS.name, catalogue.ACCURACY.name),
    "regression": (catalogue.RMSE.name, catalogue.MAE.name, MEAN_ERROR),
}
#: Means over rows: a day's is the mean of its windows'. Areas and the like within an hour are not those of all hours.
_MEANS = frozenset({*(name for names in _METRICS.values() for name in names), catalogue.BRIER.name})
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
#: A shorter window has hours of its own.
_SHORT = timedelta(hours=12)
_GRACE = timedelta(hours=1)
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)
#: Days whose like hours are pooled.
_LIKE_DAYS = 7
#: Comparisons that share the false discovery rate: of the window and its day, with the holdout and its like rows.
_COMPARISONS = 4
#: Rows' weight of the mean over all predictions beside that of a bin.
_PRIOR_ROWS = 10.0
_TWO = 2


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

    @classmethod
    def of_a_day(cls, outcomes: AnyOutcomes, profile: PredictionProfile | None, target: NumberBins | None) -> Self:
        """Measure outcomes whose times do not matter."""
        metrics = measure_window(outcomes, profile, target)
        return cls(begin=_SOME_DAY, end=_SOME_DAY + _DAY, outcomes=outcomes.rows, metrics=metrics)


def measure_window(
    outcomes: AnyOutcomes, profile: PredictionProfile | None, target: NumberBins | None
) -> dict[str, WindowMetric]:
    """Return every metric of a window, and its value on the holdout's rows with such predictions."""
    measured = measure_metrics(outcomes)
    expected = _expect(outcomes, profile, target, measure_metrics(profile.outcomes)) if profile else {}
    return {name: _describe(one, expected.get(name)) for name, one in measured.items()}


def measure_metrics(outcomes: AnyOutcomes) -> dict[str, PointEstimate]:
    """Return the metrics that live quality knows: those of the catalogue, and the mean error of a regression."""
    measured = measure_outcomes(outcomes)
    if isinstance(outcomes, ErrorSums) and outcomes.rows:
        total, _, squares = outcomes.sums[:3].tolist()
        measured[MEAN_ERROR] = mean_estimate(total, squares, outcomes.rows)
    return measured


def _describe(estimate: PointEstimate, expected: float | None) -> WindowMetric:
    low, high = estimate.interval()
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
    before, now = (_estimate_metrics(counts, known, predictions) for counts in (known.totals, outcomes.totals))
    expected = {}
    for name in holdout.keys() & before.keys() & now.keys():
        if not METRICS_BY_NAME[name].change_is_relative:
            moved = holdout[name].value + now[name] - before[name]
            expected[name] = min(1.0, max(0.0, moved))
        elif before[name] > 0:
            expected[name] = holdout[name].value * now[name] / before[name]
    return {name: value for name, value in expected.items() if math.isfinite(value)}


def _estimate_metrics(
    totals: npt.NDArray[np.int64], holdout: OutcomeHistogram, predictions: PredictionHistogram
) -> dict[str, float]:
    """Estimate metrics of rows from their counts by class and bin of its probability, as if the holdout's."""
    counts, chances = totals.astype(np.float64), calibration_map(holdout)
    classes, bins = counts.shape
    rows = counts[0].sum()
    if not rows:
        return {}
    middles = np.tile((np.arange(bins) + 0.5) / bins, (classes, 1))
    stated = np.divide(holdout.probability_sums, holdout.totals, out=middles, where=holdout.totals > 0)
    stated = np.clip(stated, 1e-7, 1.0 - 1e-7)
    # Share of the rows with such a probability of a class that are predicted to be of it.
    default = (stated >= 1.0 / classes).astype(np.float64)
    decided = np.divide(
        predictions.decided, predictions.probabilities, out=default, where=predictions.probabilities > 0
    )
    chosen, hits = counts * decided, counts * decided * chances
    true = counts * chances
    squares = counts * (chances * (1.0 - stated) ** 2 + (1.0 - chances) * stated**2)
    found = {
        catalogue.ACCURACY.name: float(hits.sum() / max(chosen.sum(), 1e-9)),
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
    sums = np.stack([target.coarse(kind) for kind in kinds])
    if not sums[0].sum():
        return {}
    overall = sums.sum(axis=1) / sums[0].sum()
    # A bin that the holdout hardly had is shrunk towards the mean of all.
    means = (sums + _PRIOR_ROWS * overall[:, np.newaxis]) / (sums[0] + _PRIOR_ROWS)
    now = means @ target.coarse(outcomes.predicted) / outcomes.rows
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


def judged_metrics(task: Task, wanted: str | None, primary: str | None, known: Iterable[str]) -> list[str]:
    """Return the metrics to judge: the wanted one alone, or the primary one and those that matter for the task."""
    available = set(known)
    if wanted is not None and wanted in available:
        return [wanted]
    names = dict.fromkeys([primary or METRICS[task][0].name, *_METRICS[task]])
    return [name for name in names if name in available]


@dataclass(frozen=True, slots=True)
class _Period:
    """A metric over one or several windows."""

    phrase: str
    now: PointEstimate
    expected: PointEstimate | None


def _pool(name: str, phrase: str, windows: Sequence[MeasuredWindow], holdout: PointEstimate) -> _Period | None:
    """Average a metric over windows by their outcomes; errors that are roots are averaged as squares."""
    own = [(window.outcomes, window.metrics[name]) for window in windows if name in window.metrics]
    if not own:
        return None
    weights = np.array([rows for rows, _ in own], dtype=np.float64)
    rows = int(weights.sum())
    weights /= weights.sum()
    values, errors = (np.array([getattr(one, part) for _, one in own]) for part in ("value", "error"))
    expected = np.array([holdout.value if one.expected is None else one.expected for _, one in own])
    is_root = name == catalogue.RMSE.name
    if is_root:
        errors, values, expected = 2.0 * values * errors, values**2, expected**2
    value, error = float(weights @ values), float(np.sqrt(np.sum((weights * errors) ** 2)))
    reference = float(weights @ expected)
    if is_root:
        value, reference = math.sqrt(value), math.sqrt(reference)
        error = error / (2.0 * value) if value else 0.0
    scale = reference / holdout.value if is_relative(name) and holdout.value > 0 else 1.0
    return _Period(phrase, PointEstimate(value, error, rows), PointEstimate(reference, holdout.error * scale, rows))


def is_relative(name: str) -> bool:
    """Return True for losses and errors, whose changes count as shares of themselves."""
    return name != MEAN_ERROR and METRICS_BY_NAME[name].change_is_relative


@dataclass(frozen=True, slots=True)
class _Loss:
    """Comparison of a metric with a reference."""

    period: _Period
    before: PointEstimate
    phrase: str  # describes the reference
    drop: float
    threshold: float
    p_value: float

    def is_breach(self, rate: float) -> bool:
        return self.drop >= self.threshold and self.p_value <= rate


@dataclass(frozen=True, slots=True)
class QualityComparison:
    """Comparison of a window of outcomes with the holdout, by the rule of a verdict.

    ``earlier`` are the version's windows before it, ``holdout`` its metrics there.
    """

    verdict: str
    task: Task
    window: MeasuredWindow
    earlier: Sequence[MeasuredWindow]
    holdout: Mapping[str, PointEstimate]
    rule: QualityRule
    rate: float
    primary: str | None = None
    coverage: float | None = None  # share of the predictions with an outcome

    def findings(self) -> list[WindowFinding]:
        """Return one finding for each metric."""
        rows = self.window.outcomes
        known = [name for name in self.window.metrics if name in self.holdout]
        names = judged_metrics(self.task, self.rule.metric, self.primary, known)
        if rows < self.rule.min_rows:
            wanted = judged_metrics(self.task, self.rule.metric, self.primary, self.holdout)
            return [too_few(self.verdict, name, rows, self.rule.min_rows, "outcomes") for name in wanted]
        if not names:
            message = "the holdout and these rows have no metric in common"
            return [WindowFinding(self.verdict, "every metric", "unknown", message)]
        rate = self.rate / (_COMPARISONS * len(names))
        return [self._evaluate(name, rate) for name in names]

    def _evaluate(self, name: str, rate: float) -> WindowFinding:
        begin, end = self.window.begin, self.window.end
        is_short = end - begin < _SHORT
        here = self._pool(name, "", [self.window])
        day = None if is_short else here
        since = min((one.begin for one in self.earlier), default=begin)
        if is_short and since <= end - _DAY + _GRACE:
            windows = [one for one in self.earlier if one.end > end - _DAY]
            day = self._pool(name, " in the day that ends with it", [*windows, self.window])
        reason = ""
        if day is not None:
            loss = self._worst(name, day, rate)
            if loss.is_breach(rate):
                reason = self._day_reason(name, day, rate) if since <= end - _WEEK + _GRACE else ""
                if not reason:
                    return self._report(name, loss, "breach")
            if not is_short or name == MEAN_ERROR:
                return self._report(name, loss, "ok", reason)
        if name == MEAN_ERROR:
            return WindowFinding(self.verdict, name, "unknown", "a mean error is judged on whole days")
        loss = self._compare(name, here, here.expected, "on the holdout's rows with such predictions")
        if not loss.is_breach(rate):
            return self._report(name, loss, "ok")
        for phrase, windows in self._like_windows():
            like = self._pool(name, "", windows)
            if like is not None:
                usual = self._compare(name, here, like.now, "")
                if usual.drop < usual.threshold:
                    return self._report(name, loss, "ok", f"as in {phrase}")
        return self._report(name, loss, "breach")

    def _like_windows(self) -> Iterator[tuple[str, list[MeasuredWindow]]]:
        yield "the same hours of earlier days", [one for one in self.earlier if self._is_like(one)]
        yield "the same hours of the week before", [one for one in self.earlier if self._is_like(one, 7)]

    def _day_reason(self, name: str, day: _Period, rate: float) -> str:
        end = self.window.end
        last = self._pool(name, "", [one for one in self.earlier if end - _WEEK - _DAY < one.end <= end - _WEEK])
        windows = [one for one in self.earlier if one.end > end - _WEEK]
        week = self._pool(name, "", [*windows, self.window])
        if last is None or week is None or self._worst(name, week, rate).is_breach(rate):
            return ""
        usual = self._compare(name, day, last.now, "")
        return "" if usual.drop >= usual.threshold else "as on the same day of the week before"

    def _is_like(self, other: MeasuredWindow, every: int = 1) -> bool:
        length = self.window.end - self.window.begin
        middle = self.window.begin + length / 2
        apart = middle - (other.begin + (other.end - other.begin) / 2)
        days = round(apart / _DAY)
        near = max(_GRACE / 2, length / 4)
        return 1 <= days <= _LIKE_DAYS and not days % every and abs(apart - days * _DAY) <= near

    def _pool(self, name: str, phrase: str, windows: Sequence[MeasuredWindow]) -> _Period | None:
        return _pool(name, phrase, windows, self.holdout[name])

    def _worst(self, name: str, period: _Period, rate: float) -> _Loss:
        """Return the comparison that is a breach, or else that with the holdout's like rows."""
        like = self._compare(name, period, period.expected, "on the holdout's rows with such predictions")
        whole = self._compare(name, period, self.holdout[name], "on the holdout")
        is_mean = name in _MEANS or self.window.end - self.window.begin >= _SHORT
        if is_mean and whole.is_breach(rate) and not (like.is_breach(rate) and like.drop >= whole.drop):
            return whole
        return like

    def _compare(self, name: str, period: _Period, before: PointEstimate, phrase: str) -> _Loss:
        now, rule = period.now, self.rule
        deviation = math.hypot(before.error, now.error)
        if name == MEAN_ERROR:
            lost = abs(now.value) - abs(before.value)
            unit = self.holdout[catalogue.RMSE.name].value
            drop, threshold = lost / unit if unit else math.inf if lost > 0 else 0.0, rule.relative_threshold
        else:
            lost = METRICS_BY_NAME[name].gain(before.value, now.value)
            drop, threshold = measure_drop(METRICS_BY_NAME[name], before.value, now.value, rule)
        p_value = normal_tail(lost / deviation) if deviation > 0 else float(lost <= 0)
        return _Loss(period, before, phrase, drop, threshold, p_value)

    def _report(self, name: str, loss: _Loss, status: str, reason: str = "") -> WindowFinding:
        now = loss.period.now
        low, high = now.interval()
        label = name.replace("_", " ")
        message = (
            f"{label} {loss.before.value:.3f} {loss.phrase} → {now.value:.3f} ({low:.3f} to {high:.3f})"
            f"{loss.period.phrase}, on {now.rows:,} outcomes"
        )
        if self.coverage is not None:
            message += f", {self.coverage:.0%} of the predictions"
        return WindowFinding(
            verdict=self.verdict,
            subject=name,
            status=breach_or_ok(status == "breach"),
            message=f"{message}; {reason}" if reason else message,
            measure=f"drop of {name}",
            value=loss.drop,
            threshold=loss.threshold,
            rows=now.rows,
            p_value=loss.p_value,
            details={
                "metric": name,
                "before": loss.before.value,
                "now": now.value,
                "low": low,
                "high": high,
                "coverage": self.coverage,
            }
            | ({"season": reason} if reason else {}),
        )
