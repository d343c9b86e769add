"""Judging a window: every verdict that rests on what was asked and answered, against what each is compared with."""

from collections.abc import Callable, Sequence
from typing import Literal

from millrace.histograms.dependence import DependenceSketch
from millrace.histograms.outcomes import ErrorSketch, OutcomeSketch, PredictionProfile
from millrace.histograms.predictions import AnswerSketch, Traffic, ValueSketch
from millrace.histograms.tables import ColumnSketch, Reference, TableSketch
from millrace.monitoring.baselines import Background, Subject
from millrace.monitoring.bias import find_bias, find_value_bias
from millrace.monitoring.data_quality import find_faults
from millrace.monitoring.drift import ColumnDrift, compare_column, find_broken_pairs, find_drift, find_prediction_drift
from millrace.monitoring.findings import Finding
from millrace.monitoring.performance import measure_outcomes
from millrace.monitoring.quality import (
    calibration_map,
    estimate_errors,
    estimate_quality,
    find_concept_drift,
    find_miscalibration,
    find_quality_drop,
)
from millrace.monitoring.seasons import excuse, excuse_as_before
from millrace.spec.monitoring import DriftWatch, MonitoringSpec

_FeatureVerdict = Literal["skew", "feature_drift", "feature_change"]
AnyAnswers = AnswerSketch | ColumnSketch
#: A false discovery rate that leaves the decision to the size of a change alone.
_ANY_CHANCE = 1.0
#: Verdicts that say whether the inputs are what they were.
INPUT_VERDICTS = frozenset({"skew", "feature_drift", "feature_change", "dependence", "data_quality"})


def judge_traffic(traffic: Traffic, subject: Subject, spec: MonitoringSpec, background: Background) -> list[Finding]:
    """Return what every verdict on inputs and answers has to say about a window."""
    rate = spec.false_discovery_rate
    reference = subject.reference
    findings: list[Finding] = []
    if spec.data_quality.enabled:
        findings += find_faults(reference.cells, reference.sketch, traffic.features, spec.data_quality, rate)
    findings += _judge_features(traffic, subject, spec, background)
    if spec.dependence.enabled:
        findings += _judge_dependence(traffic, subject.reference, spec, background)
    findings += _judge_answers(traffic, subject, spec, background)
    return findings


def _judge_features(traffic: Traffic, subject: Subject, spec: MonitoringSpec, background: Background) -> list[Finding]:
    findings: list[Finding] = []
    training = subject.reference.sketch
    compare = _Comparison(traffic, subject, spec, background)
    skew = compare.judge("skew", training, "in training")
    held = {f.subject for f in skew if f.status == "breach" and (background.first or f.subject in background.skewed)}
    if spec.skew.enabled:
        findings += [finding for finding in skew if finding.subject in held or background.first]
        if any(finding.status != "unknown" for finding in skew) and not background.first:
            rest = f"{len(skew) - len(held)} features were asked about as learnt from the first window on"
            findings.append(Finding("skew", "every other feature", "ok", rest, rows=traffic.features.rows))
    if spec.feature_drift.enabled and not background.first:
        drifts = compare.judge("feature_drift", training, "in training")
        findings += [finding for finding in drifts if finding.subject not in held]
    if spec.feature_change.enabled and background.previous is not None:
        findings += compare.judge("feature_change", background.previous.features, "in the window before")
    return findings


