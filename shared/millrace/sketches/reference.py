"""The training data as a sketch: the cells that everything is counted in, and what training had in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from millrace.schema import TableSchema
from millrace.sketches.cells import Cells, NumberCells, make_cells
from millrace.sketches.dependence import DependenceSketch, Score, ScorePlan, number_score, word_scores
from millrace.sketches.tables import ColumnSketch, TableSketch


@dataclass(frozen=True, slots=True)
class Reference:
    """What training looked like, and how to count what came after.

    Parameters
    ----------
    cells : mapping of str to Cells
        By feature.
    plan : ScorePlan
        Which correlations are compared.
    sketch : TableSketch
        Of the training split.
    target : Cells or None
        Of the target's values, for regression.
    """

    cells: Mapping[str, Cells]
    plan: ScorePlan
    sketch: TableSketch
    target: NumberCells | None = None

    @classmethod
    def read(cls, document: Mapping[str, Any], schema: TableSchema | None = None) -> Self:
        """Read a ``reference.json``; the schema of the same version knows every category and the ranges allowed.

        A reference that was written before it held a sketch gives one of its shares; it has no correlations.
        """
        known = {column.name: column for column in schema.features} if schema else {}
        described = {column["name"]: column for column in document["features"] if not column["sensitive"]}
        cells = {name: make_cells(column, known.get(name)) for name, column in described.items()}
        rows = document["rows"]
        columns = {name: _training_counts(column, cells[name], rows) for name, column in described.items()}
        plan = plan_scores(cells, columns, rows)
        stored = document.get("dependence")
        dependence = DependenceSketch.from_dict(stored) if stored else DependenceSketch.empty(len(plan))
        if len(dependence.sums) != len(plan):
            dependence = DependenceSketch.empty(len(plan))
        target = make_cells(document["target"]) if document["task"] == "regression" else None
        target_cells = target if isinstance(target, NumberCells) else None
        return cls(cells, plan, TableSketch(rows, columns, dependence), target_cells)


def plan_scores(cells: Mapping[str, Cells], columns: Mapping[str, ColumnSketch], rows: int) -> ScorePlan:
    """Choose the scores by what training had in the cells."""
    scores: list[Score] = []
    for name, own in cells.items():
        counts = columns[name].counts
        if isinstance(own, NumberCells):
            score = number_score(name, counts)
            scores += [score] if score else []
        else:
            scores += word_scores(name, own.words, counts, rows)
    return ScorePlan(scores)


def _training_counts(described: Mapping[str, Any], cells: Cells, rows: int) -> ColumnSketch:
    missing = round(described["missing_share"] * rows)
    if not isinstance(cells, NumberCells):
        counts = np.zeros(len(cells), dtype=np.int64)
        for index, word in enumerate(cells.words):
            counts[index] = round(described["shares"][word] * rows)
        beyond = list(described["shares"].values())[len(cells.words) :]
        counts[len(cells.words)] = round((described["other_share"] + sum(beyond)) * rows)
        return ColumnSketch(counts, np.zeros(0), missing)
    fine = described.get("cells") or described["histogram"]
    counts = np.asarray(fine["counts"], dtype=np.int64)
    sums = np.asarray(fine["sums"] if "sums" in fine else counts * _middles(cells, described), dtype=np.float64)
    column = ColumnSketch(counts, sums, missing)
    if counts.sum():
        column.low, column.high = float(described["minimum"]), float(described["maximum"])
    return column


def _middles(cells: NumberCells, described: Mapping[str, Any]) -> Any:
    low, high = described["minimum"] or 0.0, described["maximum"] or 0.0
    borders = np.array([low, *cells.edges, high])
    return (borders[:-1] + borders[1:]) / 2.0
