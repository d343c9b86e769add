"""Monitoring section of a model's spec: thresholds, minimum samples and persistence of each verdict."""

from typing import Literal, Self

from pydantic import Field, model_validator

from millrace.spec.data import MODERATE_SHIFT
from millrace.spec.part import ScheduleExpression, SpecPart, TimeZone

#: Longest window of traffic: a month.
MAX_WINDOW_HOURS = 24 * 31


class MonitorRule(SpecPart):
    """Rule of one verdict."""

    enabled: bool = True
    threshold: float = Field(gt=0.0)  # Least relevant size of a change, in the verdict's own unit
    #: Rows (outcomes, for verdicts on quality) below which the verdict is unknown.
    min_rows: int = Field(default=200, ge=1)
    breaches: int = Field(default=2, ge=1)  # windows past the threshold that raise an alarm
    windows: int = Field(default=3, ge=1, le=24)  # latest windows among which they are counted

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.breaches > self.windows:
            raise ValueError(f"{self.breaches} breaches cannot be among {self.windows} windows")
        return self


class DataQualityRule(MonitorRule):
    """Rule for missing values, values out of range and unseen categories."""

    threshold: float = Field(default=0.05, gt=0.0, le=1.0)  # Growth of the share of rows beyond training's


class DriftRule(MonitorRule):
    """Rule for changed distributions."""

    #: Unit of the threshold. Categories have no order: for them the last two are read as Cramér's V.
    measure: Literal["psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein"] = "psi"
    #: Beyond the distance that sampling alone is expected to give.
    threshold: float = Field(default=MODERATE_SHIFT, gt=0.0)
    #: Share of the threshold that a change of a whole day's rows must reach; 1 looks for no smaller change in them.
    daily_share: float = Field(default=0.1, gt=0.0, le=1.0)


class DependenceRule(MonitorRule):
    """Rule for changed correlations of features."""

    threshold: float = Field(default=0.2, gt=0.0, le=2.0)  # Change of a correlation


class CalibrationRule(MonitorRule):
    """Rule for probabilities that differ from the observed frequencies."""

    #: Expected calibration error beyond what sampling alone gives and beyond that of the holdout.
    threshold: float = Field(default=0.05, gt=0.0, le=1.0)
    min_rows: int = Field(default=100, ge=1)


class CoverageRule(MonitorRule):
    """Rule for intervals and prediction sets that hold fewer outcomes than their level."""

    threshold: float = Field(default=0.05, gt=0.0, le=1.0)  # Share lost, beyond the deviation that chance explains
    min_rows: int = Field(default=100, ge=1)


class QualityRule(MonitorRule):
    """Rule for a metric that is worse than on the holdout."""

    metric: str | None = None  # None takes the spec's primary metric, or the first one that live rows can give
    threshold: float = Field(default=0.05, gt=0.0, le=1.0)  # Drop of a share or an area
    relative_threshold: float = Field(default=0.2, gt=0.0)  # Growth of a loss or an error, as a share of itself
    min_rows: int = Field(default=100, ge=1)
    #: Hours after which a prediction is evaluated without waiting for more outcomes; it is evaluated sooner once as
    #: many have arrived as usual.
    settle_hours: int = Field(default=24, ge=0, le=24 * 90)


class BiasRule(MonitorRule):
    """Rule for gaps between groups that are wider than on the holdout."""

    threshold: float = Field(default=0.1, gt=0.0, le=1.0)  # Growth of the gap between two groups' shares
    #: For regression, growth of the gap between two groups' means: of predicted values in deviations of the target,
    #: of errors in deviations of the errors on the holdout.
    threshold_in_deviations: float = Field(default=0.2, gt=0.0)
    min_rows: int = Field(default=100, ge=1)  # In each group


class StalenessRule(SpecPart):
    """Rule for the age of the model and its data, and for traffic that has stopped."""

    enabled: bool = True
    max_model_age_days: float | None = Field(default=180.0, gt=0.0)  # None sets no limit
    max_data_age_days: float | None = Field(default=180.0, gt=0.0)  # None sets no limit
    #: Hours without traffic, when at least twenty requests were due by the past week's rate; None sets no limit.
    silent_hours: float | None = Field(default=24.0, gt=0.0)


class BudgetRule(SpecPart):
    """Rule for the cost of the month, where the spec has a ``budget``."""

    enabled: bool = True
    threshold: float = Field(default=1.0, gt=0.0, le=10.0)  # Share of the budget


class BudgetWarningRule(BudgetRule):
    """Rule for a budget that is nearly spent, or will be at the month's rate."""

    threshold: float = Field(default=0.8, gt=0.0, le=10.0)


class ServingHealthRule(MonitorRule):
    """Rule for errors, latency, cold starts and refused rows."""

    threshold: float = Field(default=0.01, gt=0.0, le=1.0)  # Share of requests that may end in a server error
    min_rows: int = Field(default=100, ge=1)
    max_latency_ms: float | None = Field(default=1_000.0, gt=0.0)  # Limit of the 95th percentile; None sets no limit
    #: Share of requests that may wait for a new execution environment; None sets no limit.
    max_cold_start_share: float | None = Field(default=0.3, gt=0.0, le=1.0)
    #: Share of rows that may be refused as invalid; None sets no limit.
    max_refused_share: float | None = Field(default=0.2, gt=0.0, le=1.0)


class MonitoringSpec(SpecPart):
    """Monitoring of a model in production; :mod:`millrace.monitoring.rules` describes each verdict."""

    enabled: bool = True
    #: Expression of EventBridge Scheduler for this model alone; None uses the stack's schedule.
    schedule: ScheduleExpression | None = None
    time_zone: TimeZone = "UTC"  # of the schedule's cron or at expression
    #: A window closes with as many rows as the verdicts need, or after so many hours.
    max_window_hours: int = Field(default=24, ge=1, le=MAX_WINDOW_HOURS)
    #: Share of a window's breaches that may be due to chance, over all features together.
    false_discovery_rate: float = Field(default=0.001, gt=0.0, lt=0.5)
    #: ``auto`` suppresses changes that the same hours of earlier days, or weekdays, explain.
    seasonality: Literal["auto", "off"] = "auto"
    windows_to_resolve: int = Field(default=2, ge=1, le=24)  # quiet windows in a row that resolve an incident
    #: Hours after an incident's end in which it reopens without a new alert.
    cooldown_hours: float = Field(default=24.0, ge=0.0)
    data_quality: DataQualityRule = DataQualityRule()
    skew: DriftRule = DriftRule()
    feature_drift: DriftRule = DriftRule()
    feature_change: DriftRule = DriftRule(threshold=0.2)
    dependence: DependenceRule = DependenceRule()
    prediction_drift: DriftRule = DriftRule()
    calibration: CalibrationRule = CalibrationRule()
    coverage: CoverageRule = CoverageRule()
    live_quality: QualityRule = QualityRule()
    estimated_quality: QualityRule = QualityRule(min_rows=200)
    concept_drift: QualityRule = QualityRule()
    bias: BiasRule = BiasRule()
    staleness: StalenessRule = StalenessRule()
    serving_health: ServingHealthRule = ServingHealthRule()
    budget: BudgetRule = BudgetRule()
    budget_warning: BudgetWarningRule = BudgetWarningRule()
