"""Seasons: what comes and goes by the hour or the weekday is no drift.

A window that differs from training is excused when two things hold of the subject: it is as the same hours of earlier
days were (or the same hours and weekdays of earlier weeks), and the whole day (week) that ends with the window is as
training was. The second keeps a change that stays from becoming its own excuse: what rises and falls in a day leaves
the day as it was, and what does not come back never does. Sizes alone decide here, without a test: to be excused, a
window has to be like its season, and not merely too small to be told apart from it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from millrace.histograms.predictions import Traffic
from millrace.monitoring.findings import Finding

_DAY, _WEEK = timedelta(days=1), timedelta(days=7)
_PERIODS = ((_DAY, "the same hours of earlier days"), (_WEEK, "the same hours and weekdays of earlier weeks"))
#: Earlier days, or weeks, that like hours are taken from at most.
_MOST_PERIODS = 7
#: A window longer than this has no hours of the day of its own.
_LONGEST_LIKE = timedelta(hours=12)
#: How far from the same time of day a window may be: as far as this, or a quarter of its own length.
_NEAR = timedelta(hours=1)
#: How long it is remembered by how much a subject varies within a day, for the next version's first day.
_REMEMBERED = timedelta(days=14)
#: By how much more than remembered it may vary.
_ROOM = 1.25


class Record(Protocol):
    """A window that was judged; when its first and last rows came."""

    @property
    def begin(self) -> datetime: ...  # noqa: D102  # as the class says
    @property
    def end(self) -> datetime: ...  # noqa: D102  # as the class says


AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass(frozen=True, slots=True)
class Season(Generic[AnyRecord]):
    """What a window is like if nothing but the time of day (or week) makes it different.

    Parameters
    ----------
    name : str
        For messages.
    like : sequence of records
        At the same time of earlier days or weeks.
    period : sequence of records
        Of the day or week that the window ends, without the window itself.
    """

    name: str
    like: Sequence[AnyRecord]
    period: Sequence[AnyRecord]


def find_seasons(records: Sequence[AnyRecord], begin: datetime, end: datetime) -> list[Season[AnyRecord]]:
    """Return the seasons that a window can be compared with, once the version's history covers them."""
    if not records or end - begin > _LONGEST_LIKE:
        return []
    near = max(_NEAR, (end - begin) / 4)
    middle = begin + (end - begin) / 2
    seasons = []
    for length, name in _PERIODS:
        # An hour's grace: windows do not begin and end on the stroke.
        if end - records[0].begin < length - _NEAR:
            continue
        like = [
            record
            for record in records
            if _is_like(middle - (record.begin + (record.end - record.begin) / 2), length, near)
        ]
        if like:
            seasons.append(Season(name, like, [record for record in records if record.end > end - length]))
    return seasons


def _is_like(earlier_by: timedelta, length: timedelta, near: timedelta) -> bool:
    periods = round(earlier_by / length)
    return 1 <= periods <= _MOST_PERIODS and abs(earlier_by - periods * length) <= near


@dataclass(frozen=True, slots=True)
class SeasonTraffic:
    """The traffic of a season: of like hours, and of the whole day or week with the window in it."""

    name: str
    like: Traffic
    whole: Traffic


class Seasons:
    """The seasons of one window, summed up only when something has to be excused.

    Parameters
    ----------
    found : sequence of Season
        Of records.
    load : callable
        Returns a record's traffic, as an object of the caller's own, or None when it is gone.
    present : callable
        Returns a copy of the window's own traffic.
    """

    def __init__(
        self,
        found: Sequence[Season[AnyRecord]],
        load: Callable[[AnyRecord], Traffic | None],
        present: Callable[[], Traffic],
    ) -> None:
        self._waiting = _sum_all(found, load, present)
        self._known: list[SeasonTraffic] = []

    def __iter__(self) -> Iterator[SeasonTraffic]:
        yield from self._known
        for season in self._waiting:
            self._known.append(season)
            yield season


