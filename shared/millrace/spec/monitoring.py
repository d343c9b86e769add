"""What is watched of a model in production, and when somebody is told."""

from typing import Literal, Self

from pydantic import Field, model_validator

from millrace.spec.base import ScheduleExpression, SpecPart, TimeZone
from millrace.spec.data import MODERATE_SHIFT


class Watch(SpecPart):
    """One verdict: what it takes to say that something changed.

    Parameters
    ----------
    enabled : bool, default=True
        Whether it is watched at all.
    threshold : float
        Least size of a change that matters, in the verdict's own unit.
    min_rows : int
        Rows (outcomes, for verdicts on quality) below which nothing is said.
    breaches, windows : int, default=2 and 3
        Windows past the threshold, among how many, before somebody is told.
    """

    enabled: bool = True
    threshold: float = Field(gt=0.0)
    min_rows: int = Field(default=200, ge=1)
    breaches: int = Field(default=2, ge=1)
    windows: int = Field(default=3, ge=1, le=24)

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.breaches > self.windows:
            raise ValueError(f"{self.breaches} breaches cannot be among {self.windows} windows")
        return self


class DataQualityWatch(Watch):
    """Missing values, values out of range, unknown categories, refused requests.

    Parameters
    ----------
    threshold : float, default=0.05
        By how much the share of the rows may grow beyond training's.
    """

    threshold: float = Field(default=0.05, gt=0.0, le=1.0)


class DriftWatch(Watch):
    """Values distributed otherwise.

    Parameters
    ----------
    measure : {'psi', 'jensen_shannon', 'kolmogorov_smirnov', 'wasserstein'}, default='psi'
        What the threshold is in. Words have no order: for them the last two are read as Cramér's V.
    threshold : float, default=0.1
        Beyond what sampling alone is expected to give.
    """

    measure: Literal["psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein"] = "psi"
    threshold: float = Field(default=MODERATE_SHIFT, gt=0.0)


class DependenceWatch(Watch):
    """Features that no longer go together as they did.

    Parameters
    ----------
    threshold : float, default=0.2
        Change of a correlation.
    """

    threshold: float = Field(default=0.2, gt=0.0, le=2.0)


class CalibrationWatch(Watch):
    """Probabilities that are not the frequencies.

    Parameters
    ----------
    threshold : float, default=0.05
        Expected calibration error beyond what sampling alone gives and beyond that of the holdout.
    """

    threshold: float = Field(default=0.05, gt=0.0, le=1.0)
    min_rows: int = Field(default=100, ge=1)


class QualityWatch(Watch):
    """A metric worse than on the holdout.

    Parameters
    ----------
    metric : str or None, default=None
        None takes the spec's primary metric, and where live rows cannot give that, the first that they can.
    threshold : float, default=0.05
        By how much a share or an area may fall.
    relative_threshold : float, default=0.2
        By what share of itself a loss or an error may grow.
    settle_hours : int, default=24
        Hours after which a prediction counts as settled however many outcomes are still to come; it settles sooner
        once as many have arrived as usually do.
    """

    metric: str | None = None
    threshold: float = Field(default=0.05, gt=0.0, le=1.0)
    relative_threshold: float = Field(default=0.2, gt=0.0)
    min_rows: int = Field(default=100, ge=1)
    settle_hours: int = Field(default=24, ge=0, le=24 * 90)


class BiasWatch(Watch):
    """Groups that are treated less alike than on the holdout.

    Parameters
    ----------
    threshold : float, default=0.1
        By how much the gap between two groups' shares may grow.
    threshold_in_deviations : float, default=0.2
        For regression, by how much the gap between two groups' means may grow: of predicted values in deviations of the
        target, of errors in deviations of the errors on the holdout.
    min_rows : int, default=100
        In each group.
    """

    threshold: float = Field(default=0.1, gt=0.0, le=1.0)
    threshold_in_deviations: float = Field(default=0.2, gt=0.0)
    min_rows: int = Field(default=100, ge=1)


