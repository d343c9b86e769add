"""What the gate judges, and what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from millrace.evaluation.intervals import Interval
from millrace.schema import Task
from millrace.training.metric_catalogue import Metric

Decision = Literal["promote", "keep", "reject"]


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One question the gate asked.

    Parameters
    ----------
    name : str
        ``answers``, ``floor:<metric>``, ``baseline``, ``slice:<metric>:<slice>``, ``model_size``,
        ``latency:<row or batch>``, ``parity`` or ``champion``.
    value, threshold : float or None
        What was measured, and what it had to reach; None where there is no number.
    explanation : str
        In a sentence.
    """

    name: str
    passed: bool
    value: float | None
    threshold: float | None
    explanation: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ChampionComparison:
    """How the challenger compares with the champion.

    Parameters
    ----------
    version : int
        Of the champion.
    gain : Interval or None
        Of the challenger over it, by the primary metric; None when it was not measured.
    obstacle : str, default=""
        Why it could not be measured.
    schema_changed : bool, default=False
        Whether the obstacle is a later schema version, adopted on purpose.
    note : str, default=""
        What else to know: rows that the champion may have learnt from.
    """

    version: int
    gain: Interval | None
    obstacle: str = ""
    schema_changed: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class SliceEvidence:
    """One declared slice.

    Parameters
    ----------
    name : str
        In words.
    rows : int
        Of the holdout.
    metrics : mapping of str to float, or None
        None where there are too few rows to judge.
    floors : mapping of str to float
        What it has to reach, beside the floors of every slice.
    """

    name: str
    rows: int
    metrics: Mapping[str, float] | None
    floors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """What the gate judges.

    Parameters
    ----------
    metrics : mapping of str to float
        Of the challenger on the holdout; those that are not defined there are missing.
    baseline_gain : Interval or None
        Over the trivial baseline, by the primary metric.
    champion : ChampionComparison or None
        None for a model's first version.
    model_bytes : int
        Size of the ONNX file.
    parity_difference : float
        Largest difference between ONNX and estimator.
    slices : sequence of SliceEvidence, default=()
        Those that were declared.
    latency : mapping of str to float, default={}
        95th percentile in milliseconds, of a ``row`` and of a ``batch``.
    unanswered_rows : int, default=0
        Holdout rows for which the model's answer is not a number.
    only_class : str or None, default=None
        The one class that all holdout rows have, where there is only one.
    """

    task: Task
    primary_metric: Metric
    metrics: Mapping[str, float]
    baseline_gain: Interval | None
    champion: ChampionComparison | None
    model_bytes: int
    parity_passed: bool
    parity_difference: float
    slices: Sequence[SliceEvidence] = ()
    latency: Mapping[str, float] = field(default_factory=dict)
    unanswered_rows: int = 0
    only_class: str | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """The decision, every check behind it, and the reasons in words."""

    decision: Decision
    checks: tuple[GateCheck, ...]
    reasons: tuple[str, ...]
