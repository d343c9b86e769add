"""Findings: the result of one verdict about one subject in one window."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

Status = Literal["ok", "breach", "unknown"]

#: Detail of a finding about more hours than its window has: how many.
HOURS = "hours"


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

    @property
    def may_be_seasonal(self) -> bool:
        """True for a breach that the season may explain, and of which the training data cannot say."""
        return bool(self.details.get("seasonal_reason"))

    def with_seasonal_reason(self, reason: str) -> "WindowFinding":
        """Return the finding with the statement, and the reason, that it may be the season."""
        details = {**self.details, "seasonal_reason": reason}
        return replace(self, message=f"{self.message}; it may be the season: {reason}", details=details)


@dataclass(frozen=True, slots=True)
class WindowEvaluation:
    """Findings of one closed window, or of the service since the last run; at most one of each key."""

    source: Literal["traffic", "outcomes", "service"]
    begin: datetime
    findings: tuple[WindowFinding, ...]


def too_few(verdict: str, subject: str, rows: int, needed: int, what: str = "rows") -> WindowFinding:
    """Return the finding of a sample that is too small."""
    return WindowFinding(verdict, subject, "unknown", f"{rows:,} {what}; at least {needed:,} are needed", rows=rows)


def breach_or_ok(breach: bool) -> Status:
    """Return the status of a comparison."""
    return "breach" if breach else "ok"
