"""Seasonality: changes that come and go by the hour or the weekday are no drift.

A breach is suppressed when two things hold of its subject: the window is like the same hours of earlier days (or the
same hours and weekdays of earlier weeks), and the whole day (week) that ends with the window is like training. The
second condition keeps a permanent change from suppressing itself: a change that rises and falls in a day leaves the day
as it was. Sizes alone decide here, without a test: a suppressed window must be like its season, and not merely too
small to differ significantly from it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from operator import add
from typing import Any

from millrace.documents import Record
from millrace.histograms.predictions import Traffic
from millrace.monitoring.window_findings import WindowFinding

_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
_PERIODS = ((_DAY, "the same hours of earlier days"), (_WEEK, "the same hours and weekdays of earlier weeks"))
#: Limit of earlier days, or weeks, whose like hours are used.
_MAX_PERIODS = 7
#: A longer window has no hours of the day of its own.
_LONGEST_LIKE = timedelta(hours=12)
#: Distance from the same time of day of a like window: as far as this, or a quarter of its own length.
_NEAR = timedelta(hours=1)
#: Time that a daily range is kept, for the next version's first day.
_KEPT_FOR = timedelta(days=14)
#: Factor by which a change may exceed the daily range.
_ROOM = 1.25


class TimeSpan(Record, frozen=True, kw_only=True):
    """Timestamps of the first and the last row of a window."""

    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class SeasonalWindows:
    """Windows at the same time of earlier days or weeks (``like``), and of the day or week that the window ends."""

    name: str
    like: Sequence[TimeSpan]
    period: Sequence[TimeSpan]


def find_seasonal_windows(windows: Sequence[TimeSpan], begin: datetime, end: datetime) -> list[SeasonalWindows]:
    """Return the seasons of a window, once the version's history covers them."""
    if not windows or end - begin > _LONGEST_LIKE:
        return []
    near = max(_NEAR, (end - begin) / 4)
    middle = begin + (end - begin) / 2
    found = []
    for length, name in _PERIODS:
        # An hour's grace: windows do not begin and end on the stroke.
        if end - windows[0].begin < length - _NEAR:
            continue
        like = [one for one in windows if _is_like(middle - (one.begin + (one.end - one.begin) / 2), length, near)]
        if like:
            found.append(SeasonalWindows(name, like, [one for one in windows if one.end > end - length]))
    return found


def _is_like(earlier_by: timedelta, length: timedelta, near: timedelta) -> bool:
    periods = round(earlier_by / length)
    return 1 <= periods <= _MAX_PERIODS and abs(earlier_by - periods * length) <= near


@dataclass(frozen=True, slots=True)
class SeasonalTraffic:
    """Traffic of the like hours, and of the whole day or week with the window in it."""

    name: str
    like: Traffic
    whole: Traffic


class SeasonalBaselines:
    """Traffic of the seasons of a window, whose own is ``present``; loaded and summed only when a breach needs it."""

    def __init__(
        self, windows: Sequence[SeasonalWindows], load: Callable[[Any], Traffic | None], present: Traffic
    ) -> None:
        self._waiting = _sum_traffic(windows, load, present)
        self._known: list[SeasonalTraffic] = []

    def __iter__(self) -> Iterator[SeasonalTraffic]:
        yield from self._known
        for seasonal in self._waiting:
            self._known.append(seasonal)
            yield seasonal


def _sum_traffic(
    windows: Sequence[SeasonalWindows], load: Callable[[Any], Traffic | None], present: Traffic
) -> Iterator[SeasonalTraffic]:
    for own in windows:
        like = [traffic for window in own.like if (traffic := load(window)) is not None]
        if like:
            period = (traffic for window in own.period if (traffic := load(window)) is not None)
            yield SeasonalTraffic(own.name, reduce(add, like), reduce(add, period, present))


class DailyRange(Record, frozen=True, kw_only=True):
    """Variation of a subject within an ordinary day, and the time when it was last seen."""

    size: float
    seen_at: datetime


def suppress_seasonal(
    findings: Sequence[WindowFinding],
    seasonal: Iterable[SeasonalTraffic],
    compare_like: Callable[[Traffic], Sequence[WindowFinding]],
    compare_whole: Callable[[Traffic], Sequence[WindowFinding]],
) -> list[WindowFinding]:
    """Suppress breaches of subjects that are like their season, and leave the day or week like training.

    Both comparisons are by size alone: of the window with the traffic of like hours, and of a whole day's or week's
    traffic with training.
    """
    evaluated = list(findings)
    for traffic in seasonal:
        if not any(finding.status == "breach" for finding in evaluated):
            break
        still = _breaching(compare_like(traffic.like)) | _breaching(compare_whole(traffic.whole))
        evaluated = [
            _suppress(finding, f"as on {traffic.name}")
            if finding.status == "breach" and finding.subject not in still
            else finding
            for finding in evaluated
        ]
    return evaluated


#: Reason of a suppression by an earlier version's range; it is not learnt, or a drift would suppress itself.
_AS_BEFORE = "within the daily range of the version before"


def suppress_within_range(
    findings: Sequence[WindowFinding], ranges: Mapping[str, DailyRange], scope: str, now: datetime
) -> list[WindowFinding]:
    """Suppress breaches within the daily range of the version before, which is known by ``scope:subject``."""
    return [
        _suppress(finding, _AS_BEFORE)
        if finding.status == "breach" and _is_within(finding, ranges.get(f"{scope}:{finding.subject}"), now)
        else finding
        for finding in findings
    ]


def _is_within(finding: WindowFinding, known: DailyRange | None, now: datetime) -> bool:
    if known is None or finding.value is None or now - known.seen_at > _KEPT_FOR:
        return False
    return finding.value <= _ROOM * known.size


def learn_ranges(
    ranges: Mapping[str, DailyRange], findings: Iterable[tuple[str, WindowFinding]], now: datetime
) -> dict[str, DailyRange]:
    """Return the daily ranges with those of suppressed findings (each with its scope), without old ones."""
    kept = {key: one for key, one in ranges.items() if now - one.seen_at <= _KEPT_FOR}
    for scope, finding in findings:
        if finding.details.get("season") not in (None, _AS_BEFORE) and finding.value is not None:
            key = f"{scope}:{finding.subject}"
            before = kept[key].size if key in kept else 0.0
            kept[key] = DailyRange(size=max(finding.value, before), seen_at=now)
    return kept


def _suppress(finding: WindowFinding, why: str) -> WindowFinding:
    details = {**finding.details, "season": why}
    return replace(finding, status="ok", message=f"{finding.message}; {why}", details=details)


def _breaching(findings: Sequence[WindowFinding]) -> set[str]:
    return {finding.subject for finding in findings if finding.status == "breach"}
