"""Quality: a metric on outcomes as they arrive, against the holdout; and whether the inputs can be blamed.

Compared is the drop, which must reach the threshold, and whether it is more than chance: its z-value must exceed what
the false discovery rate allows (normal limit of the difference of two estimates).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from millrace.histograms.bins import NumberCells
from millrace.histograms.outcomes import OutcomeSketch
from millrace.histograms.predictions import AnswerSketch, ErrorsByValue
from millrace.histograms.tables import ColumnSketch
from millrace.metrics.catalogue import METRICS, Metric
from millrace.monitoring.findings import Finding, VerdictName, too_few
from millrace.monitoring.performance import Estimate, Floats, area_under_curve, proportion
from millrace.schema import Task
from millrace.spec.monitoring import CalibrationWatch, QualityWatch
from millrace.stats.distances import chi_square_tail, normal_tail

CALIBRATION_CELLS = 10
_TWO = 2


@dataclass(frozen=True, slots=True)
class Calibration:
    """How probabilities and frequencies agree.

    Parameters
    ----------
    error, excess : float
        Expected calibration error, and what of it is more than chance gives.
    p_value : float
        Of Hosmer and Lemeshow's statistic; of the class that agrees least, times the number of classes.
    brier : float
        Mean squared difference of probability and outcome.
    """

    error: float
    excess: float
    p_value: float
    brier: float


def measure_calibration(sketch: OutcomeSketch) -> Calibration:
    """Return how a classifier's probabilities and the outcomes agree."""
    classes = range(1, _TWO) if len(sketch.confusion) == _TWO else range(len(sketch.confusion))
    parts = [_one_class(sketch, index) for index in classes]
    error, expected = (float(np.mean([part[place] for part in parts])) for place in (0, 1))
    p_value = min(1.0, min(part[2] for part in parts) * len(parts))
    rows = max(1, sketch.rows)
    return Calibration(error, max(0.0, error - expected), p_value, float(sketch.losses[2]) / rows)


def _one_class(sketch: OutcomeSketch, index: int) -> tuple[float, float, float]:
    totals, hits, sums = (_coarse(counts[index]) for counts in (sketch.totals, sketch.hits, sketch.probability_sums))
    used = totals > 0
    totals, hits, sums = totals[used], hits[used], sums[used]
    rows = max(1.0, float(totals.sum()))
    means = sums / totals
    variances = np.maximum(totals * means * (1.0 - means), 1e-9)
    error = float(np.abs(hits - sums).sum() / rows)
    expected = float(np.sqrt(2.0 * variances / np.pi).sum() / rows)
    # A cell in which hardly anything could come true otherwise has no normal limit to be judged by.
    judged = variances >= 1.0
    statistic = float(np.sum((hits - sums)[judged] ** 2 / variances[judged]))
    return error, expected, chi_square_tail(statistic, int(judged.sum()))


