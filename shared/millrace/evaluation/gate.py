"""The gate: whether a challenger may serve. Numbers in, a decision and its reasons out.

A challenger is **rejected** (nothing is registered) when it

* misses one of the spec's floors,
* does not beat the trivial baseline on the holdout: the interval of its gain must lie above zero,
* is larger than the spec allows, or
* answers differently as ONNX than as the estimator it came from.

Otherwise, where there is a champion, the test is one of non-inferiority. Both are measured on the same holdout, and
a paired bootstrap gives the interval of the challenger's gain by the primary metric. When the whole interval lies
below zero the challenger is clearly worse: it is **kept** as a challenger. Otherwise it is **promoted**. Why not ask
that it be clearly better: a model refitted on newer data is as good as the champion on most days, and waiting for
proof of progress would leave a model that ages in service. Why not compare two bare numbers: on a holdout of a few
hundred rows the sign of a small difference is chance.

A champion that cannot be measured on the holdout (it has other features or classes) is replaced only when the schema
was changed on purpose, that is, when the data was prepared under a later schema version than the champion's: the old
model cannot answer the new requests. Otherwise something is wrong with the champion, and the challenger is kept for
somebody to look at.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from millrace.evaluation.intervals import Interval
from millrace.schema import Task
from millrace.spec import GateSpec
from millrace.training.metric_catalogue import Metric, get_metric

Decision = Literal["promote", "keep", "reject"]


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One question the gate asked.

    Parameters
    ----------
    name : str
        ``floor:<metric>``, ``baseline``, ``model_size``, ``parity`` or ``champion``.
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
    """

    version: int
    gain: Interval | None
    obstacle: str = ""
    schema_changed: bool = False


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
    """

    task: Task
    primary_metric: Metric
    metrics: Mapping[str, float]
    baseline_gain: Interval | None
    champion: ChampionComparison | None
    model_bytes: int
    parity_passed: bool
    parity_difference: float


@dataclass(frozen=True, slots=True)
class GateResult:
    """The decision, every check behind it, and the reasons in words."""

    decision: Decision
    checks: tuple[GateCheck, ...]
    reasons: tuple[str, ...]


def decide(evidence: GateEvidence, spec: GateSpec) -> GateResult:
    """Judge a challenger by the rules in this module's docstring.

    Raises
    ------
    InvalidInputError
        When a floor names a metric that the task does not have.
    """
    required = [_check_floor(evidence, name, floor) for name, floor in spec.floors.items()]
    required += [_check_baseline(evidence), _check_size(evidence, spec.max_model_bytes), _check_parity(evidence)]
    checks = list(required)
    decision: Decision = "promote" if all(check.passed for check in required) else "reject"
    if evidence.champion is not None:
        checks.append(_check_champion(evidence.champion, evidence.primary_metric))
        if decision == "promote" and not checks[-1].passed:
            decision = "keep"
    failed = tuple(check.explanation for check in checks if not check.passed)
    return GateResult(decision, tuple(checks), failed or (_why_promoted(evidence),))


def _check_floor(evidence: GateEvidence, name: str, floor: float) -> GateCheck:
    metric = get_metric(evidence.task, name, field=f"gate.floors.{name}")
    value = evidence.metrics.get(name)
    if value is None:
        return GateCheck(f"floor:{name}", False, None, floor, f"{name} is not defined on the holdout")
    passed = metric.gain(value, floor) >= 0
    bound = "at least" if metric.greater_is_better else "at most"
    return GateCheck(f"floor:{name}", passed, value, floor, f"{name} is {value:.4g} and must be {bound} {floor:.4g}")


def _check_baseline(evidence: GateEvidence) -> GateCheck:
    name, gain = evidence.primary_metric.name, evidence.baseline_gain
    if gain is None:
        explanation = f"the holdout is too small to compare {name} with the trivial baseline's"
        return GateCheck("baseline", False, None, 0.0, explanation)
    passed = gain.low > 0
    verb = "beats" if passed else "does not clearly beat"
    explanation = f"the model {verb} the trivial baseline: its gain in {name} is {gain.low:.4g} to {gain.high:.4g}"
    return GateCheck("baseline", passed, gain.low, 0.0, explanation)


def _check_size(evidence: GateEvidence, limit: int) -> GateCheck:
    explanation = f"the ONNX file has {evidence.model_bytes} bytes and may have {limit}"
    return GateCheck(
        "model_size", evidence.model_bytes <= limit, float(evidence.model_bytes), float(limit), explanation
    )


def _check_parity(evidence: GateEvidence) -> GateCheck:
    relation = "agrees with" if evidence.parity_passed else "differs from"
    explanation = f"the ONNX model {relation} its estimator (largest difference {evidence.parity_difference:.3g})"
    return GateCheck("parity", evidence.parity_passed, evidence.parity_difference, None, explanation)


def _check_champion(champion: ChampionComparison, metric: Metric) -> GateCheck:
    gain, version = champion.gain, champion.version
    if gain is None:
        explanation = f"version {version} could not be compared on this holdout: {champion.obstacle}"
        return GateCheck("champion", champion.schema_changed, None, 0.0, explanation)
    passed = gain.high >= 0
    relation = "is not worse" if passed else "is clearly worse"
    span = f"{gain.low:.4g} to {gain.high:.4g}"
    explanation = f"the model {relation} than version {version}: its gain in {metric.name} is {span}"
    return GateCheck("champion", passed, gain.high, 0.0, explanation)


def _why_promoted(evidence: GateEvidence) -> str:
    if evidence.champion is None:
        return "the model's first version: it beats the trivial baseline and meets every floor"
    return _check_champion(evidence.champion, evidence.primary_metric).explanation
