"""Prediction drift: answers that are distributed otherwise than on the holdout."""

from dataclasses import dataclass

import numpy as np

from millrace.monitoring.drift import compare_column, find_drift
from millrace.monitoring.findings import Finding
from millrace.sketches.cells import Cells, NumberCells, WordCells, coarse_groups
from millrace.sketches.predictions import AnswerSketch
from millrace.sketches.tables import ColumnSketch
from millrace.spec.monitoring import DriftWatch

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
