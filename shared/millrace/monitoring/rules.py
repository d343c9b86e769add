"""Verdicts of monitoring: one record each, from which every list of verdicts is derived.

A new verdict is a record in :data:`VERDICTS` with its check, the field of its rule in
:class:`~millrace.spec.monitoring.MonitoringSpec`, and a row in ``docs/monitoring.md``. A check compares a closed window
of traffic or outcomes with the baselines of its verdict.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from millrace.histograms.bins import NumberBins
from millrace.histograms.outcomes import AnyOutcomes, OutcomeHistogram
from millrace.histograms.predictions import PredictionHistogram, Traffic
from millrace.monitoring.bias import find_group_gaps
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.coverage import evaluate_coverage
from millrace.monitoring.data_quality import find_faulty_data
from millrace.monitoring.days import compare_by_days, compare_correlations_by_days, compare_predictions_by_days
from millrace.monitoring.drift import (
    ColumnDrift,
    ColumnPair,
    compare_column,
    compare_time_of_year,
    find_changed_correlations,
    find_drift,
    prediction_columns,
)
from millrace.monitoring.estimates import (
    NO_REGRESSION_ESTIMATE,
    estimate_on_rows,
    unknown_estimate,
)
from millrace.monitoring.live_quality import QualityComparison
from millrace.monitoring.measured_windows import RecentOutcomes, measure_metrics
from millrace.monitoring.quality import PointEstimate, find_concept_drift, find_miscalibration
from millrace.monitoring.seasonality import (
    WEEK,
    DailyRanges,
    SeasonalComparisons,
    suppress_seasonal,
    suppress_within_range,
)
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import DriftRule, MonitoringSpec, QualityRule

EventType = Literal[
    "DriftDetected",
    "QualityDegraded",
    "DataQualityDegraded",
    "ModelStale",
    "ServingDegraded",
    "BudgetExceeded",
    "BudgetAtRisk",
]

#: Description of each event; :data:`millrace.causes.CAUSE_OF_EVENT` has the retraining cause of each.
EVENT_LABELS: Mapping[EventType, str] = {
    "DriftDetected": "requests or predictions have drifted",
    "QualityDegraded": "model quality has degraded",
    "DataQualityDegraded": "the data quality of requests has degraded",
    "ModelStale": "the model, its data or its traffic is stale",
    "ServingDegraded": "serving has degraded",
    "BudgetExceeded": "the month's budget is spent",
    "BudgetAtRisk": "the month's budget is nearly spent, or will be",
}
#: Events of changes that come and go with hours, weekdays and seasons.
SEASONAL_EVENTS: frozenset[EventType] = frozenset({"DriftDetected", "QualityDegraded"})
Findings = list[WindowFinding]
#: Compares earlier traffic with later traffic, with a share of the rule's threshold and at a false discovery rate.
_Comparison = Callable[[Traffic, Traffic, float, float], Findings]
#: A false discovery rate that leaves the decision to the size of a change alone.
_ANY_CHANCE = 1.0
#: Scope of daily ranges that all verdicts on features share.
_FEATURE_SCOPE = "feature"


@dataclass(frozen=True)
class TrafficWindow:
    """A closed window of traffic, and what it is compared with."""

    traffic: Traffic
    monitored: MonitoredVersion
    spec: MonitoringSpec
    baselines: Baselines
    _compared: dict[tuple[int, int, bool], tuple[list[ColumnDrift], Traffic, Traffic]] = field(
        default_factory=dict, init=False, repr=False
    )
    _of_year: dict[int, tuple[Findings, Traffic]] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def training(self) -> Traffic:
        """Features in training, and predictions on the holdout or else in the version's first window."""
        profile = self.monitored.profile
        predictions = profile.predictions if profile else self.baselines.predictions
        return Traffic(features=self.monitored.reference.training, predictions=predictions)

    @cached_property
    def skew(self) -> Findings:
        """Skew of every feature; seasons are searched for those alone that may still be skewed."""
        subjects = None if self.baselines.first else frozenset(self.baselines.skewed)
        return self._evaluate_features("skew", "in training", self.training, finds_by_day=True, subjects=subjects)

    @cached_property
    def skewed(self) -> set[str]:
        """Features that have differed from training in the version's first whole day (or window), and since."""
        breaches = {finding.subject for finding in self.skew if finding.status == "breach"}
        if not self.baselines.first:
            return breaches.intersection(self.baselines.skewed)
        day = self.baselines.seasonal.day.whole() if self.baselines.seasonal else None
        if day is None:
            return breaches
        rule, drifts = self.spec.skew, self._compare_features(self.training, day)
        of_day = find_drift("skew", drifts, rule, rate=self.spec.false_discovery_rate, baseline="in training")
        return breaches.intersection(finding.subject for finding in of_day if finding.status == "breach")

    @cached_property
    def drift(self) -> Findings:
        """Drift of every feature."""
        return self._evaluate_features("feature_drift", "in training", self.training, finds_by_day=True)

    @cached_property
    def change(self) -> Findings:
        """Change of every feature since the last quiet window."""
        previous = self.baselines.previous
        return self._evaluate_features("feature_change", "in the last quiet window", previous) if previous else []

    def evaluate(
        self,
        compare: _Comparison,
        baseline: Traffic,
        scope: str,
        *,
        daily_share: float | None = None,
        time_of_year: Callable[[Traffic], Findings | None] | None = None,
        by_days: Callable[[Traffic], Findings] | None = None,
        subjects: Collection[str] | None = None,
    ) -> Findings:
        """Compare the window with a baseline; suppress seasonal breaches, or at first those within the daily ranges.

        With ``daily_share`` whole days are compared with training too, at that share of the threshold. Where
        ``subjects`` are given, seasons are searched for their breaches alone.
        """
        rate, seasonal = self.spec.false_discovery_rate, self.baselines.seasonal
        found = compare(baseline, self.traffic, 1.0, rate)
        if self.spec.seasonality == "off":
            return found
        ranges = DailyRanges(self.baselines.daily_ranges, scope, self.baselines.now)
        if seasonal is None:
            return suppress_within_range(found, ranges)
        comparisons = SeasonalComparisons(
            # A few earlier days have too few rows for a test: then the size alone decides.
            like=lambda before, now: compare(before, now, 1.0, rate if seasonal.week.is_whole else _ANY_CHANCE),
            whole=lambda whole: compare(self.training, whole, 1.0, rate),
            daily=(lambda before, day: compare(before or self.training, day, daily_share, rate))
            if daily_share
            else None,
            time_of_year=time_of_year,
            by_days=by_days,
        )
        searched = [one for one in found if subjects is None or one.subject in subjects]
        evaluated = suppress_seasonal(searched, self.traffic, seasonal, comparisons, ranges)
        by_key = {one.key: one for one in evaluated}
        return [by_key.get(one.key, one) for one in found]

    def _evaluate_features(
        self,
        verdict: str,
        phrase: str,
        baseline: Traffic,
        *,
        finds_by_day: bool = False,
        subjects: Collection[str] | None = None,
    ) -> Findings:
        rule: DriftRule = getattr(self.spec, verdict)

        def compare(before: Traffic, now: Traffic, share: float, rate: float) -> Findings:
            own = rule if share == 1.0 else rule.model_copy(update={"threshold": rule.threshold * share})
            # Comparisons with traffic explain findings, and are not shown.
            is_shown = before is self.training or before is baseline or rule.measure != "psi"
            drifts = self._compare_features(before, now, is_shown=is_shown)
            return find_drift(verdict, drifts, own, rate=rate, baseline=phrase)

        def by_days(week: Traffic) -> Findings:
            rate, reference = self.spec.false_discovery_rate, self.monitored.reference
            return compare_by_days(reference, week.features, self.of_days, rule, rate)

        share = rule.daily_share if finds_by_day else None
        return self.evaluate(
            compare,
            baseline,
            _FEATURE_SCOPE,
            daily_share=share,
            time_of_year=self.time_of_year,
            by_days=by_days,
            subjects=subjects,
        )

    @property
    def of_days(self) -> Mapping[str, float]:
        """Subjects that are a matter of the day, with their shares."""
        return self.baselines.seasonal.of_days() if self.baselines.seasonal else {}

    @property
    def time_of_year(self) -> Callable[[Traffic], Findings] | None:
        """Comparison of a week's features with training's rows of the same time of the year, where it has a year."""
        reference, now = self.monitored.reference, self.baselines.now
        if reference.times_of_year is None or now is None:
            return None
        middle, rule, rate = now - WEEK / 2, self.spec.feature_drift, self.spec.false_discovery_rate

        def compare(week: Traffic) -> Findings:
            # Several verdicts ask about the same week, which is kept too, so that no other has its identity.
            if id(week) not in self._of_year:
                self._of_year[id(week)] = compare_time_of_year(reference, week.features, middle, rule, rate), week
            return self._of_year[id(week)][0]

        return compare

    @property
    def inputs_at_time_of_year(self) -> Callable[[Traffic], Findings | None] | None:
        """Comparison for what follows from the features: it is as at this time of the year where all of these are."""
        compare = self.time_of_year
        return compare and (lambda week: None if any(one.status == "breach" for one in compare(week)) else [])

    def _compare_features(self, before: Traffic, now: Traffic, *, is_shown: bool = True) -> list[ColumnDrift]:
        key = id(before), id(now), is_shown
        if key not in self._compared:
            drifts = [
                compare_column(
                    name,
                    bins,
                    before.features.columns[name],
                    now.features.columns[name],
                    by_index_alone=not is_shown,
                )
                for name, bins in self.monitored.reference.bins.items()
                if name not in self.going_on
            ]
            # The traffic is kept too, so that no other has its identity.
            self._compared[key] = (drifts, before, now)
        return self._compared[key][0]

    @cached_property
    def going_on(self) -> list[str]:
        """Dates, years and counters: they go on by themselves, so their distributions and ranges are not compared."""
        bins = self.monitored.reference.bins.items()
        return [name for name, own in bins if isinstance(own, NumberBins) and own.goes_on]


