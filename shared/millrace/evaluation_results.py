"""The evaluation document, ``evaluation.json``, as typed records.

The records import neither scikit-learn nor ONNX Runtime, so registration and reports can read them. Intervals hold
at the document's ``confidence``; ``low`` and ``high`` are null where the holdout is too small for one.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal

import msgspec

from millrace.documents import Document, Record
from millrace.entities import TrialStatus
from millrace.metrics.bootstrap import ConfidenceInterval
from millrace.metrics.confidence_intervals import Interval
from millrace.schema import Task

Decision = Literal["promote", "keep", "reject"]
Point = tuple[float, float]


class MetricEstimate(Record, frozen=True):
    """A value with its confidence interval, or with the reason for which the rows do not support one."""

    value: float
    low: float | None = None
    high: float | None = None
    reason: str | msgspec.UnsetType = msgspec.UNSET  # stored where there is no interval

    @classmethod
    def of(cls, value: float, interval: Interval | None) -> "MetricEstimate":
        """Return a value with an interval where there is one."""
        if isinstance(interval, ConfidenceInterval):
            return cls(value, interval.low, interval.high)
        return cls(value, reason=interval.reason) if interval else cls(value)


class HoldoutResult(Record, frozen=True):
    """The winner's metrics on the holdout."""

    rows: int
    metrics: dict[str, MetricEstimate]


class BaselineResult(Record, frozen=True):
    """The trivial baseline's metrics on the holdout."""

    metrics: dict[str, float]


class BestComparison(Record, frozen=True):
    """The best champion so far, an earlier one, on the rows and draws of the comparison with the champion.

    ``gain`` is the challenger's over it, with the value on the rows themselves (``measured_gain``), or ``not_compared``
    the reason for none.
    """

    version: int
    gain: ConfidenceInterval | None = None
    measured_gain: float | None = None
    not_compared: str | None = None
    metrics: dict[str, float] | None = None


class ChampionComparison(Record, frozen=True):
    """The champion on the same holdout; registration promotes only over that very version.

    ``gain`` is the challenger's by the primary metric, or ``not_compared`` the reason for none; ``schema_changed`` when
    a later schema was adopted on purpose. ``may_have_seen_rows`` when it may have been trained on some of the ``rows``.
    ``best`` is None where the champion itself is the best so far. ``reasons`` speak for replacing it with a model that
    is as good. ``latest_version`` was registered last, and each one since the best is a decision against it.
    """

    version: int
    gain: ConfidenceInterval | None = None
    not_compared: str | None = None
    schema_changed: bool = False
    note: str | None = None
    metrics: dict[str, float] | None = None
    rows: int = 0
    may_have_seen_rows: bool = False
    measured_gain: float | None = None
    best: BestComparison | None = None
    reasons: tuple[str, ...] = ()
    latest_version: int = 0


class HoldoutUse(Record, frozen=True):
    """Earlier decisions of the gate on a holdout with this fingerprint of its split.

    ``used_rows`` of the present rows were among those of the last one; None when its rows are no longer stored.
    """

    fingerprint: str
    decisions: int
    used_rows: int | None = None


class TrialsComparison(Record, frozen=True):
    """The champion that the leaderboard's trials are compared with, or the reason for no comparison.

    ``rows`` ranked the trials, and neither they nor the champion were trained on them.
    """

    version: int
    rows: int = 0
    not_compared: str | None = None


class LeaderboardEntry(Record, frozen=True):
    """A trial and its rank; 1 is best, None is a trial that did not succeed.

    ``gain`` is the interval of its gain over the champion by the primary metric, with the value on the rows themselves
    (``measured_gain``), on the rows of :class:`TrialsComparison`.
    """

    trial_id: str
    candidate: str
    status: TrialStatus
    metrics: Mapping[str, float]
    duration_seconds: float | None
    reason: str
    rank: int | None
    parameters: dict[str, Any] = msgspec.field(default_factory=dict)
    gain: ConfidenceInterval | None = None
    measured_gain: float | None = None


class GateCheck(Record, frozen=True, omit_defaults=True):
    """A check of the gate; ``value`` and ``threshold`` are None where there is no number.

    ``warning`` marks a check that passed, and of whose explanation people are to know.
    """

    name: str
    passed: bool
    value: float | None
    threshold: float | None
    explanation: str
    warning: bool = False


