"""Seasonality: changes that come and go by the hour, the weekday or the time of the year are no drift.

A breach is suppressed when two things hold of its subject: the window is like the same hours of earlier days (or of the
same weekday in earlier weeks), and the whole day (week) that ends with the window is like training. The second
condition keeps a permanent change from suppressing itself: a change that rises and falls in a day leaves the day as it
was. It is also a monitoring run of its own: a day has so many rows that a smaller change shows in it, which is
suppressed in turn when it is that of the weekday and leaves the week as training was.

A feature that is a function of the clock says nothing in less than a day, and a weekday nothing in less than a week.
Such features are found by the share of their impurity that lies between hours. Of one that is a matter of the day, such
as a holiday, a day of any number of rows is one draw, or few.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, cached_property, reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.documents import Record
from millrace.histograms.predictions import Traffic
from millrace.monitoring.window_findings import WindowFinding

DAY, WEEK = timedelta(days=1), timedelta(days=7)
#: Limit of earlier days, or weeks, whose like hours are used.
_MAX_PERIODS = 7
#: Whole days with which a day is compared, to see a change that is small and new.
_EARLIER_DAYS = 28
#: Difference of two times that count as the same: monitoring runs do not begin on the stroke.
_GRACE = timedelta(minutes=30)
#: A day or week of traffic is known where the rows around its ends were read in pieces of at most one of so many.
_SHORT_PIECES = 8
#: A longer window has no hours of the day of its own.
_LONGEST_LIKE = timedelta(hours=12)
#: Time that a daily range is kept, for the next version's first days.
_KEPT_FOR = timedelta(days=14)
#: Factor by which a change may exceed the daily range.
_ROOM = 1.25
#: Factor by which hours may differ more from one another than they did, while their week is as in training.
_LIKE_ROOM = 2.0
#: p-value of a difference of like hours that is no chance, and so is learned.
_CERTAIN = 1e-4
#: Least share of a feature's impurity between hours that makes it one of the clock.
CLOCK_SHARE = 0.5
#: Share of training's impurity up to which traffic has shown too little of a feature.
_LITTLE_IMPURITY = 0.6
#: Least share of a feature's impurity between days that makes it one of the day: a day is worth ten draws at most.
_DAY_SHARE = 0.1
#: Least number of whole days that show whether a feature is a matter of the day.
_FEWEST_DAYS = 7
#: Pieces of traffic in which a feature is nearly constant if it is one of the clock.
_LONGEST_PIECE = timedelta(hours=2)


class TimeSpan(Record, frozen=True, kw_only=True):
    """Timestamps of the first and the last row of a window."""

    begin: datetime
    end: datetime


class TrafficTotal(TimeSpan, frozen=True, kw_only=True):
    """Total of a version's traffic up to ``end``, stored under ``key``; ``begin`` is that of the rows added last."""

    key: str


