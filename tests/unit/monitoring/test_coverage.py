"""Coverage of intervals and prediction sets on labelled rows."""

import json
import time
from datetime import timedelta

import numpy as np
import pytest
from millrace.conformal import fit_classes, fit_regression
from millrace.histograms.outcomes import OutcomeHistogram
from millrace.histograms.predictions import ClassPredictions
from millrace.layout import version_key
from millrace.monitoring.coverage import (
    HeldOutcomes,
    count_covered_classes,
    count_covered_values,
    coverage_deviation,
    coverage_tail,
    evaluate_coverage,
    find_low_coverage,
    sum_day,
)
from millrace.monitoring.measured_windows import MeasuredWindow, RecentOutcomes
from millrace.monitoring.report import MonitoringReport
from millrace.monitoring.state import load_state
from millrace.spec.monitoring import CoverageRule
from msgspec.structs import replace
from scipy.stats import betabinom

from tests.unit.monitoring.builders import SCHEMA, make_columns
from tests.unit.monitoring.served import MODEL, START, Served, chance_of_yes, predict

RATE = 0.001


def calibrate(rows):
    columns = make_columns(rows, 5)
    outcomes = np.random.default_rng(3).random(rows) < chance_of_yes(columns)
    return fit_classes(outcomes.astype(int), predict(columns).probabilities)


def serve_with_calibration(rows=400):
    served = Served()
    document = {"schema": SCHEMA.to_dict(), "confidence": calibrate(rows).to_document()}
    served.models.put(version_key(MODEL, 1, "signature.json"), json.dumps(document).encode())
    return served


