"""Numbers that people read: amounts of money keep their digits, years have no comma."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.quantities import format_number, format_usd


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (25_870.4, "25,870"), (36_510.0, "36,510"), (1_234_567.8, "1,234,568"), (-51_060.2, "-51,060"),
        (2011.0, "2011"),
        (9_999.96, "10,000"), (1204.6, "1205"), (0.3125, "0.3125"), (0.85, "0.85"),
        (1.0, "1"), (0.0, "0"), (-0.0, "0"), (-1e-9, "-1e-09"),
        (12.3456, "12.35"), (1.2e-5, "0.000012"), (3e38, "3e+38"), (math.inf, "inf"), (99.999, "100"),
    ],
)  # fmt: skip
def test_numbers_are_readable(value, text):
    assert format_number(value) == text


@given(st.floats(min_value=1e-6, max_value=9e14), st.integers(2, 6))
def test_a_number_keeps_its_digits_and_has_no_exponent(value, digits):
    text = format_number(value, digits)
    assert "e" not in text
    # One unit in the last digit that is shown, at most.
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.51 * 10.0 ** (1 - digits))


@pytest.mark.parametrize(
    ("usd", "written"),
    [(0, "0.00"), (20, "20.00"), (1234.567, "1,234.57"), (0.1, "0.10"), (0.0999, "0.100"), (0.0043, "0.0043"),
     (0.00012345, "0.00012"), (1e-9, "0.000000"), (-0.05, "-0.050")],
)  # fmt: skip
def test_amounts(usd, written):
    assert format_usd(usd) == written