class TrafficTotals:
    """Totals at the hours of a version's history: the traffic of any hours is the difference of two."""

    def __init__(
        self, totals: Sequence[TrafficTotal], load: Callable[[str], Traffic | None], begun_at: datetime
    ) -> None:
        self._totals, self._load, self.begun_at = totals, cache(load), begun_at
        self._ends = [total.end for total in totals]
        # Without the totals of a version's first hours, there is nothing to subtract from.
        self._least = 0 if totals and totals[0].begin <= begun_at else 1

    def between(self, begin: datetime, end: datetime) -> Traffic | None:
        """Return the traffic of some hours; None where they are not in the history, or are without rows."""
        first, last = self._count_before(begin), self._count_before(end)
        if first is None or last is None or first >= last:
            return None
        later = self._load(self._totals[last - 1].key)
        if not first or later is None:
            return later
        earlier = self._load(self._totals[first - 1].key)
        return later - earlier if earlier else None

    def about(self, begin: datetime, end: datetime) -> Traffic | None:
        """Return the traffic of some days as :meth:`between` does, also where rows were read together around an end.

        Such rows, of up to an eighth of the time, count by the part of it that lies within: a run that was missed makes
        a day inexact by the mix of an hour, and not unknown.
        """
        if not self.covers(begin, end):
            return None
        later, earlier = (self._until(time, (end - begin) / _SHORT_PIECES) for time in (end, begin))
        if later is None or earlier is None or later is earlier:
            return None
        traffic = later - earlier
        return traffic if traffic.features.rows else None

    def covers(self, begin: datetime, end: datetime) -> bool:
        """Return True where :meth:`about` has traffic, unless there are no rows or retention has deleted it."""
        if not self._totals:
            return False
        # An hour's grace at the begin: windows do not begin and end on the stroke.
        since = self._totals[0].end - _GRACE if self._least else self.begun_at - 2 * _GRACE
        return begin >= since and end <= self._ends[-1] + _GRACE

    def _until(self, time: datetime, longest: timedelta) -> Traffic | None:
        """Return the total up to a time; None amid rows of a longer time, or where retention has deleted it."""
        count = self._count_before(time)
        if count is not None:
            return self._load_first(count)
        place = bisect_right(self._ends, time)
        begin, end = self._totals[place].begin, self._ends[place]
        if end - begin > longest:
            return None
        # Rows that came late count from the end of the piece before on.
        begin = max([begin, *self._ends[place - 1 : place]])
        before, after = self._load_first(place), self._load_first(place + 1)
        return before + (after - before).part((time - begin) / (end - begin)) if before and after else None

    def _load_first(self, count: int) -> Traffic | None:
        """Return the total of the first pieces, as many as ``count``."""
        if count:
            return self._load(self._totals[count - 1].key)
        first = self._load(self._totals[0].key)
        return first and first - first

    def _count_before(self, time: datetime) -> int | None:
        """Return the number of totals up to a time; None when rows were added together around it."""
        place = bisect_right(self._ends, time)
        near = [(self._distance(count, time), count) for count in (place, place + 1) if count >= self._least]
        distance, count = min(near, default=(_GRACE * 2, 0))
        return count if distance <= _GRACE else None

    def _distance(self, count: int, time: datetime) -> timedelta:
        """Return the distance of a time from the gap behind so many totals."""
        if count > len(self._totals):
            return _GRACE * 2
        after = self._ends[count - 1] if count else datetime.min.replace(tzinfo=time.tzinfo)
        before = self._totals[count].begin if count < len(self._totals) else time
        return max(after - time, time - before, timedelta())


@dataclass(frozen=True, slots=True)
class SeasonalTraffic:
    """Comparable traffic of a window, by day or by week; None where the history does not reach back."""

    name: str
    is_whole: bool  # True where the history reaches back so far
    like: Callable[[], Traffic | None]  # of the same hours, earlier
    whole: Callable[[], Traffic | None]  # of the day or week that ends with the window


@dataclass(frozen=True)
class SeasonalBaselines:
    """Seasons of a window, loaded only when a comparison needs them."""

    day: SeasonalTraffic
    week: SeasonalTraffic
    #: Of the day that ends with the window, by week.
    day_of_week: SeasonalTraffic
    #: Whole days before the day that ends with the window.
    earlier_days: Callable[[], Traffic | None]
    begun_at: datetime  # First row of the version
    #: Features (and predictions) whose values follow the clock, so that part of a day or week says nothing.
    clock: frozenset[str] = frozenset()
    #: Features that are a matter of the day, with the share of their impurity between days (until a week ago, so that a
    #: change does not explain itself).
    of_days: Callable[[], Mapping[str, float]] = dict
    #: Features and predictions whose days (until a week ago) are known to differ by no more than their rows explain.
    steady: Callable[[], Collection[str]] = frozenset


