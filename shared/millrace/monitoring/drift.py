"""Drift: distributions of features and predictions that differ from training, the holdout or an earlier window.

A column has drifted when the change is large *and* significant: its distance, less the distance that sampling alone is
expected to give, reaches the threshold, and Benjamini and Hochberg's procedure over all columns rejects chance. With
few rows the test decides, with many the size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.histograms.bins import Bins, CategoryBins, NumberBins, coarse_groups, merge_rare_categories
from millrace.histograms.predictions import AnyPredictions, PredictionHistogram, Traffic, ValueHistogram
from millrace.histograms.tables import (
    PARTS_OF_YEAR,
    ColumnHistogram,
    Reference,
    TableHistogram,
    comparable_counts,
    part_of_year,
)
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.seasonality import DAY, impurity
from millrace.monitoring.window_findings import WindowFinding, breach_or_ok, too_few
from millrace.quantities import format_number
from millrace.spec.data import MODERATE_SHIFT
from millrace.spec.monitoring import DependenceRule, DriftRule
from millrace.stats.distances import (
    Counts,
    Distance,
    benjamini_hochberg,
    chi_square,
    jensen_shannon_distance,
    kolmogorov_smirnov,
    normal_tail,
    population_stability_index,
    wasserstein,
)

#: Label of each measure.
MEASURE_LABELS = {
    "psi": "population stability index",
    "jensen_shannon": "Jensen-Shannon distance",
    "kolmogorov_smirnov": "Kolmogorov-Smirnov distance",
    "wasserstein": "Wasserstein distance in standard deviations",
    "cramers_v": "Cramér's V",
}
_NAMED_CATEGORIES = 3
_TWO = 2


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """Distances between two distributions of one column."""

    column: str
    #: ``psi`` and ``jensen_shannon``; of numbers ``kolmogorov_smirnov`` and ``wasserstein``, of categories
    #: ``cramers_v``.
    distances: Mapping[str, Distance]
    rows: int
    #: Mean of numbers, or shares of the categories that changed most.
    before: Mapping[str, Any] = field(default_factory=dict)
    now: Mapping[str, Any] = field(default_factory=dict)

    def measured(self, measure: str) -> tuple[str, Distance]:
        """Return a measure's name and value; Cramér's V where the measure needs an order and there is none."""
        name = measure if measure in self.distances else "cramers_v"
        return name, self.distances[name]


def compare_column(
    name: str, bins: Bins, reference: ColumnHistogram, present: ColumnHistogram, *, by_index_alone: bool = False
) -> ColumnDrift:
    """Compare one column's known values; missing values and unseen categories belong to data quality.

    With ``by_index_alone`` only the population stability index is measured, for comparisons that nobody is shown.
    """
    first, second = reference.counts.astype(np.float64), present.counts.astype(np.float64)
    if isinstance(bins, NumberBins):
        coarse, fine = (bins.coarse(first), bins.coarse(second)), (first, second)
        if any(2 * one.out_of_range > one.known for one in (reference, present)):
            coarse, fine = (_part_beyond(pair, reference, present) for pair in (coarse, fine))
        if by_index_alone:
            return ColumnDrift(name, {"psi": population_stability_index(*coarse)}, present.known)
        cumulative = kolmogorov_smirnov(*fine)
        moved = wasserstein(first, second, reference.bin_means(), present.bin_means(), bins.scale)
        distances = {
            "psi": population_stability_index(*coarse),
            "jensen_shannon": jensen_shannon_distance(*coarse),
            "kolmogorov_smirnov": cumulative,
            "wasserstein": replace(moved, p_value=cumulative.p_value),
        }
        means = ({"mean": histogram.mean()} for histogram in (reference, present))
        return ColumnDrift(name, distances, present.known, *means)
    first, second = first[: bins.unseen], second[: bins.unseen]
    index = population_stability_index(*merge_rare_categories(first, second))
    if by_index_alone:
        return ColumnDrift(name, {"psi": index}, int(second.sum()))
    distances = {
        "psi": index,
        "jensen_shannon": jensen_shannon_distance(first, second),
        "cramers_v": chi_square(first, second),
    }
    return ColumnDrift(name, distances, int(second.sum()), *_changed_categories(bins, first, second))


def _part_beyond(pair: tuple[Counts, Counts], *histograms: ColumnHistogram) -> tuple[Counts, Counts]:
    """Give values beyond training's range a bin of their own: in the last one, they would pass for its maximum."""
    first, second = (
        np.append(counts[:-1], [counts[-1] - moved, moved])
        for counts, histogram in zip(pair, histograms, strict=True)
        for moved in [min(float(histogram.out_of_range), counts[-1])]
    )
    return first, second


