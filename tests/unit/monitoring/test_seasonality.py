"""SeasonalBaselines: which windows are like one another, and what they excuse."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from millrace.histograms.predictions import PredictionHistogram, Traffic
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.rules import evaluate_traffic
from millrace.monitoring.seasonality import (
    DailyRange,
    SeasonalBaselines,
    find_seasonal_windows,
    learn_ranges,
    suppress_within_range,
)
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec

from tests.unit.histograms.test_histograms import make_predictions
from tests.unit.monitoring.builders import CLASSES, make_histogram, make_reference

START = datetime(2026, 5, 4, tzinfo=UTC)
REFERENCE = make_reference()


@dataclass(frozen=True)
class Window:
    begin: datetime
    end: datetime
    traffic: Traffic | None = None


def hourly(hours, traffic=None):
    return [Window(START + timedelta(hours=hour), START + timedelta(hours=hour + 1), traffic) for hour in range(hours)]


def seasons_of(records, hour, hours=1):
    begin = START + timedelta(hours=hour)
    return find_seasonal_windows(records, begin, begin + timedelta(hours=hours))


def hours_of(records):
    return [int((record.begin - START) / timedelta(hours=1)) for record in records]


def test_before_a_day_is_over_there_is_no_season():
    assert seasons_of([], 0) == []
    assert seasons_of(hourly(20), 20) == []


def test_the_same_hours_of_the_day_before_are_like_and_the_day_is_what_came_since():
    [season] = seasons_of(hourly(30), 30)
    assert hours_of(season.like) == [5, 6, 7]
    assert hours_of(season.period) == list(range(7, 30))


def test_after_a_week_the_weekday_is_a_season_of_its_own():
    daily, weekly = seasons_of(hourly(175), 175)
    assert len(daily.like) == 7 * 3
    assert hours_of(weekly.like) == [6, 7, 8]
    assert len(weekly.period) == 7 * 24 - 1


def test_a_window_of_most_of_a_day_has_no_hours_of_its_own():
    assert seasons_of(hourly(50), 50, hours=13) == []


def test_long_windows_are_like_those_at_about_the_same_time():
    windows = [Window(START + timedelta(hours=8 * part), START + timedelta(hours=8 * part + 8)) for part in range(4)]
    assert hours_of(seasons_of(windows, 33, hours=8)[0].like) == [8]


def judge(background, **changes):
    subject = MonitoredVersion("binary", CLASSES, REFERENCE)
    traffic = Traffic(features=make_histogram(REFERENCE, 1_000, **changes))
    return {f.key: f for f in evaluate_traffic(traffic, subject, MonitoringSpec(), background)}


def make_seasons(like, whole):
    """Return the seasons of a window whose like hours and whose day were shifted so far."""
    records = [*hourly(1, Traffic(features=make_histogram(REFERENCE, 3_000, seed=4, age_shift=like))), *hourly(2)[1:]]
    begin = START + timedelta(hours=24)
    return SeasonalBaselines(
        find_seasonal_windows(records, begin, begin + timedelta(hours=1)),
        lambda record: record.traffic,
        Traffic(features=make_histogram(REFERENCE, 3_000, seed=5, age_shift=whole)),
    )


@pytest.mark.parametrize(
    ("like", "whole", "status"), [(1.0, 0.0, "ok"), (1.0, 1.0, "breach"), (0.0, 0.0, "breach"), (-1.0, 0.0, "breach")]
)
def test_what_is_as_at_that_hour_and_leaves_the_day_as_it_was_is_no_drift(like, whole, status):
    found = judge(Baselines(seasonal=make_seasons(like, whole)), age_shift=1.0)["feature_drift:age"]
    assert found.status == status
    assert ("the same hours of earlier days" in found.message) == (status == "ok")


def test_sums_of_a_season_are_made_once():
    loaded = []

    def load(record):
        loaded.append(record)
        return Traffic(
            features=make_histogram(REFERENCE, 300, age_shift=1.0),
            predictions=PredictionHistogram.count(make_predictions(300)[0]),
        )

    records = hourly(30)
    seasons = SeasonalBaselines(
        seasons_of(records, 30), load, Traffic(features=make_histogram(REFERENCE, 300, age_shift=-1.0))
    )
    assert loaded == []
    first, again = list(seasons), list(seasons)
    assert first == again
    assert len(loaded) == 3 + 23


def scoped(*findings):
    return [("feature", finding) for finding in findings]


def drift(value, status="breach", **details):
    return WindowFinding("feature_drift", "age", status, "age moved", "psi", value, 0.1, 1_000, details=details)


def test_suppressed_breaches_teach_the_daily_range_for_two_weeks():
    usual = learn_ranges({}, scoped(drift(0.4, "ok", season="as on like hours"), drift(0.9)), START)
    assert usual == {"feature:age": DailyRange(size=0.4, seen_at=START)}
    assert learn_ranges(usual, scoped(drift(0.3, "ok", season="again")), START)["feature:age"].size == 0.4
    [known] = suppress_within_range([drift(0.45)], usual, "feature", START + timedelta(days=13))
    assert (known.status, known.details["season"]) == ("ok", "within the daily range of the version before")
    assert learn_ranges(usual, scoped(known), START) == usual  # or a drift that grows slowly would suppress itself
    [larger] = suppress_within_range([drift(0.6)], usual, "feature", START)
    assert larger.status == "breach"
    [forgotten] = suppress_within_range([drift(0.4)], usual, "feature", START + timedelta(days=15))
    assert forgotten.status == "breach"
    assert learn_ranges(usual, [], START + timedelta(days=15)) == {}
