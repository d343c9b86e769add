"""Numbers and ranges as text, for messages and pages."""

import math
from contextlib import suppress
from datetime import UTC, datetime

#: Numbers outside these have too many digits to be written plainly.
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-6, 1e15
_DIGITS = 4


def format_number(value: float, digits: int = _DIGITS, *, is_date: bool = False, grouped_from: float = 10_000.0) -> str:
    """Format a number plainly, with four significant digits and thousands grouped; seconds since 1970 as a date.

    No digit before the point is rounded away, so that amounts of money can be read.
    """
    if is_date:
        with suppress(OverflowError, ValueError, OSError):  # what no calendar holds stays a number
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}"
    if not math.isfinite(value) or (value and not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN):
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value != int(value) else 0
    rounded = round(value, decimals) + 0.0  # no minus before a zero
    written = f"{rounded:{',' if abs(rounded) >= grouped_from else ''}.{decimals}f}"
    return written.rstrip("0").rstrip(".") if decimals else written


def format_range(low: float, high: float, *, is_date: bool = False) -> str:
    """Format a range, of which an end may be infinite."""
    first, last = (format_number(end, is_date=is_date) for end in (low, high))
    if low == high:
        return f"{first} only"
    return f"at most {last}" if math.isinf(low) else f"at least {first}" if math.isinf(high) else f"{first} to {last}"