def values_with(rows, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    predictions = rng.normal(10.0, 3.0, rows)
    return predictions, predictions + spread * rng.standard_t(4, rows)


@pytest.mark.parametrize(
    ("covered", "rows", "calibration"), [(80, 100, 200), (0, 10, 9), (871, 1_000, 1_000), (7, 7, 30)]
)
def test_the_tail_is_that_of_the_beta_binomial_distribution(covered, rows, calibration):
    rank = int(np.ceil(round((calibration + 1) * 0.9, 6)))
    expected = betabinom(rows, rank, calibration + 1 - rank)
    assert coverage_tail(covered, rows, calibration) == pytest.approx(expected.cdf(covered), rel=1e-8)
    assert coverage_deviation(rows, calibration) == pytest.approx(expected.std() / rows)


def test_the_tail_of_millions_of_outcomes_needs_no_memory():
    """Fifty million outcomes of a day were as many logarithms, twice the memory of the function."""
    began = time.perf_counter()
    assert coverage_tail(43_000_000, 50_000_000, 600) == pytest.approx(betabinom(10**5, 541, 60).cdf(86_000), rel=1e-6)
    assert time.perf_counter() - began < 1.0


def test_many_outcomes_have_a_finite_tail():
    assert coverage_tail(180_000, 200_000, 5_000) == pytest.approx(0.5, abs=0.1)
    assert 0.0 <= coverage_tail(0, 200_000, 5_000) < 1e-300


@pytest.mark.parametrize(("n_calibration", "rows"), [(200, 100), (200, 2_000), (2_000, 400)])
def test_rows_like_those_of_the_calibration_are_no_breach(n_calibration, rows):
    statuses = []
    for seed in range(60):
        calibration = fit_regression(*values_with(n_calibration, seed)[::-1], 0)
        predictions, outcomes = values_with(rows, 1_000 + seed)
        held = HeldOutcomes(rows, count_covered_values(calibration, predictions, outcomes))
        statuses.append(find_low_coverage(held, calibration, CoverageRule(), RATE).status)
    assert statuses == ["ok"] * 60


def test_wider_errors_are_a_breach_and_smaller_ones_are_not():
    calibration = fit_regression(*values_with(1_000, 1)[::-1], 0)
    found = {}
    for spread in (0.3, 1.0, 1.1, 2.0):
        predictions, outcomes = values_with(500, 2, spread)
        held = HeldOutcomes(500, count_covered_values(calibration, predictions, outcomes), " in the last day")
        found[spread] = find_low_coverage(held, calibration, CoverageRule(), RATE)
    assert [one.status for one in found.values()] == ["ok", "ok", "ok", "breach"]
    assert found[2.0].message.startswith("intervals of 0.9 held 6")
    assert "of 500 outcomes in the last day" in found[2.0].message
    assert found[2.0].value == pytest.approx(0.9 - found[2.0].details["now"] - found[2.0].details["deviation"])


def test_a_set_as_it_was_served_holds_the_decision():
    calibration = fit_classes([1] * 100, np.tile([0.05, 0.95], (100, 1)))
    predictions = ClassPredictions(np.array([1, 0, 0]), np.tile([0.8, 0.2], (3, 1)))
    assert count_covered_classes(calibration, predictions, np.array([1, 1, 0])) == 2


def test_too_little_is_no_verdict():
    rows, outcomes = values_with(50, 0)
    few = fit_regression(*values_with(8, 0)[::-1], 0)
    assert count_covered_values(few, rows, outcomes) is count_covered_values(None, rows, outcomes) is None
    enough = fit_regression(outcomes, rows, 0)
    for calibration, held, message in (
        (None, HeldOutcomes(500, None), "registered without calibration rows"),
        (few, HeldOutcomes(500, None), "8 calibration rows are too few"),
        (enough, HeldOutcomes(50, 45), "50 outcomes; at least 100"),
        (enough, None, "not a day yet"),
    ):
        found = find_low_coverage(held, calibration, CoverageRule(), RATE)
        assert found.status == "unknown"
        assert message in found.message


def test_counts_add_up_and_those_of_an_early_release_are_none():
    first, second = (OutcomeHistogram.empty(2) for _ in range(2))
    assert (first + second).covered is None
    assert (replace(first, covered=3) + replace(second, covered=4)).covered == 7
    assert (replace(first, covered=3) + second).covered == 3


def coverage_of(served):
    report = MonitoringReport.read(served.data.get(f"monitoring/{MODEL}/reports/latest.json"))
    return next(found for found in report.findings if found.verdict == "coverage")


def test_an_incident_opens_when_outcomes_leave_the_sets_and_not_before():
    served = serve_with_calibration()
    statuses = []
    for hour in range(0, 60, 6):
        served.capture(hour, rows=150, flip=0.6 if hour >= 42 else 0.0, feedback=True)
        outcome = served.monitor(hour + 6)
        statuses.append(coverage_of(served).status)
        assert hour >= 42 or not outcome.open_incidents
    assert statuses[:7] == ["unknown"] * 4 + ["ok"] * 3
    assert statuses[-2:] == ["breach"] * 2
    (incident,) = load_state(MODEL, served.data)[0].incidents.open_incidents()
    assert incident.event == "QualityDegraded"
    assert "coverage:intervals" in incident.findings
    assert [one.covered for one in load_state(MODEL, served.data)[0].outcomes.quality][-1] < 120


def recent_outcomes(*windows):
    """Windows by the hours in which they begin and end, with their outcomes and those covered."""
    measured = [
        MeasuredWindow(
            begin=START + timedelta(hours=begin), end=START + timedelta(hours=end), outcomes=rows, covered=covered
        )
        for begin, end, rows, covered in windows
    ]
    return RecentOutcomes(measured[-1], measured[:-1])


def test_hours_that_differ_are_summed_to_the_day_that_ends_with_the_window():
    windows = [(hour, hour + 6, 100, 70 if hour % 24 == 6 else 97) for hour in range(0, 48, 6)]
    sums = [sum_day(recent_outcomes(*windows[: number + 1])) for number in range(len(windows))]
    assert sums[:3] == [None] * 3
    assert sums[3:] == [HeldOutcomes(400, 361, " in the last day")] * 5


def test_a_weekday_that_is_covered_less_each_week_is_no_breach_and_a_loss_is():
    """Errors are larger on Saturdays, and the week holds the level."""
    calibration = fit_regression(*values_with(600, 1)[::-1], 0)

    def after(days, low):
        windows = [
            (24 * day + 6 * part, 24 * day + 6 * part + 6, 100, 72 if day in low else 95)
            for day in range(days)
            for part in range(4)
        ]
        return evaluate_coverage(recent_outcomes(*windows), calibration, CoverageRule(), RATE)

    saturdays = {5, 12, 19}
    assert after(6, saturdays).status == "breach", "no week is known"
    assert after(13, saturdays).status == "ok"
    assert "as on that day of the week before" in after(13, saturdays).message
    assert after(13, {12}).status == "breach", "the first day of a loss"
    assert after(20, set(range(12, 20))).status == "breach", "the week is no longer in order"


def test_a_window_of_a_day_is_evaluated_by_itself_and_one_without_counts_is_left_out():
    assert sum_day(recent_outcomes((0, 30, 100, 90), (30, 54, 150, 120))) == HeldOutcomes(150, 120)
    early = [(0, 18, 100, None), (18, 24, 100, None)]  # measured by an earlier release
    assert sum_day(recent_outcomes(*early, (24, 30, 100, 90))) == HeldOutcomes(100, 90, " in the last day")
    assert sum_day(recent_outcomes(*early, (24, 30, 100, None))).covered is None


def test_a_version_of_an_older_release_says_why_nothing_is_known():
    served = Served()
    for hour in range(3):
        served.capture(hour, feedback=True)
        served.monitor(hour + 1)
    found = coverage_of(served)
    assert found.status == "unknown"
    assert "train a new version" in found.message
