"""How requests were served, as far as anybody counted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ServingCounts:
    """How a window's requests were served.

    Parameters
    ----------
    requests : int
        All of them.
    errors, cold_starts : int or None, default=None
        That ended in an error of ours (5xx), whichever version it was, or waited for a new execution environment; None
        where nobody counts them by model.
    rows, refused_rows : int, default=0
        That were asked about, and those of them that were refused for what was in them.
    latency_ms : float or None, default=None
        That nineteen of twenty were served within.
    """

    requests: int
    errors: int | None = None
    cold_starts: int | None = None
    rows: int = 0
    refused_rows: int = 0
    latency_ms: float | None = None


class ServingMetrics(Protocol):
    """Knows how requests were served."""

    def read(self, model: str, version: int, start: datetime, end: datetime) -> ServingCounts | None:
        """Return how a version's requests were served in a span of time; None when nothing was counted."""
        ...
