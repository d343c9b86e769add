"""Findings: what one verdict says about one subject in one window."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self, get_args

VerdictName = Literal[
    "data_quality",
    "skew",
    "feature_drift",
    "feature_change",
    "dependence",
    "prediction_drift",
    "calibration",
    "live_quality",
    "estimated_quality",
    "concept_drift",
    "bias",
    "staleness",
    "serving_health",
]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)
Status = Literal["ok", "breach", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one verdict says about one subject in one window.

    Parameters
    ----------
    verdict : VerdictName
        Which verdict.
    subject : str
        A column, a pair of columns, a metric, a group; stable over time, for persistence goes by it.
    status : {'ok', 'breach', 'unknown'}
        Past the threshold or not; unknown when too little is there to tell, which is no all-clear.
    message : str
        In words: what changed, by how much, or why nothing can be said.
    measure : str, default=""
        What ``value`` is: ``psi``, ``share``, ``accuracy`` ...
    value, threshold : float or None, default=None
        What was measured, and from where on it matters.
    rows : int, default=0
        How many rows or outcomes it rests on.
    p_value : float or None, default=None
        How likely chance alone gives as much, where a test says so.
    details : mapping, default={}
        Other numbers for the report: before and now, all distances, intervals.
    """

    verdict: VerdictName
    subject: str
    status: Status
    message: str
    measure: str = ""
    value: float | None = None
    threshold: float | None = None
    rows: int = 0
    p_value: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What persistence goes by."""
        return f"{self.verdict}:{self.subject}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(**document)


def too_few(verdict: VerdictName, subject: str, rows: int, needed: int, what: str = "rows") -> Finding:
    """Return the finding that there is too little to tell."""
    message = f"{rows:,} {what}, and {needed:,} are needed to say anything"
    return Finding(verdict, subject, "unknown", message, rows=rows)
