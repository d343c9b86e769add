"""Estimates of model quality without outcomes: from the model's own confidence, or the errors at the predicted values.

Probabilities, calibrated on the holdout, say how many predictions should be right. A regression has the holdout's
errors where the same values were predicted.
"""

import math
from collections.abc import Mapping

import numpy as np

from millrace.histograms.bins import Floats, NumberBins
from millrace.histograms.outcomes import OutcomeHistogram
from millrace.histograms.predictions import ErrorsByValue, PredictionHistogram, ValueHistogram
from millrace.metrics import catalogue
from millrace.monitoring.quality import PointEstimate, binned_roc_auc, choose_metric, measure_drop, proportion
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.schema import Task
from millrace.spec.monitoring import QualityRule
from millrace.stats.distances import normal_tail

_TWO = 2
#: Rows' weight of a bin's own probability beside the holdout's frequency.
_PRIOR_ROWS = 10.0


def calibration_map(holdout: OutcomeHistogram) -> Floats:
    """Return the frequency of each class by bin of its probability, shrunk towards the probability itself."""
    classes, bins = holdout.totals.shape
    middles = np.tile((np.arange(bins) + 0.5) / bins, (classes, 1))
    means = np.divide(holdout.probability_sums, holdout.totals, out=middles, where=holdout.totals > 0)
    return np.asarray((holdout.hits + _PRIOR_ROWS * means) / (holdout.totals + _PRIOR_ROWS))


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
        catalogue.LOG_LOSS.name: -(chance * np.log(stated) + (1.0 - chance) * np.log(1.0 - stated)),
        catalogue.BRIER.name: chance * (1.0 - stated) ** 2 + (1.0 - chance) * stated**2,
    }
    for name, loss in losses.items():
        mean = float(np.sum(counts * loss) / rows)
        deviation = float(np.sqrt(np.sum(counts * (loss - mean) ** 2) / rows))
        expected[name] = PointEstimate(mean, max(deviation, mean) / np.sqrt(rows), rows)
    return expected


def estimate_errors(predictions: ValueHistogram, errors: ErrorsByValue, bins: NumberBins) -> dict[str, PointEstimate]:
    """Return the expected errors of a regression: mean absolute error and root mean squared error.

    Values outside the range of the holdout's errors count as those at its ends.
    """
    counts = bins.coarse(predictions.counts)
    rows, holdout = float(counts.sum()), np.stack([bins.coarse(kind) for kind in errors.sums])
    if not rows or not holdout[0].sum():
        return {}
    overall = holdout.sum(axis=1) / holdout[0].sum()
    # A bin that the holdout hardly had is shrunk towards the mean of all.
    means = (holdout + _PRIOR_ROWS * overall[:, np.newaxis]) / (holdout[0] + _PRIOR_ROWS)
    absolute, square = (float(np.sum(counts * mean) / rows) for mean in means[1:])
    if square <= 0.0:
        return {}
    root = float(np.sqrt(square))
    error = float(np.sqrt(max(0.0, square - absolute**2) / rows))
    # Of squares of normal errors the deviation is sqrt(2) times the mean.
    return {
        catalogue.MAE.name: PointEstimate(absolute, error, int(rows)),
        catalogue.RMSE.name: PointEstimate(root, float(np.sqrt(2.0 / rows)) * square / (2.0 * root), int(rows)),
    }


def find_estimated_drop(
    task: Task,
    before: Mapping[str, PointEstimate],
    now: Mapping[str, PointEstimate],
    rule: QualityRule,
    *,
    rate: float,
    primary: str | None = None,
) -> WindowFinding:
    """Evaluate the estimate of a metric on a window against that on the holdout."""
    rows = max((estimate.rows for estimate in now.values()), default=0)
    if rows < rule.min_rows:
        return too_few("estimated_quality", "quality", rows, rule.min_rows, "predictions")
    metric = choose_metric(task, rule.metric or primary, before, now)
    if metric is None:
        message = "the holdout and these rows have no metric in common"
        return WindowFinding("estimated_quality", "quality", "unknown", message)
    first, second = before[metric.name], now[metric.name]
    drop, threshold = measure_drop(metric, first.value, second.value, rule)
    deviation = math.hypot(first.error, second.error)
    lost = metric.gain(first.value, second.value)
    p_value = normal_tail(lost / deviation) if deviation > 0 else float(lost <= 0)
    low, high = second.interval()
    from_errors = metric.estimated_from == "errors"
    basis = "the holdout's errors at these values" if from_errors else "the model's own confidence"
    return WindowFinding(
        verdict="estimated_quality",
        subject="quality",
        status=breach_or_ok(drop >= threshold and p_value <= rate),
        message=f"estimated {metric.name} {first.value:.3f} on the holdout → {second.value:.3f} ({low:.3f} to "
        f"{high:.3f}); an estimate from {basis}, without any outcome",
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
        },
    )
