"""Live quality: every metric that matters, in hours that differ, and in losses that last."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from millrace.data.reference import describe_column
from millrace.documents import from_plain, to_plain
from millrace.evaluation.analysis import profile_predictions
from millrace.histograms.outcomes import ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.histograms.tables import Reference, count_in_bins
from millrace.metrics.catalogue import METRICS
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.incidents import IncidentHistory, advance
from millrace.monitoring.live_quality import evaluated_metrics
from millrace.monitoring.measured_windows import (
    MeasuredWindow,
    PooledWindow,
    RecentOutcomes,
    WindowMetric,
    measure_metrics,
    measure_window,
    pool_old,
)
from millrace.monitoring.quality import PointEstimate, bounded_interval
from millrace.monitoring.rules import evaluate_outcomes
from millrace.monitoring.state import OutcomeHistory
from millrace.monitoring.window_findings import WindowFinding
from millrace.schema import Column, TableSchema
from millrace.spec.monitoring import MonitoringSpec, QualityRule

from tests.unit.monitoring.builders import make_reference

MONDAY = datetime(2026, 5, 4, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), 24
SPEC = MonitoringSpec()
INPUTS_HOLD = [WindowFinding("feature_drift", "age", "ok", "")]
FEATURES = make_reference()
#: Middle of the demand by hour of the day.
DEMAND = [5.0] * 6 + [60.0, 250.0, 250.0] + [120.0] * 7 + [300.0, 300.0] + [80.0] * 3 + [20.0] * 3


def draw_demand(rows, seed, *, size=None, spread=1.0):
    """Predictions and demand of whole days, or of an hour of such a ``size``; errors grow with demand."""
    draw = np.random.default_rng(seed)
    middle = draw.choice(DEMAND, size=rows) if size is None else size
    values = middle * np.exp(0.1 * draw.normal(size=rows))
    return values, values + 0.2 * values * spread * draw.normal(size=rows)


def make_regression():
    values, truth = draw_demand(4_000, 1)
    schema = TableSchema((Column("demand", "number", "target"),), "regression")
    target = describe_column(schema.target, truth).make_bins()
    profile = profile_predictions(schema, values, truth, train_target=truth, threshold=None, groups={})
    reference = Reference(FEATURES.bins, FEATURES.plan, FEATURES.training, target)
    return MonitoredVersion("regression", (), reference, PredictionProfile.read(profile.write()))


REGRESSION = make_regression()
TARGET = REGRESSION.reference.target


def draw_classes(rows, seed, *, classes=2, offset=0.0, sharpness=1.0):
    """Predictions, and outcomes that are more often of the last class than predicted, by ``offset`` in logits."""
    draw = np.random.default_rng(seed)
    logits = sharpness * 2.0 * draw.normal(size=(rows, classes))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    logits[:, -1] += offset
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    outcomes = (draw.random((rows, 1)) > np.cumsum(true, axis=1)).sum(axis=1).clip(0, classes - 1)
    return ClassPredictions(chances.argmax(axis=1), chances), outcomes


def make_classifier(classes=2):
    predictions, outcomes = draw_classes(4_000, 1, classes=classes)
    profile = PredictionProfile(
        predictions=PredictionHistogram.count(predictions), outcomes=OutcomeHistogram.count(predictions, outcomes)
    )
    names = tuple("abcdefghijklmnop"[:classes])
    return MonitoredVersion("binary" if classes == 2 else "multiclass", names, FEATURES, profile)


class Stream:
    """A version's windows of outcomes, one after another."""

    def __init__(self, monitored, spec=SPEC, kept=200):
        self.monitored, self.spec, self.kept = monitored, spec, kept
        self.windows, self.counts, self.findings = [], [], []
        self.incidents, self.transitions = IncidentHistory(), []

    def add(self, outcomes, hour, hours=1):
        """Evaluate a window that begins so many hours after Monday; return the findings by key."""
        begin, target = MONDAY + hour * HOUR, self.monitored.reference.target
        window = MeasuredWindow.measure(outcomes, self.monitored.profile, target, (begin, begin + hours * HOUR))
        recent = RecentOutcomes(window, self.windows[-self.kept :], self.counts[-self.kept :])
        found = evaluate_outcomes(outcomes, outcomes.rows, self.monitored, self.spec, INPUTS_HOLD, recent=recent)
        self.windows.append(window)
        self.counts.append(outcomes.coarsen())
        self.findings.append({finding.key: finding for finding in found})
        self.incidents, steps = advance(
            self.incidents,
            found,
            self.spec,
            model="m",
            version=1,
            window=(begin, window.end),
            repeat_after=timedelta(days=900),
        )
        self.transitions += [step.step for step in steps]
        return self.findings[-1]

    def add_demand(self, hour, *, spread=1.0, shift=0.0):
        values, truth = draw_demand(200, 100 + hour, size=DEMAND[hour % DAY], spread=spread)
        return self.add(ErrorSums.measure(values, truth + shift * values, origin=TARGET.center, bins=TARGET), hour)


