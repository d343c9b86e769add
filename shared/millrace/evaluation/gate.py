"""The promotion gate: from evidence about a challenger to a decision and its reasons.

A challenger is **rejected** (nothing is registered) when it

* predicts a value that is not a number,
* misses a floor of the spec, on the whole holdout or on a declared slice,
* does not beat the trivial baseline on the holdout: the interval of its gain must lie above zero,
* is larger or slower than the spec allows,
* learns from features that give the target away, or is nearly perfect, where the spec refuses that (``gate.leakage``;
  by default the reasons carry a warning), or
* predicts differently as ONNX than as the estimator it was exported from.

Otherwise, where there is a champion, the test is one of non-inferiority: a paired bootstrap on the same holdout gives
the interval of the challenger's gain by the primary metric. When all of it lies below zero, the challenger is clearly
worse and is **kept** as a challenger. Otherwise it is **promoted**: a model refitted on newer data is as good as the
champion on most days, and waiting for proof of progress (``champion_rule: better``) leaves an ageing model in service.

A champion that cannot be measured on the holdout (it has other features or classes) is replaced only when its schema
was changed on purpose. Otherwise the challenger is kept until somebody has checked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from millrace.evaluation_results import ChampionComparison, Decision, GateCheck
from millrace.metrics.bootstrap import ConfidenceInterval
from millrace.metrics.catalogue import NEARLY_PERFECT, Metric, get_metric, nearly_perfect
from millrace.quantities import format_number
from millrace.schema import Task
from millrace.spec.training import GateSpec
from millrace.training.trial_record import ParityReport

_SHOWN_SUSPICIONS = 3


@dataclass(frozen=True, slots=True)
class SliceEvidence:
    """A declared slice; ``metrics`` is None with too few rows, ``floors`` are its own beside those of all slices."""

    name: str
    rows: int
    metrics: Mapping[str, float] | None
    floors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateEvidence:
    """Evidence about a challenger on the holdout; ``champion`` is None for a model's first version.

    ``latency`` is the 95th percentile in milliseconds, of a ``row`` and of a ``batch``; ``only_class`` the one class of
    all holdout rows, if there is only one; ``leaks`` are findings on features that give the target away, and
    ``decisive`` is the most important feature.
    """

    task: Task
    primary_metric: Metric
    metrics: Mapping[str, float]
    baseline_gain: ConfidenceInterval | None
    champion: ChampionComparison | None
    model_bytes: int
    parity: ParityReport
    slices: Sequence[SliceEvidence] = ()
    latency: Mapping[str, float] = field(default_factory=dict)
    non_finite_rows: int = 0
    only_class: str | None = None
    rows: int = 0
    leaks: Sequence[str] = ()
    decisive: str | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """The decision, its checks and its reasons."""

    decision: Decision
    checks: tuple[GateCheck, ...]
    reasons: tuple[str, ...]


def decide(evidence: GateEvidence, spec: GateSpec) -> GateResult:
    """Decide about a challenger by the rules of this module; raises ``InvalidInputError`` for a floor of no metric."""
    required = [
        _check_predictions(evidence),
        *(_check_floor(evidence, name, floor) for name, floor in spec.floors.items()),
        _check_baseline(evidence),
        *(check for part in evidence.slices for check in _check_slice(evidence, part, spec)),
        _check_size(evidence, spec.max_model_bytes),
        *_check_latency(evidence, spec),
        _check_parity(evidence),
        _check_leakage(evidence, spec),
    ]
    checks = list(required)
    decision: Decision = "promote" if all(check.passed for check in required) else "reject"
    if evidence.champion is not None:
        checks.append(_check_champion(evidence.champion, evidence.primary_metric, spec))
        if decision == "promote" and not checks[-1].passed:
            decision = "keep"
    reasons = tuple(check.explanation for check in checks if not check.passed)
    if not reasons:
        first = "this is the model's first version; it beats the trivial baseline and meets every floor"
        reasons = (first if evidence.champion is None else checks[-1].explanation,)
    warnings = (f"warning: {check.explanation}" for check in checks if check.warning)
    return GateResult(decision, tuple(checks), (*reasons, *warnings))


def _check_predictions(evidence: GateEvidence) -> GateCheck:
    rows = evidence.non_finite_rows
    explanation = "every prediction on the holdout is a number"
    if rows:
        explanation = f"the model's prediction is not a number for {rows:,} row{'s' if rows > 1 else ''} of the holdout"
    return GateCheck("answers", not rows, float(rows), 0.0, explanation)


def _check_floor(evidence: GateEvidence, name: str, floor: float) -> GateCheck:
    metric = get_metric(evidence.task, name, field=f"gate.floors.{name}")
    value = evidence.metrics.get(name)
    if value is None:
        return GateCheck(f"floor:{name}", False, None, floor, _undefined(evidence, name))
    passed = metric.gain(value, floor) >= 0
    return GateCheck(f"floor:{name}", passed, value, floor, f"{name} is {_against(metric, value, floor)}")


def _against(metric: Metric, value: float, floor: float) -> str:
    relation = "at least" if metric.greater_is_better else "at most"
    return f"{format_number(value)} and must be {relation} {format_number(floor)}"


def _undefined(evidence: GateEvidence, name: str) -> str:
    reason = f": all its rows have the class {evidence.only_class!r}" if evidence.only_class is not None else ""
    return f"{name} is not defined on the holdout{reason}"


def _check_baseline(evidence: GateEvidence) -> GateCheck:
    name, gain = evidence.primary_metric.name, evidence.baseline_gain
    if gain is None:
        explanation = f"the holdout is too small to compare {name} with the trivial baseline's"
        if name not in evidence.metrics:
            explanation = f"{_undefined(evidence, name)}, so the model does not beat the trivial baseline"
        return GateCheck("baseline", False, None, 0.0, explanation)
    passed = gain.low > 0
    verb = "beats" if passed else "does not clearly beat"
    explanation = f"the model {verb} the trivial baseline: its gain in {name} is {gain}"
    return GateCheck("baseline", passed, gain.low, 0.0, explanation)


def _check_slice(evidence: GateEvidence, part: SliceEvidence, spec: GateSpec) -> Iterator[GateCheck]:
    """Yield a check per floor; a slice's own floor takes precedence over that of all slices."""
    for name, floor in {**spec.slice_floors, **part.floors}.items():
        metric = get_metric(evidence.task, name, field=f"gate.slice_floors.{name}")
        passed, value = True, None
        if part.metrics is None:
            explanation = f"the slice {part.name!r} has {part.rows} rows on the holdout, too few to evaluate {name}"
        elif name not in part.metrics:
            explanation = (
                f"{name} is not defined on the slice {part.name!r} ({part.rows} rows), so its floor is skipped"
            )
        else:
            value = part.metrics[name]
            passed = metric.gain(value, floor) >= 0
            explanation = f"in the slice {part.name!r} ({part.rows} rows), {name} is {_against(metric, value, floor)}"
        yield GateCheck(f"slice:{name}:{part.name}", passed, value, floor, explanation)