class _Comparison:
    """Compares one window's features with several baselines; what its season explains is no drift from any of them."""

    def __init__(self, traffic: Traffic, subject: Subject, spec: MonitoringSpec, background: Background) -> None:
        self._present, self._reference = traffic.features, subject.reference
        self._spec, self._background = spec, background
        self._baseline: TableSketch | None = None
        self._drifts: list[ColumnDrift] = []

    def judge(self, verdict: _FeatureVerdict, baseline: TableSketch, words: str) -> list[Finding]:
        watch: DriftWatch = getattr(self._spec, verdict)
        rate = self._spec.false_discovery_rate
        found = find_drift(verdict, self._compare(baseline), watch, rate=rate, baseline=words)
        return _excuse(
            found,
            self._background,
            self._spec,
            lambda like: self._by_size(verdict, watch, like.features, self._present),
            lambda whole: self._by_size(verdict, watch, self._reference.sketch, whole.features),
        )

    def _compare(self, baseline: TableSketch) -> list[ColumnDrift]:
        """Compare every feature; with the same baseline once, for several verdicts."""
        if self._baseline is not baseline:
            self._baseline = baseline
            self._drifts = self._distances(baseline, self._present)
        return self._drifts

    def _distances(self, baseline: TableSketch, present: TableSketch) -> list[ColumnDrift]:
        return [
            compare_column(name, cells, baseline.columns[name], present.columns[name])
            for name, cells in self._reference.cells.items()
        ]

    def _by_size(
        self, verdict: _FeatureVerdict, watch: DriftWatch, baseline: TableSketch, present: TableSketch
    ) -> list[Finding]:
        return find_drift(verdict, self._distances(baseline, present), watch, rate=_ANY_CHANCE, baseline="in season")


def _judge_dependence(
    traffic: Traffic, reference: Reference, spec: MonitoringSpec, background: Background
) -> list[Finding]:
    def judge(baseline: DependenceSketch, present: DependenceSketch, rate: float) -> list[Finding]:
        return find_broken_pairs(reference.plan, baseline, present, spec.dependence, rate)

    training, present = reference.sketch.dependence, traffic.features.dependence
    return _excuse(
        judge(training, present, spec.false_discovery_rate),
        background,
        spec,
        lambda like: judge(like.features.dependence, present, _ANY_CHANCE),
        lambda whole: judge(training, whole.features.dependence, _ANY_CHANCE),
    )


def _excuse(
    findings: list[Finding],
    background: Background,
    spec: MonitoringSpec,
    against_like: Callable[[Traffic], Sequence[Finding]],
    of_whole: Callable[[Traffic], Sequence[Finding]],
) -> list[Finding]:
    if spec.seasonality == "off":
        return findings
    found = excuse(findings, background.seasons, against_like, of_whole)
    if background.seasons or background.now is None:
        return found
    return excuse_as_before(found, background.usual, background.now)


def _judge_answers(traffic: Traffic, subject: Subject, spec: MonitoringSpec, background: Background) -> list[Finding]:
    findings: list[Finding] = []
    answers, profile = traffic.answers, subject.profile
    if answers is None:
        return findings
    baseline = profile.answers if profile else background.answers
    if spec.prediction_drift.enabled and baseline is not None:
        words = "on the holdout" if profile else "in the version's first window"

        def judge(before: AnyAnswers | None, now: AnyAnswers | None, rate: float) -> list[Finding]:
            return find_prediction_drift(
                before or answers,
                now or answers,
                spec.prediction_drift,
                rate=rate,
                classes=subject.classes,
                target=subject.reference.target,
                baseline=words,
            )

        findings += _excuse(
            judge(baseline, answers, spec.false_discovery_rate),
            background,
            spec,
            lambda like: judge(like.answers, answers, _ANY_CHANCE),
            lambda whole: judge(baseline, whole.answers, _ANY_CHANCE),
        )
    if profile is None:
        return findings
    if spec.estimated_quality.enabled:
        findings += _judge_estimate(answers, profile, subject, spec)
    if spec.bias.enabled:
        findings += _judge_bias(profile, answers, None, spec)
    return findings


