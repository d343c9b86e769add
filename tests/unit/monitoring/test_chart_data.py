"""Chart data of a window: what is drawn, and where its rows lie."""

import numpy as np
import pytest
from millrace.documents import from_plain, to_plain
from millrace.histograms.bins import CategoryBins, NumberBins, coarse_groups
from millrace.histograms.outcomes import OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import PredictionHistogram, Traffic
from millrace.histograms.tables import ColumnHistogram, count_numbers
from millrace.monitoring.chart_data import Bars, ChartData, draw_column, draw_columns, effects_of
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.drift import ColumnPair
from millrace.monitoring.rules import evaluate_traffic
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec

from tests.unit.histograms.test_histograms import make_predictions
from tests.unit.monitoring.builders import CLASSES, make_histogram, make_reference

REFERENCE = make_reference()
HOLDOUT = make_predictions(4_000, 55)
PROFILE = PredictionProfile(
    predictions=PredictionHistogram.count(HOLDOUT[0]), outcomes=OutcomeHistogram.count(*HOLDOUT)
)
SUBJECT = MonitoredVersion("binary", CLASSES, REFERENCE, PROFILE)


def draw(**changes):
    traffic = Traffic(
        features=make_histogram(REFERENCE, 2_000, **changes),
        predictions=PredictionHistogram.count(make_predictions(1_000, 8)[0]),
    )
    findings = evaluate_traffic(traffic, SUBJECT, MonitoringSpec(), Baselines())
    return draw_columns(traffic, SUBJECT, findings), findings


def test_what_is_past_its_threshold_is_drawn_first_and_of_the_rest_what_moved_most():
    pictures, findings = draw(age_shift=1.0)
    assert pictures[0].subject == "age"
    assert pictures[0].status == "breach"
    assert len(pictures) == 3
    assert from_plain(tuple[ChartData, ...], to_plain(pictures)) == pictures
    quiet, _ = draw()
    assert {picture.status for picture in quiet} == {"ok"}
    assert effects_of(findings)["age"] == pytest.approx(pictures[0].value, abs=1e-4)


def test_answers_are_drawn_beside_the_holdout():
    answers = make_predictions(4_000, 8)[0]
    sure = answers.take(answers.probabilities[:, 1] > 0.5)
    traffic = Traffic(features=make_histogram(REFERENCE, 2_000), predictions=PredictionHistogram.count(sure))
    pictures = draw_columns(traffic, SUBJECT, evaluate_traffic(traffic, SUBJECT, MonitoringSpec(), Baselines()))
    drawn = {picture.subject: picture for picture in pictures}
    assert drawn["predicted label"].now[drawn["predicted label"].values.index("yes")] == 1.0
    lower = [
        part
        for part, edge in zip(drawn["probability of 'yes'"].now, drawn["probability of 'yes'"].edges, strict=False)
        if edge < 0.45
    ]
    assert sum(lower) == pytest.approx(0.0, abs=0.01)


def test_bars_of_a_number_hold_its_rows_where_they_are():
    values = np.random.default_rng(1).normal(10.0, 2.0, 20_000)
    edges = np.quantile(values, np.linspace(0, 1, 101)[1:-1])
    bins = NumberBins(edges, coarse_groups(np.full(100, 200.0)), values.min(), values.max(), 10.0, 2.0)
    before, now = count_numbers(values, bins), count_numbers(values + 3.0, bins)
    drawn = draw_column(ColumnPair("x", bins, before, now))
    for name, shift in (("before", 0.0), ("now", 3.0)):
        assert sum(getattr(drawn, name)) == pytest.approx(1.0, abs=1e-3)
        exact = np.histogram(values + shift, drawn.edges)[0] / len(values)
        inside = slice(2, -8)  # what lies beyond training's outermost hundredths is spread evenly
        np.testing.assert_allclose(getattr(drawn, name)[inside], exact[inside], atol=0.02)


def test_a_far_off_value_does_not_flatten_the_chart():
    values = np.append(np.random.default_rng(1).normal(size=5_000), 1e9)
    edges = np.quantile(values, np.linspace(0, 1, 101)[1:-1])
    bins = NumberBins(edges, coarse_groups(np.full(100, 50.0)), -4.0, 4.0)
    side = ColumnPair("x", bins, count_numbers(values, bins), count_numbers(values, bins))
    assert draw_column(side).edges[-1] < 10.0


def test_a_number_of_few_values_and_no_rows_at_all_can_be_drawn():
    bins = NumberBins(np.array([1.0, 2.0]), np.array([0, 1, 2]), 0.0, 2.0)
    side = ColumnPair("x", bins, count_numbers(np.array([0.0, 1.0, 1.0, 2.0]), bins), count_numbers(np.zeros(0), bins))
    assert draw_column(side) == Bars(values=["0", "1", "2"], before=[0.25, 0.5, 0.25], now=[0.0, 0.0, 0.0])
    constant = NumberBins(np.zeros(0), np.array([0]), 3.0, 3.0)
    known, empty = (ColumnHistogram(counts=np.array([n]), sums=np.array([3.0 * n])) for n in (5, 0))
    again = ColumnPair("x", constant, known, empty)
    assert draw_column(again).values == ["every value"]


@pytest.mark.parametrize(
    ("before", "now", "names"),
    [
        ([1, 2, 3, 4], [1, 2, 3], ["1", "2", "3", "4"]),  # seasons
        ([1, 2, 3], [3, 7], ["1", "2", "3 or more"]),
        ([0, 1], [-1, 1], ["below 1", "1"]),
        ([0.5, 1.25, 2.0], [0.75, 1.5], ["below 1.25", "1.25 to 2", "2"]),
        ([3], [3], ["3"]),
        ([3], [3, 4], ["every value"]),
    ],
)
def test_a_bin_of_one_value_is_named_by_it(before, now, names):
    edges = np.unique(before)[1:].astype(float)
    bins = NumberBins(edges, np.arange(len(edges) + 1), min(before), max(before))
    pair = ColumnPair("x", bins, *(count_numbers(np.array(values, dtype=float), bins) for values in (before, now)))
    assert draw_column(pair).values == names


def test_rare_values_share_a_bar():
    bins = CategoryBins(tuple("abcdefghijkl"))
    counts = ColumnHistogram(counts=np.append(np.arange(12, 0, -1), [0, 3]), sums=np.zeros(0))
    drawn = draw_column(ColumnPair("x", bins, counts, counts))
    assert drawn.values == [*"abcdefgh", "all others"]
    assert sum(drawn.now) == pytest.approx(1.0, abs=1e-3)


def test_small_effects_are_not_stored():
    found = [
        WindowFinding("feature_drift", name, "ok", "", "psi", value, 0.1) for name, value in (("a", 0.009), ("b", 0.02))
    ]
    assert effects_of(found) == {"b": 0.02}
