"""Bias in production: gaps between groups that are wider than on the holdout.

A gap is the largest difference of two groups (Hardt, Price and Srebro 2016, NeurIPS; Barocas, Hardt and Narayanan,
*Fairness and Machine Learning*, ch. 3). For a classifier, of shares: of rows that get the second class (selection), of
rows of it that get it (opportunity), of correct predictions (accuracy). For a regression, of means in standard
deviations: of predictions, of errors and of absolute errors. Selection and mean prediction need no outcomes.
"""

import math
from collections.abc import Mapping

import numpy as np

from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import AnyPredictions, PredictionHistogram
from millrace.monitoring.quality import PointEstimate, mean_estimate, proportion
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.spec.monitoring import BiasRule
from millrace.stats.distances import normal_tail

_TWO = 2
#: Estimates by group.
Groups = Mapping[str, PointEstimate]


def find_group_gaps(
    profile: PredictionProfile,
    predictions: AnyPredictions | None,
    outcomes: AnyOutcomes | None,
    rule: BiasRule,
    rate: float,
) -> list[WindowFinding]:
    """Evaluate every gap of every column of groups that a window's predictions or outcomes have."""
    scale = error_deviation(profile.outcomes) if isinstance(profile.outcomes, ErrorSums) else 1.0
    present = {**_prediction_gaps(predictions), **_outcome_gaps(outcomes, scale)}
    before = {**_prediction_gaps(profile.predictions), **_outcome_gaps(profile.outcomes, scale)}
    in_shares = isinstance(profile.predictions, PredictionHistogram)
    return [
        _evaluate(name, groups, before.get(name, {}), rule, rate / len(present), in_shares=in_shares)
        for name, groups in present.items()
    ]


def _prediction_gaps(predictions: AnyPredictions | None) -> dict[str, Groups]:
    if predictions is None:
        return {}
    if not isinstance(predictions, PredictionHistogram):
        return {
            f"{column}: prediction": {
                group: mean_estimate(sums[1], sums[2], int(sums[0])) for group, sums in own.items()
            }
            for column, own in predictions.groups.items()
        }
    if len(predictions.decided) != _TWO:
        return {}
    return {
        f"{column}: selection": {group: proportion(int(counts[1]), int(counts.sum())) for group, counts in own.items()}
        for column, own in predictions.groups.items()
    }


def _outcome_gaps(outcomes: AnyOutcomes | None, scale: float) -> dict[str, Groups]:
    gaps: dict[str, Groups] = {}
    if isinstance(outcomes, ErrorSums):
        for column, own in outcomes.groups.items():
            for name, place in (("error", 1), ("absolute error", 2)):
                gaps[f"{column}: {name}"] = {
                    group: mean_estimate(sums[place] / scale, sums[3] / scale**2, int(sums[0]))
                    for group, sums in own.items()
                }
    elif isinstance(outcomes, OutcomeHistogram):
        for column, tables in outcomes.groups.items():
            gaps[f"{column}: accuracy"] = {
                group: proportion(int(np.trace(table)), int(table.sum())) for group, table in tables.items()
            }
            if len(outcomes.confusion) == _TWO:
                gaps[f"{column}: opportunity"] = {
                    group: proportion(int(table[1, 1]), int(table[1].sum()))
                    for group, table in tables.items()
                    if table[1].sum()
                }
    return gaps


def _evaluate(
    name: str, groups: Groups, before: Groups, rule: BiasRule, rate: float, *, in_shares: bool
) -> WindowFinding:
    large = {group: estimate for group, estimate in groups.items() if estimate.rows >= rule.min_rows}
    rows = sum(estimate.rows for estimate in large.values())
    if len(large) < _TWO:
        second = sorted((estimate.rows for estimate in groups.values()), reverse=True)[1:2]
        return too_few("bias", name, second[0] if second else 0, rule.min_rows, "rows of a second group")
    known = {group: estimate for group, estimate in before.items() if group in large}
    if len(known) < _TWO:
        return WindowFinding("bias", name, "unknown", "the holdout has no such groups to compare with", rows=rows)
    low, high, gap, error = _gap(large)
    _, _, gap_before, error_before = _gap(known)
    growth, deviation = gap - gap_before, math.hypot(error, error_before)
    p_value = normal_tail(growth / deviation) if deviation > 0 else 1.0
    threshold = rule.threshold if in_shares else rule.threshold_in_deviations
    # Of many groups, the extremes are far apart by chance alone.
    pairs = len(large) * (len(large) - 1) // 2
    form, unit = ("{:.0%}", "") if in_shares else ("{:+.2f}", " deviations")
    lowest, highest = form.format(large[low].value), form.format(large[high].value)
    return WindowFinding(
        verdict="bias",
        subject=name,
        status=breach_or_ok(growth >= threshold and p_value <= rate / pairs),
        message=f"{name}: {low!r} {lowest}, {high!r} {highest}; a gap of {gap:.2f}{unit}, {gap_before:.2f} on the "
        "holdout",
        measure="growth of the gap",
        value=growth,
        threshold=threshold,
        rows=rows,
        p_value=p_value,
        details={
            "before": gap_before,
            "now": gap,
            "groups": {group: {"share": one.value, "rows": one.rows} for group, one in large.items()},
        },
    )


def _gap(groups: Groups) -> tuple[str, str, float, float]:
    low = min(groups, key=lambda group: groups[group].value)
    high = max(groups, key=lambda group: groups[group].value)
    return low, high, groups[high].value - groups[low].value, math.hypot(groups[low].error, groups[high].error)


def error_deviation(holdout: ErrorSums) -> float:
    """Return the standard deviation of the errors on the holdout; 1 where they do not vary."""
    if not holdout.rows:
        return 1.0
    mean, square = holdout.sums[0] / holdout.rows, holdout.sums[2] / holdout.rows
    return math.sqrt(max(0.0, float(square - mean**2))) or 1.0