def _coarse(counts: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(np.asarray(counts, dtype=np.float64).reshape(CALIBRATION_CELLS, -1).sum(axis=1))


def find_miscalibration(
    holdout: OutcomeSketch, present: OutcomeSketch, watch: CalibrationWatch, rate: float
) -> Finding:
    """Judge calibration against that on the holdout."""
    if present.rows < watch.min_rows:
        return too_few("calibration", "probabilities", present.rows, watch.min_rows, "outcomes")
    before, now = measure_calibration(holdout), measure_calibration(present)
    growth = now.excess - before.excess
    breach = growth >= watch.threshold and now.p_value <= rate
    state = "are no longer the frequencies" if breach else "agree with the frequencies"
    return Finding(
        verdict="calibration",
        subject="probabilities",
        status="breach" if breach else "ok",
        message=f"probabilities {state}: expected calibration error {before.error:.3f} on the holdout, {now.error:.3f} "
        f"on {present.rows:,} outcomes; Brier score {before.brier:.3f} → {now.brier:.3f}",
        measure="expected calibration error beyond chance",
        value=growth,
        threshold=watch.threshold,
        rows=present.rows,
        p_value=now.p_value,
        details={"before": before.error, "now": now.error, "brier_before": before.brier, "brier_now": now.brier},
    )


#: Rows' weight of a cell's own probability beside what the holdout showed.
_PRIOR_ROWS = 10.0


def calibration_map(holdout: OutcomeSketch) -> Floats:
    """Return, by class and cell of probability, how often the class came true, leaning on the probability itself."""
    classes, cells = holdout.totals.shape
    middles = np.tile((np.arange(cells) + 0.5) / cells, (classes, 1))
    means = np.divide(holdout.probability_sums, holdout.totals, out=middles, where=holdout.totals > 0)
    return np.asarray((holdout.hits + _PRIOR_ROWS * means) / (holdout.totals + _PRIOR_ROWS))


def estimate_quality(answers: AnswerSketch, calibrated: Floats) -> dict[str, Estimate]:
    """Return the metrics to be expected of answers: accuracy, and for two classes the areas, F1 and losses.

    Parameters
    ----------
    calibrated : float64 array of shape (n_classes, n_cells)
        From :func:`calibration_map`.
    """
    rows = answers.rows
    if not rows:
        return {}
    right = answers.decided * calibrated
    hits = float(right.sum())
    expected = {"accuracy": Estimate(hits / rows, proportion(round(hits), rows).error, rows)}
    if len(answers.decided) != _TWO:
        return expected
    chance, counts = calibrated[1], answers.probabilities[1].astype(np.float64)
    expected["roc_auc"] = area_under_curve(counts * chance, counts * (1.0 - chance))
    true_positives = float(right[1].sum())
    union = float(answers.decided[1].sum() + answers.decided[0].sum() - right[0].sum())
    if union > 0:
        part = true_positives / union
        error = 2.0 / (1.0 + part) ** 2 * proportion(round(true_positives), max(1, round(union))).error
        expected["f1"] = Estimate(2.0 * part / (1.0 + part), error, rows)
    cells = len(chance)
    stated = (np.arange(cells) + 0.5) / cells
    losses = {
        "log_loss": -(chance * np.log(stated) + (1.0 - chance) * np.log(1.0 - stated)),
        "brier": chance * (1.0 - stated) ** 2 + (1.0 - chance) * stated**2,
    }
    for name, loss in losses.items():
        mean = float(np.sum(counts * loss) / rows)
        deviation = float(np.sqrt(np.sum(counts * (loss - mean) ** 2) / rows))
        expected[name] = Estimate(mean, max(deviation, mean) / np.sqrt(rows), rows)
    return expected


def estimate_errors(answers: ColumnSketch, errors: ErrorsByValue, cells: NumberCells) -> dict[str, Estimate]:
    """Return the errors to be expected of a regression's answers: mean absolute error and root mean squared error.

    Parameters
    ----------
    answers : ColumnSketch
        In the target's cells.
    errors : ErrorsByValue
        Of the holdout, in the same cells. Values beyond all that it had are taken for those at its end.
    """
    counts = cells.coarse(answers.counts)
    rows, holdout = float(counts.sum()), np.stack([cells.coarse(kind) for kind in errors.sums])
    if not rows or not holdout[0].sum():
        return {}
    overall = holdout.sum(axis=1) / holdout[0].sum()
    # A cell that the holdout hardly had leans on all of it.
    means = (holdout + _PRIOR_ROWS * overall[:, np.newaxis]) / (holdout[0] + _PRIOR_ROWS)
    absolute, square = (float(np.sum(counts * mean) / rows) for mean in means[1:])
    if square <= 0.0:
        return {}
    root = float(np.sqrt(square))
    error = float(np.sqrt(max(0.0, square - absolute**2) / rows))
    # Of squares of normal errors the deviation is sqrt(2) times the mean.
    return {
        "mae": Estimate(absolute, error, int(rows)),
        "rmse": Estimate(root, float(np.sqrt(2.0 / rows)) * square / (2.0 * root), int(rows)),
    }


#: Metrics that lie between 0 and 1, or near it: their fall is absolute. Others grow by a share of themselves.
_BOUNDED = frozenset({"accuracy", "f1", "macro_f1", "roc_auc", "roc_auc_ovr", "pr_auc", "r2"})
#: Metrics of a regression that can be estimated without outcomes.
_ERRORS = frozenset({"mae", "rmse"})


@dataclass(frozen=True, slots=True)
class Drop:
    """How much worse a metric is.

    Parameters
    ----------
    size, threshold : float
        In the metric's own unit, or as a share of what it was.
    p_value : float
        One-sided.
    """

    metric: Metric
    before: Estimate
    now: Estimate
    size: float
    threshold: float
    p_value: float

    def matters(self, rate: float) -> bool:
        """Tell whether it is both large enough and no chance."""
        return self.size >= self.threshold and self.p_value <= rate


def choose_metric(task: Task, wanted: str | None, *measured: Mapping[str, Estimate]) -> Metric | None:
    """Return the metric to judge by: the one wanted, or the task's first, that every side has."""
    known = METRICS[task]
    order = sorted(known, key=lambda metric: metric.name != wanted)
    return next((metric for metric in order if all(metric.name in side for side in measured)), None)


def measure_drop(metric: Metric, before: Estimate, now: Estimate, watch: QualityWatch) -> Drop:
    """Return how much worse a metric is now."""
    lost = metric.gain(before.value, now.value)
    deviation = math.hypot(before.error, now.error)
    p_value = normal_tail(lost / deviation) if deviation > 0 else float(lost <= 0)
    if metric.name in _BOUNDED:
        return Drop(metric, before, now, lost, watch.threshold, p_value)
    share = lost / abs(before.value) if before.value else math.inf if lost > 0 else 0.0
    return Drop(metric, before, now, share, watch.relative_threshold, p_value)


def find_quality_drop(
    verdict: Literal["live_quality", "estimated_quality"],
    task: Task,
    before: Mapping[str, Estimate],
    now: Mapping[str, Estimate],
    watch: QualityWatch,
    *,
    rate: float,
    primary: str | None = None,
    coverage: float | None = None,
) -> Finding:
    """Judge a metric against the holdout.

    Parameters
    ----------
    before, now : mapping of str to Estimate
        On the holdout and on the window.
    primary : str or None
        The spec's primary metric.
    coverage : float or None
        Share of the window's answers whose outcome is known.
    """
    metric = choose_metric(task, watch.metric or primary, before, now)
    rows = max((estimate.rows for estimate in now.values()), default=0)
    what = "outcomes" if verdict == "live_quality" else "answers"
    if rows < watch.min_rows:
        return too_few(verdict, "quality", rows, watch.min_rows, what)
    if metric is None:
        return Finding(verdict, "quality", "unknown", "there is no metric that the holdout and these rows both have")
    drop = measure_drop(metric, before[metric.name], now[metric.name], watch)
    return _finding(verdict, drop, rate, coverage)


def _finding(verdict: VerdictName, drop: Drop, rate: float, coverage: float | None) -> Finding:
    low, high = drop.now.interval()
    name = f"the estimated {drop.metric.name}" if verdict == "estimated_quality" else drop.metric.name
    message = f"{name} {drop.before.value:.3f} on the holdout → {drop.now.value:.3f} ({low:.3f} to {high:.3f})"
    if coverage is not None:
        message += f", on {drop.now.rows:,} outcomes, {coverage:.0%} of the answers"
    if verdict == "estimated_quality":
        of_errors = drop.metric.name in _ERRORS
        basis = "how large errors were on the holdout at such answers" if of_errors else "the model's own confidence"
        message += f"; an estimate from {basis}, no outcome is in it"
    return Finding(
        verdict=verdict,
        subject="quality",
        status="breach" if drop.matters(rate) else "ok",
        message=message,
        measure=f"drop of {drop.metric.name}",
        value=drop.size,
        threshold=drop.threshold,
        rows=drop.now.rows,
        p_value=drop.p_value,
        details={
            "metric": drop.metric.name,
            "before": drop.before.value,
            "now": drop.now.value,
            "low": low,
            "high": high,
            "coverage": coverage,
        },
    )


def find_concept_drift(quality: Finding, *, inputs_hold: bool | None, estimated: Estimate | None = None) -> Finding:
    """Judge whether the relation between inputs and outcome changed: quality falls, and the inputs are what they were.

    Parameters
    ----------
    quality : Finding
        The live quality's.
    inputs_hold : bool or None
        Whether no input verdict is in breach; None when they could say nothing.
    estimated : Estimate or None
        Of the same metric without labels, for the message.
    """
    if quality.status == "unknown" or inputs_hold is None:
        reason = quality.message if quality.status == "unknown" else "nothing is known about the inputs"
        return Finding("concept_drift", "relation to the outcome", "unknown", reason, rows=quality.rows)
    breach = quality.status == "breach" and inputs_hold
    if breach:
        message = f"{quality.message}; the inputs are distributed as before, so what follows from them has changed"
        if estimated is not None:
            message += f" (the model itself would expect {estimated.value:.3f})"
    elif quality.status == "breach":
        message = "quality fell, and the inputs changed too: they may be why"
    else:
        message = "quality holds"
    return Finding(
        "concept_drift",
        "relation to the outcome",
        "breach" if breach else "ok",
        message,
        quality.measure,
        quality.value,
        quality.threshold,
        quality.rows,
        quality.p_value,
    )
