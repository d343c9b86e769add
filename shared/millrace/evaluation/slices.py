"""Slices: how good the model is on parts of the holdout, those that were declared and the worst that could be found.

The worst of many slices looks worse than it is: of two hundred parts of a random table, one is bad by chance. So the
two questions are asked of different rows. *Which* slices are worst is asked of the validation split, over every value
of every feature and every pair of values; *how* bad they are is then measured on the holdout, which had no say in
choosing them. What is left of the multiplicity is the handful of slices that are reported, and their intervals are
Bonferroni's for that many.

A slice's excess is its mean loss minus that of the other rows, with Welch's interval.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation.columns import Columns, Condition, Mask, boolean_words, conditions_of
from millrace.evaluation.holdout import Measurement, measure
from millrace.evaluation.intervals import Interval
from millrace.schema import Column, TableSchema
from millrace.spec.evaluation import RangeSpec, SliceSpec

#: Stands for a value of a sensitive column.
MASK = "***"

FloatArray = npt.NDArray[np.float64]

#: Slices that the search reports.
MAX_FOUND = 5
#: Features whose pairs are searched; a pair is two of them.
MAX_PAIRED_FEATURES = 20
#: Declared slices that are measured, over all ``by``.
MAX_DECLARED = 100
#: Validation rows the search looks at.
MAX_SEARCHED_ROWS = 50_000
#: A found slice that shares more than this of its rows with a worse one says nothing new.
MAX_OVERLAP = 0.7
#: Standard errors by which a slice must be worse on the validation split to be looked at.
LEAST_SCORE = 2.0


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the rows.

    Parameters
    ----------
    name : str
        In words.
    conditions : tuple of Condition
        All of which its rows meet.
    declared : bool
        Whether the spec named it; otherwise it was found.
    floors : mapping of str to float
        What its metrics have to reach.
    """

    name: str
    conditions: tuple[Condition, ...]
    declared: bool
    floors: Mapping[str, float]

    def mask(self, columns: Columns, rows: int) -> Mask:
        """Tell which rows are in it."""
        inside = np.ones(rows, dtype=np.bool_)
        for condition in self.conditions:
            inside &= condition.mask(columns)
        return inside


@dataclass(frozen=True, slots=True)
class MeasuredSlice:
    """A slice on the holdout.

    Parameters
    ----------
    rows : int
        Of the holdout.
    measurement : Measurement or None
        None where there are too few rows.
    excess : Interval or None
        Of the mean loss over the other rows'; None where there are too few.
    mean_excess : float or None
        The middle of it.
    """

    slice: Slice
    rows: int
    measurement: Measurement | None = None
    excess: Interval | None = None
    mean_excess: float | None = None

    @property
    def is_worse(self) -> bool:
        """Whether the model is clearly worse on it than on the other rows."""
        return self.excess is not None and self.excess.low > 0

    def to_dict(self, confidence: float) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "name": self.slice.name,
            "declared": self.slice.declared,
            "columns": [condition.column for condition in self.slice.conditions],
            "rows": self.rows,
            "metrics": self.measurement.to_dict(confidence) if self.measurement else None,
            "excess_loss": self.mean_excess,
            "excess_low": self.excess.low if self.excess else None,
            "excess_high": self.excess.high if self.excess else None,
            "clearly_worse": self.is_worse,
        }


def declared_slices(declared: Sequence[SliceSpec], columns: Columns, schema: TableSchema) -> list[Slice]:
    """Return the slices that a spec declares, cut from the holdout's own values."""
    known = {column.name: column for column in schema.columns}
    found: list[Slice] = []
    for spec in declared:
        if spec.where:
            conditions = tuple(_stated(name, condition, known.get(name)) for name, condition in spec.where.items())
            name = spec.name or _describe(conditions)
            found.append(Slice(name, conditions, declared=True, floors=spec.floors))
        elif all(name in columns and name in known for name in spec.by):
            divided = [_masked(known[name], conditions_of(known[name], columns[name])) for name in spec.by]
            found += [Slice(_describe(c), c, declared=True, floors=spec.floors) for c in _products(divided)]
    return found[:MAX_DECLARED]