def find_seasonal_baselines(
    totals: TrafficTotals,
    begin: datetime,
    end: datetime,
    clock: Iterable[str] = (),
    find_of_days: Callable[[Sequence[Traffic]], Mapping[str, float]] | None = None,
    *,
    find_steady: Callable[[Sequence[Traffic]], Collection[str]] | None = None,
) -> SeasonalBaselines:
    """Return the comparable traffic of a window; ``totals`` include it.

    ``find_of_days`` returns what is a matter of the day, with its share, and ``find_steady`` what does not differ by
    the day.

    A window of most of a day has no hours of its own: then only whole days and weeks are compared.
    """

    def has_whole(length: timedelta) -> bool:
        return totals.covers(end - length, end)

    def whole(length: timedelta) -> Traffic | None:
        return totals.about(end - length, end) if has_whole(length) else None

    def like(length: timedelta, since: datetime) -> Traffic | None:
        if end - since > _LONGEST_LIKE and length == DAY:
            return None
        find = totals.about if end - since > _LONGEST_LIKE else totals.between
        spans = ((since - length * number, end - length * number) for number in range(1, _MAX_PERIODS + 1))
        found = [traffic for span in spans if (traffic := find(*span)) is not None]
        return reduce(add, found) if found else None

    def earlier_days() -> Traffic | None:
        days = min(_EARLIER_DAYS, int((end - totals.begun_at + 2 * _GRACE) / DAY) - 1)
        return totals.about(end - DAY * (days + 1), end - DAY) if days > 0 else None

    @cache
    def days_before() -> list[Traffic]:
        ends = (end - WEEK - DAY * number for number in range(_EARLIER_DAYS))
        days = [traffic for one in ends if (traffic := totals.about(one - DAY, one)) is not None]
        return days if len(days) >= _FEWEST_DAYS else []

    def traffic_of(name: str, length: timedelta, since: datetime) -> SeasonalTraffic:
        return SeasonalTraffic(
            name, has_whole(length), cache(lambda: like(length, since)), cache(lambda: whole(length))
        )

    return SeasonalBaselines(
        day=traffic_of("the same hours of earlier days", DAY, begin),
        week=traffic_of("the same hours and weekdays of earlier weeks", WEEK, begin),
        day_of_week=traffic_of("the same weekday of earlier weeks", WEEK, end - DAY),
        earlier_days=cache(earlier_days),
        begun_at=totals.begun_at,
        clock=frozenset(clock),
        of_days=cache(lambda: find_of_days(days) if find_of_days and (days := days_before()) else {}),
        steady=cache(lambda: find_steady(days) if find_steady and (days := days_before()) else frozenset()),
    )


class DailyRange(Record, frozen=True, kw_only=True):
    """Variation of a subject within an ordinary day, and the time when it was last seen."""

    size: float
    seen_at: datetime


@dataclass(frozen=True)
class DailyRanges:
    """Daily ranges of the version before, for the time in which a version has no seasons of its own."""

    known: Mapping[str, DailyRange]
    scope: str
    now: datetime | None  # None ignores them

    def cover(self, subject: str, size: float | None, kind: str = "") -> bool:
        """Return True for a change within the range of its subject.

        Ranges are of windows, ``by day`` of whole days, or ``like`` of windows beside the same hours of earlier days.
        """
        known = self.known.get(_range_key(self.scope, subject, kind))
        if known is None or self.now is None or size is None or self.now - known.seen_at > _KEPT_FOR:
            return False
        return size <= (_LIKE_ROOM if kind else _ROOM) * known.size


def _range_key(scope: str, subject: str, kind: str = "") -> str:
    return f"{scope} {kind}:{subject}" if kind else f"{scope}:{subject}"


@dataclass(frozen=True, slots=True)
class SeasonalComparisons:
    """Comparisons of one verdict with its seasons, each by size and significance."""

    like: Callable[[Traffic, Traffic], Sequence[WindowFinding]]  # of earlier traffic with later one
    whole: Callable[[Traffic], Sequence[WindowFinding]]  # of a day or a week with training
    #: Of a day with training (None) or with earlier days, at a share of the threshold; None where days have no findings
    #: of their own.
    daily: Callable[[Traffic | None, Traffic], Sequence[WindowFinding]] | None = None
    #: Of a week with training's rows of the same time of the year; None where training has no year, or no subject is
    #: as it was then.
    time_of_year: Callable[[Traffic], Sequence[WindowFinding] | None] | None = None
    #: Of a week with training, as a sample of seven days; None where no subject is a matter of the day.
    by_days: Callable[[Traffic], Sequence[WindowFinding]] | None = None