def _judge_estimate(
    answers: AnyAnswers, profile: PredictionProfile, subject: Subject, spec: MonitoringSpec
) -> list[Finding]:
    sides = (profile.answers, answers)
    target, errors = subject.reference.target, profile.errors_by_value
    if isinstance(profile.outcomes, OutcomeSketch):
        calibrated = calibration_map(profile.outcomes)
        expected = [estimate_quality(side, calibrated) for side in sides if isinstance(side, AnswerSketch)]
    elif target is None or errors is None:
        reason = "not estimated: how large errors were at which predicted value was not kept of this version"
        return [Finding("estimated_quality", "quality", "unknown", reason)]
    else:
        expected = [estimate_errors(side, errors, target) for side in sides if isinstance(side, ColumnSketch)]
    if len(expected) != len(sides):
        return []
    before, now = expected
    finding = find_quality_drop(
        "estimated_quality",
        subject.task,
        before,
        now,
        spec.estimated_quality,
        rate=spec.false_discovery_rate,
        primary=subject.primary_metric,
    )
    return [finding]


def _judge_bias(
    profile: PredictionProfile,
    answers: AnyAnswers | None,
    outcomes: OutcomeSketch | ErrorSketch | None,
    spec: MonitoringSpec,
) -> list[Finding]:
    """Judge the gaps between groups, in shares of a classifier's answers or in a regression's means."""
    rate = spec.false_discovery_rate
    if isinstance(profile.answers, AnswerSketch) and isinstance(profile.outcomes, OutcomeSketch):
        given = answers if isinstance(answers, AnswerSketch) else None
        known = outcomes if isinstance(outcomes, OutcomeSketch) else None
        return find_bias((profile.answers, profile.outcomes), given, known, spec.bias, rate)
    if isinstance(profile.answers, ValueSketch) and isinstance(profile.outcomes, ErrorSketch):
        values = answers if isinstance(answers, ValueSketch) else None
        errors = outcomes if isinstance(outcomes, ErrorSketch) else None
        return find_value_bias((profile.answers, profile.outcomes), values, errors, spec.bias, rate)
    return []


def judge_outcomes(
    outcomes: OutcomeSketch | ErrorSketch,
    answers: int,
    subject: Subject,
    spec: MonitoringSpec,
    inputs: Sequence[Finding],
) -> list[Finding]:
    """Return what every verdict on outcomes has to say about the answers that have settled.

    Parameters
    ----------
    answers : int
        How many answers the outcomes are of.
    inputs : sequence of Finding
        Of the latest window of traffic.
    """
    profile = subject.profile
    if profile is None:
        reason = "how the version answered its holdout was not kept, so there is nothing to compare with"
        return [Finding("live_quality", "quality", "unknown", reason, rows=outcomes.rows)]
    before, now = measure_outcomes(profile.outcomes), measure_outcomes(outcomes)
    rate = spec.false_discovery_rate
    coverage = outcomes.rows / answers if answers else None
    findings: list[Finding] = []
    quality = find_quality_drop(
        "live_quality",
        subject.task,
        before,
        now,
        spec.live_quality,
        rate=rate,
        primary=subject.primary_metric,
        coverage=coverage,
    )
    if spec.live_quality.enabled:
        findings.append(quality)
    if spec.concept_drift.enabled:
        findings.append(_judge_concept(outcomes, subject, spec, inputs, coverage))
    if isinstance(outcomes, OutcomeSketch) and isinstance(profile.outcomes, OutcomeSketch) and spec.calibration.enabled:
        findings.append(find_miscalibration(profile.outcomes, outcomes, spec.calibration, rate))
    if spec.bias.enabled:
        findings += _judge_bias(profile, None, outcomes, spec)
    return findings


def _judge_concept(
    outcomes: OutcomeSketch | ErrorSketch,
    subject: Subject,
    spec: MonitoringSpec,
    inputs: Sequence[Finding],
    coverage: float | None,
) -> Finding:
    profile = subject.profile
    before = measure_outcomes(profile.outcomes) if profile else {}
    quality = find_quality_drop(
        "live_quality",
        subject.task,
        before,
        measure_outcomes(outcomes),
        spec.concept_drift,
        rate=spec.false_discovery_rate,
        primary=subject.primary_metric,
        coverage=coverage,
    )
    told = [finding.status for finding in inputs if finding.verdict in INPUT_VERDICTS]
    known = [status for status in told if status != "unknown"]
    return find_concept_drift(quality, inputs_hold="breach" not in known if known else None)
