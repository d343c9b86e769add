"""Values as text."""

import pytest
from millrace_cli.output import format_epoch, format_seconds, format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (25_870.4, "25,870"),
        (1_234_567.0, "1,234,567"),
        (9_999.9, "10,000"),
        (1_234.56, "1235"),
        (0.123456, "0.1235"),
        (0.000012, "0.000012"),
        (-51_060.7, "-51,061"),
        (0.0, "0"),
        (float("nan"), "nan"),
        (1e20, "1e+20"),
        (None, "-"),
    ],
)
def test_numbers_are_readable(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(1.294e9, "2011-01-02 20:26"), (-86_400, "1969-12-31")])
def test_seconds_since_1970_are_dates(seconds, text):
    assert format_epoch(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(4.4, "4 s"), (119, "119 s"), (150, "2 min"), (3_600, "60 min")])
def test_durations_are_short(seconds, text):
    assert format_seconds(seconds) == text