def suppress_seasonal(
    findings: Sequence[WindowFinding],
    present: Traffic,
    seasonal: SeasonalBaselines,
    compare: SeasonalComparisons,
    ranges: DailyRanges,
) -> list[WindowFinding]:
    """Suppress breaches that the hour, the weekday or the time of the year explains.

    Before a whole week was seen, a breach of a subject that follows the clock is unknown until then, and others within
    the daily ranges of the version before are suppressed too.
    """
    if not findings or (compare.daily is None and not any(finding.status == "breach" for finding in findings)):
        return list(findings)
    if not seasonal.week.is_whole:
        # What a version learns in its first week would explain the same change in the next window.
        known = {key: one for key, one in ranges.known.items() if one.seen_at < seasonal.begun_at}
        ranges = replace(ranges, known=known)
    explained = _Explanations(present, seasonal, compare, ranges)
    return [_evaluate(finding, explained, seasonal.clock, ranges) for finding in findings]


class _Explanations:
    """Subjects in breach by season, each compared once."""

    def __init__(
        self, present: Traffic, seasonal: SeasonalBaselines, compare: SeasonalComparisons, ranges: DailyRanges
    ) -> None:
        self._present, self._seasonal, self._compare, self._ranges = present, seasonal, compare, ranges
        self.is_first_week = not seasonal.week.is_whole
        self.of_day = _by_subject(compare.whole, seasonal.day.whole())
        self.breaches_like = cache(self._breaches_like)
        self.of_week = cache(lambda: _by_subject(compare.whole, seasonal.week.whole()))
        daily = compare.daily
        self.of_week_closely = cache(
            lambda: _by_subject(lambda week: daily(None, week), seasonal.week.whole()) if daily else None
        )
        self._of_year = cache(lambda: self._compare_week(compare.time_of_year))
        self._of_seven_days = cache(lambda: self._compare_week(compare.by_days))

    @cached_property
    def new_of_day(self) -> Mapping[str, WindowFinding]:
        """Breaches of the whole day: small changes, but from training and from the days before."""
        daily, day, earlier = self._compare.daily, self._seasonal.day.whole(), self._seasonal.earlier_days
        if daily is None or day is None:
            return {}
        found = [finding for finding in daily(None, day) if finding.status == "breach"]
        before = earlier() if found else None
        if before is None:
            return {}
        new = {finding.subject for finding in daily(before, day) if finding.status == "breach"}
        return {
            finding.subject: replace(
                finding,
                message=f"{finding.message}, over the 24 hours that end with the window",
                details={**finding.details, "period": "day"},
            )
            for finding in found
            if finding.subject in new
        }

    def reason(self, finding: WindowFinding, *, in_clock: bool) -> str:
        """Return the season that explains a breach; empty where none does."""
        subject, seasonal = finding.subject, self._seasonal
        of_days = not self.is_first_week and any(
            name in seasonal.of_days() for name in (subject, *finding.details.get("columns", ()))
        )
        in_clock = in_clock or of_days
        if finding.details.get("period"):
            is_like = in_clock or self._is_like("day_of_week", subject) or self._differs_as_much(finding)
            week, of_week = seasonal.day_of_week.name, self.of_week_closely
        else:
            is_like = in_clock or self._is_like("day", subject)
            if is_like and _holds(self.of_day, subject):
                return f"as on {seasonal.day.name}"
            is_like = is_like or self._is_like("week", subject)
            week, of_week = seasonal.week.name, self.of_week
        if is_like and _holds(of_week(), subject):
            return f"as on {week}"
        if of_days and self._of_seven_days() and _holds(self._of_seven_days(), subject):
            return "as seven days may differ from training by chance"
        return "as in training at this time of the year" if is_like and _holds(self._of_year(), subject) else ""

    def distance_from_like(self, subject: str) -> float | None:
        """Return the size of a change from the same hours of earlier days, where there is one."""
        found = (self.breaches_like("day") or {}).get(subject)
        is_certain = found is not None and found.status == "breach" and (found.p_value or 0.0) < _CERTAIN
        return found.value if found and is_certain else None

    def _is_like(self, name: str, subject: str) -> bool:
        found = self.breaches_like(name)
        if found is None or _holds(found, subject):
            return found is not None
        # In its first week a version learns how far the same hours differ, and each change would explain itself.
        return not self.is_first_week and self._ranges.cover(
            subject, found[subject].value, "by day" if name == "day_of_week" else "like"
        )

    def _differs_as_much(self, finding: WindowFinding) -> bool:
        """Return True for a day that differs no more than the same hours of days usually do.

        Hours have few rows, and their chance is no measure of days that are known not to differ by more than that.
        """
        covers = not self.is_first_week and self._ranges.cover(finding.subject, finding.value, "like")
        return covers and finding.subject not in self._seasonal.steady()

    def _breaches_like(self, name: str) -> Mapping[str, WindowFinding] | None:
        traffic, day, daily = getattr(self._seasonal, name), self._seasonal.day.whole(), self._compare.daily
        if name != "day_of_week":
            return _by_subject(lambda like: self._compare.like(like, self._present), traffic.like())
        return _by_subject(lambda like: daily(like, day), traffic.like()) if daily and day else None

    def _compare_week(
        self, compare: Callable[[Traffic], Sequence[WindowFinding] | None] | None
    ) -> Mapping[str, WindowFinding] | None:
        return _by_subject(compare, self._seasonal.week.whole()) if compare else None


