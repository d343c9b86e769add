"""Drift: features whose values are distributed otherwise than in training, than before, or than on like hours.

A feature counts as drifted when the change is large *and* not due to chance: its distance, less what sampling alone is
expected to give, reaches the threshold, and Benjamini and Hochberg's procedure over all features finds it. With few
rows the second decides, with many the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from millrace.histograms.bins import Cells, NumberCells, WordCells, coarse_groups, merge_rare_categories
from millrace.histograms.dependence import LEAST_ROWS, DependenceSketch, ScorePlan
from millrace.histograms.predictions import AnswerSketch
from millrace.histograms.tables import ColumnSketch
from millrace.monitoring.findings import Finding, VerdictName, too_few
from millrace.spec.monitoring import DependenceWatch, DriftWatch
from millrace.stats.distances import (
    Counts,
    Distance,
    chi_square,
    discoveries,
    jensen_shannon_distance,
    kolmogorov_smirnov,
    normal_tail,
    population_stability_index,
    wasserstein,
)

#: What each measure is called in messages.
MEASURE_NAMES = {
    "psi": "population stability index",
    "jensen_shannon": "Jensen-Shannon distance",
    "kolmogorov_smirnov": "Kolmogorov-Smirnov distance",
    "wasserstein": "Wasserstein distance in standard deviations",
    "cramers_v": "Cramér's V",
}

#: Values named in a message.
_NAMED_VALUES = 3


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """How far one column's values are from where they were.

    Parameters
    ----------
    distances : mapping of str to Distance
        ``psi`` and ``jensen_shannon``; of numbers ``kolmogorov_smirnov`` and ``wasserstein``, of words ``cramers_v``.
    rows : int
        Known values now.
    before, now : mapping
        For messages and reports: mean of numbers, shares of the words that changed most.
    """

    column: str
    distances: Mapping[str, Distance]
    rows: int
    before: Mapping[str, Any] = field(default_factory=dict)
    now: Mapping[str, Any] = field(default_factory=dict)

    def measured(self, measure: str) -> tuple[str, Distance]:
        """Return a measure's name and value; Cramér's V where the measure needs an order and there is none."""
        name = measure if measure in self.distances else "cramers_v"
        return name, self.distances[name]


def compare_column(name: str, cells: Cells, reference: ColumnSketch, present: ColumnSketch) -> ColumnDrift:
    """Compare one column's known values; missing ones, and words that training never saw, belong to data quality."""
    first, second = reference.counts.astype(np.float64), present.counts.astype(np.float64)
    if isinstance(cells, NumberCells):
        coarse = cells.coarse(first), cells.coarse(second)
        distances = {
            "psi": population_stability_index(*coarse),
            "jensen_shannon": jensen_shannon_distance(*coarse),
            "kolmogorov_smirnov": kolmogorov_smirnov(first, second),
            "wasserstein": wasserstein(first, second, reference.cell_means(), present.cell_means(), cells.scale),
        }
        means = ({"mean": sketch.mean()} for sketch in (reference, present))
        return ColumnDrift(name, distances, present.known, *means)
    first, second = first[: cells.unknown], second[: cells.unknown]
    distances = {
        "psi": population_stability_index(*merge_rare_categories(first, second)),
        "jensen_shannon": jensen_shannon_distance(first, second),
        "cramers_v": chi_square(first, second),
    }
    return ColumnDrift(name, distances, int(second.sum()), *_changed_words(cells, first, second))


def _changed_words(cells: WordCells, first: Counts, second: Counts) -> tuple[dict[str, float], dict[str, float]]:
    names = [*cells.words, "other known values"]
    before, now = first / max(1.0, first.sum()), second / max(1.0, second.sum())
    changed = np.argsort(-np.abs(now - before), kind="stable")[:_NAMED_VALUES].tolist()
    kept = [index for index in changed if before[index] != now[index]]
    return ({names[i]: float(before[i]) for i in kept}, {names[i]: float(now[i]) for i in kept})