def _changed_categories(bins: CategoryBins, first: Counts, second: Counts) -> tuple[dict[str, float], dict[str, float]]:
    names = [*bins.categories, "other known values"]
    before, now = first / max(1.0, first.sum()), second / max(1.0, second.sum())
    changed = np.argsort(-np.abs(now - before), kind="stable")[:_NAMED_CATEGORIES].tolist()
    kept = [index for index in changed if before[index] != now[index]]
    return ({names[i]: float(before[i]) for i in kept}, {names[i]: float(now[i]) for i in kept})


def find_drift(
    verdict: str, drifts: Sequence[ColumnDrift], rule: DriftRule, *, rate: float, baseline: str
) -> list[WindowFinding]:
    """Evaluate columns together at a false discovery rate; ``baseline`` is a phrase for messages: ``in training``."""
    enough = [drift for drift in drifts if drift.rows >= rule.min_rows]
    found = benjamini_hochberg([drift.measured(rule.measure)[1].p_value for drift in enough], rate)
    evaluated = {
        drift.column: _evaluate(verdict, drift, rule, baseline, significant=significant)
        for drift, significant in zip(enough, found, strict=True)
    }
    return [
        evaluated.get(drift.column) or too_few(verdict, drift.column, drift.rows, rule.min_rows, "values")
        for drift in drifts
    ]


def _evaluate(verdict: str, drift: ColumnDrift, rule: DriftRule, baseline: str, *, significant: bool) -> WindowFinding:
    measure, distance = drift.measured(rule.measure)
    breach = significant and distance.excess >= rule.threshold
    size = f"{MEASURE_LABELS[measure]} {distance.excess:.2f} beyond chance, threshold {rule.threshold:g}"
    if breach:
        message = f"the distribution of {drift.column!r} differs from that {baseline}: {_change(drift)}; {size}"
    else:
        message = f"the distribution of {drift.column!r} is as {baseline}: {size}"
    return WindowFinding(
        verdict=verdict,
        subject=drift.column,
        status=breach_or_ok(breach),
        message=message,
        measure=measure,
        value=distance.excess,
        threshold=rule.threshold,
        rows=drift.rows,
        p_value=distance.p_value,
        details={
            "before": dict(drift.before),
            "now": dict(drift.now),
            "distances": {name: one.value for name, one in drift.distances.items()},
        },
    )


def _change(drift: ColumnDrift) -> str:
    if not drift.now:
        return "its values are sensitive"
    if "mean" not in drift.now:
        return ", ".join(f"{name!r} {drift.before[name]:.0%} → {drift.now[name]:.0%}" for name in drift.now)
    before, now = drift.before["mean"], drift.now["mean"]
    if before is None or now is None:
        return "one of them has no values"
    return f"mean {format_number(before)} → {format_number(now)}"


def compare_counts(bins: Bins, before: Counts, now: Counts, design_effect: float = 1.0) -> Distance:
    """Return the population stability index; present rows count as so many times fewer as the design effect says."""
    pair = (before, now) if isinstance(bins, NumberBins) else merge_rare_categories(before, now)
    return population_stability_index(*pair, design_effect=design_effect)


def _excess(distance: Distance) -> float:
    return distance.excess


def counts_by_column(traffic: Traffic, monitored: MonitoredVersion) -> dict[str, npt.NDArray[np.int64]]:
    """Return the counts of features and predictions in bins that have enough rows each."""
    reference = monitored.reference
    columns = reference.bins.items()
    counts = {name: comparable_counts(bins, traffic.features.columns[name].counts) for name, bins in columns}
    if traffic.predictions is not None and (reference.target is not None or monitored.classes):
        before = monitored.profile.predictions if monitored.profile else traffic.predictions
        for column in prediction_columns(before, traffic.predictions, monitored.classes, reference.target):
            counts[column.name] = comparable_counts(column.bins, column.now.counts)
    return counts