class SliceResult(Record, frozen=True):
    """The model on part of the holdout; ``excess_loss`` is its mean loss minus that of the other rows."""

    name: str
    declared: bool
    columns: tuple[str, ...]
    rows: int
    metrics: dict[str, MetricEstimate] | None
    excess_loss: float | None
    excess_low: float | None
    excess_high: float | None
    clearly_worse: bool


class MeasureEstimate(MetricEstimate, frozen=True, kw_only=True):
    """A fairness measure of one group; ``rows`` are those it counts."""

    rows: int


class GroupResult(Record, frozen=True):
    """A group of a sensitive column."""

    name: str
    rows: int
    measures: dict[str, MeasureEstimate]


class Gap(MetricEstimate, frozen=True, kw_only=True):
    """Difference of a measure between the two groups farthest apart; ``clear`` when its interval is above zero."""

    highest: str
    lowest: str
    ratio: float | None
    clear: bool


class FairnessResult(Record, frozen=True):
    """The groups of one column; a gap is None with fewer than two groups to compare."""

    column: str
    groups: tuple[GroupResult, ...]
    left_out_groups: int
    gaps: dict[str, Gap | None]


class FeatureImportance(MetricEstimate, frozen=True, kw_only=True):
    """Mean loss of the metric when one column is shuffled."""

    name: str
    repeats: int


class ImportanceResult(Record, frozen=True):
    """Permutation importance, the most important column first."""

    metric: str
    rows: int
    columns: tuple[FeatureImportance, ...]
    not_measured: tuple[str, ...]


class Latency(Record, frozen=True):
    """Time of a call, in the quietest block."""

    rows: int
    p50_milliseconds: float
    p95_milliseconds: float
    calls: int


class SplitMetrics(Record, frozen=True):
    """Metrics on one split."""

    rows: int
    metrics: Mapping[str, float]


class FitDiagnosis(Record, frozen=True):
    """Over- or underfitting: the share of the training split's gain over the baseline that is lost on the holdout."""

    verdict: Literal["sound", "overfit", "underfit", "nearly perfect", "unknown"]
    lost_share: float | None
    explanation: str
    splits: dict[str, SplitMetrics]


class LearningCurvePoint(Record, frozen=True):
    """The primary metric of a model fitted on so many rows."""

    rows: int
    train: float
    validation: float


class LearningCurve(Record, frozen=True):
    """The primary metric against the number of training rows; ``note`` explains missing points."""

    metric: str
    points: tuple[LearningCurvePoint, ...]
    note: str = ""


class CostPerRow(Record, frozen=True):
    """Mean cost of a decision: of the threshold on validation, of it and of simple alternatives on the holdout."""

    validation: float
    holdout: dict[str, MetricEstimate]


class ThresholdResult(Record, frozen=True):
    """The decision threshold of a binary task with costs; ``rule`` is how it was chosen."""

    positive_class: str
    value: float
    rule: str
    costs: dict[str, float]
    cost_per_row: CostPerRow


class ClassResult(Record, frozen=True):
    """Precision and recall of one class."""

    name: str
    rows: int
    recall: float | None
    precision: float | None


class Misclassification(Record, frozen=True, kw_only=True, eq=False):
    """Rows of one class that were predicted as another."""

    actual: str
    predicted: str = msgspec.field(name="called")
    rows: int


class ConfusionMatrix(Record, frozen=True):
    """Counts by true class (rows) and predicted class (columns); ``matrix`` is None with many classes."""

    classes: list[str] | None
    matrix: list[list[int]] | None
    per_class: list[ClassResult]
    left_out_classes: int
    commonest: list[Misclassification]


class CalibrationBin(Record, frozen=True):
    """Mean predicted probability and observed frequency, with Wilson's interval."""

    predicted: float
    observed: float
    low: float
    high: float
    rows: int


class CalibrationCurve(Record, frozen=True, kw_only=True, eq=False):
    """Calibration in equally full bins, with the expected calibration error (Naeini et al., 2015)."""

    bins: list[CalibrationBin] = msgspec.field(name="cells")
    expected_error: float
    expected_error_low: float | msgspec.UnsetType = msgspec.UNSET
    expected_error_high: float | msgspec.UnsetType = msgspec.UNSET
    expected_error_reason: str | msgspec.UnsetType = msgspec.UNSET  # stored where there is no interval


class Curves(Record, frozen=True, kw_only=True, eq=False):
    """Curves of a classifier; the ranking curves are of binary tasks with rows of both classes."""

    calibration: CalibrationCurve
    roc: list[Point] | msgspec.UnsetType = msgspec.UNSET
    precision_recall: list[Point] | msgspec.UnsetType = msgspec.UNSET
    positive_share: float | msgspec.UnsetType = msgspec.UNSET