def find_drift(
    verdict: VerdictName,
    drifts: Sequence[ColumnDrift],
    watch: DriftWatch,
    *,
    rate: float,
    baseline: str,
) -> list[Finding]:
    """Judge columns together.

    Parameters
    ----------
    drifts : sequence of ColumnDrift
        One of each column.
    rate : float
        False discovery rate over the columns.
    baseline : str
        What was compared with, for messages: ``in training``.
    """
    enough = [drift for drift in drifts if drift.rows >= watch.min_rows]
    measured = [drift.measured(watch.measure) for drift in enough]
    found = discoveries([distance.p_value for _, distance in measured], rate)
    judged = {
        drift.column: _judge(verdict, drift, name, distance, watch.threshold, real=real, baseline=baseline)
        for drift, (name, distance), real in zip(enough, measured, found, strict=True)
    }
    return [
        judged.get(drift.column) or too_few(verdict, drift.column, drift.rows, watch.min_rows, "values")
        for drift in drifts
    ]


def _judge(
    verdict: VerdictName,
    drift: ColumnDrift,
    measure: str,
    distance: Distance,
    threshold: float,
    *,
    real: bool,
    baseline: str,
) -> Finding:
    breach = real and distance.excess >= threshold
    return Finding(
        verdict=verdict,
        subject=drift.column,
        status="breach" if breach else "ok",
        message=_words(drift, measure, distance, threshold, baseline, breach=breach),
        measure=measure,
        value=distance.excess,
        threshold=threshold,
        rows=drift.rows,
        p_value=distance.p_value,
        details={
            "before": dict(drift.before),
            "now": dict(drift.now),
            "distances": {name: one.value for name, one in drift.distances.items()},
        },
    )


def _words(
    drift: ColumnDrift, measure: str, distance: Distance, threshold: float, baseline: str, *, breach: bool
) -> str:
    size = f"{MEASURE_NAMES[measure]} {distance.excess:.2f} beyond chance"
    if not breach:
        return f"{drift.column!r} is distributed as {baseline}: {size}, and {threshold:g} would matter"
    if "mean" in drift.now:
        change = _mean_change(drift)
    else:
        change = ", ".join(f"{name!r} {drift.before[name]:.0%} → {drift.now[name]:.0%}" for name in drift.now)
    return f"{drift.column!r} is distributed otherwise than {baseline}: {change}; {size} ({threshold:g} matters)"


def _mean_change(drift: ColumnDrift) -> str:
    before, now = drift.before["mean"], drift.now["mean"]
    if before is None or now is None:
        return "no mean on one side"
    return f"mean {before:.4g} → {now:.4g}"


AnyAnswers = AnswerSketch | ColumnSketch
_TWO = 2


def find_prediction_drift(
    reference: AnyAnswers,
    present: AnyAnswers,
    watch: DriftWatch,
    *,
    rate: float,
    classes: tuple[str, ...] = (),
    target: NumberCells | None = None,
    baseline: str = "on the holdout",
) -> list[Finding]:
    """Judge a model's answers.

    Parameters
    ----------
    reference, present : AnswerSketch, or ColumnSketch for regression
        Of the same model.
    classes : tuple of str
        Of the model; empty for regression.
    target : NumberCells or None
        That a regression's answers are counted in.
    """
    drifts = [
        compare_column(column.name, column.cells, column.before, column.now)
        for column in answer_columns(reference, present, classes, target)
    ]
    return find_drift("prediction_drift", drifts, watch, rate=rate, baseline=baseline)


@dataclass(frozen=True, slots=True)
class AnswerColumn:
    """Something that can be compared like a feature: on the holdout (or in training), and now."""

    name: str
    cells: Cells
    before: ColumnSketch
    now: ColumnSketch


def answer_columns(
    reference: AnyAnswers, present: AnyAnswers, classes: tuple[str, ...], target: NumberCells | None
) -> list[AnswerColumn]:
    """Return what is compared of answers: labels and probabilities, or values."""
    if isinstance(reference, AnswerSketch) and isinstance(present, AnswerSketch):
        return _class_columns(reference, present, classes)
    if target is None or isinstance(reference, AnswerSketch) or isinstance(present, AnswerSketch):
        raise TypeError("answers of a regression are compared with each other, in the target's cells")
    return [AnswerColumn("predicted value", target, reference, present)]


