"""What is kept of some rows' features.

A sketch is made in the cells of one reference (:mod:`millrace.histograms.bins`); only sketches of the same
reference may be added.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from millrace.histograms.bins import Cells, CodedWords, NumberCells, WordCells, code_words, make_cells
from millrace.histograms.dependence import DependenceSketch, Score, ScorePlan, number_score, word_scores
from millrace.schema import TableSchema
from millrace.text import count_tokens

#: Unknown values that are named in a sketch.
MAX_STRANGE = 20
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[Any] | CodedWords
#: Rows that are sketched at a time: what is computed of them on the way fits the processor's cache, and no more memory
#: is needed however many rows there are.
_BLOCK = 32_768


@dataclass(slots=True)
class ColumnSketch:
    """What is kept of one column.

    Parameters
    ----------
    counts : int64 array of shape (n_cells,)
        Known values by cell.
    sums : float64 array of shape (n_cells,), or of shape (0,) for words
        Of the values in each cell.
    missing : int
        Rows without a value, those that did not name the column among them.
    absent : int
        Rows that did not name the column.
    out_of_range : int
        Numbers outside what training saw, or what the user allows.
    low, high : float
        Smallest and greatest number; infinite when there are none.
    strange : Counter of str
        Unknown words, the commonest only.
    """

    counts: Counts
    sums: npt.NDArray[np.float64]
    missing: int = 0
    absent: int = 0
    out_of_range: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    strange: Counter[str] = field(default_factory=Counter)

    @property
    def known(self) -> int:
        """How many rows have a value."""
        return int(self.counts.sum())

    def add(self, other: "ColumnSketch") -> None:
        """Add another sketch of the same column."""
        self.counts = self.counts + other.counts
        self.sums = self.sums + other.sums
        self.missing += other.missing
        self.absent += other.absent
        self.out_of_range += other.out_of_range
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.strange = Counter(dict((self.strange + other.strange).most_common(MAX_STRANGE)))

    def mean(self) -> float | None:
        """Return the mean of the numbers; None for words and for no numbers."""
        return float(self.sums.sum() / self.known) if len(self.sums) and self.known else None

    def cell_means(self) -> npt.NDArray[np.float64]:
        """Return the mean of each cell; 0 where it is empty."""
        return np.divide(self.sums, self.counts, out=np.zeros_like(self.sums), where=self.counts > 0)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        document: dict[str, Any] = {"counts": self.counts.tolist(), "missing": self.missing, "absent": self.absent}
        if len(self.sums):
            document |= {"sums": self.sums.tolist(), "out_of_range": self.out_of_range}
            document |= {"low": self.low, "high": self.high} if self.known else {}
        if self.strange:
            document["strange"] = dict(self.strange)
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            counts=np.asarray(document["counts"], dtype=np.int64),
            sums=np.asarray(document.get("sums", ()), dtype=np.float64),
            missing=document["missing"],
            absent=document["absent"],
            out_of_range=document.get("out_of_range", 0),
            low=document.get("low", float("inf")),
            high=document.get("high", float("-inf")),
            strange=Counter(document.get("strange", {})),
        )


@dataclass(slots=True)
class TableSketch:
    """What is kept of some rows' features.

    Parameters
    ----------
    rows : int
        How many there were.
    columns : dict of str to ColumnSketch
        By feature.
    dependence : DependenceSketch
        How the features go together.
    """

    rows: int
    columns: dict[str, ColumnSketch]
    dependence: DependenceSketch

    def add(self, other: "TableSketch") -> None:
        """Add another sketch of the same reference."""
        self.rows += other.rows
        for name, column in other.columns.items():
            self.columns[name].add(column)
        self.dependence.add(other.dependence)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        columns = {name: column.to_dict() for name, column in self.columns.items()}
        return {"rows": self.rows, "columns": columns, "dependence": self.dependence.to_dict()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        columns = {name: ColumnSketch.from_dict(column) for name, column in document["columns"].items()}
        return cls(document["rows"], columns, DependenceSketch.from_dict(document["dependence"]))


def empty_sketch(cells: Mapping[str, Cells], plan: ScorePlan) -> TableSketch:
    """Return the sketch of no rows."""
    return TableSketch(0, {name: _empty_column(one) for name, one in cells.items()}, DependenceSketch.empty(len(plan)))


def merge(sketches: Iterable[TableSketch], cells: Mapping[str, Cells], plan: ScorePlan) -> TableSketch:
    """Return the sum of sketches."""
    total = empty_sketch(cells, plan)
    for sketch in sketches:
        total.add(sketch)
    return total


def sketch_rows(
    columns: Mapping[str, Values],
    rows: int,
    cells: Mapping[str, Cells],
    plan: ScorePlan,
    absent: Mapping[str, int] | None = None,
) -> TableSketch:
    """Sketch rows.

    Parameters
    ----------
    columns : mapping of str to array of shape (rows,), or CodedWords
        Typed as in :mod:`millrace.features`; words and texts may be objects, missing where None or empty; of a text its
        number of words will do. A feature that is not here was in none of the rows.
    rows : int
        How many there are.
    cells : mapping of str to Cells
        Of every feature of the reference; other columns are passed over.
    plan : ScorePlan
        Which scores are compared with each other.
    absent : mapping of str to int, or None
        Rows that did not name a feature; they count as missing too.
    """
    known = {name: columns[name] for name in cells if name in columns}
    total = empty_sketch(cells, plan)
    for start in range(0, rows, _BLOCK):
        chosen = slice(start, min(rows, start + _BLOCK))
        block = {name: values[chosen] for name, values in known.items()}
        total.add(_sketch_block(block, chosen.stop - start, cells, plan))
    for name, column in total.columns.items():
        column.absent = max(column.absent, (absent or {}).get(name, 0))
    return total


def _sketch_block(columns: Mapping[str, Values], rows: int, cells: Mapping[str, Cells], plan: ScorePlan) -> TableSketch:
    sketched: dict[str, ColumnSketch] = {}
    scores = plan.start(rows)
    for name, own in cells.items():
        values = columns.get(name)
        if values is None:
            column = _empty_column(own)
            column.missing = column.absent = rows
        else:
            column, located, known = _sketch_values(values, own)
            scores.add(name, located, known, column.counts)
        sketched[name] = column
    return TableSketch(rows, sketched, scores.finish())


def sketch_numbers(values: npt.NDArray[np.float64], cells: NumberCells) -> ColumnSketch:
    """Sketch one column of numbers."""
    return _sketch_numbers(values, cells)[0]


def _empty_column(cells: Cells) -> ColumnSketch:
    sums = np.zeros(len(cells) if isinstance(cells, NumberCells) else 0)
    return ColumnSketch(np.zeros(len(cells), dtype=np.int64), sums)


def _sketch_values(values: Values, cells: Cells) -> tuple[ColumnSketch, Counts, npt.NDArray[np.bool_]]:
    """Return a column's sketch, the cells of its known values, and where they are."""
    if isinstance(cells, WordCells):
        return _sketch_words(values if isinstance(values, CodedWords) else code_words(values), cells)
    if isinstance(values, CodedWords):
        raise TypeError("words cannot be counted in the cells of a number")
    if cells.of_text and values.dtype.kind != "f":
        values = count_tokens(values)
    return _sketch_numbers(_as_floats(values), cells)


