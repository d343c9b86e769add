"""Verdicts of monitoring: one record each, from which every list of verdicts is derived.

A new verdict is a record in :data:`VERDICTS`, the field of its rule in
:class:`~millrace.spec.monitoring.MonitoringSpec`, and a row in ``docs/monitoring.md``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from millrace.histograms.outcomes import AnyOutcomes
from millrace.histograms.predictions import Traffic
from millrace.monitoring import window_checks as checks
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.window_checks import OutcomeWindow, TrafficWindow
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec

EventType = Literal["DriftDetected", "QualityDegraded", "DataQualityDegraded", "ModelStale", "ServingDegraded"]

#: Description of each event; :data:`millrace.causes.CAUSE_OF_EVENT` has the retraining cause of each.
EVENT_LABELS: Mapping[EventType, str] = {
    "DriftDetected": "requests or predictions have drifted",
    "QualityDegraded": "model quality has degraded",
    "DataQualityDegraded": "the data quality of requests has degraded",
    "ModelStale": "the model, its data or its traffic is stale",
    "ServingDegraded": "serving has degraded",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One verdict."""

    name: str  # in the spec, the report's JSON and the API
    label: str  # on pages
    problem: str  # in the subjects of alerts
    #: Published when it raises an alarm; leads to a training run where the event has a retraining cause.
    event: EventType
    check_traffic: Callable[[TrafficWindow], Sequence[WindowFinding]] | None = None  # of a closed window
    check_outcomes: Callable[[OutcomeWindow], Sequence[WindowFinding]] | None = None  # of a closed window
    #: Window that stays open until it has ``min_rows`` of the verdict's rule.
    fills: Literal["traffic", "outcomes"] | None = None
    is_input: bool = False  # True for verdicts on the distribution of inputs; concept drift needs inputs that hold
    lists_breaches_only: bool = False  # True when findings name breaches, and a subject without a finding is ok
    scope: str = ""  # Of daily ranges; by default the verdict's name
    charted: bool = False


_ALL = (
    Verdict(
        "data_quality",
        "Data quality",
        "data quality",
        "DataQualityDegraded",
        check_traffic=checks.check_data_quality,
        fills="traffic",
        is_input=True,
        lists_breaches_only=True,
    ),
    Verdict(
        "skew",
        "Training/serving skew",
        "training/serving skew",
        "DriftDetected",
        check_traffic=checks.check_skew,
        fills="traffic",
        is_input=True,
        lists_breaches_only=True,
        scope=checks.FEATURE_SCOPE,
        charted=True,
    ),
    Verdict(
        "feature_drift",
        "Feature drift",
        "feature drift",
        "DriftDetected",
        check_traffic=checks.check_feature_drift,
        fills="traffic",
        is_input=True,
        scope=checks.FEATURE_SCOPE,
        charted=True,
    ),
    Verdict(
        "feature_change",
        "Change since the previous window",
        "sudden feature change",
        "DriftDetected",
        check_traffic=checks.check_feature_change,
        fills="traffic",
        is_input=True,
        scope=checks.FEATURE_SCOPE,
    ),
    Verdict(
        "dependence",
        "Dependence between features",
        "changed correlation of features",
        "DriftDetected",
        check_traffic=checks.check_dependence,
        fills="traffic",
        is_input=True,
        lists_breaches_only=True,
    ),
    Verdict(
        "prediction_drift",
        "Prediction drift",
        "prediction drift",
        "DriftDetected",
        check_traffic=checks.check_predictions,
        fills="traffic",
        charted=True,
    ),
    Verdict(
        "calibration",
        "Calibration",
        "miscalibrated probabilities",
        "QualityDegraded",
        check_outcomes=checks.check_calibration,
        fills="outcomes",
    ),
    Verdict(
        "live_quality",
        "Live quality",
        "model quality",
        "QualityDegraded",
        check_outcomes=checks.check_live_quality,
        fills="outcomes",
    ),
    Verdict(
        "estimated_quality",
        "Estimated quality",
        "estimated model quality",
        "QualityDegraded",
        check_traffic=checks.check_estimated_quality,
    ),
    Verdict(
        "concept_drift",
        "Concept drift",
        "concept drift",
        "QualityDegraded",
        check_outcomes=checks.check_concept_drift,
        fills="outcomes",
    ),
    Verdict(
        "bias",
        "Bias",
        "bias between groups",
        "QualityDegraded",
        check_traffic=checks.check_prediction_bias,
        check_outcomes=checks.check_outcome_bias,
    ),
    Verdict("staleness", "Staleness", "stale model, data or traffic", "ModelStale"),
    Verdict("serving_health", "Serving health", "serving health", "ServingDegraded"),
)
#: By name, in the order of importance.
VERDICTS: Mapping[str, Verdict] = {verdict.name: verdict for verdict in _ALL}
VERDICT_NAMES = tuple(VERDICTS)


def evaluate_traffic(
    traffic: Traffic, monitored: MonitoredVersion, spec: MonitoringSpec, baselines: Baselines
) -> list[WindowFinding]:
    """Evaluate every verdict on a closed window of traffic."""
    window = TrafficWindow(traffic, monitored, spec, baselines)
    enabled = (verdict for verdict in _ALL if getattr(spec, verdict.name).enabled)
    return [finding for verdict in enabled if verdict.check_traffic for finding in verdict.check_traffic(window)]


def evaluate_outcomes(
    outcomes: AnyOutcomes,
    predictions: int,
    monitored: MonitoredVersion,
    spec: MonitoringSpec,
    inputs: Sequence[WindowFinding],
) -> list[WindowFinding]:
    """Evaluate every verdict on a closed window of outcomes.

    ``predictions`` is their number, with or without an outcome; ``inputs`` are findings of the latest traffic.
    """
    known = [finding.status for finding in input_findings(inputs) if finding.status != "unknown"]
    window = OutcomeWindow(outcomes, predictions, monitored, spec, "breach" not in known if known else None)
    enabled = (verdict for verdict in _ALL if getattr(spec, verdict.name).enabled)
    return [finding for verdict in enabled if verdict.check_outcomes for finding in verdict.check_outcomes(window)]


def input_findings(findings: Sequence[WindowFinding]) -> tuple[WindowFinding, ...]:
    """Return the findings on the distribution of inputs."""
    return tuple(finding for finding in findings if VERDICTS[finding.verdict].is_input)


def rows_needed(spec: MonitoringSpec, window: Literal["traffic", "outcomes"] = "traffic") -> int:
    """Return the number of rows that closes a window: the largest minimum of its enabled verdicts."""
    rules = [getattr(spec, verdict.name) for verdict in _ALL if verdict.fills == window]
    return max((rule.min_rows for rule in rules if rule.enabled), default=1)


def range_scope(finding: WindowFinding) -> str:
    """Return the scope of a finding's daily range: all verdicts on features share one."""
    return VERDICTS[finding.verdict].scope or finding.verdict
