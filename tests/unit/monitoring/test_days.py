"""Rows of a day that share its weather are few draws, and independent ones are not."""

import numpy as np
import pytest
from millrace.data.reference import describe_reference
from millrace.histograms.outcomes import ErrorSums, PredictionProfile
from millrace.histograms.predictions import Traffic, ValueHistogram
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.days import (
    compare_correlations_by_days,
    compare_predictions_by_days,
    find_steady,
    find_what_is_of_days,
)
from millrace.monitoring.drift import find_changed_correlations, prediction_columns
from millrace.schema import Column, TableSchema
from millrace.spec.monitoring import DependenceRule, DriftRule

ROWS = 400
RATE = 0.001
PAIR = "rain and wind"


def draw_day(seed, *, shared=0.0, correlation=0.0, moved=0.0):
    """Return rows of a day: a part of the variance of wind, rain and demand is that of six hours of weather."""
    draw = np.random.default_rng(seed)
    weather = draw.integers(6, size=ROWS)
    mixing = np.linalg.cholesky([[1.0, correlation], [correlation, 1.0]])
    of_day, of_row = (draw.normal(size=(3, size)) for size in (6, ROWS))
    values = np.sqrt(shared) * of_day[:, weather] + np.sqrt(1.0 - shared) * of_row
    rain, wind = mixing @ values[:2]
    return {"rain": rain, "wind": wind}, values[2] + moved


def make_version():
    days = [draw_day(seed) for seed in range(12)]
    columns = {name: np.concatenate([day[name] for day, _ in days]) for name in ("rain", "wind")}
    demand = np.concatenate([own for _, own in days])
    schema = TableSchema(
        columns=(*(Column(name, "number") for name in columns), Column("demand", "number", role="target")),
        task="regression",
    )
    reference = Reference.build(describe_reference(schema, columns, demand), schema)
    profile = PredictionProfile(
        predictions=ValueHistogram.count(demand, reference.target),
        outcomes=ErrorSums.measure(demand, demand, origin=0.0, bins=reference.target),
    )
    return MonitoredVersion("regression", (), reference, profile)


VERSION = make_version()


def count(day):
    columns, demand = day
    reference = VERSION.reference
    return Traffic(
        features=count_in_bins(columns, ROWS, reference.bins, reference.plan),
        predictions=ValueHistogram.count(demand, reference.target),
    )


def traffic(days, first_seed=100, **changes):
    return [count(draw_day(first_seed + day, **changes)) for day in range(days)]


def total(days):
    return sum(days[1:], days[0])


WEATHER = traffic(21, shared=0.8)


def test_independent_rows_are_no_matter_of_the_day():
    assert find_what_is_of_days(traffic(21), VERSION) == {}


def test_one_lasting_change_makes_no_matter_of_the_day():
    days = [*traffic(10), *traffic(10, 200, correlation=0.6, moved=0.3)]
    assert find_what_is_of_days(days, VERSION) == {}


def test_what_weather_moves_is_a_matter_of_the_day():
    found = find_what_is_of_days(WEATHER, VERSION)
    assert {PAIR, "predicted value"} <= found.keys()
    assert all(1.0 < share * ROWS < ROWS for share in found.values())


def test_two_weeks_of_steps_are_needed():
    assert PAIR not in find_what_is_of_days(WEATHER[:13], VERSION)


def correlations(week, of_days):
    found = compare_correlations_by_days(VERSION.reference, week.features, of_days, DependenceRule(), RATE)
    return [one.status for one in found if one.subject == PAIR]


def test_a_week_of_weather_leaves_to_chance_what_its_rows_would_not():
    week = total(traffic(7, 300, shared=0.8, correlation=0.22))
    reference = VERSION.reference
    by_rows = find_changed_correlations(reference, reference.training, week.features, DependenceRule(), RATE)
    assert [one.subject for one in by_rows] == [PAIR]
    assert correlations(week, find_what_is_of_days(WEATHER, VERSION)) == []


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_a_correlation_that_is_another_one_for_a_week_is_found(shared):
    week = total(traffic(7, 300, shared=shared, correlation=0.9))
    assert correlations(week, find_what_is_of_days(traffic(21, shared=shared), VERSION)) == ["breach"]


@pytest.mark.parametrize(("of_days", "status"), [({}, "breach"), ({"predicted value": 0.2}, "ok")])
def test_predictions_of_a_week_are_as_many_draws_as_its_days_are_worth(of_days, status):
    week = total(traffic(7, 300, moved=0.45))
    columns = prediction_columns(VERSION.profile.predictions, week.predictions, (), VERSION.reference.target)
    found = compare_predictions_by_days(columns, of_days, DriftRule(), RATE, "on the holdout")
    assert [one.status for one in found] == [status]


def test_days_are_steady_where_their_rows_explain_how_they_differ():
    names = {"rain", "wind", "predicted value"}
    assert find_steady(traffic(8), VERSION) == names
    assert find_steady([*traffic(5), *traffic(4, 200, moved=0.3)], VERSION) == names
    assert find_steady(WEATHER[:8], VERSION) == frozenset()
    assert find_steady(WEATHER[:1], VERSION) == frozenset()


@pytest.mark.parametrize(
    ("moved", "is_steady"), [([0.0] * 5 + [1.0] * 5, True), ([0.0] * 5 + [1.0] + [0.0] * 4, False)]
)
def test_a_lasting_change_leaves_days_steady_and_a_rare_day_does_not(moved, is_steady):
    days = [count(draw_day(day, moved=own)) for day, own in enumerate(moved, 100)]
    assert ("predicted value" in find_steady(days, VERSION)) is is_steady
