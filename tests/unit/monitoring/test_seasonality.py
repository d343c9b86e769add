"""Seasons of a window: which traffic is like it, and what its day, its week and the time of the year explain."""

import dataclasses
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from millrace.data.reference import describe_reference
from millrace.histograms.predictions import Traffic
from millrace.histograms.tables import Reference, ReferenceDocument, count_in_bins
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.days import find_what_is_of_days
from millrace.monitoring.rules import evaluate_traffic
from millrace.monitoring.seasonal_notes import note_seasonal
from millrace.monitoring.seasonality import (
    DailyRange,
    DailyRanges,
    HourlyImpurity,
    TrafficTotal,
    TrafficTotals,
    add_impurities,
    clock_shares,
    find_clock,
    find_of_days,
    find_seasonal_baselines,
    impurity,
    learn_ranges,
    suppress_within_range,
)
from millrace.monitoring.window_findings import WindowFinding
from millrace.schema import Column, TableSchema
from millrace.spec.monitoring import MonitoringSpec
from msgspec.structs import replace

from tests.unit.monitoring.builders import CLASSES, make_histogram, make_reference

START = datetime(2026, 5, 4, tzinfo=UTC)  # A Monday
REFERENCE = make_reference()
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EMPTY = Traffic(features=make_histogram(REFERENCE, 0))


class History:
    """Totals of windows of given length, each with as many rows as its number says."""

    def __init__(self, rows, hours=1, traffic=None, empty=EMPTY):
        self.totals, self.stored, self.loaded, total = [], {}, [], empty
        for number, count in enumerate(rows):
            more = traffic(number) if traffic else Traffic(features=make_histogram(REFERENCE, count, seed=number))
            if not more.features.rows:
                continue
            total = total + more
            begin = START + timedelta(hours=number * hours)
            self.totals.append(
                TrafficTotal(begin=begin, end=begin + hours * HOUR - timedelta(seconds=1), key=str(number))
            )
            self.stored[str(number)] = total
        self.end = START + timedelta(hours=len(rows) * hours) - timedelta(seconds=1)
        self.begin = self.end - hours * HOUR + timedelta(seconds=1)

    def load(self, key):
        self.loaded.append(key)
        return self.stored.get(key)

    def seasons(self, clock=(), kept=None, find_of_days=None):
        totals = TrafficTotals(self.totals[-(kept or len(self.totals)) :], self.load, START)
        return find_seasonal_baselines(totals, self.begin, self.end, clock, find_of_days)


def rows_of(traffic):
    return traffic and traffic.features.rows


def test_before_a_day_is_over_there_is_no_season():
    seasons = History([1] * 20).seasons()
    assert not seasons.day.is_whole
    assert seasons.day.whole() is seasons.week.whole() is seasons.day.like() is None


def test_the_very_hour_of_earlier_days_is_like_and_the_day_is_what_came_since():
    seasons = History(range(31)).seasons()
    assert rows_of(seasons.day.like()) == 6, "hour 30 is like hour 6 alone"
    assert rows_of(seasons.day.whole()) == sum(range(7, 31))
    assert not seasons.week.is_whole
    assert seasons.week.like() is None


def test_after_a_week_the_weekday_is_a_season_of_its_own():
    seasons = History(range(1, 177)).seasons()
    assert rows_of(seasons.day.like()) == sum(176 - 24 * day for day in range(1, 8))
    assert rows_of(seasons.week.like()) == 8
    assert rows_of(seasons.week.whole()) == sum(range(9, 177))


def test_windows_of_ten_hours_are_compared_with_the_very_same_hours():
    """Their parts are kept by the hour, so that neither like hours nor whole days are cut by windows."""
    history = History(range(51))
    history.begin = history.end - 10 * HOUR + timedelta(seconds=1)
    seasons = history.seasons()
    assert rows_of(seasons.day.like()) == sum(range(17, 27))  # and of the first day, hours that were not before
    assert rows_of(seasons.day.whole()) == sum(range(27, 51))


def test_a_window_of_most_of_a_day_has_no_hours_of_its_own():
    history = History([5] * 50)
    history.begin = history.end - 13 * HOUR
    assert history.seasons().day.like() is None
    assert history.seasons().day.is_whole


