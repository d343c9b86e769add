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
    errors : int
        That ended in an error of ours (5xx).
    refused : int
        That were refused for what was in them (4xx).
    cold_starts : int
        That waited for a new execution environment.
    latency_ms : float or None
        That nineteen of twenty were served within; None when it is not known.
    """

    requests: int
    errors: int = 0
    refused: int = 0
    cold_starts: int = 0
    latency_ms: float | None = None


class ServingMetrics(Protocol):
    """Knows how requests were served."""

    def read(self, model: str, start: datetime, end: datetime) -> ServingCounts | None:
        """Return how a model's requests were served in a span of time; None when nothing was counted."""
        ...
