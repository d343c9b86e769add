"""Checks of a closed window: each compares traffic or outcomes with the baselines of one verdict."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from millrace.histograms.outcomes import AnyOutcomes, OutcomeHistogram
from millrace.histograms.predictions import PredictionHistogram, Traffic, ValueHistogram
from millrace.monitoring.bias import find_group_gaps
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.data_quality import find_faulty_data
from millrace.monitoring.drift import (
    ColumnDrift,
    compare_column,
    find_changed_correlations,
    find_drift,
    prediction_columns,
)
from millrace.monitoring.performance import measure_outcomes
from millrace.monitoring.quality import (
    calibration_map,
    estimate_errors,
    estimate_quality,
    find_concept_drift,
    find_miscalibration,
    find_quality_drop,
)
from millrace.monitoring.seasonality import suppress_seasonal, suppress_within_range
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MonitoringSpec

Findings = list[WindowFinding]
#: Compares earlier traffic with later traffic, at a false discovery rate.
Comparison = Callable[[Traffic, Traffic, float], Findings]
#: A false discovery rate that leaves the decision to the size of a change alone.
_ANY_CHANCE = 1.0
#: Scope of daily ranges that all verdicts on features share.
FEATURE_SCOPE = "feature"


@dataclass(frozen=True)
class TrafficWindow:
    """A closed window of traffic, and what it is compared with."""

    traffic: Traffic
    monitored: MonitoredVersion
    spec: MonitoringSpec
    baselines: Baselines

    @cached_property
    def training(self) -> Traffic:
        """Features in training, and predictions on the holdout or else in the version's first window."""
        profile = self.monitored.profile
        predictions = profile.predictions if profile else self.baselines.predictions
        return Traffic(features=self.monitored.reference.training, predictions=predictions)

    @cached_property
    def skew(self) -> Findings:
        """Skew of every feature."""
        return self.evaluate(self.feature_comparison("skew", "in training"), self.training, FEATURE_SCOPE)

    @cached_property
    def skewed(self) -> set[str]:
        """Features that have been skewed from the version's first window on."""
        breaches = {finding.subject for finding in self.skew if finding.status == "breach"}
        return breaches if self.baselines.first else breaches.intersection(self.baselines.skewed)

    def evaluate(self, compare: Comparison, baseline: Traffic, scope: str) -> Findings:
        """Compare the window with a baseline; suppress seasonal breaches, or at first those within the daily ranges."""
        found, now = compare(baseline, self.traffic, self.spec.false_discovery_rate), self.baselines.now
        if self.spec.seasonality == "off":
            return found
        if self.baselines.seasonal is not None:
            return suppress_seasonal(
                found,
                self.baselines.seasonal,
                lambda like: compare(like, self.traffic, _ANY_CHANCE),
                lambda whole: compare(self.training, whole, _ANY_CHANCE),
            )
        return found if now is None else suppress_within_range(found, self.baselines.daily_ranges, scope, now)

    def feature_comparison(self, verdict: str, phrase: str) -> Comparison:
        """Return the comparison of every feature by the rule of a verdict."""

        def compare(before: Traffic, now: Traffic, rate: float) -> Findings:
            is_latest = before is self.training and now is self.traffic
            drifts = self._training_drifts if is_latest else self._compare_features(before, now)
            return find_drift(verdict, drifts, getattr(self.spec, verdict), rate=rate, baseline=phrase)

        return compare

    @cached_property
    def _training_drifts(self) -> list[ColumnDrift]:
        return self._compare_features(self.training, self.traffic)

    def _compare_features(self, before: Traffic, now: Traffic) -> list[ColumnDrift]:
        return [
            compare_column(name, bins, before.features.columns[name], now.features.columns[name])
            for name, bins in self.monitored.reference.bins.items()
        ]


def check_data_quality(window: TrafficWindow) -> Findings:
    """Evaluate ``data_quality``."""
    reference, spec = window.monitored.reference, window.spec
    return find_faulty_data(
        reference.bins, reference.training, window.traffic.features, spec.data_quality, spec.false_discovery_rate
    )


def check_skew(window: TrafficWindow) -> Findings:
    """Evaluate ``skew``: every feature in the version's first window, later those that have been skewed since."""
    if window.baselines.first:
        return window.skew
    found = [finding for finding in window.skew if finding.subject in window.skewed]
    if any(finding.status != "unknown" for finding in window.skew):
        message = f"{len(window.skew) - len(window.skewed)} features have been distributed as in training"
        rows = window.traffic.features.rows
        found.append(WindowFinding("skew", "every other feature", "ok", message, rows=rows))
    return found


def check_feature_drift(window: TrafficWindow) -> Findings:
    """Evaluate ``feature_drift`` of the features that are not skewed."""
    if window.baselines.first:
        return []
    compare = window.feature_comparison("feature_drift", "in training")
    found = window.evaluate(compare, window.training, FEATURE_SCOPE)
    return [finding for finding in found if finding.subject not in window.skewed]


def check_feature_change(window: TrafficWindow) -> Findings:
    """Evaluate ``feature_change`` against the last quiet window."""
    previous = window.baselines.previous
    if previous is None:
        return []
    compare = window.feature_comparison("feature_change", "in the last quiet window")
    return window.evaluate(compare, previous, FEATURE_SCOPE)