def breaches(findings):
    return {key for key, finding in findings.items() if finding.status == "breach"}


@pytest.mark.parametrize(
    ("task", "wanted", "primary", "judged"),
    [
        ("binary", None, None, ["roc_auc", "log_loss", "accuracy"]),
        ("binary", None, "pr_auc", ["pr_auc", "log_loss", "accuracy"]),
        ("binary", None, "accuracy", ["accuracy", "log_loss"]),
        ("binary", "f1", "pr_auc", ["f1"]),
        ("multiclass", None, None, ["log_loss", "accuracy"]),
        ("multiclass", None, "macro_f1", ["macro_f1", "log_loss", "accuracy"]),
        ("regression", None, None, ["rmse", "mae", "mean_error"]),
        ("regression", None, "error_p90", ["rmse", "mae", "mean_error"]),  # needs the rows themselves
        ("regression", "error_p90", None, ["rmse", "mae", "mean_error"]),
    ],
)
def test_the_metrics_that_matter_are_judged_beside_the_primary_one(task, wanted, primary, judged):
    known = {metric.name for metric in METRICS[task]} - {"error_p50", "error_p90"} | {"mean_error"}
    assert evaluated_metrics(task, wanted, primary, known) == judged


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_a_loss_of_every_metric_but_the_primary_one_is_reported(classes):
    stream = Stream(make_classifier(classes))
    outcomes = OutcomeHistogram.count(*draw_classes(1_000, 7, classes=classes, offset=2.5))
    found = stream.add(outcomes, 0, hours=24)
    assert {"live_quality:accuracy", "concept_drift:relation to the outcome"} <= breaches(found)
    if classes == 2:
        assert "live_quality:log_loss" in breaches(found)
        assert found["live_quality:roc_auc"].status == "ok"
    message = found["live_quality:accuracy"].message
    assert message.startswith("accuracy 0.")
    assert "on the holdout" in message
    assert "100% of the predictions" in message
    calm = OutcomeHistogram.count(*draw_classes(1_000, 8, classes=classes))
    assert breaches(Stream(make_classifier(classes)).add(calm, 0, hours=24)) == set()


def test_one_metric_is_judged_where_the_spec_names_it():
    spec = MonitoringSpec(live_quality=QualityRule(metric="roc_auc"))
    outcomes = OutcomeHistogram.count(*draw_classes(1_000, 7, offset=2.5))
    found = Stream(make_classifier(), spec).add(outcomes, 0, hours=24)
    assert [key for key in found if key.startswith("live_quality")] == ["live_quality:roc_auc"]


def test_concept_drift_has_a_rule_of_its_own():
    stream = Stream(REGRESSION, MonitoringSpec(concept_drift=QualityRule(relative_threshold=5.0)))
    assert breaches(stream.add_demand(12, spread=2.0)) == {"live_quality:rmse", "live_quality:mae"}
    assert stream.findings[-1]["concept_drift:relation to the outcome"].status == "ok"
    assert "concept_drift:relation to the outcome" in breaches(Stream(REGRESSION).add_demand(12, spread=2.0))


def test_a_mean_error_is_reported_though_the_errors_are_no_larger_than_before():
    values, truth = draw_demand(2_000, 5, spread=0.5)
    deviation = measure_metrics(REGRESSION.profile.outcomes)["rmse"].value
    outcomes = ErrorSums.measure(values, truth - 0.5 * deviation, origin=TARGET.center, bins=TARGET)
    found = Stream(REGRESSION).add(outcomes, 0, hours=24)
    assert breaches(found) >= {"live_quality:mean_error"}
    assert found["live_quality:rmse"].status == "ok"
    assert found["live_quality:mean_error"].message.startswith("mean error ")