def _check_data_quality(window: TrafficWindow) -> Findings:
    reference, spec = window.monitored.reference, window.spec
    return find_faulty_data(
        reference.bins, reference.training, window.traffic.features, spec.data_quality, spec.false_discovery_rate
    )


def _check_skew(window: TrafficWindow) -> Findings:
    """Evaluate every feature in the version's first whole day, later those that have been skewed since."""
    seasonal = window.baselines.seasonal
    if seasonal is not None and window.spec.seasonality != "off" and not seasonal.day.is_whole:
        message = "skew is evaluated once a whole day was seen; until then a change is feature drift"
        return [WindowFinding("skew", "every feature", "unknown", message, rows=window.traffic.features.rows)]
    if window.baselines.first and seasonal is None:
        return window.skew
    found = [finding for finding in window.skew if finding.subject in window.skewed]
    if any(finding.status != "unknown" for finding in window.skew):
        message = f"{len(window.skew) - len(window.skewed)} features have been distributed as in training"
        found.append(WindowFinding("skew", "every other feature", "ok", message, rows=window.traffic.features.rows))
    return found


def _check_feature_drift(window: TrafficWindow) -> Findings:
    names = ", ".join(map(repr, window.going_on))
    message = (
        f"dates, years and counters go on: only missing values, and ranges that the spec states, are checked of {names}"
    )
    notes = [WindowFinding("feature_drift", "every date", "unknown", message)] if names else []
    if window.baselines.first and window.baselines.seasonal is None:
        return notes
    return [*(finding for finding in window.drift if finding.subject not in window.skewed), *notes]


