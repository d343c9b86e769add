"""The gate: whether a challenger may serve. Numbers in, a decision and its reasons out.

A challenger is **rejected** (nothing is registered) when it

* gives an answer that is not a number,
* misses one of the spec's floors, on the whole holdout or on a declared slice,
* does not beat the trivial baseline on the holdout: the interval of its gain must lie above zero,
* is larger, or slower, than the spec allows, or
* answers differently as ONNX than as the estimator it came from.

Otherwise, where there is a champion, the test is one of non-inferiority. Both are measured on the same holdout, and
a paired bootstrap gives the interval of the challenger's gain by the primary metric. When the whole interval lies
below zero the challenger is clearly worse: it is **kept** as a challenger. Otherwise it is **promoted**. Why not ask
that it be clearly better: a model refitted on newer data is as good as the champion on most days, and waiting for
proof of progress would leave a model that ages in service. Who wants that proof says ``champion_rule: better``. Why
not compare two bare numbers: on a holdout of a few hundred rows the sign of a small difference is chance.

A champion that cannot be measured on the holdout (it has other features or classes) is replaced only when the schema
was changed on purpose, that is, when the data was prepared under a later schema version than the champion's: the old
model cannot answer the new requests. Otherwise something is wrong with the champion, and the challenger is kept for
somebody to look at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from millrace.metrics.bootstrap import Interval
from millrace.metrics.catalogue import Metric, get_metric
from millrace.schema import Task
from millrace.spec import GateSpec

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


def decide(evidence: GateEvidence, spec: GateSpec) -> GateResult:
    """Judge a challenger by the rules in this module's docstring.

    Raises
    ------
    InvalidInputError
        When a floor names a metric that the task does not have.
    """
    required = [_check_answers(evidence)]
    required += [_check_floor(evidence, name, floor) for name, floor in spec.floors.items()]
    required += [_check_baseline(evidence)]
    for part in evidence.slices:
        required += _check_slice(evidence, part, spec)
    required += [_check_size(evidence, spec.max_model_bytes), *_check_latency(evidence, spec), _check_parity(evidence)]
    checks = list(required)
    decision: Decision = "promote" if all(check.passed for check in required) else "reject"
    if evidence.champion is not None:
        checks.append(_check_champion(evidence.champion, evidence.primary_metric, spec))
        if decision == "promote" and not checks[-1].passed:
            decision = "keep"
    failed = tuple(check.explanation for check in checks if not check.passed)
    return GateResult(decision, tuple(checks), failed or (_why_promoted(evidence, checks[-1]),))


def _check_answers(evidence: GateEvidence) -> GateCheck:
    rows = evidence.unanswered_rows
    explanation = "every answer on the holdout is a number"
    if rows:
        explanation = f"the model's answer is not a number for {rows:,} row{'s' if rows > 1 else ''} of the holdout"
    return GateCheck("answers", not rows, float(rows), 0.0, explanation)


def _check_floor(evidence: GateEvidence, name: str, floor: float) -> GateCheck:
    metric = get_metric(evidence.task, name, field=f"gate.floors.{name}")
    value = evidence.metrics.get(name)
    if value is None:
        return GateCheck(f"floor:{name}", False, None, floor, _undefined(evidence, name))
    passed = metric.gain(value, floor) >= 0
    return GateCheck(f"floor:{name}", passed, value, floor, f"{name} is {_against(metric, value, floor)}")


def _against(metric: Metric, value: float, floor: float) -> str:
    bound = "at least" if metric.greater_is_better else "at most"
    return f"{value:.4g} and must be {bound} {floor:.4g}"


def _undefined(evidence: GateEvidence, name: str) -> str:
    why = f": all its rows have the class {evidence.only_class!r}" if evidence.only_class is not None else ""
    return f"{name} is not defined on the holdout{why}"


def _check_baseline(evidence: GateEvidence) -> GateCheck:
    name, gain = evidence.primary_metric.name, evidence.baseline_gain
    if gain is None:
        explanation = f"the holdout is too small to compare {name} with the trivial baseline's"
        if name not in evidence.metrics:
            explanation = f"{_undefined(evidence, name)}, so the trivial baseline is not beaten"
        return GateCheck("baseline", False, None, 0.0, explanation)
    passed = gain.low > 0
    verb = "beats" if passed else "does not clearly beat"
    explanation = f"the model {verb} the trivial baseline: its gain in {name} is {gain.low:.4g} to {gain.high:.4g}"
    return GateCheck("baseline", passed, gain.low, 0.0, explanation)


def _check_slice(evidence: GateEvidence, part: SliceEvidence, spec: GateSpec) -> Iterator[GateCheck]:
    """Yield a check a floor; a slice's own floor comes before that of every slice."""
    for name, floor in {**spec.slice_floors, **part.floors}.items():
        metric = get_metric(evidence.task, name, field=f"gate.slice_floors.{name}")
        check = f"slice:{name}:{part.name}"
        if part.metrics is None:
            told = f"the slice {part.name!r} has {part.rows} rows on the holdout, too few to judge {name}"
            yield GateCheck(check, True, None, floor, told)
        elif name not in part.metrics:
            told = f"{name} is not defined in the slice {part.name!r} ({part.rows} rows), so it is not judged there"
            yield GateCheck(check, True, None, floor, told)
        else:
            value = part.metrics[name]
            told = f"in the slice {part.name!r} ({part.rows} rows), {name} is {_against(metric, value, floor)}"
            yield GateCheck(check, metric.gain(value, floor) >= 0, value, floor, told)