@pytest.mark.parametrize("sharpness", [0.3, 2.0])
@pytest.mark.parametrize("classes", [2, 3, 12])
def test_the_holdouts_like_rows_have_the_metrics_of_such_predictions(classes, sharpness):
    profile = make_classifier(classes).profile
    outcomes = OutcomeHistogram.count(*draw_classes(20_000, 3, classes=classes, sharpness=sharpness))
    before = measure_metrics(profile.outcomes)
    for name, metric in measure_window(outcomes, profile, None).items():
        if name == "macro_f1" and classes > 3:
            continue  # which class is the largest follows from no single probability
        moved = abs(metric.value - before[name].value)
        assert metric.expected == pytest.approx(metric.value, abs=0.02 + 0.25 * moved), name


@pytest.mark.parametrize("size", [5.0, 60.0, 300.0])
def test_the_holdouts_like_rows_have_the_errors_of_such_values(size):
    values, truth = draw_demand(5_000, 3, size=size)
    outcomes = ErrorSums.measure(values, truth, origin=TARGET.center, bins=TARGET)
    measured = measure_window(outcomes, REGRESSION.profile, TARGET)
    assert measured["rmse"].expected == pytest.approx(measured["rmse"].value, rel=0.3)
    assert measured["mae"].expected == pytest.approx(measured["mae"].value, rel=0.3)


@pytest.mark.parametrize(
    ("spread", "of_rmse", "of_mae"), [(3.0, "ok", "ok"), (10.0, "ok", "breach"), (20.0, "breach", "breach")]
)
def test_hours_with_larger_errors_are_no_loss_and_one_in_quiet_hours_is_if_it_weighs(spread, of_rmse, of_mae):
    """Root mean squared errors of hours add up to a day's as squares, mean absolute errors as they are."""
    stream = Stream(REGRESSION)
    for hour in range(2 * DAY):
        assert breaches(stream.add_demand(hour)) == set(), hour
    holdout = measure_metrics(REGRESSION.profile.outcomes)["rmse"].value
    metrics = [window.metrics["rmse"].value for window in stream.windows]
    assert max(metrics) > 1.5 * holdout
    at_night = stream.add_demand(2 * DAY, spread=spread)
    assert stream.windows[-1].metrics["rmse"].value < holdout
    for name, status in (("rmse", of_rmse), ("mae", of_mae)):
        found = at_night[f"live_quality:{name}"]
        assert found.status == status
        assert "on the holdout's rows with such predictions" in found.message
        assert found.message.endswith("if all its hours lost as much") == (status == "ok")


def test_a_loss_that_lasts_is_one_incident_at_every_hour_and_quiet_a_day_after():
    stream = Stream(REGRESSION)
    for hour in range(9 * DAY):
        lost = 2 * DAY <= hour < 7 * DAY and 7 <= hour % DAY < 18  # the nights are as they were
        stream.add_demand(hour, spread=2.0 if lost else 1.0)
    assert stream.transitions == ["opened"]
    assert stream.incidents.open_incidents()[0].is_quiet
    assert all(breaches(found) for found in stream.findings[2 * DAY + 10 : 7 * DAY])
    assert not any(breaches(found) for found in stream.findings[8 * DAY + 1 :])
    assert "in the last day" in stream.findings[4 * DAY + 3]["live_quality:rmse"].message


def test_what_comes_back_with_the_hours_is_suppressed_once_a_day_is_known():
    """Errors that predictions do not explain: twice as large from 6 to 7, each day."""
    stream = Stream(REGRESSION)
    for hour in range(3 * DAY):
        stream.add_demand(hour, spread=2.0 if hour % DAY == 6 else 1.0)
    first, later = (stream.findings[day * DAY + 6]["live_quality:rmse"] for day in (0, 2))
    assert first.status == "breach"
    assert later.status == "ok"
    assert "as in the same hours of earlier days" in later.message


def test_what_comes_back_with_the_weekday_is_suppressed_once_a_week_is_known():
    stream = Stream(REGRESSION)
    for hour in range(0, 21 * DAY, 3):
        spread = 1.7 if hour % (7 * DAY) >= 6 * DAY else 1.0  # on Sundays
        stream.add_demand(hour, spread=spread)
    assert "live_quality:rmse" in {key for found in stream.findings[: 7 * 8] for key in breaches(found)}
    last = [found["live_quality:rmse"] for found in stream.findings[-8:]]
    assert {finding.status for finding in last} == {"ok"}


