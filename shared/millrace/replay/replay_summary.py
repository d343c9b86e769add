"""Summary of replayed rows: agreement, changes by direction and by slice, deviations, and shifts of the outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation.slices import declared_slices, find_worst
from millrace.histograms.predictions import locate_probabilities, probability_bins
from millrace.replay.replay_documents import (
    DecisionChange,
    Deviations,
    OutputShift,
    ReplayedDay,
    ReplayedSlice,
)
from millrace.replay.replayed_rows import ReplayedRows
from millrace.replay.replayed_versions import ReplayedVersions
from millrace.schema import TableSchema
from millrace.serving.scoring import decide_classes
from millrace.spec import ModelSpec
from millrace.stats.distances import population_stability_index

Floats = npt.NDArray[np.float64]

#: Bars of the histogram of deviations, bins of a regression's PSI, and rows of a slice that is found.
_BARS = 20
_VALUE_BINS = 10
MIN_SLICE_ROWS = 30
_MAX_CHANGES = 20


@dataclass(frozen=True, slots=True)
class Comparison:
    """Replayed rows with what both versions decide.

    ``changed`` is 1 where the decision changes, or the absolute change of a regression's value; ``difference`` is the
    signed change of the probability of the last class, or of the value; ``deviations`` is the absolute change of the
    class whose probability changes most, or of the value.
    """

    rows: ReplayedRows
    schema: TableSchema
    champion: npt.NDArray[np.int64]
    candidate: npt.NDArray[np.int64]
    changed: Floats
    difference: Floats
    deviations: Floats

    @classmethod
    def of(cls, rows: ReplayedRows, versions: ReplayedVersions) -> "Comparison":
        """Compare the outputs of rows."""
        schema = versions.baseline.schema
        change = rows.candidate.astype(np.float64) - rows.champion.astype(np.float64)
        if not schema.classes:
            nothing = np.zeros(0, dtype=np.int64)
            return cls(rows, schema, nothing, nothing, np.abs(change), change, np.abs(change))
        first = decide_classes(rows.champion, versions.baseline.threshold)
        second = decide_classes(rows.candidate, versions.candidate.threshold)
        changed = (first != second).astype(np.float64)
        return cls(rows, schema, first, second, changed, change[:, -1], np.abs(change).max(axis=1))

    @property
    def agreement(self) -> float | None:
        """Share of rows with the same decision; None for a regression, and without rows."""
        return float(1.0 - self.changed.mean()) if self.schema.classes and len(self.rows) else None


def list_days(compared: Comparison, labelled: npt.NDArray[np.bool_]) -> tuple[ReplayedDay, ...]:
    """Return the counts by day."""
    days = compared.rows.predicted_at.astype("datetime64[D]").astype(str)
    moved = compared.changed > 0
    return tuple(
        ReplayedDay(
            day=str(day),
            rows=int((days == day).sum()),
            changed=int((moved & (days == day)).sum()),
            labelled=int((labelled & (days == day)).sum()),
        )
        for day in np.unique(days)
    )


def list_changes(compared: Comparison) -> tuple[DecisionChange, ...]:
    """Return the numbers of changed decisions by direction, the most frequent first."""
    classes, names = len(compared.schema.classes), compared.schema.class_names
    if not classes:
        return ()
    counts = np.bincount(compared.champion * classes + compared.candidate, minlength=classes**2).reshape(classes, -1)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_MAX_CHANGES]
    return tuple(
        DecisionChange(champion=names[place // classes], candidate=names[place % classes], rows=int(counts.flat[place]))
        for place in order.tolist()
        if counts.flat[place]
    )


def describe_deviations(compared: Comparison) -> Deviations | None:
    """Return the distribution of the absolute change; None without rows."""
    if not len(compared.rows):
        return None
    found = compared.deviations
    largest = float(found.max())
    counts, edges = np.histogram(found, bins=_BARS, range=(0.0, largest or 1.0))
    median, p90, p99 = (float(one) for one in np.quantile(found, [0.5, 0.9, 0.99]))
    return Deviations(
        median=median,
        p90=p90,
        p99=p99,
        largest=largest,
        mean_change=float(compared.difference.mean()),
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )


def measure_output_shifts(compared: Comparison) -> tuple[OutputShift, ...]:
    """Return the population stability index of each output, and of the decisions.

    A regression's values are counted in ten bins of equal shares of the champion's. Both versions scored the same rows,
    so ``excess`` takes off more than sampling explains: it says too little rather than too much.
    """
    if not len(compared.rows):
        return ()
    schema, rows = compared.schema, compared.rows
    if not schema.classes:
        inner = np.unique(np.quantile(rows.champion, np.linspace(0.0, 1.0, _VALUE_BINS + 1)[1:-1]))
        pair = [np.bincount(np.searchsorted(inner, one, "right"), minlength=len(inner) + 1) for one in _outputs(rows)]
        return (_shift("value", *pair),)
    classes, bins = len(schema.classes), probability_bins(len(schema.classes))
    width = bins // _VALUE_BINS
    found = []
    for index in range(classes - 1, classes) if classes == 2 else range(classes):  # noqa: PLR2004 - one determines the other
        located = [locate_probabilities(one[:, index], bins) // width for one in _outputs(rows)]
        pair = [np.bincount(one, minlength=_VALUE_BINS) for one in located]
        found.append(_shift(schema.class_names[index], *pair))
    decided = [np.bincount(one, minlength=classes) for one in (compared.champion, compared.candidate)]
    return (*found, _shift("decisions", *decided))


def _outputs(rows: ReplayedRows) -> tuple[Floats, Floats]:
    return rows.champion.astype(np.float64), rows.candidate.astype(np.float64)


def _shift(output: str, champion: Any, candidate: Any) -> OutputShift:
    distance = population_stability_index(champion.astype(np.float64), candidate.astype(np.float64))
    return OutputShift(output=output, psi=distance.value, excess=distance.excess)


def describe_slices(compared: Comparison, spec: ModelSpec) -> tuple[ReplayedSlice, ...]:
    """Return the declared slices, and those found in which most changes.

    Slices are divided by the replayed rows themselves. Those found are the most conspicuous of many: they say where to
    look, and no more.
    """
    columns, rows = dict(compared.rows.columns), len(compared.rows)
    if not rows or not columns:
        return ()
    chosen = declared_slices(spec.evaluation.slices, columns, compared.schema)
    if rows >= 2 * MIN_SLICE_ROWS and compared.changed.any():
        chosen += find_worst(columns, compared.changed, compared.schema, min_rows=MIN_SLICE_ROWS)
    found = []
    for part in chosen:
        mask = part.mask(columns, rows)
        if mask.any():
            found.append(
                ReplayedSlice(
                    name=part.name,
                    declared=part.declared,
                    rows=int(mask.sum()),
                    changed=float(compared.changed[mask].mean()),
                    difference=float(compared.difference[mask].mean()),
                )
            )
    return tuple(found)


def declared_columns(spec: ModelSpec) -> Sequence[str]:
    """Return the columns of the slices that a spec declares."""
    return list(dict.fromkeys(name for declared in spec.evaluation.slices for name in declared.columns))