class ErrorHistogram(Record, frozen=True):
    """Counts of errors between edges."""

    edges: list[float]
    counts: list[int]


class ErrorsByPrediction(Record, frozen=True):
    """Errors in one of equally full bins of the prediction."""

    predicted: float
    mean_error: float
    absolute_error: float
    rows: int


class Residuals(Record, frozen=True):
    """Errors of a regression; ``points`` are predicted and true values."""

    mean: float
    quantiles: dict[str, float]
    histogram: ErrorHistogram
    points: list[Point]
    by_prediction: list[ErrorsByPrediction]


class IntervalCoverage(Record, frozen=True, kw_only=True):
    """Share of rows whose true value is in its interval or set, with Wilson's interval; the mean width or size."""

    level: float
    rows: int
    covered: MetricEstimate
    size: float


class GroupCoverage(IntervalCoverage, frozen=True, kw_only=True):
    """Coverage of a part of the holdout: a declared slice, a sensitive group, a class or a third of the predictions."""

    kind: Literal["slice", "group", "class", "prediction"]
    name: str


class PredictionIntervals(Record, frozen=True, kw_only=True):
    """Conformal intervals of a regression, or prediction sets of classes, on the holdout.

    ``rows`` are those of the calibration: of the validation split, or held out of the folds. ``levels`` are measured on
    all rows of the holdout, ``groups`` at the level of 0.9. ``greatest_level`` is the highest that requests may name.
    """

    rows: int
    source: Literal["validation", "out_of_fold"]
    greatest_level: float
    levels: tuple[IntervalCoverage, ...]
    groups: tuple[GroupCoverage, ...] = ()


class ScalingEffect(Record, frozen=True, kw_only=True):
    """Log loss and expected calibration error on the holdout, of raw and of calibrated probabilities."""

    raw_log_loss: float
    log_loss: float
    raw_expected_error: float
    expected_error: float


class ProbabilityCalibration(Record, frozen=True, kw_only=True):
    """Calibration of the winner's probabilities by ``rows`` outside its fit; ``none`` where none pays.

    The log losses are cross-validated on those rows; ``holdout`` has what it brought on others.
    """

    method: str
    rows: int
    log_loss: float
    scaled_log_loss: float | None = None
    standard_error: float | None = None
    holdout: ScalingEffect | None = None


class Analysis(Record, frozen=True, kw_only=True, eq=False):
    """The post-training analysis; None for parts that the task, the spec or a failed model has not."""

    threshold: ThresholdResult | None = None
    confusion: ConfusionMatrix | None = None
    curves: Curves | None = None
    residuals: Residuals | None = None
    slices: tuple[SliceResult, ...] | None = None
    fairness: tuple[FairnessResult, ...] | None = None
    importance: ImportanceResult | None = None
    latency: dict[str, Latency] | None = None
    fit: FitDiagnosis | None = None
    learning_curve: LearningCurve | None = None
    probability_calibration: ProbabilityCalibration | None = None
    prediction_intervals: PredictionIntervals | None = None


class Evaluation(Analysis, Document, frozen=True, kw_only=True, eq=False):
    """The evaluation of a run; the measured parts are null when every trial failed."""

    FORMAT_VERSION: ClassVar[int] = 2

    evaluation_version: int = 2  # as ``format_version``, for readers of earlier releases
    run_id: str
    model: str
    evaluated_at: datetime
    task: Task
    target: str
    classes: tuple[str, ...]
    decision: Decision
    trial_id: str | None = None
    candidate: str | None = None
    parameters: dict[str, Any] | None = None
    seed: int
    search: dict[str, Any] | None
    reasons: tuple[str, ...]
    primary_metric: str
    greater_is_better: bool
    confidence: float
    leaderboard: tuple[LeaderboardEntry, ...]
    trials_comparison: TrialsComparison | None = None  # none without a champion
    split: dict[str, Any] | None = None
    model_bytes: int | None = None
    holdout: HoldoutResult | None = None
    baseline: BaselineResult | None = None
    champion: ChampionComparison | None = None
    best_version: int | None = None  # the best champion so far if this model is promoted; None for this model itself
    holdout_use: HoldoutUse | None = None  # none in evaluations of earlier releases
    gate: tuple[GateCheck, ...] = ()
    gate_spec: dict[str, Any]