def _as_floats(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if values.dtype.kind == "M":
        moments = values.astype("datetime64[us]")
        return np.where(np.isnat(moments), np.nan, moments.astype(np.int64) / 1e6)
    return values.astype(np.float64, copy=False)


def _sketch_numbers(
    values: npt.NDArray[np.float64], cells: NumberCells
) -> tuple[ColumnSketch, Counts, npt.NDArray[np.bool_]]:
    known = np.isfinite(values)
    numbers = values if known.all() else values[known]
    located = cells.locate(numbers)
    counts = np.bincount(located, minlength=len(cells))
    sums = np.asarray(np.bincount(located, weights=numbers, minlength=len(cells)), dtype=np.float64)
    column = ColumnSketch(counts, sums, len(values) - len(numbers))
    if len(numbers):
        column.low, column.high = float(numbers.min()), float(numbers.max())
        if column.low < cells.minimum or column.high > cells.maximum:
            column.out_of_range = int(np.count_nonzero((numbers < cells.minimum) | (numbers > cells.maximum)))
    return column, located, known


def _sketch_words(words: CodedWords, cells: WordCells) -> tuple[ColumnSketch, Counts, npt.NDArray[np.bool_]]:
    positions = cells.positions(words.values)
    every = positions[words.codes]
    known = every >= 0
    located = every if known.all() else every[known]
    counts = np.bincount(located, minlength=len(cells))
    column = ColumnSketch(counts, np.zeros(0), len(words) - len(located))
    if counts[cells.unknown]:
        strange: Counter[str] = Counter()
        for value, position, count in zip(words.values, positions.tolist(), words.counts().tolist(), strict=True):
            if position == cells.unknown and count:
                strange[str(value)] += count
        column.strange = Counter(dict(strange.most_common(MAX_STRANGE)))
    return column, located, known


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
