"""Days that differ from one another by more than their rows explain: what is a matter of the day.

Rows of a day share its weather, its campaign, its holiday. Of what differs from day to day so, a day of any number of
rows is worth few independent ones, and a week seven times as many. A share says how few: one over the draws of a day,
the design effect of clusters (Kish 1965, *Survey Sampling*, chapter 5) over its rows.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np

from millrace.histograms.bins import NumberBins
from millrace.histograms.predictions import Traffic
from millrace.histograms.tables import Reference, TableHistogram, comparable_counts
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.drift import (
    ColumnDrift,
    ColumnPair,
    compare_counts,
    counts_by_column,
    find_changed_correlations,
    find_drift,
    pair_name,
)
from millrace.monitoring.seasonality import find_of_days
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.data import MODERATE_SHIFT
from millrace.spec.monitoring import DependenceRule, DriftRule
from millrace.stats.distances import Counts, chi_square, chi_square_by_degree

_DAYS_OF_WEEK = 7
#: Least number of steps from one day to the next that show how far days differ.
_FEWEST_STEPS = 13
#: Median of a chi-square value with one degree of freedom.
_MEDIAN_STEP = 0.4549
#: Least design effects that are no chance: of counts, whose steps have many degrees of freedom, and of correlations.
_LEAST_OF_COUNTS, _LEAST_OF_PAIRS = 2.0, 4.0
#: p-value of a step between days that is no chance.
_RARE_STEP = 1e-5


def find_what_is_of_days(days: Sequence[Traffic], monitored: MonitoredVersion) -> dict[str, float]:
    """Return what is a matter of the day, with its share: features, predictions, and correlations of features.

    ``days`` are whole days of traffic, one after the other.
    """
    bins = monitored.reference.bins
    columns = {name: reduce(add, [day.features.columns[name] for day in days]) for name in bins}
    training = counts_by_column(monitored.training, monitored)
    compared = [name for name, own in bins.items() if not (isinstance(own, NumberBins) and own.goes_on)]
    few_values = {name for name in compared if columns[name].has_few_values(bins[name])}
    counts = [counts_by_column(day, monitored) for day in days]
    found = find_of_days(counts, few_values, {name: training[name] for name in compared})
    if len(days) <= _FEWEST_STEPS:
        return found
    predictions = [name for name in training if name not in bins and all(name in day for day in counts)]
    effects = {name: _effect_of_counts([day[name].astype(np.float64) for day in counts]) for name in predictions}
    effects = {name: effect for name, effect in effects.items() if effect >= _LEAST_OF_COUNTS}
    effects |= _effects_of_correlations([day.features for day in days], monitored.reference)
    rows = sum(day.features.rows for day in days) / len(days)
    return {name: effect / max(1.0, rows) for name, effect in effects.items()} | found


def find_steady(days: Sequence[Traffic], monitored: MonitoredVersion) -> frozenset[str]:
    """Return the features and predictions whose days differ by no more than their rows explain.

    One step may be larger, as of a lasting change: a rare day, such as a holiday, is two.
    """
    counts = [counts_by_column(day, monitored) for day in days]
    names = set.intersection(*map(set, counts)) if len(counts) > 1 else set()
    by_name = {name: [day[name].astype(np.float64) for day in counts] for name in names}
    return frozenset(
        name
        for name, own in by_name.items()
        if _effect_of_counts(own) < _LEAST_OF_COUNTS
        and sum(chi_square(*pair).p_value < _RARE_STEP for pair in pairwise(own)) <= 1
    )


def _effect_of_counts(days: Sequence[Counts]) -> float:
    """Return the median chi-square value of the steps between days, by degree of freedom: about 1 by chance.

    The median leaves out one lasting change, which is one step.
    """
    return float(np.median([chi_square_by_degree(*pair) for pair in pairwise(days)]))


def _effects_of_correlations(days: Sequence[TableHistogram], reference: Reference) -> dict[str, float]:
    """Return the design effects of correlations that clearly differ from day to day, by Fisher's z."""
    limit, plan = 1.0 - 1e-6, reference.plan
    known = [day.correlations for day in days if day.correlations.rows > 3]  # noqa: PLR2004  # of Fisher's variance
    if len(known) <= _FEWEST_STEPS or len(plan) <= 1:
        return {}
    values = np.arctanh(np.clip([own.correlations() for own in known], -limit, limit))
    noise = np.array([1.0 / (own.rows - 3) for own in known])
    steps = np.square(np.diff(values, axis=0)) / (noise[1:] + noise[:-1])[:, None, None]
    first, second = np.triu_indices(len(plan), 1)
    medians = np.median(steps[:, first, second], axis=0) / _MEDIAN_STEP
    places = np.flatnonzero(medians >= _LEAST_OF_PAIRS).tolist()  # those that are not known are left out
    names = [score.name for score in plan.scores]
    return {pair_name(names[first[at]], names[second[at]]): float(medians[at]) for at in places}


def _design_effect(share: float, rows: int) -> float:
    """Return the design effect of a week of rows."""
    return max(1.0, share * rows / _DAYS_OF_WEEK)


def compare_by_days(
    reference: Reference, week: TableHistogram, of_days: Mapping[str, float], rule: DriftRule, rate: float
) -> list[WindowFinding]:
    """Compare features that are a matter of the day with training: their rows of a week are few draws."""
    drifts = []
    for name, share in sorted(of_days.items()):
        if name not in reference.bins:
            continue
        pair = [comparable_counts(reference.bins[name], one.columns[name].counts) for one in (reference.training, week)]
        before, now = (counts.astype(np.float64) for counts in pair)
        rows = int(now.sum())
        distance = compare_counts(reference.bins[name], before, now, _design_effect(share, rows))
        drifts.append(ColumnDrift(name, {"psi": distance}, rows))
    by_index = rule.model_copy(update={"measure": "psi", "threshold": MODERATE_SHIFT})
    return find_drift("feature_drift", drifts, by_index, rate=rate, baseline="in training")


def compare_predictions_by_days(
    columns: Sequence[ColumnPair], of_days: Mapping[str, float], rule: DriftRule, rate: float, baseline: str
) -> list[WindowFinding]:
    """Compare predictions of a week that are a matter of the day with the holdout, as few draws."""
    drifts = []
    for column in columns:
        before, now = (comparable_counts(column.bins, one.counts) for one in (column.before, column.now))
        rows = int(now.sum())
        effect = _design_effect(of_days.get(column.name, 0.0), rows)
        distance = compare_counts(column.bins, before.astype(np.float64), now.astype(np.float64), effect)
        drifts.append(ColumnDrift(column.name, {"psi": distance}, rows))
    by_index = rule.model_copy(update={"measure": "psi", "threshold": MODERATE_SHIFT})
    return find_drift("prediction_drift", drifts, by_index, rate=rate, baseline=baseline)


def compare_correlations_by_days(
    reference: Reference, week: TableHistogram, of_days: Mapping[str, float], rule: DependenceRule, rate: float
) -> list[WindowFinding]:
    """Compare correlations of a week with training's; those that are a matter of the day are of few draws."""
    effects = {name: _design_effect(share, week.correlations.rows) for name, share in of_days.items()}
    return find_changed_correlations(reference, reference.training, week, rule, rate, design_effects=effects)