def test_eight_weeks_are_looked_back_on():
    seasons = History([1] * (24 * 56)).seasons()
    assert rows_of(seasons.week.like()) == 7
    assert rows_of(seasons.day_of_week.like()) == 7 * 24


def test_what_retention_or_the_limit_took_is_not_known():
    history = History([1] * 60)
    assert history.seasons(kept=20).day.whole() is None, "nothing to subtract from"
    assert rows_of(history.seasons(kept=26).day.whole()) == 24
    history.stored.clear()
    assert history.seasons().day.whole() is None


def test_hours_without_rows_do_not_hide_a_day():
    seasons = History([3 if number % 24 < 10 else 0 for number in range(58)]).seasons()
    assert rows_of(seasons.day.whole()) == 30
    assert rows_of(seasons.day.like()) == 6


def test_rows_that_were_read_together_have_no_hours_of_their_own():
    history = History([1] * 30)
    first = history.totals.pop(0).begin
    history.totals[0] = TrafficTotal(begin=first, end=history.totals[20].end, key="20")
    del history.totals[1:21]
    seasons = history.seasons()
    assert seasons.day.like() is None
    assert seasons.day.whole() is None, "of 21 hours, nobody knows which ones are the last day's"


def without_runs(history, missed):
    """Let the rows of the hours of missed runs be read by the next run."""
    begins = {number + 1: history.totals[number].begin for number in sorted(missed)[::-1]}
    kept = [number for number in range(len(history.totals)) if number not in missed]
    for number in kept:
        first = number
        while first in begins:
            first -= 1
        if first != number:
            history.totals[number] = replace(history.totals[number], begin=history.totals[first].begin)
    history.totals = [history.totals[number] for number in kept]
    return history


@pytest.mark.parametrize("missed", [{0}, {8}, {7}, {7, 8}, {6, 7}])
def test_a_missed_run_leaves_days_and_weeks_known(missed):
    """The rows around a day's begin were read together; those within it are a part by time."""
    seasons = without_runs(History([10] * 200), {24 * 7 + one for one in missed} | missed).seasons()
    assert seasons.day.is_whole
    assert seasons.week.is_whole
    assert rows_of(seasons.day.whole()) == pytest.approx(240, abs=11)
    assert rows_of(seasons.week.whole()) == pytest.approx(1_680, abs=11)
    assert rows_of(seasons.earlier_days()) > 1_400


def test_a_part_of_rows_has_the_means_of_all():
    column = make_histogram(REFERENCE, 500).columns["age"]
    part = column.part(0.3)
    assert part.known == pytest.approx(150, abs=25)
    held = part.counts > 0
    assert part.bin_means()[held] == pytest.approx(column.bin_means()[held])
    assert (part.low, part.high, part.are_single(REFERENCE.bins["age"]).sum()) >= (column.low, column.high, 0)


@pytest.mark.parametrize("missed", [set(range(24 * 8 + 10, 24 * 8 + 16)), set(range(24 * 6, 24 * 8))])
def test_after_an_outage_of_monitoring_what_follows_the_clock_is_unknown_or_as_ever(missed):
    """Nothing changed, so that no hour after it may be in breach."""
    clock = [0.9 if hour % 24 < 8 else -0.45 for hour in range(24 * 15)]
    whole = without_runs(shifted(clock, 40), missed)
    for hour in (24 * 13 + 5, 24 * 14 + 12, 24 * 15 - 1):
        history = History([])
        history.totals = [one for one in whole.totals if one.end <= START + (hour + 1) * HOUR]
        history.stored, history.end = whole.stored, START + (hour + 1) * HOUR - timedelta(seconds=1)
        history.begin = history.end - HOUR
        assert judge(history, clock={"age"}, spec=FEW)["feature_drift:age"].status != "breach"


def test_totals_are_loaded_when_a_comparison_needs_them_and_once():
    history = History([2] * 30)
    seasons = history.seasons()
    assert history.loaded == []
    assert seasons.day.whole() == seasons.day.whole()
    assert len(history.loaded) == 2


