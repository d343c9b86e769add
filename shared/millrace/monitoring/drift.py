"""Drift: features whose values are distributed otherwise than in training, than before, or than on like hours.

A feature counts as drifted when the change is large *and* not due to chance: its distance, less what sampling alone is
expected to give, reaches the threshold, and Benjamini and Hochberg's procedure over all features finds it. With few
rows the second decides, with many the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from millrace.monitoring.findings import Finding, VerdictName, too_few
from millrace.monitoring.statistics import (
    Counts,
    Distance,
    chi_square,
    discoveries,
    jensen_shannon_distance,
    kolmogorov_smirnov,
    population_stability_index,
    wasserstein,
)
from millrace.sketches.cells import Cells, NumberCells, WordCells
from millrace.sketches.tables import ColumnSketch
from millrace.spec.monitoring import DriftWatch

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
        "psi": population_stability_index(first, second),
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
