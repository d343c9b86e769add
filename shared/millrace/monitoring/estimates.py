"""Estimates of model quality without outcomes, from the model's own confidence.

Probabilities, calibrated on the holdout, say how many predictions should be right. The interval has three parts: chance
in the window, chance in the holdout, of which fewer rows are like those of a window that is far from training, and the
error of such estimates on parts of the holdout, which grows with that distance. Beyond training's support there is no
estimate. A regression has none at all: what can be expected where the same values were predicted was off by three
quarters on a real stream whose demand grew.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from millrace.histograms.bins import Floats
from millrace.histograms.outcomes import OutcomeHistogram
from millrace.histograms.predictions import PredictionHistogram
from millrace.histograms.tables import TableHistogram
from millrace.metrics import catalogue
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.quality import (
    PointEstimate,
    binned_roc_auc,
    choose_metric,
    mean_estimate,
    measure_drop,
    proportion,
)
from millrace.monitoring.support import Support, measure_support
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.schema import Task
from millrace.spec.monitoring import MonitoringSpec, QualityRule
from millrace.stats.distances import normal_tail

NO_REGRESSION_ESTIMATE = (
    "not known: errors of a regression cannot be estimated without ground truth; report it, and live quality is judged"
)
_TWO = 2
#: Growth of the holdout's own variance with the distance from training: fewer of its rows are like the window's.
#: Chosen on the tables of benchmarks/monitoring/estimates.py.
_SCARCITY = 3.0


def estimate_quality(predictions: PredictionHistogram, calibrated: Floats) -> dict[str, PointEstimate]:
    """Return the expected metrics by a calibration map: accuracy, and for two classes the area, F1 and losses."""
    rows = predictions.rows
    if not rows:
        return {}
    correct = predictions.decided * calibrated
    hits = float(correct.sum())
    expected = {catalogue.ACCURACY.name: PointEstimate(hits / rows, proportion(round(hits), rows).error, rows)}
    if len(predictions.decided) != _TWO:
        return expected
    chance, counts = calibrated[1], predictions.probabilities[1].astype(np.float64)
    expected[catalogue.ROC_AUC.name] = binned_roc_auc(counts * chance, counts * (1.0 - chance))
    true_positives = float(correct[1].sum())
    union = float(predictions.decided[1].sum() + predictions.decided[0].sum() - correct[0].sum())
    if union > 0:
        part = true_positives / union
        error = 2.0 / (1.0 + part) ** 2 * proportion(round(true_positives), max(1, round(union))).error
        expected[catalogue.F1.name] = PointEstimate(2.0 * part / (1.0 + part), error, rows)
    stated = (np.arange(len(chance)) + 0.5) / len(chance)
    losses = {
        catalogue.LOG_LOSS.name: (-np.log(stated), -np.log(1.0 - stated)),
        catalogue.BRIER.name: ((1.0 - stated) ** 2, stated**2),
    }
    for name, (positive, negative) in losses.items():
        total, squares = (
            float(np.sum(counts * (chance * positive**power + (1.0 - chance) * negative**power))) for power in (1, 2)
        )
        expected[name] = mean_estimate(total, squares, rows)
    return expected


def estimate_on_rows(
    monitored: MonitoredVersion,
    predictions: PredictionHistogram,
    features: TableHistogram,
    ignored: Collection[str],
    spec: MonitoringSpec,
) -> WindowFinding:
    """Evaluate the estimate of a version's quality on the rows of histograms; ``ignored`` features go on by themselves.

    The version has a profile of its predictions on the holdout; of a regression nothing is known.
    """
    profile = monitored.profile
    if (
        profile is None
        or not isinstance(profile.predictions, PredictionHistogram)
        or not isinstance(profile.outcomes, OutcomeHistogram)
    ):
        return unknown_estimate(NO_REGRESSION_ESTIMATE, withdrawn=True)
    calibrated = profile.outcomes.calibration_map()
    before, now = (estimate_quality(one, calibrated) for one in (profile.predictions, predictions))
    errors = EstimateErrors(measure_support(monitored.reference, features, ignored), profile.estimate_errors)
    rule, rate, primary = spec.estimated_quality, spec.false_discovery_rate, monitored.primary_metric
    return find_estimated_drop(monitored.task, before, now, errors, rule, rate=rate, primary=primary)


@dataclass(frozen=True, slots=True)
class EstimateErrors:
    """Error of the estimates of one window."""

    support: Support
    #: By metric and feature, per unit of distance, from parts of the holdout; None where it was not measured.
    by_distance: Mapping[str, Mapping[str, float]] | None

    def deviations(self, metric: str, of_holdout: float) -> tuple[float, float]:
        """Return the deviations by the rows of the holdout that are like the window's, and by its parts."""
        scarce = of_holdout * math.sqrt(1.0 + _SCARCITY * self.support.distance)
        by_feature = (self.by_distance or {}).get(metric, {})
        # A feature without parts, such as one of few values, has the error of all.
        overall = min(by_feature.values(), default=0.0)
        return scarce, max(
            (by_feature.get(name, overall) * distance for name, distance in self.support.distances.items()), default=0.0
        )