class StalenessWatch(SpecPart):
    """A model, or data, that has grown old; traffic that has stopped.

    Parameters
    ----------
    enabled : bool, default=True
        Whether it is watched at all.
    max_model_age_days, max_data_age_days : float or None, default=180
        None never grows old.
    silent_hours : float or None, default=24
        Hours without traffic, where by the past week's rate twenty requests at least were due; None never minds.
    """

    enabled: bool = True
    max_model_age_days: float | None = Field(default=180.0, gt=0.0)
    max_data_age_days: float | None = Field(default=180.0, gt=0.0)
    silent_hours: float | None = Field(default=24.0, gt=0.0)


class ServingWatch(Watch):
    """Answers that are late or do not come.

    Parameters
    ----------
    threshold : float, default=0.01
        Share of requests that may end in an error of ours.
    max_latency_ms : float or None, default=1000
        That nineteen of twenty requests stay below; None never minds.
    max_cold_start_share : float or None, default=0.3
        Share of requests that may wait for a new execution environment; None never minds.
    max_refused_share : float or None, default=0.2
        Share of the rows asked about that may be refused for what is in them.
    """

    threshold: float = Field(default=0.01, gt=0.0, le=1.0)
    min_rows: int = Field(default=100, ge=1)
    max_latency_ms: float | None = Field(default=1_000.0, gt=0.0)
    max_cold_start_share: float | None = Field(default=0.3, gt=0.0, le=1.0)
    max_refused_share: float | None = Field(default=0.2, gt=0.0, le=1.0)


class MonitoringSpec(SpecPart):
    """What is watched of a model in production.

    Parameters
    ----------
    enabled : bool, default=True
        Whether the model is monitored.
    schedule : str or None, default=None
        Of EventBridge Scheduler, for this model alone; None leaves it to the stack's own schedule.
    time_zone : str, default='UTC'
        In which the schedule's cron or at expression is meant.
    max_window_hours : int, default=24
        A window ends with as many rows as the verdicts need, or after so long.
    false_discovery_rate : float, default=0.001
        Share of a window's breaches that may be due to chance, over all features together.
    seasonality : {'auto', 'off'}, default='auto'
        Whether a change counts only when the same hours of earlier days, or weekdays, do not explain it.
    windows_to_resolve : int, default=2
        Quiet windows in a row that end an incident.
    cooldown_hours : float, default=24
        Hours after an incident's end in which the same one opens again without a new alert.
    data_quality, skew, feature_drift, feature_change, dependence, prediction_drift, calibration, live_quality : Watch
        See each.
    estimated_quality, concept_drift, bias, staleness, serving_health : Watch
        See each.
    """

    enabled: bool = True
    schedule: ScheduleExpression | None = None
    time_zone: TimeZone = "UTC"
    max_window_hours: int = Field(default=24, ge=1, le=24 * 31)
    false_discovery_rate: float = Field(default=0.001, gt=0.0, lt=0.5)
    seasonality: Literal["auto", "off"] = "auto"
    windows_to_resolve: int = Field(default=2, ge=1, le=24)
    cooldown_hours: float = Field(default=24.0, ge=0.0)
    data_quality: DataQualityWatch = DataQualityWatch()
    skew: DriftWatch = DriftWatch()
    feature_drift: DriftWatch = DriftWatch()
    feature_change: DriftWatch = DriftWatch(threshold=0.2)
    dependence: DependenceWatch = DependenceWatch()
    prediction_drift: DriftWatch = DriftWatch()
    calibration: CalibrationWatch = CalibrationWatch()
    live_quality: QualityWatch = QualityWatch()
    estimated_quality: QualityWatch = QualityWatch(min_rows=200)
    concept_drift: QualityWatch = QualityWatch()
    bias: BiasWatch = BiasWatch()
    staleness: StalenessWatch = StalenessWatch()
    serving_health: ServingWatch = ServingWatch()

    @property
    def rows_needed(self) -> int:
        """Rows that end a window: as many as the most demanding verdict on rows needs."""
        watches: tuple[Watch, ...] = (
            self.data_quality,
            self.skew,
            self.feature_drift,
            self.feature_change,
            self.dependence,
            self.prediction_drift,
        )
        return max((watch.min_rows for watch in watches if watch.enabled), default=1)
