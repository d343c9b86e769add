"""The promotion gate: from evidence about a challenger to a decision and its reasons.

A challenger is **rejected** (nothing is registered) when it

* predicts a value that is not a number,
* misses a floor of the spec, on the whole holdout or on a declared slice,
* does not beat the trivial baseline on the holdout: the interval of its gain must lie above zero,
* is larger or slower than the spec allows,
* learns from features that give the target away, or is nearly perfect, where the spec refuses that (``gate.leakage``;
  by default the reasons carry a warning), or
* predicts differently as ONNX than as the estimator it was exported from.

Otherwise, where there is a champion, a paired bootstrap on the same holdout gives the interval of the challenger's gain
by the primary metric. The challenger is **promoted** when

* it is clearly better: all of the interval lies above zero; or
* it is as good, and there is a reason to replace the champion, such as newer data, an incident or a request by hand.

It is as good when it is not clearly worse than the champion, and its gain over the *best champion so far* certainly
lies above minus the margin: a test of non-inferiority (Blackwelder, *"Proving the null hypothesis" in clinical
trials*, Controlled Clinical Trials 3, 1982) against one fixed model, so that many small losses do not add up to more
than the margin. Each challenger of a chain is one more chance to pass by luck, so each decision against one best
champion is stricter than the last: its chance of an error is ``chance / (n * (n + 1))``, whose sum over a chain of any
length is that of one interval's end.

Otherwise it is **kept** as a challenger; so is one that is as good without a reason, because a new version costs its
consumers something. With ``champion_rule: better`` only the first holds.

Without an interval of the gain nothing is known, and the champion stays.

A champion that cannot be measured on the holdout (it has other features or classes) is replaced only when its schema
was changed on purpose. Otherwise the challenger is kept until somebody has checked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from millrace.evaluation_results import BestComparison, ChampionComparison, Decision, GateCheck, HoldoutUse
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
    holdout_use: HoldoutUse | None = None


@dataclass(frozen=True, slots=True)
class GateResult:
    """The decision, its checks and its reasons.

    ``best_version`` is the best champion so far if this model is promoted; None for the model itself.
    """

    decision: Decision
    checks: tuple[GateCheck, ...]
    reasons: tuple[str, ...]
    best_version: int | None = None


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
        comparison = _compare(evidence.champion, evidence, spec)
        checks += comparison
        if decision == "promote" and not all(check.passed for check in comparison):
            decision = "keep"
    if decision == "reject":
        reasons = tuple(check.explanation for check in checks if not check.passed)
    elif evidence.champion is None:
        reasons = ("this is the model's first version; it beats the trivial baseline and meets every floor",)
    else:
        reasons = tuple(check.explanation for check in comparison if not check.warning)
    if evidence.holdout_use and evidence.holdout_use.decisions:
        checks.append(_count_decisions(evidence.holdout_use, evidence.rows))
        reasons = (*reasons, checks[-1].explanation)
    warnings = (f"warning: {check.explanation}" for check in checks if check.warning)
    best = _find_best(evidence.champion) if evidence.champion else None
    return GateResult(decision, tuple(checks), (*reasons, *warnings), best)


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


def _compare(champion: ChampionComparison, evidence: GateEvidence, spec: GateSpec) -> list[GateCheck]:
    """Return the checks of a challenger beside the champion; it replaces the champion when all of them pass."""
    gain, version, metric = champion.gain, champion.version, evidence.primary_metric
    note = f" ({champion.note})" if champion.note else ""
    if gain is None:
        explanation = f"version {version} could not be compared on this holdout: {champion.not_compared}{note}"
        return [GateCheck("champion", champion.schema_changed, None, 0.0, explanation)]
    stated = f"version {version}: its gain in {metric.name} is {gain}{note}"
    if gain.low > 0:
        checks = [GateCheck("champion", True, gain.low, 0.0, f"the model is clearly better than {stated}")]
        return [*checks, *_note_better_best(champion, metric)]
    if spec.champion_rule == "better":
        return [GateCheck("champion", False, gain.low, 0.0, f"the model is not clearly better than {stated}")]
    if gain.high < 0:
        return [GateCheck("champion", False, gain.high, 0.0, f"the model is clearly worse than {stated}")]
    checks = [
        GateCheck("champion", True, gain.high, 0.0, f"the model is neither clearly better nor worse than {stated}"),
        _check_margin(champion, metric, spec),
    ]
    return [*checks, _check_reason(champion, evidence, spec)] if checks[-1].passed else checks


def _find_best(champion: ChampionComparison) -> int | None:
    """Return the best champion so far once this model is registered; None for the model itself.

    Only a model that is clearly better than the best one takes its place: if one that is as good did, the margin would
    begin anew with each of them.
    """
    if champion.gain is None:
        return None
    best = champion.best if champion.best and champion.best.gain else None
    gain, version = (best.gain, best.version) if best else (champion.gain, champion.version)
    return None if gain is None or gain.low > 0 else version


def _note_better_best(champion: ChampionComparison, metric: Metric) -> Iterator[GateCheck]:
    """Yield a passed check with a warning where an earlier champion is clearly better than the model."""
    best = champion.best
    if best and best.gain and best.gain.high < 0:
        explanation = (
            f"version {best.version}, an earlier champion, is clearly better than the model on these rows (its gain in "
            f"{metric.name} is {best.gain}): a rollback --to {best.version} would be better still"
        )
        yield GateCheck("best_champion", True, best.gain.high, 0.0, explanation, warning=True)


def _check_margin(champion: ChampionComparison, metric: Metric, spec: GateSpec) -> GateCheck:
    """Check that the model loses no more than the margin against the best champion so far."""
    best, which, note = champion.best, "the champion", ""
    compared: ChampionComparison | BestComparison = champion
    if best and best.gain:
        compared, which = best, "the best champion so far"
    elif best:
        note = f" (version {best.version}, the best so far, could not be compared: {best.not_compared})"
    margin, share = spec.margin, ""
    if metric.change_is_relative:
        margin = spec.relative_margin * abs((compared.metrics or {}).get(metric.name, 0.0))
        share = f", {100 * spec.relative_margin:.3g} % of its value"
    number = max(1, champion.latest_version - compared.version + 1)
    least = _certain_gain(compared, spec.confidence, number)
    passed = least >= -margin
    verdict = "the model loses" if passed else "it is not certain that the model loses"
    explanation = (
        f"{verdict} no more than the margin ({format_number(margin)}{share}) against version {compared.version}, "
        f"{which}: its gain in {metric.name} on {champion.rows:,} rows is {compared.gain}, and at least "
        f"{format_number(least)} as decision {number} since that version{note}"
    )
    return GateCheck("best_champion", passed, least, -margin, explanation)


def _certain_gain(compared: ChampionComparison | BestComparison, confidence: float, number: int) -> float:
    """Return the gain that is certain in the ``number``-th decision against a version.

    An interval's lower end is as many standard errors below the measured gain as a quantile of the normal distribution;
    a smaller chance of an error needs a larger one.
    """
    gain = compared.gain
    assert gain is not None  # noqa: S101  # the caller compares
    measured = (gain.low + gain.high) / 2 if compared.measured_gain is None else compared.measured_gain
    missed = (1 - confidence) / 2
    of_decision, of_one = (NormalDist().inv_cdf(1 - chance) for chance in (missed / (number * (number + 1)), missed))
    return measured - (measured - gain.low) * of_decision / of_one


def _check_reason(champion: ChampionComparison, evidence: GateEvidence, spec: GateSpec) -> GateCheck:
    """Check that there is a reason to replace a champion with a model that is as good."""
    reasons = [*champion.reasons, *_missed_floors(champion, evidence, spec)]
    as_good = f"the model is as good as version {champion.version}"
    explanation = f"{as_good}, and may replace it because {'; and '.join(reasons)}"
    if not reasons:
        explanation = (
            f"{as_good}, which stays because nothing speaks for a change: no data that is {spec.refresh_days:g} days "
            "newer (gate.refresh_days), no incident, no changed schema and no request by hand"
        )
    return GateCheck("reason", bool(reasons), None, None, explanation)


def _missed_floors(champion: ChampionComparison, evidence: GateEvidence, spec: GateSpec) -> Iterator[str]:
    """Yield a reason for each floor that the champion misses; the model meets all of them."""
    for name, floor in spec.floors.items():
        value = (champion.metrics or {}).get(name)
        metric = get_metric(evidence.task, name, field=f"gate.floors.{name}")
        if value is not None and metric.gain(value, floor) < 0:
            yield f"version {champion.version}'s {name} is {_against(metric, value, floor)}"


def _count_decisions(use: HoldoutUse, rows: int) -> GateCheck:
    """Return how often rows of this holdout have decided before: each time makes its numbers a little too good."""
    times = "once" if use.decisions == 1 else f"{use.decisions:,} times"
    shared = "" if use.used_rows is None else f" ({use.used_rows:,} of its {rows:,} rows the last time)"
    explanation = f"this holdout has decided {times} before{shared}"
    return GateCheck("holdout", True, float(use.decisions), None, explanation)