#: Share of a week's rows whose values training had at no near time of the year, for a feature that follows the year.
_UNKNOWN_AT_THE_TIME = 0.01
#: Half months are wide, so that a week may differ from them by twice a moderate shift.
_ROOM_IN_YEAR = 2.0
#: Least share of a feature's impurity between times of the year that makes it one of the year.
_YEAR_SHARE = 0.5
#: Least share that makes its changes possibly those of a season.
_SEASONAL_SHARE = 0.1
#: Years of training that show how much years differ.
_ENOUGH_YEARS = 3


def find_seasonal_features(reference: Reference, present: TableHistogram, at: datetime) -> dict[str, str]:
    """Return the features whose changes may be those between years, with the reason.

    They move with the time of the year, and have values that training had near it. There are none where training has no
    year, or so many that they show how much years differ.
    """
    times, position = reference.times_of_year, float(part_of_year(np.array(at.timestamp())))
    if times is None:
        return {}
    dated = reference.training.columns[times.date]
    years = max(1, round((dated.high - dated.low) / (_DAYS * DAY.total_seconds())))
    if years >= _ENOUGH_YEARS:
        return {}
    number = "one year does" if years == 1 else "two years do"
    reason = f"it has values that training had at this time of the year, and {number} not show how much years differ"
    return {
        name: reason
        for name, by_part in times.columns.items()
        if _year_share(by_part) >= _SEASONAL_SHARE
        and _unknown_share(times.near(name, position)[1], reference.bins[name], present.columns[name])
        <= _UNKNOWN_AT_THE_TIME
    }


def _unknown_share(near: npt.NDArray[Any], bins: Bins, present: ColumnHistogram) -> float:
    counts = comparable_counts(bins, present.counts)
    return float(counts[near == 0].sum()) / max(1.0, float(counts.sum()))


def _year_share(by_part: npt.NDArray[Any]) -> float:
    """Return the share of impurity between times of the year (Goodman and Kruskal's tau)."""
    whole, counts = impurity(by_part.sum(axis=0)), by_part.astype(np.float64)
    rows = counts.sum(axis=1)
    # Of each part, the rows times the impurity.
    within = np.sum((rows**2 - np.square(counts).sum(axis=1)) / np.maximum(1.0, rows - 1.0)) / max(1.0, rows.sum())
    return float(1.0 - within / whole) if whole > 0 else 0.0


def compare_time_of_year(
    reference: Reference, present: TableHistogram, at: datetime, rule: DriftRule, rate: float
) -> list[WindowFinding]:
    """Compare features with training's rows of the same time of the year, by the population stability index.

    A feature that follows the year, such as the month, has to have values that training had at that time.
    """
    times, position = reference.times_of_year, float(part_of_year(np.array(at.timestamp())))
    if times is None:
        return []
    drifts = []
    for name, by_part in times.columns.items():
        counts = comparable_counts(reference.bins[name], present.columns[name].counts)
        weighted, near = times.near(name, position)
        if _year_share(by_part) >= _YEAR_SHARE:
            unknown = _unknown_share(near, reference.bins[name], present.columns[name]) > _UNKNOWN_AT_THE_TIME
            distance = Distance(1.0, 1.0, 0.0) if unknown else Distance(0.0, 0.0, 1.0)
        else:
            # A holiday is rare in its half month, and one in the months around.
            known = (np.asarray(one, dtype=np.float64) for one in (weighted, near))
            now = counts.astype(np.float64)
            distance = min((compare_counts(reference.bins[name], one, now) for one in known), key=_excess)
        drifts.append(ColumnDrift(name, {"psi": distance}, int(counts.sum())))
    by_index = rule.model_copy(update={"measure": "psi", "threshold": _ROOM_IN_YEAR * MODERATE_SHIFT})
    return find_drift("feature_drift", drifts, by_index, rate=rate, baseline="in training at this time of the year")


#: Half a month: dates so near have the same season.
_NEAR_MONTHS = 0.5
_MONTHS, _DAYS = 12.0, 365.2425