def _check_dependence(window: TrafficWindow) -> Findings:
    reference, rule = window.monitored.reference, window.spec.dependence

    def compare(before: Traffic, now: Traffic, _share: float, rate: float) -> Findings:
        return find_changed_correlations(reference, before.features, now.features, rule, rate)

    def by_days(week: Traffic) -> Findings:
        return compare_correlations_by_days(
            reference, week.features, window.of_days, rule, window.spec.false_discovery_rate
        )

    at_time = window.inputs_at_time_of_year
    return window.evaluate(compare, window.training, "dependence", time_of_year=at_time, by_days=by_days)


def _check_predictions(window: TrafficWindow) -> Findings:
    monitored, present = window.monitored, window.traffic.predictions
    if present is None or window.training.predictions is None:
        return []
    phrase = "on the holdout" if monitored.profile else "in the version's first window"

    rule = window.spec.prediction_drift

    def columns(before: Traffic, now: Traffic) -> list[ColumnPair]:
        pair = (before.predictions or present, now.predictions or present)
        target, hides_values = monitored.reference.target, monitored.hides_values
        return prediction_columns(*pair, monitored.classes, target, hides_values=hides_values)

    def compare(before: Traffic, now: Traffic, share: float, rate: float) -> Findings:
        own = rule.model_copy(update={"threshold": rule.threshold * share})
        drifts = [column.compare() for column in columns(before, now)]
        return find_drift("prediction_drift", drifts, own, rate=rate, baseline=phrase)

    def by_days(week: Traffic) -> Findings:
        pairs, rate = columns(window.training, week), window.spec.false_discovery_rate
        return compare_predictions_by_days(pairs, window.of_days, rule, rate, phrase)

    return window.evaluate(
        compare,
        window.training,
        "prediction_drift",
        daily_share=rule.daily_share,
        time_of_year=window.inputs_at_time_of_year,
        by_days=by_days,
    )