def _class_columns(reference: AnswerSketch, present: AnswerSketch, classes: tuple[str, ...]) -> list[AnswerColumn]:
    labels = [ColumnSketch(np.append(one.labels, [0, 0]), np.zeros(0)) for one in (reference, present)]
    columns = [AnswerColumn("predicted label", WordCells(classes), *labels)]
    # Of two classes, the second's probability says what the first's does.
    told = [1] if len(classes) == _TWO else range(len(classes))
    for index in told:
        counts = [one.probabilities[index] for one in (reference, present)]
        size = len(counts[0])
        cells = NumberCells(np.arange(1, size) / size, coarse_groups(counts[0].astype(np.float64)), 0.0, 1.0)
        middles = (np.arange(size) + 0.5) / size
        sketches = [ColumnSketch(one, one * middles, low=0.0, high=1.0) for one in counts]
        cells = _with_deviation(cells, sketches[0])
        columns.append(AnswerColumn(f"probability of {classes[index]!r}", cells, *sketches))
    return columns


def _with_deviation(cells: NumberCells, reference: ColumnSketch) -> NumberCells:
    size, rows = len(cells), max(1, reference.known)
    middles = (np.arange(size) + 0.5) / size
    mean = float(reference.sums.sum() / rows)
    deviation = float(np.sqrt(np.sum(reference.counts * (middles - mean) ** 2) / rows))
    return NumberCells(cells.edges, cells.groups, cells.minimum, cells.maximum, mean, deviation or 1.0)


@dataclass(frozen=True, slots=True)
class BrokenPair:
    """How one pair's correlation changed."""

    first: str
    second: str
    before: float
    now: float
    p_value: float

    @property
    def change(self) -> float:
        """By how much."""
        return abs(self.now - self.before)


def compare_dependence(plan: ScorePlan, reference: DependenceSketch, present: DependenceSketch) -> list[BrokenPair]:
    """Compare every pair of scores of different columns, by Fisher's z.

    The transform ``atanh(r)`` has a standard deviation of about ``1 / sqrt(n - 3)`` (Fisher 1921, *Metron* 1: 3-32).
    """
    if min(reference.rows, present.rows) < LEAST_ROWS:
        return []
    before, now = reference.correlations(), present.correlations()
    deviation = float(np.sqrt(1.0 / (reference.rows - 3) + 1.0 / (present.rows - 3)))
    limit = 1.0 - 1e-6
    transformed = np.arctanh(np.clip(now, -limit, limit)) - np.arctanh(np.clip(before, -limit, limit))
    pairs: list[BrokenPair] = []
    for i, j in zip(*np.triu_indices(len(plan), 1), strict=True):
        one, other = plan.scores[int(i)], plan.scores[int(j)]
        if one.column == other.column or np.isnan(transformed[i, j]):
            continue
        p_value = 2.0 * normal_tail(abs(float(transformed[i, j])) / deviation)
        pairs.append(BrokenPair(one.name, other.name, float(before[i, j]), float(now[i, j]), p_value))
    return pairs


def find_broken_pairs(
    plan: ScorePlan, reference: DependenceSketch, present: DependenceSketch, watch: DependenceWatch, rate: float
) -> list[Finding]:
    """Judge all pairs together: a finding for each that broke, and one for the rest."""
    if present.rows < watch.min_rows:
        return [too_few("dependence", "every pair", present.rows, watch.min_rows)]
    if not reference.rows:
        return [Finding("dependence", "every pair", "unknown", "the training data's correlations were not kept")]
    pairs = compare_dependence(plan, reference, present)
    found = discoveries([pair.p_value for pair in pairs], rate)
    broken = [pair for pair, real in zip(pairs, found, strict=True) if real and pair.change >= watch.threshold]
    broken.sort(key=lambda pair: (-pair.change, pair.first, pair.second))
    largest = max((pair.change for pair in pairs), default=0.0)
    message = f"{len(pairs) - len(broken):,} pairs of features go together as in training"
    rest = Finding("dependence", "every other pair", "ok", message, "change", largest, watch.threshold, present.rows)
    return [_judge_dependence(pair, watch.threshold, present.rows) for pair in broken] + ([] if broken else [rest])


def _judge_dependence(pair: BrokenPair, threshold: float, rows: int) -> Finding:
    return Finding(
        verdict="dependence",
        subject=f"{pair.first} and {pair.second}",
        status="breach",
        message=f"{pair.first!r} and {pair.second!r} no longer go together as in training: correlation "
        f"{pair.before:.2f} → {pair.now:.2f}, although each may look as it did",
        measure="change of correlation",
        value=pair.change,
        threshold=threshold,
        rows=rows,
        p_value=pair.p_value,
        details={"before": pair.before, "now": pair.now},
    )