def _check_size(evidence: GateEvidence, limit: int) -> GateCheck:
    size = evidence.model_bytes
    explanation = f"the ONNX file has {size:,} bytes; the limit is {limit:,}"
    return GateCheck("model_size", size <= limit, float(size), float(limit), explanation)


def _check_latency(evidence: GateEvidence, spec: GateSpec) -> Iterator[GateCheck]:
    limits = {"row": spec.max_row_milliseconds, "batch": spec.max_batch_milliseconds}
    labels = {"row": "one row", "batch": "a batch"}
    for kind, value in evidence.latency.items():
        limit = limits[kind]
        stated = "there is no limit" if limit is None else f"the limit is {limit:g} ms"
        explanation = f"scoring {labels[kind]} takes {format_number(value, 3)} ms at the 95th percentile; {stated}"
        yield GateCheck(f"latency:{kind}", limit is None or value <= limit, value, limit, explanation)


def _check_parity(evidence: GateEvidence) -> GateCheck:
    passed, difference = evidence.parity.passed, evidence.parity.max_probability_difference
    explanation = f"the ONNX model differs from its estimator{evidence.parity.describe(evidence.task)}"
    if passed:
        unit = "a share of a value's size" if evidence.task == "regression" else "in a probability"
        explanation = f"the ONNX model predicts as its estimator does (largest difference {difference:.2g}, {unit})"
    return GateCheck("parity", passed, difference, None, explanation)


def _check_leakage(evidence: GateEvidence, spec: GateSpec) -> GateCheck:
    metric = nearly_perfect(evidence.task, evidence.metrics, evidence.rows)
    value = evidence.metrics[metric.name] if metric else None
    suspicions = list(evidence.leaks)
    if metric and value is not None:
        perfect = f"the model is nearly perfect on the holdout ({metric.name} {format_number(value)})"
        question = "does a feature hold what is known only after the prediction?"
        suspicions.append(f"{perfect}: {question} {_leave_out(evidence.decisive)}")
    if not suspicions:
        explanation = "no feature is known to give the target away, and the holdout is not predicted nearly perfectly"
        return GateCheck("leakage", True, value, NEARLY_PERFECT, explanation)
    shown, more = "; ".join(suspicions[:_SHOWN_SUSPICIONS]), len(suspicions) - _SHOWN_SUSPICIONS
    explanation = shown + (f"; and {more} more" if more > 0 else "")
    if spec.leakage == "warn":
        return GateCheck("leakage", True, value, NEARLY_PERFECT, explanation, warning=True)
    return GateCheck("leakage", False, value, NEARLY_PERFECT, f"{explanation} (gate.leakage is refuse)")


def _leave_out(feature: str | None) -> str:
    """Return the line of a spec that leaves the most important feature out."""
    if feature is None:
        return "Give it the role ignored in the spec"
    quoted = json.dumps(feature, ensure_ascii=False)  # a name such as no, or with a colon, is YAML as well
    return f"Most important is {feature!r}; to leave it out, write columns: {{{quoted}: {{role: ignored}}}} in the spec"


def _check_champion(champion: ChampionComparison, metric: Metric, spec: GateSpec) -> GateCheck:
    gain, version = champion.gain, champion.version
    note = f" ({champion.note})" if champion.note else ""
    if gain is None:
        explanation = f"version {version} could not be compared on this holdout: {champion.not_compared}{note}"
        return GateCheck("champion", champion.schema_changed, None, 0.0, explanation)
    if spec.champion_rule == "better":
        passed, value = gain.low > 0, gain.low
        relation = "is clearly better" if passed else "is not clearly better"
    else:
        passed, value = gain.high >= 0, gain.high
        relation = "is not worse" if passed else "is clearly worse"
    explanation = f"the model {relation} than version {version}: its gain in {metric.name} is {gain}{note}"
    return GateCheck("champion", passed, value, 0.0, explanation)