def _by_subject(
    compare: Callable[[Traffic], Sequence[WindowFinding] | None], traffic: Traffic | None
) -> dict[str, WindowFinding] | None:
    found = None if traffic is None else compare(traffic)
    return None if found is None else {finding.subject: finding for finding in found}


def _holds(found: Mapping[str, WindowFinding] | None, subject: str) -> bool:
    """Return True where a subject was compared and is not in breach; verdicts on pairs list their breaches alone."""
    return found is not None and (subject not in found or found[subject].status == "ok")


def _evaluate(
    finding: WindowFinding, explained: _Explanations, clock: frozenset[str], ranges: DailyRanges
) -> WindowFinding:
    by_day, is_first_week = explained.new_of_day.get(finding.subject), explained.is_first_week
    in_clock = not clock.isdisjoint(finding.details.get("columns", (finding.subject,)))
    reasons: list[str] = []
    evaluated = finding
    for breach in (finding, by_day):
        if breach is None or breach.status != "breach":
            continue
        reason = explained.reason(breach, in_clock=in_clock)
        kind = "by day" if breach is by_day else ""
        if not reason and is_first_week and ranges.cover(breach.subject, breach.value, kind):
            reason = _AS_BEFORE
        if not reason:
            is_known = not in_clock or explained.of_week() is not None
            evaluated = breach if is_known else _postpone(breach, explained)
            break
        reasons.append(reason)
    else:
        if reasons:
            details = {**finding.details, "season": reasons[0]}
            evaluated = replace(finding, status="ok", message=f"{finding.message}; {reasons[0]}", details=details)
    # How far the same hours differ in the first week is usual, and later what a season explains.
    is_explained = bool(evaluated.details.get("season"))
    sizes = {
        "like": explained.distance_from_like(finding.subject) if is_first_week or is_explained else None,
        "by day": by_day.value if by_day and is_explained else None,
    }
    variation = {kind: size for kind, size in sizes.items() if size}
    return replace(evaluated, details={**evaluated.details, "usual": variation}) if variation else evaluated


def _postpone(finding: WindowFinding, explained: _Explanations) -> WindowFinding:
    when = "once one is known again: the rows around its begin were read together"
    if explained.is_first_week:
        when = f"from the first whole {'day' if explained.of_day is None else 'week'} on"
    message = f"the values of {finding.subject!r} follow the clock: they are compared by whole weeks, {when}"
    return replace(finding, status="unknown", message=message)


#: Reason of a suppression by an earlier version's range; it is not learnt, or a drift would suppress itself.
_AS_BEFORE = "within the daily range of the version before"


def suppress_within_range(findings: Sequence[WindowFinding], ranges: DailyRanges) -> list[WindowFinding]:
    """Suppress breaches within the daily range of the version before."""
    return [
        replace(
            finding,
            status="ok",
            message=f"{finding.message}; {_AS_BEFORE}",
            details={**finding.details, "season": _AS_BEFORE},
        )
        if finding.status == "breach" and ranges.cover(finding.subject, finding.value)
        else finding
        for finding in findings
    ]


