"""Quality: a metric on outcomes as they arrive, against the holdout; and whether the inputs can be blamed.

Compared is the drop, which must reach the threshold, and whether it is more than chance: its z-value must exceed what
the false discovery rate allows (normal limit of the difference of two estimates).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from millrace.monitoring.findings import Finding, VerdictName, too_few
from millrace.monitoring.performance import Estimate
from millrace.monitoring.tails import normal_tail
from millrace.schema import Task
from millrace.spec.monitoring import QualityWatch
from millrace.training.metric_catalogue import METRICS, Metric

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