def judge(history, clock=(), spec=None, monitored=None, **baselines):
    subject = monitored or MonitoredVersion("binary", CLASSES, REFERENCE)
    window = history.stored[history.totals[-1].key] - history.stored[history.totals[-2].key]
    more = {"now": history.end} | baselines
    found = evaluate_traffic(
        window, subject, spec or MonitoringSpec(), Baselines(seasonal=history.seasons(clock), **more)
    )
    return {finding.key: finding for finding in found}


def shifted(shifts, rows=400):
    """History of hours in which age is shifted, by the hour."""
    return History(
        shifts, traffic=lambda n: Traffic(features=make_histogram(REFERENCE, rows, seed=n + 50, age_shift=shifts[n]))
    )


WAVE = [0.9 if hour % 24 == 5 else -0.9 / 23 for hour in range(30)]


@pytest.mark.parametrize(
    ("shifts", "status"),
    [
        (WAVE, "ok"),
        (WAVE[:6] + [0.9] * 24, "breach"),  # the whole day has changed
        ([0.0] * 29 + [0.9], "breach"),  # not like the hour before
        ([0.0] * 5 + [-0.9] + [0.0] * 23 + [0.9], "breach"),
    ],
)
def test_what_is_as_at_that_hour_and_leaves_the_day_as_it_was_is_no_drift(shifts, status):
    found = judge(shifted(shifts))["feature_drift:age"]
    assert found.status == status
    assert ("the same hours of earlier days" in found.message) == (status == "ok")


def test_a_small_change_that_no_window_shows_is_found_in_the_whole_day():
    def traffic(number):
        cities = (0.43, 0.35, 0.22) if number >= 48 else (0.5, 0.3, 0.2)
        return Traffic(features=make_histogram(REFERENCE, 200, seed=number + 9, cities=cities))

    history = History([1] * 72, traffic=traffic)
    found = judge(history)["feature_drift:city"]
    assert (found.status, found.rows) == ("breach", 4_800)
    assert found.value < 0.1
    assert "over the 24 hours that end with the window" in found.message
    spec = MonitoringSpec.model_validate({"feature_drift": {"daily_share": 1.0}})
    assert judge(history, spec=spec)["feature_drift:city"].status == "ok"


@pytest.mark.parametrize(("steady", "status"), [(frozenset(), "ok"), ({"city"}, "breach")])
def test_how_far_hours_differ_is_no_measure_of_steady_days(steady, status):
    """One hour of chance in the first week would hide small changes for two."""

    def traffic(number):
        cities = (0.4, 0.37, 0.23) if number >= 24 * 8 else (0.5, 0.3, 0.2)
        return Traffic(features=make_histogram(REFERENCE, 200, seed=number + 9, cities=cities))

    history = History([1] * 24 * 9, traffic=traffic)
    seasonal = dataclasses.replace(history.seasons(), steady=lambda: steady)
    learnt = {"feature like:city": DailyRange(size=0.2, seen_at=START)}
    window = history.stored[history.totals[-1].key] - history.stored[history.totals[-2].key]
    baselines = Baselines(seasonal=seasonal, now=history.end, daily_ranges=learnt)
    found = evaluate_traffic(window, MonitoredVersion("binary", CLASSES, REFERENCE), MonitoringSpec(), baselines)
    [city] = [one for one in found if one.key == "feature_drift:city"]
    assert city.status == status, city.message


def test_a_small_difference_that_was_always_there_is_none():
    def traffic(number):
        return Traffic(features=make_histogram(REFERENCE, 200, seed=number + 9, cities=(0.43, 0.35, 0.22)))

    assert judge(History([1] * 72, traffic=traffic))["feature_drift:city"].status == "ok"


@pytest.mark.parametrize(("hours", "reason"), [(30, "week"), (20, "day")])
def test_what_follows_the_clock_waits_for_a_whole_day_and_week(hours, reason):
    found = judge(shifted([0.9] * hours), clock={"age"})["feature_drift:age"]
    assert found.status == "unknown"
    assert f"from the first whole {reason} on" in found.message
    assert judge(shifted([0.9] * hours))["feature_drift:age"].status == "breach"