def serve_days(spreads, *, windows=4, rows=300):
    """Findings of days with such multiples of the holdout's errors, by window."""
    stream = Stream(REGRESSION)
    for number in range(len(spreads) * windows):
        values, truth = draw_demand(rows, 500 + number, spread=spreads[number // windows])
        outcomes = ErrorSums.measure(values, truth, origin=TARGET.center, bins=TARGET)
        stream.add(outcomes, number * DAY // windows, DAY // windows)
    return stream


VARYING = [1.0, 1.15, 0.95, 0.85, 1.0, 1.2, 1.1, 0.85, 0.9, 1.1, 1.0, 0.85, 1.05, 1.15, 0.95]


@pytest.mark.parametrize(
    ("before", "status"), [(VARYING, "ok"), ([1.0] * 15, "breach"), ([*[1.0] * 7, 1.35, *[1.0] * 7], "breach")]
)
def test_a_bad_day_is_no_loss_where_days_differ_so_much(before, status):
    last = serve_days([*before, 1.35]).findings[-1]
    assert last["live_quality:mae"].status == status


#: A week of such errors has a loss of more than a fifth.
BAD_WEEK = [1.0, 1.5, 0.9, 1.5, 0.8, 1.5, 1.4]


@pytest.mark.parametrize(("before", "status"), [([0.8, 1.25, 0.75, 1.3, 0.85, 1.2, 0.8], "ok"), ([1.0] * 7, "breach")])
def test_a_bad_week_is_no_loss_where_seven_days_differ_so_much(before, status):
    stream = serve_days([*before * 2, *BAD_WEEK])
    assert math.sqrt(np.mean(np.square(BAD_WEEK))) > 1.2
    assert stream.findings[-1]["live_quality:rmse"].status == status


@pytest.mark.parametrize("before", [[1.0] * 15, VARYING])
def test_a_loss_that_lasts_does_not_pass_for_days_that_differ(before):
    stream = serve_days([*before, *[2.0] * 16])
    assert all(breaches(found) for found in stream.findings[-15 * 4 :])
    assert stream.transitions.count("opened") - stream.transitions.count("resolved") == 1


@pytest.mark.parametrize(
    ("days", "loud_every", "spread", "status"),
    [
        (12, 41, 1.5, "ok"),
        (12, 1_000, 1.5, "breach"),
        (7, 41, 1.5, "ok"),  # too few days for a quantile: four hours have been worse
        (7, 41, 4.0, "breach"),  # worse than any
    ],
)
def test_a_bad_hour_is_no_loss_where_worse_hours_are_rare_but_usual(days, loud_every, spread, status):
    """One hour in forty-one is worse: beyond the 90th percentile of the steps, and within the 99th of twelve days."""
    stream = Stream(REGRESSION, kept=400)
    for hour in range(days * DAY + 9):
        found = stream.add_demand(hour, spread=1.0 if hour % loud_every or not hour else 2.0)
    assert found["live_quality:mae"].status == "ok"
    found = stream.add_demand(days * DAY + 9, spread=spread)
    assert found["live_quality:mae"].status == status


@pytest.mark.parametrize(("loud", "status"), [(1.9, "ok"), (1.0, "breach")])
def test_hours_with_small_errors_lose_no_more_than_hours_with_large_ones_have(loud, status):
    """Errors of 120 rentals are 2.2 times as large as expected, after errors of 300 that were 1.9 times as large."""
    stream = Stream(REGRESSION, kept=400)
    for hour in range(7 * DAY + 10):
        stream.add_demand(hour, spread=loud if hour == 2 * DAY + 16 else 1.0)
    found = stream.add_demand(7 * DAY + 10, spread=2.2)
    assert found["live_quality:mae"].status == status


def test_a_loss_that_lasts_for_hours_is_reported_though_hours_have_been_worse():
    stream = Stream(REGRESSION, kept=400)
    for hour in range(7 * DAY + 9):
        stream.add_demand(hour, spread=2.0 if hour == 2 * DAY + 16 else 1.0)
    found = [stream.add_demand(7 * DAY + hour, spread=1.6)["live_quality:mae"].status for hour in range(9, 15)]
    assert found == ["ok", "ok", "ok", "breach", "breach", "breach"]


def test_calibration_of_hours_is_judged_by_the_day():
    stream = Stream(make_classifier())
    for hour in range(3 * DAY):
        turn = 0.9 if hour % 2 else -0.9  # each hour by itself is miscalibrated, and no day is
        stream.add(OutcomeHistogram.count(*draw_classes(200, 50 + hour, offset=turn)), hour)
    key = "calibration:probabilities"
    assert stream.findings[3][key].status == "unknown"
    assert {found[key].status for found in stream.findings[DAY + 12 :]} == {"ok"}
    for hour in range(3 * DAY, 4 * DAY):
        found = stream.add(OutcomeHistogram.count(*draw_classes(200, 50 + hour, offset=1.2)), hour)
    assert found[key].status == "breach"
    assert "in the last day" in found[key].message


def keep(windows, counts, kept=200):
    """What the state has of windows: the latest, and the others pooled as they leave."""
    pooled = ()
    for number in range(kept, len(windows)):
        pooled = pool_old(pooled, [(windows[number - kept], counts[number - kept])])
    earlier = (*pooled, *windows[-kept:])
    return pooled, RecentOutcomes(windows[-1], earlier[:-1], [*(one.counts for one in pooled), *counts[-kept:]])


def test_a_day_of_three_hundred_windows_is_a_whole_day():
    """Two hundred of five minutes are sixteen hours."""
    outcomes = OutcomeHistogram.count(*draw_classes(150, 4))
    begins = [MONDAY + number * HOUR / 12 for number in range(300)]
    windows = [MeasuredWindow(begin=begin, end=begin + HOUR / 12, outcomes=150) for begin in begins]
    pooled, recent = keep(windows, [outcomes.coarsen()] * 300)
    assert len(pooled) == 9
    assert recent.covers_day
    assert recent.sum_day(outcomes).rows == pytest.approx(150 * 288, abs=150 * 12)
    few = RecentOutcomes(windows[200], windows[:200], [outcomes.coarsen()] * 200)
    assert few.sum_day(outcomes) is None


def test_windows_that_leave_the_state_are_pooled_by_the_hour_and_cover_four_weeks():
    draw = np.random.default_rng(5)
    values = 40.0 + draw.normal(size=24 * 36)
    begins = [MONDAY + number * HOUR for number in range(len(values))]
    windows = [
        MeasuredWindow(
            begin=begin,
            end=begin + HOUR,
            outcomes=100,
            covered=90,
            metrics={"rmse": WindowMetric(value=value, error=1.0, low=0.0, high=99.0, expected=40.0)},
        )
        for begin, value in zip(begins, values.tolist(), strict=True)
    ]
    pooled, recent = keep(windows, [None] * len(windows))
    assert from_plain(OutcomeHistory, to_plain(OutcomeHistory(pooled=pooled))).pooled == pooled
    assert len(pooled) < 300
    assert {one.end - one.begin for one in pooled[-100:-1]} == {HOUR}
    assert recent.covers(timedelta(days=27))
    assert len(recent.days_before()) == 28
    every = RecentOutcomes(windows[-1], windows[:-1])
    for days in (1, 7, 14):
        found, exact = (PooledWindow.pool(own.last(timedelta(days=days)), [None]) for own in (recent, every))
        assert (found.outcomes, found.covered) == pytest.approx((exact.outcomes, exact.covered), abs=1_200)
        assert found.metrics["rmse"].value == pytest.approx(exact.metrics["rmse"].value, abs=0.02)
        assert found.metrics["rmse"].error == pytest.approx(exact.metrics["rmse"].error, rel=0.05)


def test_an_incident_of_an_early_release_ends_though_its_subject_is_no_longer_judged():
    old = WindowFinding("live_quality", "quality", "breach", "roc_auc 0.8 on the holdout → 0.6")
    stream = Stream(make_classifier())
    for hour in range(2):
        span = (MONDAY + hour * HOUR, MONDAY + (hour + 1) * HOUR)
        stream.incidents, _ = advance(
            stream.incidents, [old], SPEC, model="m", version=1, window=span, repeat_after=timedelta(days=9)
        )
    for hour in range(3):
        stream.add(OutcomeHistogram.count(*draw_classes(300, 60 + hour)), 2 + hour)
    assert "resolved" in stream.transitions
    assert stream.incidents.open_incidents() == []


def test_a_profile_of_an_early_release_gives_what_it_can():
    """Neither the mean errors by predicted value nor the counts of a window's values."""
    errors = REGRESSION.profile.errors_by_value
    profile = PredictionProfile(
        predictions=REGRESSION.profile.predictions,
        outcomes=REGRESSION.profile.outcomes,
        errors_by_value=type(errors)(sums=errors.sums),
    )
    values, truth = draw_demand(500, 5)
    now = measure_window(ErrorSums.measure(values, truth, origin=TARGET.center, bins=TARGET), profile, TARGET)
    assert now["mean_error"].expected is None
    assert now["rmse"].expected is not None
    bare = measure_window(ErrorSums.measure(values, truth, origin=TARGET.center), profile, TARGET)
    assert {metric.expected for metric in bare.values()} == {None}
    assert measure_window(ErrorSums.measure(values, truth), None, None)["rmse"].expected is None


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_a_day_of_right_predictions_alone_is_in_order(classes):
    """Means over windows of such numbers of rows are 1 less a rounding error, whose logit is no number."""
    stream = Stream(make_classifier(classes))
    for hour in range(2 * DAY):
        predictions, _ = draw_classes(101 + 7 * hour % 13, hour, classes=classes)
        sure = ClassPredictions(predictions.decided, np.eye(classes)[predictions.decided])
        found = stream.add(OutcomeHistogram.count(sure, sure.decided), hour)
    assert found["live_quality:accuracy"].status == "ok"
    assert breaches(found) == set()


def test_a_day_without_any_error_is_in_order():
    stream = Stream(REGRESSION)
    for hour in range(2 * DAY):
        values, _ = draw_demand(101 + 7 * hour % 13, hour)
        found = stream.add(ErrorSums.measure(values, values, origin=TARGET.center, bins=TARGET), hour)
    assert {one.status for one in found.values()} <= {"ok", "unknown"}
    assert found["live_quality:rmse"].status == "ok"


@pytest.mark.parametrize("absurd", [1e100, -1e154, 1.7e308])
def test_an_absurd_outcome_is_a_large_error_and_no_crash(absurd):
    """Its fourth power is beyond the range of floats."""
    stream, groups = Stream(REGRESSION), {"city": ["Bern"] * 200}
    for hour in range(4):
        values, truth = draw_demand(200, 100 + hour)
        truth[3:4] = absurd if hour == 2 else truth[3:4]
        outcomes = ErrorSums.measure(values, truth, groups, origin=TARGET.center, bins=TARGET)
        assert np.isfinite(outcomes.sums).all()
        assert np.isfinite(outcomes.groups["city"]["Bern"]).all()
        found = stream.add(outcomes, hour)
    assert all(math.isfinite(one.value) for one in stream.findings[2].values() if one.value is not None)
    assert found["live_quality:rmse"].status == "ok"
    table = count_in_bins({"age": np.array([absurd, 40.0])}, 2, FEATURES.bins, FEATURES.plan).columns["age"]
    assert np.isfinite((table + table).sums).all()


@pytest.mark.parametrize(("classes", "phrase"), [(3, " in the last day"), (12, "")])
def test_calibration_says_which_rows_it_is_of(classes, phrase):
    """Sums of a day are kept of up to ten classes; of more, each window stands for itself."""
    stream = Stream(make_classifier(classes))
    for hour in range(DAY + 2):
        rows = draw_classes(300, 900 + hour, classes=classes, offset=4.0)
        found = stream.add(OutcomeHistogram.count(*rows), hour)["calibration:probabilities"]
    assert f"on {found.rows:,} outcomes{phrase};" in found.message
    assert found.rows == 300 * (DAY if phrase else 1)
    assert "a class on average" in found.message


@pytest.mark.parametrize(
    ("value", "error", "bounds"),
    [
        (0.97, 0.03, (0.0, 1.0)),
        (0.02, 0.03, (0.0, 1.0)),
        (0.1, 0.2, (0.0, float("inf"))),
        (1.0, 0.0, (0.0, 1.0)),
        (1.0 - 1.1e-16, 0.004, (0.0, 1.0)),
        (1e-17, 0.004, (0.0, 1.0)),
        (1e-300, 1.0, (0.0, float("inf"))),
        (2.0 - 4.4e-16, 0.01, (0.0, 2.0)),
        (-3.0, 700.0, (float("-inf"), 1.0)),
    ],
)
def test_an_interval_stays_within_the_metrics_bounds(value, error, bounds):
    low, high = bounded_interval(PointEstimate(value, error, 100), bounds)
    assert bounds[0] <= low <= value <= high <= bounds[1]
