"""Numbers, shares and timestamps read well and never mislead."""

import math

import pytest
from millrace.reports import formatting


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"), (1204, "1,204"), (-3.0, "-3"), (0.3125, "0.3125"), (12.3456, "12.35"), (99.999, "100"),
        (1234.5, "1,234"), (1_234_567.5, "1,234,568"), (1.294e9, "1,294,000,000"), (25_870.4, "25,870"),
        (9_999.96, "10,000"), (0.00001, "0.00001"), (3e38, "3e+38"),
        (None, formatting.NOT_KNOWN), (math.nan, formatting.NOT_KNOWN), (math.inf, formatting.NOT_KNOWN),
    ],
)  # fmt: skip
def test_numbers(value, written):
    assert formatting.number(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0 %"), (1.0, "100 %"), (0.5, "50 %"), (0.057, "5.7 %"), (0.00001, "<0.1 %"), (0.99999, ">99.9 %"),
        (0.995, "99.5 %"), (0.996, "99.6 %"), (None, formatting.NOT_KNOWN),
    ],
)  # fmt: skip
def test_a_small_share_is_not_nothing_and_nearly_all_is_not_all(value, written):
    assert formatting.share(value) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(0, "0"), (2000, "2,000"), (12_345, "12.3 k"), (1.5e6, "1.5 M"), (0.25, "0.25"), (-2e9, "-2 B"), (4e12, "4 T")],
)
def test_numbers_for_axes(value, written):
    assert formatting.short_number(value) == written


def test_counts_agree_with_their_nouns():
    assert formatting.count(1, "row") == "1 row"
    assert formatting.count(2000, "row") == "2,000 rows"
    assert formatting.count(0, "entry", "entries") == "0 entries"
    assert formatting.count(None) == formatting.NOT_KNOWN


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("2026-05-03T14:15:00+00:00", "2026-05-03 14:15 UTC"),
        ("2026-05-03T16:15:00+02:00", "2026-05-03 14:15 UTC"),
        ("2026-05-03T00:00:00", "2026-05-03"),
        ("0001-01-01T00:00:00", "0001-01-01"),
        ("soon", "soon"),
        (None, formatting.NOT_KNOWN),
    ],
)
def test_timestamps(value, written):
    assert formatting.timestamp(value) == written


def test_seconds_that_no_calendar_holds_are_a_number():
    assert formatting.epoch_seconds(0) == "1970-01-01"
    assert formatting.epoch_seconds(-86400) == "1969-12-31"
    assert formatting.epoch_seconds(1e15) == "1e+15"
    assert formatting.epoch_seconds(None) == formatting.NOT_KNOWN


def test_lists_say_how_many_more_there_are():
    assert formatting.join_names(["a", "b"], 3) == "a, b"
    assert formatting.join_names(["a", "b", "c"], 2) == "a, b and 1 more"


def test_an_interval_without_ends_is_a_dash():
    assert formatting.interval(0.1, 2) == "0.1 to 2"
    assert formatting.interval(0.1, None) == formatting.NOT_KNOWN


def test_a_markdown_cell_is_one_line_without_markup():
    assert formatting.markdown("a|b\n<i>") == "a\\|b \\<i\\>"