def test_what_follows_the_clock_is_judged_by_the_week():
    weekday = [0.9 if hour // 24 % 7 == 1 else -0.15 for hour in range(24 * 9)]
    assert judge(shifted(weekday, 50), clock={"age"}, spec=FEW)["feature_drift:age"].status == "ok"
    changed = judge(shifted([0.9] * 24 * 8, 50), clock={"age"}, spec=FEW)["feature_drift:age"]
    assert changed.status == "breach"


FEW = MonitoringSpec.model_validate({name: {"min_rows": 20} for name in ("skew", "feature_drift", "feature_change")})


def test_skew_is_not_evaluated_before_a_whole_day():
    first = judge(shifted([0.9] * 20))
    assert first["skew:every feature"].status == "unknown"
    assert first["feature_drift:age"].status == "breach"
    day = judge(shifted([0.9] * 24), first=True)
    assert day["skew:age"].status == "breach"
    assert "feature_drift:age" not in day
    late = judge(shifted([0.0] * 23 + [2.0]), first=True)
    assert "skew:age" not in late
    assert late["feature_drift:age"].status == "breach"


def make_year(rows, day, seed, *, summer=0.0):
    """Return rows of some days of a year, coldest in May; ``summer`` of a year later than they are."""
    draw = np.random.default_rng(seed)
    days = np.broadcast_to(day, rows)
    dates = np.datetime64("2025-01-01", "s") + (days * 86_400).astype("timedelta64[s]")
    temperature = -np.cos(2.0 * np.pi * ((days - 123) / 365.25 + summer)) + 0.5 * draw.normal(size=rows)
    return {"at": dates.astype("datetime64[us]"), "temperature": temperature, "other": draw.normal(size=rows)}


def judge_eight_days(document, schema, draw_rows):
    """Return the findings of the last of eight days of hourly rows, by key."""
    monitored = MonitoredVersion("binary", CLASSES, Reference.build(document, schema))
    bins, plan = monitored.reference.bins, monitored.reference.plan

    def traffic(number):
        return Traffic(features=count_in_bins(draw_rows(number), 80, bins, plan))

    history = History([1] * 24 * 8, traffic=traffic, empty=traffic(0) - traffic(0))
    return judge(history, spec=FEW, monitored=monitored)


@pytest.mark.parametrize(
    ("with_date", "summer", "status"), [(True, 0.0, "ok"), (False, 0.0, "breach"), (True, 0.5, "breach")]
)
def test_training_of_a_whole_year_knows_the_time_of_the_year(with_date, summer, status):
    columns = [Column("at", "datetime"), Column("temperature", "number"), Column("other", "number")]
    target = Column("target", "category", role="target", categories=CLASSES)
    schema = TableSchema(columns=(*columns[not with_date :], target), task="binary", classes=CLASSES)
    trained = make_year(4_000, np.random.default_rng(1).uniform(0, 365, 4_000), 2)
    document = describe_reference(schema, trained, np.arange(4_000) % 2)
    assert (document.times_of_year is not None) is with_date
    assert ReferenceDocument.read(document.write()) == document

    def rows(number):
        return make_year(80, 365 + 123 + number / 24, number, summer=summer)  # From the 4th of May on

    found = judge_eight_days(document, schema, rows)["feature_drift:temperature"]
    assert found.status == status
    assert ("at this time of the year" in found.message) == (status == "ok")


@pytest.mark.parametrize(
    ("years", "warmer", "expected"),
    [
        (1, 0.3, {"temperature", "predicted label"}),
        (2, 0.3, {"temperature", "predicted label"}),
        (3, 0.3, set()),
        (1, 2.4, set()),  # As half a year later
    ],
)
def test_a_change_between_years_may_be_the_season(years, warmer, expected):
    """One or two years do not show how much years differ; what does not move with the year is no season's."""
    columns = [Column("at", "datetime"), Column("temperature", "number"), Column("other", "number")]
    target = Column("target", "category", role="target", categories=CLASSES)
    schema = TableSchema(columns=(*columns, target), task="binary", classes=CLASSES)
    trained = make_year(4_000, np.random.default_rng(1).uniform(0, 365 * years, 4_000), 2)
    reference = Reference.build(describe_reference(schema, trained, np.arange(4_000) % 2), schema)
    days = 365 * 4 + 123 + np.random.default_rng(3).uniform(0, 0.4, 400)
    rows = make_year(400, days, 5)
    rows["temperature"] = np.full(400, np.median(rows["temperature"]) + warmer)
    present = count_in_bins(rows, 400, reference.bins, reference.plan)
    subjects = ("temperature", "predicted label", "temperature and other")
    verdicts = ("feature_drift", "prediction_drift", "dependence")
    found = [WindowFinding(name, subject, "breach", "it") for name, subject in zip(verdicts, subjects, strict=True)]
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=float(np.median(rows["at"].astype(np.int64))) / 86_400e6)
    monitored = MonitoredVersion("binary", CLASSES, reference)
    noted = note_seasonal(found, monitored, MonitoringSpec(), now, present)
    assert {one.subject for one in noted if one.may_be_seasonal} == expected
    other = WindowFinding("feature_drift", "other", "breach", "it")
    noted = note_seasonal([*found, other], monitored, MonitoringSpec(), now, present)
    assert {one.subject for one in noted if one.may_be_seasonal} == expected - {"predicted label"}


