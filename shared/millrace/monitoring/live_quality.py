"""Live quality: every metric that matters for the task, in windows of any length, against the holdout.

A short window is compared with the holdout's rows of such predictions. The day that ends with the window is compared
with the whole holdout too, so that a loss that lasts is a breach in every window, at whatever hour, until a day is in
order. As with drift (:mod:`millrace.monitoring.seasonality`), a loss is suppressed when it comes back with the hours
while the day is in order, or with the weekday while the week is; or when hours or days differ so much from one another.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.histograms.outcomes import MEAN_ERROR
from millrace.metrics import catalogue
from millrace.metrics.catalogue import METRICS, METRICS_BY_NAME
from millrace.monitoring.measured_windows import (
    MeasuredWindow,
    RecentOutcomes,
    describe_metric,
    is_relative,
    pool_metric,
)
from millrace.monitoring.quality import (
    PointEstimate,
    measure_drop,
)
from millrace.monitoring.window_findings import HOURS, WindowFinding, breach_or_ok, too_few
from millrace.schema import Task
from millrace.spec.monitoring import QualityRule
from millrace.stats.distances import benjamini_hochberg, normal_tail

#: Metrics that are evaluated beside the primary one.
_METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": (catalogue.LOG_LOSS.name, catalogue.ACCURACY.name),
    "multiclass": (catalogue.LOG_LOSS.name, catalogue.ACCURACY.name),
    "regression": (catalogue.RMSE.name, catalogue.MAE.name, MEAN_ERROR),
}
#: Means over rows: that of a day is the mean of its windows'. The area under a curve within an hour is another one.
_MEANS = frozenset({*(name for names in _METRICS.values() for name in names), catalogue.BRIER.name})
_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
#: A loss of so many hours in a row is no rare hour.
_HOURS = timedelta(hours=4)
#: Least number of days that show how far they vary.
_FEWEST_DAYS = 14
#: Factor by which rare days differ more than most, where the holdout's days differ so much.
_ROOM_FOR_DAYS = 2.0
#: Like hours of so many days apart are those of the weekday.
_LIKE_DAYS = 7
#: Least number of pairs of the same hours that show how far they vary.
_FEWEST_PAIRS = 30
#: Quantiles of the absolute value of a standard normal variable, for most steps, and for those of a heavy tail too.
_MOST: Mapping[float, float] = {0.5: 0.6745}
_TAIL: Mapping[float, float] = {**_MOST, 0.9: 1.6449, 0.99: 2.5758}
#: Least number of steps beyond a quantile that show where it is.
_BEYOND = 2
_TWO = 2
_VERDICT = "live_quality"
_LIKE_ROWS = "on the holdout's rows with such predictions"
_AT_TIME = "on the holdout at this time of the year"
#: Least number of the holdout's rows of a time of the year that show how well it is predicted then.
_FEWEST_ROWS = 30


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
    #: Of the holdout's rows of this time of the year; empty where these are not known.
    at_time: Mapping[str, PointEstimate] = field(default_factory=dict)
    #: How far the holdout's days differ, as standard deviations; empty where they are not known.
    of_days: Mapping[str, float] = field(default_factory=dict)

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
        if not loss.is_breach(rate):
            return ""
        if not self._at_time(name, loss).is_large:
            return f"as {_AT_TIME}"
        is_known = recent.is_short and recent.covers(_WEEK) and not self._is_lasting(name)
        return self._explain_by_days(name, loss) if is_known else ""

    def _explain_by_days(self, name: str, loss: _Loss) -> str:
        """Return the days that explain the loss of a day whose week is in order."""
        recent = self.recent
        last = self._with(name, recent.last(_DAY, before=_WEEK))
        if last and not self._compare(name, loss.period, self._pool(name, last).now).is_large:
            return "as on that day of the week before, while the week is as on the holdout"
        spread = self._spread_of_recent_days(name)
        if spread is None:
            return ""
        if not self._widen(name, loss, spread).is_breach(self.rate):
            return "as days differ from one another, while the week is as on the holdout"
        if not self._widen(name, loss, self._spread_of_days(name, spread)).is_breach(self.rate):
            return "as days of the holdout differ from one another, while the week is as on the holdout"
        return ""

    def _spread_of_recent_days(self, name: str) -> float | None:
        """Return how far days of traffic vary; None while too few are known."""
        known = [self._pool(name, own) for windows in self.recent.days_before() if (own := self._with(name, windows))]
        return self._spread(name, [*pairwise(known)], _MOST) if len(known) >= _FEWEST_DAYS else None

    def _spread_of_days(self, name: str, recent: float) -> float:
        """Return how far days may differ: by most of them, with room for rare ones if the holdout has had such."""
        of_days, whole = self.of_days.get(name, 0.0), self.holdout[name].value
        return min(_ROOM_FOR_DAYS * recent, of_days / whole if is_relative(name) and whole > 0 else of_days)

    def _is_lasting(self, name: str) -> bool:
        """Return whether the week has a loss that is more than seven days that differ as they do have by chance."""
        loss = self._worst(name, self._pool(name, self.recent.last(_WEEK)), self.rate)
        if not loss.is_breach(self.rate) or not self._at_time(name, loss).is_large:
            return False
        spread = self._spread_of_recent_days(name)
        return spread is None or self._widen(name, loss, spread / math.sqrt(_LIKE_DAYS)).is_breach(self.rate)

    def _at_time(self, name: str, loss: _Loss) -> _Loss:
        """Compare with what the holdout's rows of this time of the year were worse than all of them."""
        known, whole = self.at_time.get(name), self.holdout[name]
        if known is None or known.rows < _FEWEST_ROWS:
            return loss
        if name == MEAN_ERROR:
            worse, value = abs(known.value) > abs(whole.value), math.copysign(known.value, loss.before.value)
        elif is_relative(name):
            worse = whole.value > 0 and known.value > whole.value
            value = loss.before.value * known.value / whole.value if worse else loss.before.value
        else:
            worse, value = known.value < whole.value, loss.before.value + known.value - whole.value
        before = PointEstimate(value, known.error, known.rows)
        return self._compare(name, loss.period, before, _AT_TIME) if worse else loss

    def _lose_all_day(self, name: str, loss: _Loss) -> float:
        """Return the drop of a day whose hours all lose as much: of hours with small errors it is a small one."""
        whole, before, now = self.holdout[name].value, loss.before.value, loss.period.now.value
        if not is_relative(name) or whole <= 0.0:
            return loss.drop
        if name == catalogue.RMSE.name:
            return math.sqrt(1.0 + max(0.0, now**2 - before**2) / whole**2) - 1.0
        return (now - before) / whole

    def _explain_hours(self, name: str, loss: _Loss, rate: float) -> str:
        if not loss.is_breach(rate):
            return ""
        if self._lose_all_day(name, loss) < loss.threshold:
            return "too little for a loss of the day, if all its hours lost as much"
        if not self._at_time(name, loss).is_large:
            return f"as {_AT_TIME}"
        return self._explain_by_hours(name, loss) if self.recent.covers_day else ""

    def _explain_by_hours(self, name: str, loss: _Loss) -> str:
        """Return the hours that explain the loss of some whose day is in order."""
        for every, phrase in ((1, "of earlier days"), (_LIKE_DAYS, "of the week before")):
            like = self._with(name, self.recent.like(every))
            if like and not self._compare(name, loss.period, self._pool(name, like).now).is_large:
                return f"as in the same hours {phrase}, while the day is as on the holdout"
        pairs = [pair for pair in self.recent.days_apart() if len(self._with(name, pair)) == _TWO]
        periods = [(self._pool(name, [first]), self._pool(name, [second])) for first, second in pairs]
        if len(periods) < _FEWEST_PAIRS:
            return ""
        if not self._widen(name, loss, self._spread(name, periods, _TAIL)).is_breach(self.rate):
            return "as the same hours of two days differ from one another, while the day is as on the holdout"
        step = self._largest_step(name, periods, self._unit(name, loss.period))
        if not self._lasts(name, _HOURS) and self._lessen(name, loss, step).p_value > self.rate:
            return "as the same hours of two days have differed before, while the day is as on the holdout"
        return ""

    @staticmethod
    def _with(name: str, windows: Iterable[MeasuredWindow]) -> list[MeasuredWindow]:
        return [one for one in windows if name in one.metrics]

    def _pool(self, name: str, windows: Sequence[MeasuredWindow], phrase: str = "") -> _Period:
        """Average a metric over windows by their outcomes; without an expectation the holdout's stands for it."""
        holdout, own = self.holdout[name], self._with(name, windows)
        complete = [_expecting(one, name, holdout.value) for one in own]
        pooled, rows = pool_metric(name, complete), sum(one.outcomes for one in own)
        expected = holdout.value if pooled.expected is None else pooled.expected
        scale = expected / holdout.value if is_relative(name) and holdout.value > 0 else 1.0
        return _Period(
            PointEstimate(pooled.value, pooled.error, rows),
            PointEstimate(expected, holdout.error * scale, rows),
            phrase,
        )

    @staticmethod
    def _unit(name: str, period: _Period) -> float:
        return period.expected.value if is_relative(name) and period.expected.value > 0 else 1.0

    def _spread(self, name: str, pairs: Sequence[tuple[_Period, _Period]], quantiles: Mapping[float, float]) -> float:
        """Return how far earlier periods vary beyond what their rows do, in units of what is expected of them.

        Rows of a day, or of an hour, share its weather, so that they are not independent. The variance is half that of
        the steps from one to the next (von Neumann 1941, *Annals of Mathematical Statistics* 12: 367-395), by their
        quantiles: a lasting loss is one step, and does not hide itself.
        """

        def lost(one: _Period) -> float:
            return (one.now.value - one.expected.value) / self._unit(name, one)

        known = [quantile for quantile in quantiles if round(len(pairs) * (1.0 - quantile), 6) >= _BEYOND]
        steps = np.quantile([abs(lost(second) - lost(first)) for first, second in pairs], known)
        step = float(np.max(steps / [quantiles[quantile] for quantile in known]))
        by_rows = float(np.mean([(one.now.error / self._unit(name, one)) ** 2 for pair in pairs for one in pair]))
        return math.sqrt(max(0.0, step**2 / 2.0 - by_rows))

    def _largest_step(self, name: str, pairs: Sequence[tuple[_Period, _Period]], unit: float) -> float:
        """Return how far two periods have differed at most, beyond what their rows do.

        Losses of hours have a heavier tail than the quantiles of some weeks show, and the hours of a night share it:
        two windows in a row are not two witnesses. The step is the larger one of that in multiples of what is expected,
        which is ``unit`` now, and that as it is: hours with small errors differ by large multiples and little else.
        """
        periods = [
            [(one.now.value - one.expected.value, one.now.error, self._unit(name, one)) for one in pair]
            for pair in pairs
        ]
        lost, errors, units = np.moveaxis(np.array(periods), 2, 0)
        by_rows = NormalDist().inv_cdf(1.0 - self.rate)

        def largest(scale: npt.NDArray[np.float64]) -> float:
            steps = np.abs(np.diff(lost / scale, axis=1)[:, 0])
            return float(np.max(steps - by_rows * np.hypot.reduce(errors / scale, axis=1)))

        return max(0.0, unit * largest(units), largest(np.ones_like(units)))

    def _lasts(self, name: str, length: timedelta) -> bool:
        """Return whether every window of such a time has a large loss."""
        periods = [self._pool(name, [one]) for one in self._with(name, self.recent.last(length))]
        return self.recent.covers(length) and all(self._compare(name, one, one.expected).is_large for one in periods)

    def _widen(self, name: str, loss: _Loss, spread: float) -> _Loss:
        """Add to the error of a period how far such periods vary beyond what their rows do."""
        period = loss.period
        now = replace(period.now, error=math.hypot(period.now.error, self._unit(name, period) * spread))
        return self._compare(name, replace(period, now=now), loss.before, loss.reference)

    def _lessen(self, name: str, loss: _Loss, step: float) -> _Loss:
        """Move a period towards what was before by as much as periods have differed."""
        period, before = loss.period, loss.before.value
        now = replace(period.now, value=period.now.value + math.copysign(step, before - period.now.value))
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
        shown = describe_metric(name, now, None)
        label = "mean error" if name == MEAN_ERROR else METRICS_BY_NAME[name].label
        message = (
            f"{label} {before:.3f} {loss.reference} → {now.value:.3f} ({shown.low:.3f} to {shown.high:.3f})"
            f"{loss.period.phrase}, on {now.rows:,} outcomes"
        )
        message += "" if self.coverage is None else f", {self.coverage:.0%} of the predictions"
        details = {"metric": name, "before": before, "now": now.value, "low": shown.low, "high": shown.high}
        details |= {"coverage": self.coverage, "reference": loss.reference} | ({"season": reason} if reason else {})
        details |= {HOURS: _DAY / timedelta(hours=1)} if loss.period.phrase else {}
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


def _expecting(window: MeasuredWindow, name: str, default: float) -> MeasuredWindow:
    metric = window.metrics[name]
    if metric.expected is not None:
        return window
    return msgspec.structs.replace(window, metrics={name: msgspec.structs.replace(metric, expected=default)})