def describe_unseen_time_of_year(reference: Reference, at: datetime) -> str:
    """Return the statement that training has no rows of the time of the year; empty where it has, or has no date."""
    bins = reference.bins.items()
    dates = [name for name, own in bins if isinstance(own, NumberBins) and own.is_date]
    columns = [column for name in dates if (column := reference.training.columns[name]).known]
    if reference.times_of_year is not None or not columns:
        return ""
    # The latest date is when a row was made; others, such as a birthday, may be of any time.
    dated = max(columns, key=lambda column: column.high)
    first, span = (float(part_of_year(np.array(one))) for one in (dated.low, dated.high - dated.low))
    if dated.high - dated.low >= _DAYS * DAY.total_seconds():
        return ""
    since = (float(part_of_year(np.array(at.timestamp()))) - first) % PARTS_OF_YEAR
    half_months = _NEAR_MONTHS * PARTS_OF_YEAR / _MONTHS
    if since <= span + half_months or since >= PARTS_OF_YEAR - half_months:
        return ""
    share = span / PARTS_OF_YEAR
    length = f"{share * _DAYS:.0f} days" if share * _MONTHS < _TWO else f"{share * _MONTHS:.0f} months"
    return f"training has {length} of a year, and none of this time of it"


@dataclass(frozen=True, slots=True)
class ColumnPair:
    """Two histograms of a column in the same bins: of the baseline and of the window."""

    name: str
    bins: Bins
    before: ColumnHistogram
    now: ColumnHistogram
    hides_values: bool = field(default=False, kw_only=True)

    def compare(self) -> ColumnDrift:
        """Return the distances between them."""
        drift = compare_column(self.name, self.bins, self.before, self.now)
        return replace(drift, before={}, now={}) if self.hides_values else drift


def prediction_columns(
    reference: AnyPredictions,
    present: AnyPredictions,
    classes: tuple[str, ...],
    target: NumberBins | None,
    *,
    hides_values: bool = False,
) -> list[ColumnPair]:
    """Return predictions as columns: labels and probabilities, or values in the target's bins."""
    if isinstance(reference, PredictionHistogram) and isinstance(present, PredictionHistogram):
        return _class_columns(reference, present, classes)
    if target is None or not isinstance(reference, ValueHistogram) or not isinstance(present, ValueHistogram):
        raise TypeError("predictions of a regression are compared with each other, in the target's bins")
    return [ColumnPair("predicted value", target, reference, present, hides_values=hides_values)]


def _class_columns(
    reference: PredictionHistogram, present: PredictionHistogram, classes: tuple[str, ...]
) -> list[ColumnPair]:
    labels = [ColumnHistogram(counts=np.append(one.labels, [0, 0])) for one in (reference, present)]
    columns = [ColumnPair("predicted label", CategoryBins(classes), *labels)]
    # Of two classes, the second's probability says what the first's does.
    for index in [1] if len(classes) == _TWO else range(len(classes)):
        counts = [one.probabilities[index] for one in (reference, present)]
        size = len(counts[0])
        middles = (np.arange(size) + 0.5) / size
        histograms = [ColumnHistogram(counts=one, sums=one * middles, low=0.0, high=1.0) for one in counts]
        bins = _probability_bins(counts[0], middles)
        columns.append(ColumnPair(f"probability of {classes[index]!r}", bins, *histograms))
    return columns


def _probability_bins(counts: Counts, middles: Counts) -> NumberBins:
    size, rows = len(counts), max(1, int(counts.sum()))
    mean = float(np.sum(counts * middles) / rows)
    deviation = float(np.sqrt(np.sum(counts * (middles - mean) ** 2) / rows))
    groups = coarse_groups(counts.astype(np.float64))
    return NumberBins(np.arange(1, size) / size, groups, 0.0, 1.0, mean, deviation or 1.0)


def pair_name(first: str, second: str) -> str:
    """Return the subject of findings on the correlation of two scores."""
    return f"{first} and {second}"


#: Share of the variance of a feature's ranks that bins may hide: half of the values in one bin hide an eighth.
_MAX_HIDDEN = 0.1


def _hides_ranks(bins: Bins, column: ColumnHistogram) -> bool:
    """Return True where a window's correlations cannot be those of training: it has but a short time of any date."""
    is_constant = int(np.count_nonzero(column.counts)) <= 1
    if is_constant or not isinstance(bins, NumberBins):
        return is_constant
    return bins.goes_on or column.hidden_variance(bins) > _MAX_HIDDEN


#: Share of training's values in one bin, from which on a window's other values are too few: as of a rare category.
_NEARLY_CONSTANT = 0.95