def check_dependence(window: TrafficWindow) -> Findings:
    """Evaluate ``dependence``."""
    plan, rule = window.monitored.reference.plan, window.spec.dependence

    def compare(before: Traffic, now: Traffic, rate: float) -> Findings:
        return find_changed_correlations(plan, before.features.correlations, now.features.correlations, rule, rate)

    return window.evaluate(compare, window.training, "dependence")


def check_predictions(window: TrafficWindow) -> Findings:
    """Evaluate ``prediction_drift`` against the holdout, or else the version's first window."""
    monitored, present = window.monitored, window.traffic.predictions
    if present is None or window.training.predictions is None:
        return []
    phrase = "on the holdout" if monitored.profile else "in the version's first window"

    def compare(before: Traffic, now: Traffic, rate: float) -> Findings:
        pair = (before.predictions or present, now.predictions or present)
        columns = prediction_columns(*pair, monitored.classes, monitored.reference.target)
        drifts = [column.compare() for column in columns]
        return find_drift("prediction_drift", drifts, window.spec.prediction_drift, rate=rate, baseline=phrase)

    return window.evaluate(compare, window.training, "prediction_drift")


def check_estimated_quality(window: TrafficWindow) -> Findings:
    """Evaluate ``estimated_quality``."""
    monitored, present = window.monitored, window.traffic.predictions
    profile, target = monitored.profile, monitored.reference.target
    if present is None or profile is None:
        return []
    before = profile.predictions
    if isinstance(before, PredictionHistogram):
        if not isinstance(present, PredictionHistogram) or not isinstance(profile.outcomes, OutcomeHistogram):
            return []
        calibrated = calibration_map(profile.outcomes)
        expected = [estimate_quality(one, calibrated) for one in (before, present)]
    elif target is None or profile.errors_by_value is None:
        message = "no estimate: the errors on the holdout by predicted value were not kept for this version"
        return [WindowFinding("estimated_quality", "quality", "unknown", message)]
    else:
        values = [one for one in (before, present) if isinstance(one, ValueHistogram)]
        expected = [estimate_errors(one, profile.errors_by_value, target) for one in values]
    finding = find_quality_drop(
        "estimated_quality",
        monitored.task,
        expected[0],
        expected[-1],
        window.spec.estimated_quality,
        rate=window.spec.false_discovery_rate,
        primary=monitored.primary_metric,
    )
    return [finding]


def check_prediction_bias(window: TrafficWindow) -> Findings:
    """Evaluate the gaps of ``bias`` that need no outcomes."""
    profile, spec = window.monitored.profile, window.spec
    if window.traffic.predictions is None or profile is None:
        return []
    return find_group_gaps(profile, window.traffic.predictions, None, spec.bias, spec.false_discovery_rate)


@dataclass(frozen=True)
class OutcomeWindow:
    """A closed window of outcomes, and what it is compared with."""

    outcomes: AnyOutcomes
    predictions: int  # Number of predictions, with or without an outcome
    monitored: MonitoredVersion
    spec: MonitoringSpec
    #: False when an input verdict of the latest window of traffic is in breach; None when none of them is known.
    inputs_hold: bool | None

    def quality(self, verdict: str) -> WindowFinding:
        """Return the finding on live quality by the rule of a verdict."""
        profile = self.monitored.profile
        if profile is None:
            message = "the predictions on the holdout were not kept, so there is nothing to compare with"
            return WindowFinding("live_quality", "quality", "unknown", message, rows=self.outcomes.rows)
        return find_quality_drop(
            "live_quality",
            self.monitored.task,
            measure_outcomes(profile.outcomes),
            measure_outcomes(self.outcomes),
            getattr(self.spec, verdict),
            rate=self.spec.false_discovery_rate,
            primary=self.monitored.primary_metric,
            coverage=self.outcomes.rows / self.predictions if self.predictions else None,
        )


def check_live_quality(window: OutcomeWindow) -> Findings:
    """Evaluate ``live_quality``."""
    return [window.quality("live_quality")]


def check_concept_drift(window: OutcomeWindow) -> Findings:
    """Evaluate ``concept_drift``."""
    if window.monitored.profile is None:
        return []
    return [find_concept_drift(window.quality("concept_drift"), inputs_hold=window.inputs_hold)]


def check_calibration(window: OutcomeWindow) -> Findings:
    """Evaluate ``calibration`` of a classifier."""
    profile, spec = window.monitored.profile, window.spec
    if profile is None or not isinstance(window.outcomes, OutcomeHistogram):
        return []
    if not isinstance(profile.outcomes, OutcomeHistogram):
        return []
    return [find_miscalibration(profile.outcomes, window.outcomes, spec.calibration, spec.false_discovery_rate)]


def check_outcome_bias(window: OutcomeWindow) -> Findings:
    """Evaluate the gaps of ``bias`` that need outcomes."""
    profile, spec = window.monitored.profile, window.spec
    return find_group_gaps(profile, None, window.outcomes, spec.bias, spec.false_discovery_rate) if profile else []