def _check_estimated_quality(window: TrafficWindow) -> Findings:
    monitored, present, profile = window.monitored, window.traffic.predictions, window.monitored.profile
    if present is None or profile is None:
        return []
    if not isinstance(profile.predictions, PredictionHistogram) or not isinstance(profile.outcomes, OutcomeHistogram):
        return [unknown_estimate(NO_REGRESSION_ESTIMATE, withdrawn=True)]
    if not isinstance(present, PredictionHistogram):
        return []
    return [estimate_on_rows(monitored, present, window.traffic.features, window.going_on, window.spec)]


def _check_prediction_bias(window: TrafficWindow) -> Findings:
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
    recent: RecentOutcomes

    @cached_property
    def day(self) -> AnyOutcomes | None:
        """Outcomes of the day that ends with the window; None while no day is known."""
        return self.recent.sum_day(self.outcomes)

    @property
    def at_time(self) -> Mapping[str, PointEstimate]:
        """Metrics of the holdout's rows of this time of the year; empty where these are not known."""
        profile, end = self.monitored.profile, self.recent.window.end
        is_known = profile is not None and self.spec.seasonality != "off" and self.recent.is_dated
        near = profile.outcomes_near(end) if profile and is_known else None
        return measure_metrics(near) if near is not None and near.rows else {}

    def quality(self, rule: QualityRule) -> Findings:
        """Return the findings on live quality by a rule; verdicts with one rule share them."""
        return self._live_quality if rule == self.spec.live_quality else self._compare(rule)

    @cached_property
    def _live_quality(self) -> Findings:
        return self._compare(self.spec.live_quality)

    def _compare(self, rule: QualityRule) -> Findings:
        profile = self.monitored.profile
        if profile is None:
            message = "the predictions on the holdout were not kept, so there is nothing to compare with"
            return [WindowFinding("live_quality", "every metric", "unknown", message, rows=self.outcomes.rows)]
        comparison = QualityComparison(
            self.monitored.task,
            self.recent,
            measure_metrics(profile.outcomes),
            rule,
            self.spec.false_discovery_rate,
            primary=self.monitored.primary_metric,
            coverage=self.outcomes.rows / self.predictions if self.predictions else None,
            at_time=self.at_time,
            of_days=(profile.deviations_of_days or {}) if self.spec.seasonality != "off" else {},
        )
        return comparison.findings()


