"""Values as text."""

import io

import pytest
from millrace_cli import output
from millrace_cli.output import format_epoch, format_seconds, format_value
from rich.console import Group


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


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("headers", [("model", "run", "created"), ("model", "status", "run"), ("", "finding", "model")])
def test_no_column_vanishes_in_a_narrow_terminal(width, headers):
    values = [f"<{number} {'a value that is long ' * 2}>" for number in range(len(headers))]
    console = output.UncroppedConsole(file=io.StringIO(), width=width)
    console.print(Group(output.make_table("", headers, [values])))
    text = console.file.getvalue()
    for header, value in zip(headers, values, strict=True):
        assert header in text
        assert value[:2] in text
        if header not in output._PROSE_COLUMNS:
            assert value in text