def _sum_all(
    found: Sequence[Season[AnyRecord]], load: Callable[[AnyRecord], Traffic | None], present: Callable[[], Traffic]
) -> Iterator[SeasonTraffic]:
    for season in found:
        summed = _sum_up(season, load, present)
        if summed is not None:
            yield summed


def _sum_up(
    season: Season[AnyRecord], load: Callable[[AnyRecord], Traffic | None], present: Callable[[], Traffic]
) -> SeasonTraffic | None:
    like = _sum(load(record) for record in season.like)
    if like is None:
        return None
    whole = present()
    for record in season.period:
        traffic = load(record)
        if traffic is not None:
            whole.add(traffic)
    return SeasonTraffic(season.name, like, whole)


def _sum(parts: Iterator[Traffic | None]) -> Traffic | None:
    total: Traffic | None = None
    for traffic in parts:
        if total is None:
            total = traffic
        elif traffic is not None:
            total.add(traffic)
    return total


@dataclass(frozen=True, slots=True)
class Usual:
    """By how much a subject varies within an ordinary day, and when that was last seen."""

    size: float
    seen_at: datetime

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"size": self.size, "seen_at": self.seen_at.isoformat()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Usual":
        """Read what :meth:`to_dict` wrote."""
        return cls(document["size"], datetime.fromisoformat(document["seen_at"]))


def excuse(
    findings: Sequence[Finding],
    seasons: Seasons | None,
    against_like: Callable[[Traffic], Sequence[Finding]],
    of_whole: Callable[[Traffic], Sequence[Finding]],
) -> list[Finding]:
    """Take back breaches of what is as its season and leaves the day, or week, as it was.

    Parameters
    ----------
    against_like : callable
        Judges the window by size alone against the traffic of like hours.
    of_whole : callable
        Judges a whole day's or week's traffic by size alone against training.
    """
    judged = list(findings)
    for season in seasons or ():
        if not any(finding.status == "breach" for finding in judged):
            break
        still = _breaching(against_like(season.like)) | _breaching(of_whole(season.whole))
        judged = [
            _excused(finding, f"as on {season.name}")
            if finding.status == "breach" and finding.subject not in still
            else finding
            for finding in judged
        ]
    return judged


#: Why a finding is excused that only earlier days know of; it teaches nothing, or a drift would excuse itself.
_AS_BEFORE = "no more than its hours varied under the version before"


def excuse_as_before(findings: Sequence[Finding], usual: Mapping[str, Usual], now: datetime) -> list[Finding]:
    """Take back breaches no larger than what is known of the subject's ordinary days.

    For a version's first day, which has no like hours yet: the version before it may have seen how much its hours vary.
    """
    return [
        _excused(finding, _AS_BEFORE)
        if finding.status == "breach" and _is_usual(finding, usual.get(season_key(finding)), now)
        else finding
        for finding in findings
    ]


def _is_usual(finding: Finding, usual: Usual | None, now: datetime) -> bool:
    if usual is None or finding.value is None or now - usual.seen_at > _REMEMBERED:
        return False
    return finding.value <= _ROOM * usual.size


def learn_usual(usual: Mapping[str, Usual], findings: Sequence[Finding], now: datetime) -> dict[str, Usual]:
    """Return what is usual with the findings in it that like hours excused; what was long not seen is forgotten."""
    kept = {key: one for key, one in usual.items() if now - one.seen_at <= _REMEMBERED}
    for finding in findings:
        if finding.details.get("season") not in (None, _AS_BEFORE) and finding.value is not None:
            key = season_key(finding)
            before = kept.get(key)
            kept[key] = Usual(max(finding.value, before.size if before else 0.0), now)
    return kept


def season_key(finding: Finding) -> str:
    """Return what a season of the subject is known by: features by their names, whichever verdict looks at them."""
    features = ("skew", "feature_drift", "feature_change")
    return f"feature:{finding.subject}" if finding.verdict in features else finding.key


def _excused(finding: Finding, why: str) -> Finding:
    details = {**finding.details, "season": why}
    return replace(finding, status="ok", message=f"{finding.message}; but {why}", details=details)


def _breaching(findings: Sequence[Finding]) -> set[str]:
    return {finding.subject for finding in findings if finding.status == "breach"}