def _check_concept_drift(window: OutcomeWindow) -> Findings:
    if window.monitored.profile is None:
        return []
    return [find_concept_drift(window.quality(window.spec.concept_drift), inputs_hold=window.inputs_hold)]


def _check_calibration(window: OutcomeWindow) -> Findings:
    profile, spec = window.monitored.profile, window.spec
    before, own, now = profile.outcomes if profile else None, window.outcomes, window.day
    if not isinstance(before, OutcomeHistogram) or not isinstance(own, OutcomeHistogram):
        return []
    if not isinstance(now, OutcomeHistogram):
        message = "calibration is evaluated on whole days, and these are not a day yet"
        return [WindowFinding("calibration", "probabilities", "unknown", message, rows=window.outcomes.rows)]
    rule, rate, recent = spec.calibration, spec.false_discovery_rate, window.recent
    if recent.is_short and now is not own:
        found = find_miscalibration(before, now, rule, rate, phrase=" in the last day")
        if found.status == "breach":
            return [found]
    # Of more classes than days are summed of, each window stands for itself.
    hourly = recent.hourly_miscalibration if recent.is_short else 0.0
    return [find_miscalibration(before, own, rule, rate, hourly=hourly)]


def _check_coverage(window: OutcomeWindow) -> Findings:
    spec, calibration = window.spec, window.monitored.calibration
    return [evaluate_coverage(window.recent, calibration, spec.coverage, spec.false_discovery_rate)]


def _check_outcome_bias(window: OutcomeWindow) -> Findings:
    profile, spec = window.monitored.profile, window.spec
    return find_group_gaps(profile, None, window.day, spec.bias, spec.false_discovery_rate) if profile else []


@dataclass(frozen=True, slots=True)
class Verdict:
    """One verdict."""

    label: str  # on pages
    problem: str  # in the subjects of alerts
    #: Published when it raises an alarm; leads to a training run where the event has a retraining cause.
    event: EventType
    check_traffic: Callable[[TrafficWindow], Findings] | None = None  # of a closed window
    check_outcomes: Callable[[OutcomeWindow], Findings] | None = None  # of a closed window
    fills: bool = True  # True when a window stays open until it has ``min_rows`` of the verdict's rule
    is_input: bool = False  # True for verdicts on the distribution of inputs; concept drift needs inputs that hold
    silence_is_ok: bool = False  # True when a subject without a finding is ok
    charted: bool = False
    scope: str = ""  # Of daily ranges; by default the verdict's name
    needs_budget: bool = False  # True when it says nothing of a model without a budget
    of_jobs: bool = False  # True when captured batch jobs have it: skew is the drift of the first job


