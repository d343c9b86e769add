"""Live quality against the holdout's errors of the same time of the year."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from millrace.data.reference import describe_column
from millrace.evaluation.analysis import profile_predictions
from millrace.evaluation.times_of_year import HoldoutDates, losses_of_values
from millrace.histograms.outcomes import ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions
from millrace.histograms.tables import PARTS_OF_YEAR, Reference
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.measured_windows import MeasuredWindow, RecentOutcomes
from millrace.monitoring.rules import evaluate_outcomes
from millrace.schema import Column, TableSchema
from millrace.spec.monitoring import MonitoringSpec
from msgspec.structs import replace

from tests.unit.monitoring.builders import make_reference

NOVEMBER, MAY = datetime(2026, 11, 12, tzinfo=UTC), datetime(2026, 5, 12, tzinfo=UTC)
FEATURES = make_reference()
ROWS = 6_000
#: Errors of November are larger by so much.
LARGER = 1.6
CLASSES = ("no", "yes")


def dates(days=365, rows=ROWS):
    return np.datetime64("2025-01-01", "us") + (np.arange(rows) * days * 86_400 // rows * 1_000_000).astype(
        "timedelta64[us]"
    )


def is_november(when):
    return when.astype("datetime64[M]").astype(int) % 12 == 10


def draw_values(rows, seed, *, spread):
    draw = np.random.default_rng(seed)
    values = draw.normal(100.0, 20.0, rows)
    return values, values + 10.0 * spread * draw.normal(size=rows)


def draw_classes(rows, seed, *, flipped):
    """Probabilities, and outcomes of which such shares are not as stated."""
    draw = np.random.default_rng(seed)
    chances = draw.choice([0.1, 0.9], rows)
    outcomes = (draw.random(rows) < chances).astype(np.int64)
    return np.stack([1.0 - chances, chances], axis=1), np.where(draw.random(rows) < flipped, 1 - outcomes, outcomes)


def profile_of(task, when, *, is_sensitive=False):
    date = Column("made", "datetime", sensitive=is_sensitive)
    columns = {"made": when}
    if task == "regression":
        target = Column("demand", "number", "target")
        values, truth = draw_values(len(when), 1, spread=np.where(is_november(when), LARGER, 1.0))
        schema = TableSchema((date, target), task)
    else:
        target = Column("bought", "category", "target", categories=CLASSES)
        values, truth = draw_classes(len(when), 1, flipped=np.where(is_november(when), 0.15, 0.0))
        schema = TableSchema((date, target), task, classes=CLASSES)
    return (
        profile_predictions(schema, values, truth, train_target=truth, threshold=None, groups={}, columns=columns),
        truth,
        schema,
    )


def make(task):
    profile, truth, schema = profile_of(task, dates())
    target = describe_column(schema.target, truth).make_bins() if task == "regression" else None
    reference = Reference(FEATURES.bins, FEATURES.plan, FEATURES.training, target)
    classes = () if task == "regression" else CLASSES
    return MonitoredVersion(task, classes, reference, PredictionProfile.read(profile.write()))


VERSIONS = {task: make(task) for task in ("regression", "binary")}


def evaluate(task, begin, *, worse, hours=24, monitored=None, spec=None):
    """Findings on a window whose errors are larger by a factor, or whose labels are flipped in such a share."""
    monitored = monitored or VERSIONS[task]
    target = monitored.reference.target
    if task == "regression":
        values, truth = draw_values(1_000, 7, spread=worse)
        outcomes = ErrorSums.measure(values, truth, origin=target.center, bins=target)
    else:
        chances, truth = draw_classes(1_000, 7, flipped=worse)
        outcomes = OutcomeHistogram.count(ClassPredictions(chances.argmax(axis=1), chances), truth)
    window = MeasuredWindow.measure(outcomes, monitored.profile, target, (begin, begin + timedelta(hours=hours)))
    spec = spec or MonitoringSpec()
    found = evaluate_outcomes(outcomes, outcomes.rows, monitored, spec, [], recent=RecentOutcomes(window))
    return {one.subject: one for one in found if one.verdict == "live_quality"}


@pytest.mark.parametrize(
    ("task", "metric", "usual", "worse"), [("regression", "rmse", LARGER, 2.4), ("binary", "accuracy", 0.15, 0.4)]
)
@pytest.mark.parametrize("hours", [24, 2])
def test_a_loss_that_the_holdout_had_at_this_time_of_the_year_is_none(task, metric, usual, worse, hours):
    found = evaluate(task, NOVEMBER, worse=usual, hours=hours)[metric]
    assert found.status == "ok"
    assert found.details["season"] == "as on the holdout at this time of the year"
    assert found.message.endswith(found.details["season"])
    assert evaluate(task, MAY, worse=usual, hours=hours)[metric].status == "breach"
    assert evaluate(task, NOVEMBER, worse=worse, hours=hours)[metric].status == "breach"


@pytest.mark.parametrize(("task", "metric", "usual"), [("regression", "rmse", LARGER), ("binary", "accuracy", 0.15)])
def test_versions_of_earlier_releases_and_specs_without_seasons_are_compared_with_the_whole_holdout(
    task, metric, usual
):
    monitored = VERSIONS[task]
    old = MonitoredVersion(
        task, monitored.classes, monitored.reference, replace(monitored.profile, outcomes_by_time=None)
    )
    assert evaluate(task, NOVEMBER, worse=usual, monitored=old)[metric].status == "breach"
    assert evaluate(task, NOVEMBER, worse=usual, spec=MonitoringSpec(seasonality="off"))[metric].status == "breach"


def test_too_few_rows_of_a_time_of_the_year_say_nothing():
    profile, truth, schema = profile_of("regression", dates(rows=240))  # ten a half month
    reference = Reference(
        FEATURES.bins, FEATURES.plan, FEATURES.training, describe_column(schema.target, truth).make_bins()
    )
    monitored = MonitoredVersion("regression", (), reference, profile)
    assert evaluate("regression", NOVEMBER, worse=LARGER, monitored=monitored)["rmse"].status == "breach"


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_the_holdouts_outcomes_are_kept_by_half_month(task):
    profile = VERSIONS[task].profile
    assert len(profile.outcomes_by_time) == PARTS_OF_YEAR
    assert sum(one.rows for one in profile.outcomes_by_time) == ROWS
    assert profile.outcomes_near(NOVEMBER).rows == pytest.approx(ROWS / 12, abs=2)
    # The year is a circle.
    assert profile.outcomes_near(datetime(2026, 1, 2, tzinfo=UTC)).rows == pytest.approx(ROWS / 12, abs=20)


@pytest.mark.parametrize(("days", "is_sensitive"), [(90, False), (365, True)])
def test_without_a_date_of_a_year_nothing_is_kept(days, is_sensitive):
    profile, _, _ = profile_of("regression", dates(days), is_sensitive=is_sensitive)
    assert profile.outcomes_by_time is None
    assert profile.outcomes_near(NOVEMBER) is None


def draw_days(days, seed, *, spread, rows=24):
    """Errors whose size differs from day to day by a factor of ``spread`` in logarithms."""
    draw = np.random.default_rng(seed)
    sizes = np.repeat(10.0 * np.exp(spread * draw.normal(size=days)), rows)
    values = draw.normal(100.0, 20.0, days * rows)
    return values, values + sizes * draw.normal(size=days * rows)


@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_how_far_days_of_the_holdout_differ_is_measured(spread):
    values, truth = draw_days(365, 3, spread=spread)
    when = np.datetime64("2025-01-01", "us") + (np.arange(365 * 24) * 3_600_000_000).astype("timedelta64[us]")
    dates = HoldoutDates.find(TableSchema((Column("made", "datetime"),), "regression"), {"made": when})
    found = dates.deviations(losses_of_values(values, truth))
    # Mean and deviation of a lognormal size, times the mean of a folded normal value.
    true = math.sqrt(2 / math.pi) * 10.0 * math.exp(spread**2 / 2) * math.sqrt(math.expm1(spread**2))
    assert found["mae"] == pytest.approx(true, rel=0.15, abs=0.3)
    assert found["mean_error"] == pytest.approx(0.0, abs=0.8)
    assert dates.deviations({"mae": np.zeros(len(when))}) == {"mae": 0.0}
    few = HoldoutDates(dates.parts[:600], dates.days[:600])
    assert few.deviations(losses_of_values(values[:600], truth[:600])) == {}, "25 days show little"


def run_days(biases, *, deviations):
    """Mean error of the last of days with such biases, in windows of two hours; it is evaluated by days alone."""
    monitored = VERSIONS["regression"]
    profile = replace(monitored.profile, outcomes_by_time=None, deviations_of_days=deviations)
    monitored = MonitoredVersion("regression", (), monitored.reference, profile)
    target, windows, counts = monitored.reference.target, [], []
    for number, bias in enumerate(np.repeat(biases, 12)):
        values, truth = draw_values(200, 1_000 + number, spread=1.0)
        outcomes = ErrorSums.measure(values + bias, truth, origin=target.center, bins=target)
        begin = MAY + timedelta(hours=2 * number)
        window = MeasuredWindow.measure(outcomes, profile, target, (begin, begin + timedelta(hours=2)))
        recent = RecentOutcomes(window, list(windows), list(counts))
        found = evaluate_outcomes(outcomes, outcomes.rows, monitored, MonitoringSpec(), [], recent=recent)
        windows.append(window)
        counts.append(outcomes.coarsen())
    return {one.subject: one for one in found if one.verdict == "live_quality"}["mean_error"]


def test_a_bad_day_is_no_loss_where_days_of_the_holdout_differ_as_much_and_a_bad_week_is():
    quiet, differing = [-1.25, 1.25] * 8, {"mean_error": 5.0}
    found = run_days([*quiet, 10.0], deviations=differing)
    assert found.status == "ok"
    assert found.details["season"].startswith("as days of the holdout differ")
    assert run_days([*quiet, 10.0], deviations=None).status == "breach"
    assert run_days([*quiet, 30.0], deviations=differing).status == "breach", "no day is as bad as that"
    assert run_days([*quiet, *[10.0] * 4], deviations=differing).status == "breach", "the week is not in order"
    assert run_days([*quiet[:8], 10.0], deviations=differing).status == "breach", "too few days are known"
    assert run_days([0.0] * 16 + [10.0], deviations=differing).status == "breach", "traffic's days do not differ"