def dated(first, days, *, rows=400):
    """Return the reference of training rows of so many days from a day of 2026 on, and with a date of birth."""
    columns = [Column("at", "datetime"), Column("born", "datetime"), Column("other", "number")]
    target = Column("target", "category", role="target", categories=CLASSES)
    schema = TableSchema(columns=(*columns[days is None :], target), task="binary", classes=CLASSES)
    at = np.datetime64("2026-01-01", "us") + (first + np.linspace(0, days or 1, rows)).astype("timedelta64[D]")
    # In one half month of each year, so that it covers no year.
    born = (np.datetime64("1960", "Y") + np.arange(rows) % 40).astype("datetime64[us]")
    trained = {"at": at, "born": born, "other": np.random.default_rng(0).normal(size=rows)}
    return Reference.build(describe_reference(schema, trained, np.arange(rows) % 2), schema)


@pytest.mark.parametrize(
    ("first", "days", "month", "length"),
    [
        (0, 120, 10, "4 months"),
        (0, 120, 3, ""),  # A year later
        (0, 120, 5, ""),  # Half a month later
        (103, 120, 4, ""),  # Four days before
        (300, 120, 1, ""),  # Over the turn of the year
        (300, 120, 7, "4 months"),
        (0, 20, 6, "20 days"),
        (0, 364, 6, ""),
        (0, None, 6, ""),
    ],
)
def test_a_time_of_the_year_that_training_has_not_is_said_to_be_one(first, days, month, length):
    monitored = MonitoredVersion("binary", CLASSES, dated(first, days))
    statuses = ("breach", "ok", "breach", "breach")
    verdicts = ("feature_drift", "feature_drift", "live_quality", "data_quality")
    found = [WindowFinding(name, "other", status, "it") for name, status in zip(verdicts, statuses, strict=True)]
    now = datetime(2027, month, 10, tzinfo=UTC)
    noted = note_seasonal(found, monitored, MonitoringSpec(), now)
    reason = f"it; it may be the season: training has {length} of a year, and none of this time of it"
    assert [one.message for one in noted] == ([reason, "it", reason, "it"] if length else ["it"] * 4)
    assert [one.may_be_seasonal for one in noted] == ([True, False, True, False] if length else [False] * 4)
    assert note_seasonal(found, monitored, MonitoringSpec(seasonality="off"), now) == found


@pytest.mark.parametrize("changes", [{}, {"age_shift": 2.5}, {"age_shift": 9.0}])
def test_a_shift_into_one_bin_is_no_clock(changes):
    """Only columns with one value in each bin may be constant for a while."""
    columns = make_histogram(REFERENCE, 300, **changes).columns
    assert columns["age"].has_few_values(REFERENCE.bins["age"]) is False
    assert columns["city"].has_few_values(REFERENCE.bins["city"])


FLAGS = ("no", "yes")
#: Days of a holiday among the days before the last week, every row of which has it.
HOLIDAYS = frozenset({4, 9})


