"""Findings: the result of one verdict about one subject in one window, with numbers and dates as text."""

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

#: Numbers outside these have too many digits to be written plainly; from the last on, thousands are grouped.
_SMALLEST_PLAIN, _LARGEST_PLAIN, _GROUPED = 1e-6, 1e15, 10_000.0
_DIGITS = 4

Status = Literal["ok", "breach", "unknown"]


@dataclass(frozen=True, slots=True)
class WindowFinding:
    """Result of one verdict about one subject in one window."""

    verdict: str  # Name of a :class:`millrace.monitoring.rules.Verdict`
    subject: str  # A column, a pair of columns, a metric or a group; the same in every window
    status: Status  # ``unknown`` when there is too little data, which is no all-clear
    message: str  # The change and its size, or the reason why nothing is known
    measure: str = ""  # Name of ``value``: ``psi``, ``share``, ``accuracy`` ...
    value: float | None = None
    threshold: float | None = None
    rows: int = 0  # Rows or outcomes that the finding is based on
    p_value: float | None = None
    #: Other numbers for the report: before and now, all distances, intervals.
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Identity over windows."""
        return f"{self.verdict}:{self.subject}"


@dataclass(frozen=True, slots=True)
class WindowEvaluation:
    """Findings of one closed window, or of the service since the last run; at most one of each key."""

    source: Literal["traffic", "outcomes", "service"]
    begin: datetime
    findings: tuple[WindowFinding, ...]


def format_number(value: float, *, is_date: bool = False) -> str:
    """Format a value plainly, with four significant digits; seconds since 1970 as a date."""
    if is_date:
        with suppress(OverflowError, ValueError, OSError):  # what no calendar holds stays a number
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}"
    size = abs(value)
    if value and not _SMALLEST_PLAIN <= size < _LARGEST_PLAIN:
        return f"{value:.4g}"
    decimals = max(0, _DIGITS - 1 - math.floor(math.log10(size))) if value != int(value) else 0
    written = f"{value:,.{decimals}f}" if size >= _GROUPED else f"{value:.{decimals}f}"
    return written.rstrip("0").rstrip(".") if decimals else written


def format_range(low: float, high: float, *, is_date: bool = False) -> str:
    """Format a range, of which an end may be infinite."""
    first, last = (format_number(end, is_date=is_date) for end in (low, high))
    if low == high:
        return f"{first} only"
    return f"at most {last}" if math.isinf(low) else f"at least {first}" if math.isinf(high) else f"{first} to {last}"


def too_few(verdict: str, subject: str, rows: int, needed: int, what: str = "rows") -> WindowFinding:
    """Return the finding of a sample that is too small."""
    return WindowFinding(verdict, subject, "unknown", f"{rows:,} {what}; at least {needed:,} are needed", rows=rows)


def breach_or_ok(breach: bool) -> Status:  # the status of a comparison
    """Return the status of a comparison."""
    return "breach" if breach else "ok"
