"""What an upload is compared with: the model's earlier datasets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class History:
    """The earlier datasets of a model, and the time.

    Parameters
    ----------
    rows : sequence of int, default=()
        How many rows each of them has.
    profile : mapping, default={}
        The newest one's, as :func:`millrace.data.profiling.profile_table` made it.
    now : datetime or None, default=None
        In UTC; without it nothing is said about freshness.
    captured : mapping, default={}
        Profile of the rows that the model was asked about last; empty where it was not looked for, or there are none.
    """

    rows: Sequence[int] = ()
    profile: Mapping[str, Any] = field(default_factory=dict)
    now: datetime | None = None
    captured: Mapping[str, Any] = field(default_factory=dict)


NO_HISTORY = History()
