import pytest
from millrace.documents import to_plain
from millrace.reports import render_replay_report

from tests.replay_report import make_quality, make_report


def page(**changes: object) -> str:
    return render_replay_report(to_plain(make_report(**changes)))


def test_the_page_shows_what_changes_where_and_how_well():
    text = page()
    for part in (
        "Version 7 beside version 6, the champion",
        "better on the labelled rows",
        "0.002 to 0.1",
        "age expects at most 50",
        "plan is &lt;basic&gt;",
        "not known: too far from training",
        "Changed decisions by day",
        "at least 50.00%",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("quality", "verdict"),
    [
        (make_quality(0.01, 0.2), "better on the labelled rows"),
        (make_quality(-0.005, 0.2), "no worse on the labelled rows"),
        (make_quality(-0.2, -0.02), "worse on the labelled rows"),
        (make_quality(-0.2, 0.2), "not decided by the labelled rows"),
        (None, "replayed"),
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_margin(quality, verdict):
    assert f">{verdict}</span>" in page(quality=quality)


@pytest.mark.parametrize("status", ["requested", "running", "void", "refused", "failed"])
def test_a_replay_without_results_says_why(status):
    nothing = {"deviations": None, "quality": None, "estimates": (), "agreement": None, "task": None}
    nothing |= dict.fromkeys(("days", "changes", "slices", "shifts", "metrics", "notes"), ())
    text = page(status=status, reason="the champion's replay differs", **nothing)
    assert "The champion&#39;s replay differs" in text
    assert "What changes" not in text
    assert "Rows and self-test" in text


def test_a_regression_has_changes_of_values_and_no_decisions():
    text = page(task="regression", agreement=None, changes=())
    assert "Rows by the change of the value" in text
    assert "Changed decisions" not in text