#: By name, which is that in the spec, the report and the API; in the order of importance.
VERDICTS: Mapping[str, Verdict] = {
    "data_quality": Verdict(
        "Data quality",
        "data quality",
        "DataQualityDegraded",
        _check_data_quality,
        is_input=True,
        silence_is_ok=True,
        of_jobs=True,
    ),
    "skew": Verdict(
        "Training/serving skew",
        "training/serving skew",
        "DriftDetected",
        _check_skew,
        is_input=True,
        silence_is_ok=True,
        charted=True,
        scope=_FEATURE_SCOPE,
    ),
    "feature_drift": Verdict(
        "Feature drift",
        "feature drift",
        "DriftDetected",
        _check_feature_drift,
        is_input=True,
        silence_is_ok=True,
        charted=True,
        scope=_FEATURE_SCOPE,
        of_jobs=True,
    ),
    "feature_change": Verdict(
        "Change since the previous window",
        "sudden feature change",
        "DriftDetected",
        lambda window: window.change,
        is_input=True,
        silence_is_ok=True,
        scope=_FEATURE_SCOPE,
        of_jobs=True,
    ),
    "dependence": Verdict(
        "Dependence between features",
        "changed correlation of features",
        "DriftDetected",
        _check_dependence,
        is_input=True,
        silence_is_ok=True,
        of_jobs=True,
    ),
    "prediction_drift": Verdict(
        "Prediction drift", "prediction drift", "DriftDetected", _check_predictions, charted=True, of_jobs=True
    ),
    "calibration": Verdict(
        "Calibration", "miscalibrated probabilities", "QualityDegraded", check_outcomes=_check_calibration
    ),
    "coverage": Verdict(
        "Coverage of intervals", "intervals that hold too little", "QualityDegraded", check_outcomes=_check_coverage
    ),
    "live_quality": Verdict(
        "Live quality",
        "model quality",
        "QualityDegraded",
        check_outcomes=lambda window: window.quality(window.spec.live_quality),
        silence_is_ok=True,
    ),
    "estimated_quality": Verdict(
        "Estimated quality",
        "estimated model quality",
        "QualityDegraded",
        _check_estimated_quality,
        fills=False,
        of_jobs=True,
    ),
    "concept_drift": Verdict("Concept drift", "concept drift", "QualityDegraded", check_outcomes=_check_concept_drift),
    "bias": Verdict(
        "Bias", "bias between groups", "QualityDegraded", _check_prediction_bias, _check_outcome_bias, fills=False
    ),
    "staleness": Verdict("Staleness", "stale model, data or traffic", "ModelStale"),
    "serving_health": Verdict("Serving health", "serving health", "ServingDegraded"),
    "budget": Verdict("Budget", "budget spent", "BudgetExceeded", needs_budget=True),
    "budget_warning": Verdict("Budget warning", "budget nearly spent", "BudgetAtRisk", needs_budget=True),
}
VERDICT_NAMES = tuple(VERDICTS)
BUDGET_EVENTS = frozenset(verdict.event for verdict in VERDICTS.values() if verdict.needs_budget)


def evaluate_traffic(
    traffic: Traffic, monitored: MonitoredVersion, spec: MonitoringSpec, baselines: Baselines
) -> Findings:
    """Evaluate every enabled verdict on a closed window of traffic."""
    window = TrafficWindow(traffic, monitored, spec, baselines)
    checks = [verdict.check_traffic for name, verdict in VERDICTS.items() if getattr(spec, name).enabled]
    return [finding for check in checks if check for finding in check(window)]


def evaluate_outcomes(
    outcomes: AnyOutcomes,
    predictions: int,
    monitored: MonitoredVersion,
    spec: MonitoringSpec,
    inputs: Sequence[WindowFinding],
    *,
    recent: RecentOutcomes | None = None,
) -> Findings:
    """Evaluate every enabled verdict on a closed window of outcomes.

    ``predictions`` is their number, with or without an outcome; ``inputs`` are findings of the latest traffic.
    Without ``recent`` the window counts as one of a whole day.
    """
    known = [finding.status for finding in input_findings(inputs) if finding.status != "unknown"]
    recent = recent or RecentOutcomes.of_a_day(outcomes, monitored.profile, monitored.reference.target)
    window = OutcomeWindow(outcomes, predictions, monitored, spec, "breach" not in known if known else None, recent)
    checks = [verdict.check_outcomes for name, verdict in VERDICTS.items() if getattr(spec, name).enabled]
    return [finding for check in checks if check for finding in check(window)]


def input_findings(findings: Sequence[WindowFinding]) -> tuple[WindowFinding, ...]:
    """Return the findings on the distribution of inputs."""
    return tuple(finding for finding in findings if VERDICTS[finding.verdict].is_input)


def rows_needed(spec: MonitoringSpec, window: Literal["traffic", "outcomes"] = "traffic") -> int:
    """Return the number of rows that closes a window: the largest minimum of its enabled verdicts."""
    rules = [
        getattr(spec, name)
        for name, verdict in VERDICTS.items()
        if verdict.fills and (verdict.check_traffic if window == "traffic" else verdict.check_outcomes)
    ]
    return max((rule.min_rows for rule in rules if rule.enabled), default=1)


def range_scope(finding: WindowFinding) -> str:
    """Return the scope of a finding's daily range: all verdicts on the distribution of a feature share one."""
    return VERDICTS[finding.verdict].scope or finding.verdict