def learn_ranges(
    ranges: Mapping[str, DailyRange], findings: Iterable[tuple[str, WindowFinding]], now: datetime
) -> dict[str, DailyRange]:
    """Return the daily ranges with those of suppressed findings (each with its scope), without old ones."""
    kept = {key: one for key, one in ranges.items() if now - one.seen_at <= _KEPT_FOR}
    for scope, finding in findings:
        sizes = dict(finding.details.get("usual", {}))
        if finding.details.get("season") not in (None, _AS_BEFORE):
            sizes[""] = finding.value
        for kind, size in sizes.items():
            key = _range_key(scope, finding.subject, kind)
            if size is not None:
                kept[key] = DailyRange(size=max(size, kept[key].size if key in kept else 0.0), seen_at=now)
    return kept


class HourlyImpurity(Record, frozen=True, kw_only=True):
    """Sum of a feature's impurities within pieces of traffic of an hour, each times its rows; and these rows."""

    total: float = 0.0
    rows: int = 0


def impurity(counts: npt.NDArray[Any]) -> float:
    """Return the probability that two rows differ (Gini 1912), without bias; 0 for fewer than two rows."""
    rows = float(counts.sum())
    return float(rows**2 - np.sum(np.square(counts, dtype=np.float64))) / (rows * (rows - 1.0)) if rows > 1 else 0.0


def add_impurities(
    known: Mapping[str, HourlyImpurity], columns: Mapping[str, npt.NDArray[Any]], span: timedelta
) -> dict[str, HourlyImpurity]:
    """Return the impurities with those of one more piece of traffic: counts by column; long pieces say nothing."""
    added = dict(known)
    for name, counts in columns.items() if span <= _LONGEST_PIECE else ():
        rows, before = int(counts.sum()), added.get(name, HourlyImpurity())
        if rows > 1:
            added[name] = HourlyImpurity(total=before.total + rows * impurity(counts), rows=before.rows + rows)
    return added


def clock_shares(known: Mapping[str, HourlyImpurity], columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Return the share of each column's impurity between hours (Goodman and Kruskal's tau); counts are of all hours."""
    return {
        name: 1.0 - own.total / own.rows / whole
        for name, own in known.items()
        if own.rows and name in columns and (whole := impurity(columns[name])) > 0
    }


def find_clock(
    known: Mapping[str, float],
    so_far: Mapping[str, float],
    few_values: Mapping[str, npt.NDArray[Any]],
    training: Mapping[str, npt.NDArray[Any]],
) -> frozenset[str]:
    """Return the columns that follow the clock, or of which the traffic so far shows too little to say.

    Parameters
    ----------
    known : mapping
        Shares between hours that an earlier week measured, which decide.
    so_far : mapping
        Shares between the hours of this version.
    few_values : mapping
        Counts of all hours so far, of columns with few values: of others, a bin may hold many.
    training : mapping
        Counts of training.
    """
    following = {name for name, share in {**so_far, **known}.items() if share >= CLOCK_SHARE}
    little = (
        name
        for name, counts in few_values.items()
        if name not in known and impurity(counts) <= _LITTLE_IMPURITY * impurity(training[name])
    )
    return frozenset(following.union(little))


def find_of_days(
    days: Sequence[Mapping[str, npt.NDArray[Any]]],
    few_values: Iterable[str],
    training: Mapping[str, npt.NDArray[Any]],
) -> dict[str, float]:
    """Return the columns that are a matter of the day, with their shares of impurity between days.

    Of a column with few values, days that show too little of what training had say so too: it comes by the day, or is
    rare. ``days`` are counts by column of whole days.
    """
    found = {}
    for name, known in training.items():
        counts = [day[name] for day in days if name in day]
        rows, whole = sum(float(own.sum()) for own in counts), impurity(np.sum(counts, axis=0)) if counts else 0.0
        within = sum(float(own.sum()) * impurity(own) for own in counts) / max(1.0, rows)
        is_little = name in few_values and whole <= _LITTLE_IMPURITY * impurity(known)
        share = 1.0 if is_little else 1.0 - within / whole if whole > 0 else 0.0
        if share >= _DAY_SHARE:
            found[name] = share
    return found