def flagged(share, days=24, per_day=2, rows=120):
    """Return a version that knows flags of 3 %, 60 % and 3 %, and a history with shares of ``holiday`` by the day.

    The flags ``open`` and ``rare`` are a matter of the row, with shares of their own.
    """
    names = ("holiday", "open", "rare")
    schema = TableSchema(
        columns=(
            *(Column(name, "category", categories=FLAGS) for name in names),
            Column("target", "category", role="target", categories=CLASSES),
        ),
        task="binary",
        classes=CLASSES,
    )

    def draw(shares, seed, size):
        draws = np.random.default_rng(seed).random((len(names), size))
        return {
            name: np.where(own < shares[name], "yes", "no").astype(object)
            for name, own in zip(names, draws, strict=True)
        }

    usual = {"holiday": 0.03, "open": 0.6, "rare": 0.03}
    document = describe_reference(schema, draw(usual, 1, 4_000), np.arange(4_000) % 2)
    monitored = MonitoredVersion("binary", CLASSES, Reference.build(document, schema))
    bins, plan = monitored.reference.bins, monitored.reference.plan

    def traffic(number):
        columns = draw(usual | share(number // per_day), number + 7, rows)
        return Traffic(features=count_in_bins(columns, rows, bins, plan))

    history = History([1] * days * per_day, 24 // per_day, traffic=traffic, empty=traffic(0) - traffic(0))
    return monitored, history


def judge_flags(share, days=24):
    monitored, history = flagged(share, days)
    window = history.stored[history.totals[-1].key] - history.stored[history.totals[-2].key]
    seasonal = history.seasons(find_of_days=lambda found: find_what_is_of_days(found, monitored))
    found = evaluate_traffic(window, monitored, FEW, Baselines(seasonal=seasonal, now=history.end))
    return {finding.subject: finding for finding in found if finding.verdict == "feature_drift"}


@pytest.mark.parametrize("days_before", [HOLIDAYS, frozenset()], ids=["known", "never seen"])
def test_a_day_of_a_flag_that_is_a_matter_of_the_day_is_one_draw(days_before):
    """A holiday is a seventh of a week's rows, which training's 3 % leave to chance."""
    found = judge_flags(lambda day: {"holiday": float(day in days_before or day == 23)})["holiday"]
    assert found.status == "ok"
    assert "seven days may differ" in found.message


@pytest.mark.parametrize(
    ("share", "subject"),
    [
        pytest.param(lambda day: {"holiday": float(day in HOLIDAYS or day > 19)}, "holiday", id="four holidays"),
        pytest.param(lambda day: {"holiday": 0.0, "open": float(day < 17) * 0.6}, "open", id="a week of zeros"),
        pytest.param(lambda day: {"holiday": 0.0, "rare": 0.5 if day == 23 else 0.03}, "rare", id="a flag of the row"),
        pytest.param(lambda day: {"holiday": 0.0, "open": 1.0 if day >= 20 else 0.6}, "open", id="a constant"),
        pytest.param(
            lambda day: {"holiday": 0.0, "open": 1.0 if day >= 10 else 0.6}, "open", id="a constant for weeks"
        ),
    ],
)
def test_what_days_do_not_explain_is_drift(share, subject):
    assert judge_flags(share)[subject].status == "breach"


def test_two_weeks_are_needed_to_say_what_is_a_matter_of_the_day():
    assert judge_flags(lambda day: {"holiday": float(day == 12)}, days=13)["holiday"].status == "breach"


@pytest.mark.parametrize(
    ("days", "few", "expected"),
    [
        ([[90, 10]] * 8, True, False),  # a matter of the row
        ([[100, 0]] * 7 + [[0, 100]], True, True),
        ([[100, 0]] * 7 + [[0, 100]], False, True),
        ([[100, 0]] * 8, True, True),  # Too little of it was seen
        ([[100, 0]] * 8, False, False),
        ([[90, 10]] * 4 + [[0, 100]] * 4, True, True),
        ([[70, 30]] * 4 + [[90, 10]] * 4, True, False),  # a shift does not make a matter of the day
        ([[100, 0]] * 7 + [[60, 40]] * 2, True, True),  # days differ, though none is all of it
        ([], False, False),
    ],
)
def test_the_share_between_days_tells_what_is_a_matter_of_the_day(days, few, expected):
    counts = [{"flag": np.array(day)} for day in days]
    assert bool(find_of_days(counts, {"flag"} if few else (), {"flag": np.array([900, 100])})) is expected


def scoped(*findings):
    return [("feature", finding) for finding in findings]


def drift(value, status="breach", **details):
    return WindowFinding("feature_drift", "age", status, "age moved", "psi", value, 0.1, 1_000, details=details)


def test_suppressed_breaches_teach_the_daily_range_for_two_weeks():
    usual = learn_ranges({}, scoped(drift(0.4, "ok", season="as on like hours"), drift(0.9)), START)
    assert usual == {"feature:age": DailyRange(size=0.4, seen_at=START)}
    assert learn_ranges(usual, scoped(drift(0.3, "ok", season="again")), START)["feature:age"].size == 0.4

    def judge_at(value, days):
        ranges = DailyRanges(usual, "feature", START + timedelta(days=days))
        [found] = suppress_within_range([drift(value)], ranges)
        return found

    known = judge_at(0.45, 13)
    assert (known.status, known.details["season"]) == ("ok", "within the daily range of the version before")
    assert learn_ranges(usual, scoped(known), START) == usual  # or a drift that grows slowly would suppress itself
    assert judge_at(0.6, 0).status == "breach"
    assert judge_at(0.4, 15).status == "breach"
    assert learn_ranges(usual, [], START + timedelta(days=15)) == {}


@pytest.mark.parametrize(("learnt", "status"), [(-HOUR, "ok"), (HOUR, "breach")])
def test_what_a_version_learns_in_its_first_week_explains_nothing_in_it(learnt, status):
    ranges = {"feature:age": DailyRange(size=9.0, seen_at=START + learnt)}
    assert judge(shifted([0.9] * 20), daily_ranges=ranges)["feature_drift:age"].status == status


def test_how_far_the_same_hours_differ_is_learnt_apart():
    learnt = learn_ranges({}, scoped(drift(0.9, usual={"like": 0.5}), drift(0.2, "ok", usual={"like": 0.3})), START)
    assert learnt == {"feature like:age": DailyRange(size=0.5, seen_at=START)}
    ranges = DailyRanges(learnt, "feature", START)
    assert ranges.cover("age", 0.9, "like")
    assert not ranges.cover("age", 1.1, "like")
    assert not ranges.cover("age", 0.1)


@pytest.mark.parametrize(
    ("counts", "expected"), [([5, 5], 5 / 9), ([10, 0], 0.0), ([1], 0.0), ([], 0.0), ([1, 1], 1.0)]
)
def test_impurity_is_the_chance_that_two_rows_differ(counts, expected):
    assert impurity(np.array(counts, dtype=np.int64)) == pytest.approx(expected)


def test_the_share_between_hours_tells_a_clock_from_any_feature():
    draw, known, whole = np.random.default_rng(0), {}, {}
    for hour in range(24):
        values = {"hour": np.full(3, hour), "halves": np.array([hour % 2, hour % 2, 0]), "any": draw.integers(0, 9, 3)}
        counts = {name: np.bincount(one, minlength=24) for name, one in values.items()}
        known = add_impurities(known, counts, HOUR)
        whole = {name: whole.get(name, 0) + one for name, one in counts.items()}
    assert add_impurities(known, {"hour": np.array([3, 3])}, 3 * HOUR) == known, "long pieces say nothing"
    shares = clock_shares(known, whole)
    assert shares["hour"] == 1.0
    assert abs(shares["any"]) < 0.15, "few rows an hour do not make a clock of it"
    training = {name: np.bincount(np.arange(24), minlength=24) for name in whole}
    assert "hour" in find_clock({}, shares, whole, training)
    assert "any" not in find_clock({}, shares, {"any": whole["any"]}, {"any": whole["any"]})
    constant = {"any": np.array([9, 0, 0])}
    assert find_clock({}, {}, constant, {"any": np.array([3, 3, 3])}) == {"any"}, "too little was seen of it"
    assert find_clock({"any": 0.1}, {}, constant, {"any": np.array([3, 3, 3])}) == frozenset(), "an earlier week knows"
    assert find_clock({}, {"any": 0.6}, {}, {}) == {"any"}
    assert clock_shares({"hour": HourlyImpurity()}, whole) == {}
