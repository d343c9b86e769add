"""The monitoring report shows distributions and timelines, and says what was done."""

import pytest
from millrace.reports.monitoring_report import chart_panel, quality_timeline, render_monitoring_report

from tests.unit.reports.documents import QUALITY, full_monitoring, minimal_monitoring

PICTURE = {"subject": "age", "verdict": "feature_drift", "status": "ok", "value": 0.0, "threshold": 0.1}
BARS = {"edges": [0.0, 86_400.0 * 100, 86_400.0 * 200], "before": [0.5, 0.5], "now": [0.4, 0.6]}


def make_windows(hours):
    return [{"end": f"2026-05-04T{hour:02}:00:00+00:00", "rows": 300, "effects": {"age": 0.1}} for hour in range(hours)]


def test_charts_show_the_distribution_and_the_timeline():
    page = render_monitoring_report(full_monitoring())
    for shown in (
        "Share of the rows by age, in the baseline and in the latest window",
        "Distance of age from the baseline in the last 5 windows",
        "Values of city",
        "ROC AUC in the last 5 windows",
    ):
        assert shown in page


def test_a_timeline_needs_windows_that_keep_their_effects():
    assert chart_panel(PICTURE | BARS, make_windows(3))["timeline"] is not None
    assert chart_panel(PICTURE | BARS, make_windows(2))["timeline"] is None
    # A window of an older release did not keep its effects.
    old = [{"end": "2026-05-04T00:00:00+00:00", "rows": 1}] * 9
    assert chart_panel(PICTURE | BARS, old)["timeline"] is None


def test_without_chart_data_there_is_no_section_for_it():
    page = render_monitoring_report(minimal_monitoring())
    assert 'id="moved"' not in page
    assert 'id="quality"' not in page


def test_timestamps_are_labelled_as_days():
    labels = [text for _, text in chart_panel(PICTURE | BARS | {"is_moment": True}, [])["distribution"].x.labels]
    assert all(label.startswith("1970-0") for label in labels)


def test_a_timeline_of_quality_needs_windows_of_the_same_metric():
    record = QUALITY | {"end": "2026-05-04T00:00:00+00:00", "low": 0.7, "high": 0.9}
    other = record | {"metric": "", "value": None, "low": None, "high": None}
    assert quality_timeline([]) is None
    assert quality_timeline([other, record, record]) is None
    assert "ROC AUC in the last 3 windows" in quality_timeline([other, record, record, record]).description


def test_verdicts_are_shown_by_their_labels():
    document = full_monitoring()
    name = document["verdicts"][0]["verdict"]
    assert name.replace("_", " ").capitalize() in render_monitoring_report(document)
    document["verdicts"] = [one | {"label": f"Label of {one['verdict']}"} for one in document["verdicts"]]
    assert f"Label of {name}" in render_monitoring_report(document)


@pytest.mark.parametrize(
    "shown", ["nothing: no retraining would help", "requested a training run", "and 3 more", "12 more, below"]
)
def test_incidents_say_what_is_wrong_and_what_was_done(shown):
    assert shown in render_monitoring_report(full_monitoring())


def test_a_report_without_findings_says_so_and_has_no_empty_table():
    page = render_monitoring_report(minimal_monitoring())
    assert "No window has been evaluated yet." in page
    assert "Filter by subject:" not in page
    assert "Filter by subject:" in render_monitoring_report(full_monitoring())