def _check_size(evidence: GateEvidence, limit: int) -> GateCheck:
    explanation = f"the ONNX file has {evidence.model_bytes} bytes and may have {limit}"
    return GateCheck(
        "model_size", evidence.model_bytes <= limit, float(evidence.model_bytes), float(limit), explanation
    )


def _check_latency(evidence: GateEvidence, spec: GateSpec) -> Iterator[GateCheck]:
    limits = {"row": spec.max_row_milliseconds, "batch": spec.max_batch_milliseconds}
    words = {"row": "one row", "batch": "a batch"}
    for kind, value in evidence.latency.items():
        limit = limits[kind]
        may = "there is no limit" if limit is None else f"may take {limit:g}"
        explanation = f"scoring {words[kind]} takes {value:.3g} ms at the 95th percentile, and {may}"
        yield GateCheck(f"latency:{kind}", limit is None or value <= limit, value, limit, explanation)


def _check_parity(evidence: GateEvidence) -> GateCheck:
    relation = "agrees with" if evidence.parity_passed else "differs from"
    explanation = f"the ONNX model {relation} its estimator (largest difference {evidence.parity_difference:.3g})"
    return GateCheck("parity", evidence.parity_passed, evidence.parity_difference, None, explanation)


def _check_champion(champion: ChampionComparison, metric: Metric, spec: GateSpec) -> GateCheck:
    gain, version = champion.gain, champion.version
    note = f" ({champion.note})" if champion.note else ""
    if gain is None:
        explanation = f"version {version} could not be compared on this holdout: {champion.obstacle}{note}"
        return GateCheck("champion", champion.schema_changed, None, 0.0, explanation)
    span = f"its gain in {metric.name} is {gain.low:.4g} to {gain.high:.4g}"
    if spec.champion_rule == "better":
        passed = gain.low > 0
        relation = "is clearly better" if passed else "is not clearly better"
        return GateCheck(
            "champion", passed, gain.low, 0.0, f"the model {relation} than version {version}: {span}{note}"
        )
    passed = gain.high >= 0
    relation = "is not worse" if passed else "is clearly worse"
    return GateCheck("champion", passed, gain.high, 0.0, f"the model {relation} than version {version}: {span}{note}")


def _why_promoted(evidence: GateEvidence, last: GateCheck) -> str:
    if evidence.champion is None:
        return "the model's first version: it beats the trivial baseline and meets every floor"
    return last.explanation