def find_estimated_drop(
    task: Task,
    before: Mapping[str, PointEstimate],
    now: Mapping[str, PointEstimate],
    errors: EstimateErrors,
    rule: QualityRule,
    *,
    rate: float,
    primary: str | None = None,
) -> WindowFinding:
    """Evaluate the estimate of a metric on a window against that on the holdout."""
    rows = max((estimate.rows for estimate in now.values()), default=0)
    if rows < rule.min_rows:
        return too_few("estimated_quality", "quality", rows, rule.min_rows, "predictions")
    if errors.support.reason:
        return unknown_estimate(f"not known: {errors.support.reason}, where the model's confidence says nothing", rows)
    if errors.by_distance is None:
        return unknown_estimate(
            "not known: the error of the estimate was not measured on parts of this version's holdout", rows
        )
    measured = {name: estimate for name, estimate in before.items() if name in errors.by_distance}
    metric = choose_metric(task, rule.metric or primary, measured, now)
    if metric is None:
        return unknown_estimate("the holdout and these rows have no metric in common", rows)
    first, second = before[metric.name], now[metric.name]
    drop, threshold = measure_drop(metric, first.value, second.value, rule)
    of_holdout, of_parts = errors.deviations(metric.name, first.error)
    deviation = math.hypot(second.error, of_holdout, of_parts)
    lost = metric.gain(first.value, second.value)
    p_value = normal_tail(lost / deviation) if deviation > 0 else float(lost <= 0)
    low, high = PointEstimate(second.value, deviation, second.rows).interval()
    status = breach_or_ok(drop >= threshold and p_value <= rate)
    message = f"estimated {metric.name} {first.value:.3f} on the holdout → {second.value:.3f} ({low:.3f} to {high:.3f})"
    # What the distance from training adds to the holdout's own error.
    added = 1.96 * math.hypot(of_parts, math.sqrt(max(0.0, of_holdout**2 - first.error**2)))
    if status == "ok" and added >= threshold * (abs(first.value) if metric.change_is_relative else 1.0):
        status = "unknown"
        message = f"not known: {message}; so far from training the estimate may be off by {added:.3f}"
    return WindowFinding(
        verdict="estimated_quality",
        subject="quality",
        status=status,
        message=f"{message}; an estimate from the model's own confidence, without any outcome",
        measure=f"drop of {metric.name}",
        value=drop,
        threshold=threshold,
        rows=second.rows,
        p_value=p_value,
        details={
            "metric": metric.name,
            "before": first.value,
            "now": second.value,
            "low": low,
            "high": high,
            "coverage": None,
            "distance": errors.support.distance,
        },
    )


def unknown_estimate(reason: str, rows: int = 0, *, withdrawn: bool = False) -> WindowFinding:
    """Return the finding of an estimate that is not known; a withdrawn one will not be in any window."""
    details = {"withdrawn": True} if withdrawn else {}
    return WindowFinding("estimated_quality", "quality", "unknown", reason, rows=rows, details=details)