def _products(divided: Sequence[Sequence[Condition]]) -> Iterator[tuple[Condition, ...]]:
    if len(divided) == 1:
        yield from ((condition,) for condition in divided[0])
    else:
        yield from ((first, second) for first in divided[0] for second in divided[1])


def _stated(name: str, condition: RangeSpec | tuple[str, ...], column: Column | None) -> Condition:
    """Return a spec's condition; a boolean's words become the 0 and 1 that the data holds."""
    is_date = column is not None and column.type == "datetime"
    if isinstance(condition, RangeSpec):
        return Condition(name, low=condition.minimum, high=condition.maximum, is_date=is_date)
    values = shown = tuple(condition)
    if column is not None and column.type == "boolean":
        codes = {"false": "0", "true": "1", **{word: code for code, word in boolean_words(column).items()}}
        values = tuple(codes.get(word.lower(), word) for word in values)
    if column is not None and column.sensitive:
        shown = (MASK,)
    return Condition(name, values=values, shown=shown)


def _masked(column: Column, conditions: list[Condition]) -> list[Condition]:
    """Return conditions that name no value of a sensitive column, only its number."""
    if not column.sensitive:
        return conditions
    return [replace(part, shown=(f"value {number}",)) for number, part in enumerate(conditions, start=1) if part.values]


def _describe(conditions: Sequence[Condition]) -> str:
    return " and ".join(condition.describe() for condition in conditions)


def find_worst(
    columns: Columns, losses: FloatArray, schema: TableSchema, *, min_rows: int, first: Sequence[str] = ()
) -> list[Slice]:
    """Search the validation split for the slices of one or two features with the largest excess loss.

    Sensitive columns are left out: a slice is named by its values. So are texts, which hardly two rows share.

    Parameters
    ----------
    columns : mapping of str to array of shape (n_rows,)
        The features.
    losses : array of shape (n_rows,)
        Of each row.
    min_rows : int
        That a slice must have.
    first : sequence of str, default=()
        Features to pair first, where there are many: the most important ones.
    """
    step = max(1, math.ceil(len(losses) / MAX_SEARCHED_ROWS))
    losses, columns = losses[::step], {name: values[::step] for name, values in columns.items()}
    order = {name: position for position, name in enumerate(first)}
    searched = [column for column in schema.features if column.name in columns and not column.sensitive]
    searched.sort(key=lambda column: order.get(column.name, len(order)))
    cut = {column.name: conditions_of(column, columns[column.name]) for column in searched}
    coded = {name: _codes(conditions, columns, len(losses)) for name, conditions in cut.items() if len(conditions) > 1}
    pairs = combinations(list(coded)[:MAX_PAIRED_FEATURES], 2)
    scored: list[tuple[float, tuple[Condition, ...]]] = []
    for chosen in [*((name,) for name in coded), *pairs]:
        scored += _scored([cut[name] for name in chosen], [coded[name] for name in chosen], losses, min_rows)
    scored.sort(key=lambda entry: (-entry[0], len(entry[1])))
    return _distinct(scored, columns, losses)


def _codes(conditions: Sequence[Condition], columns: Columns, rows: int) -> npt.NDArray[np.int64]:
    """Return which of a column's conditions each row meets; one more than there are for none."""
    codes = np.full(rows, len(conditions), dtype=np.int64)
    for position, condition in enumerate(conditions):
        codes[condition.mask(columns)] = position
    return codes