def _is_nearly_constant(bins: Bins, training: ColumnHistogram) -> bool:
    return isinstance(bins, NumberBins) and float(training.counts.max()) > _NEARLY_CONSTANT * max(1, training.known)


def find_changed_correlations(
    reference: Reference,
    earlier: TableHistogram,
    later: TableHistogram,
    rule: DependenceRule,
    rate: float,
    *,
    design_effects: Mapping[str, float] = MappingProxyType({}),
) -> list[WindowFinding]:
    """Evaluate every pair of scores of different columns together, by Fisher's z.

    Returns a finding of each changed pair, or one of all pairs. The transform ``atanh(r)`` has a standard deviation of
    about ``1 / sqrt(n - 3)`` (Fisher 1921, *Metron* 1: 3-32). Correlations of numbers most of whose values share few
    bins, as those beyond training's range do, are not known: ranks within a bin are equal. Present rows count as so
    many times fewer as the design effect of their pair says.
    """
    plan, past, present = reference.plan, earlier.correlations, later.correlations
    if present.rows < rule.min_rows:
        return [too_few("dependence", "every pair", present.rows, rule.min_rows)]
    if not past.rows:
        return [WindowFinding("dependence", "every pair", "unknown", "training's correlations were not kept")]
    before, now = past.correlations(), present.correlations()
    scores, limit = plan.scores, 1.0 - 1e-6
    bins, training = reference.bins, reference.training.columns
    hidden = {
        score.column
        for score in scores
        if _hides_ranks(bins[score.column], later.columns[score.column])
        or _is_nearly_constant(bins[score.column], training[score.column])
    }
    is_hidden = np.array([score.column in hidden for score in scores], dtype=np.bool_)
    now[is_hidden, :] = now[:, is_hidden] = np.nan
    changes = np.arctanh(np.clip(now, -limit, limit)) - np.arctanh(np.clip(before, -limit, limit))
    every = zip(*(places.tolist() for places in np.triu_indices(len(plan), 1)), strict=True)
    pairs = [(i, j) for i, j in every if scores[i].column != scores[j].column and not np.isnan(before[i, j])]
    known = [pair for pair in pairs if not np.isnan(changes[pair])]
    sizes = {pair: abs(float(now[pair] - before[pair])) for pair in known}
    subjects = {(i, j): pair_name(scores[i].name, scores[j].name) for i, j in known}
    effects = [design_effects.get(subjects[pair], 1.0) for pair in known]
    deviations = [math.sqrt(1.0 / (past.rows - 3) + effect / (present.rows - 3)) for effect in effects]
    p_values = [
        2.0 * normal_tail(abs(float(changes[pair])) / deviation)
        for pair, deviation in zip(known, deviations, strict=True)
    ]
    found = zip(known, p_values, benjamini_hochberg(p_values, rate), strict=True)
    changed = [(pair, p_value) for pair, p_value, real in found if real and sizes[pair] >= rule.threshold]
    names = {(i, j): (scores[i].name, scores[j].name) for (i, j), _ in changed}
    findings = [
        WindowFinding(
            verdict="dependence",
            subject=subjects[pair],
            status="breach",
            message="the correlation of {!r} and {!r} changed: ".format(*names[pair])
            + f"{before[pair]:.2f} in training → {now[pair]:.2f}",
            measure="change of correlation",
            value=sizes[pair],
            threshold=rule.threshold,
            rows=present.rows,
            p_value=p_value,
            details={
                "before": float(before[pair]),
                "now": float(now[pair]),
                "columns": [scores[place].column for place in pair],
            },
        )
        for pair, p_value in sorted(changed, key=lambda one: (-sizes[one[0]], names[one[0]]))
    ]
    if not changed and (known or not pairs):
        message = f"the correlations of {len(known):,} pairs of features are as in training"
        evidence = "change", max(sizes.values(), default=0.0), rule.threshold, present.rows
        findings.append(WindowFinding("dependence", "every other pair", "ok", message, *evidence))
    if unknown := len(pairs) - len(known):
        columns = ", ".join(map(repr, sorted(hidden)[:_NAMED_CATEGORIES])) or "rare categories"
        reason = f"most values of {columns} are dates, missing, the same, or beyond those of training"
        message = f"the correlations of {unknown:,} pairs are not known: {reason}"
        findings.append(WindowFinding("dependence", "unknown pairs", "unknown", message))
    return findings