def _scored(
    conditions: Sequence[Sequence[Condition]],
    codes: Sequence[npt.NDArray[np.int64]],
    losses: FloatArray,
    min_rows: int,
) -> Iterator[tuple[float, tuple[Condition, ...]]]:
    """Yield Welch's statistic of every combination of values that has enough rows and is worse than the rest."""
    cells, width = codes[0], len(conditions[0]) + 1
    if len(codes) > 1:
        cells, width = cells + codes[1] * width, width * (len(conditions[1]) + 1)
    counts = np.bincount(cells, minlength=width)
    sums, squares = np.bincount(cells, losses, width), np.bincount(cells, losses**2, width)
    rows, total, total_squares = len(losses), losses.sum(), (losses**2).sum()
    enough = np.flatnonzero((counts >= min_rows) & (rows - counts >= min_rows))
    for cell in enough.tolist():
        positions = divmod(cell, len(conditions[0]) + 1)[::-1] if len(codes) > 1 else (cell,)
        if any(position == len(part) for position, part in zip(positions, conditions, strict=True)):
            continue
        inside = _moments(counts[cell], sums[cell], squares[cell])
        outside = _moments(rows - counts[cell], total - sums[cell], total_squares - squares[cell])
        error = math.sqrt(inside[1] + outside[1])
        score = (inside[0] - outside[0]) / error if error > 0 else 0.0
        if score >= LEAST_SCORE:
            yield score, tuple(part[position] for position, part in zip(positions, conditions, strict=True))


def _moments(rows: int, total: float, squares: float) -> tuple[float, float]:
    """Return a mean and the variance of it."""
    mean = total / rows
    variance = max(0.0, squares / rows - mean**2) * rows / max(1, rows - 1)
    return mean, variance / rows


def _distinct(
    scored: Sequence[tuple[float, tuple[Condition, ...]]], columns: Columns, losses: FloatArray
) -> list[Slice]:
    """Return the worst, leaving out what is nearly another one, or a part of one that is as bad as a whole."""
    kept: list[tuple[Slice, Mask]] = []
    for _, conditions in scored:
        candidate = Slice(_describe(conditions), conditions, declared=False, floors={})
        inside = candidate.mask(columns, len(losses))
        if all(_overlap(inside, other) <= MAX_OVERLAP and not _within(inside, other, losses) for _, other in kept):
            kept.append((candidate, inside))
        if len(kept) == MAX_FOUND:
            break
    return [candidate for candidate, _ in kept]


def _overlap(one: Mask, other: Mask) -> float:
    return float(np.sum(one & other)) / max(1, int(np.sum(one | other)))


def _within(part: Mask, whole: Mask, losses: FloatArray) -> bool:
    return not (part & ~whole).any() and bool(losses[part].mean() <= losses[whole].mean() * 1.1)


def measure_slices(
    slices: Sequence[Slice],
    columns: Columns,
    *,
    schema: TableSchema,
    target: npt.NDArray[Any],
    predictions: npt.NDArray[Any],
    losses: FloatArray,
    min_rows: int,
    confidence: float,
    seed: int,
) -> list[MeasuredSlice]:
    """Measure slices on the holdout; the intervals of their excess hold for all of them together."""
    masks = [part.mask(columns, len(target)) for part in slices]
    judged = sum(min_rows <= int(mask.sum()) for mask in masks)
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * max(1, judged)))
    measured: list[MeasuredSlice] = []
    for part, mask in zip(slices, masks, strict=True):
        rows = int(mask.sum())
        if rows < min_rows:
            measured.append(MeasuredSlice(part, rows))
            continue
        (measurement,) = measure(schema, target[mask], {"model": predictions[mask]}, seed).values()
        excess, middle = _excess(losses[mask], losses[~mask], quantile)
        measured.append(MeasuredSlice(part, rows, measurement, excess, middle))
    return measured


def _excess(inside: FloatArray, outside: FloatArray, quantile: float) -> tuple[Interval | None, float | None]:
    if min(len(inside), len(outside)) < 2:  # noqa: PLR2004  # a variance needs two
        return None, None
    middle = float(inside.mean() - outside.mean())
    error = math.sqrt(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside))
    return Interval(middle - quantile * error, middle + quantile * error), middle
