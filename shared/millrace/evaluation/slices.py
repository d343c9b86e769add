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
from itertools import combinations, pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation.holdout import Measurement, measure
from millrace.features import EPOCH, FeatureMatrix, missing_mask
from millrace.metrics.bootstrap import Interval
from millrace.schema import DATE_PARTS, MASK, Column, TableSchema
from millrace.spec.training import RangeSpec, SliceSpec

Columns = Mapping[str, npt.NDArray[Any]]
Mask = npt.NDArray[np.bool_]

#: Values of a column that make a slice each; rarer ones do not.
MAX_VALUES = 12
#: Different whole numbers that a column may have to be divided by value.
MAX_WHOLE_VALUES = 6
#: Cells that a number is cut into, about equally full.
CELLS = 4

MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Condition:
    """What the rows of a slice have in common in one column.

    Parameters
    ----------
    column : str
        Its name.
    values : tuple of str, default=()
        The words allowed; the empty word is a missing one.
    shown : tuple of str, default=()
        What they are called; by default themselves.
    low, high : float or None, default=None
        A range, ``low`` included; ``high`` too where it is ``closed``.
    closed : bool, default=True
        Whether the range includes its upper end.
    is_date : bool, default=False
        Whether the range is of seconds since 1970.
    missing : bool, default=False
        Whether the value must be missing.
    """

    column: str
    values: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    closed: bool = True
    is_date: bool = False
    missing: bool = False

    def mask(self, columns: Columns) -> Mask:
        """Tell which rows meet it; a column that is not there is met by none."""
        column = columns.get(self.column)
        if column is None:
            return np.zeros(len(next(iter(columns.values()), np.empty(0))), dtype=np.bool_)
        if self.missing:
            return missing_mask(column)
        if self.values:
            return np.asarray(np.isin(as_words(column), self.values), dtype=np.bool_)
        numbers = as_numbers(column)
        inside = ~np.isnan(numbers)
        with np.errstate(invalid="ignore"):
            if self.low is not None:
                inside &= numbers >= self.low
            if self.high is not None:
                inside &= numbers <= self.high if self.closed else numbers < self.high
        return np.asarray(inside, dtype=np.bool_)

    def describe(self) -> str:
        """Say it in words: ``plan is basic``, ``age from 30 to below 45``."""
        if self.missing:
            return f"{self.column} is missing"
        if self.values:
            return f"{self.column} is {' or '.join(value or MISSING for value in self.shown or self.values)}"
        return f"{self.column} {self._range()}"

    def _range(self) -> str:
        low, high = (None if bound is None else self._bound(bound) for bound in (self.low, self.high))
        if low is None:
            return f"{'at most' if self.closed else 'below'} {high}"
        if high is None:
            return f"at least {low}"
        return f"from {low} to {'' if self.closed else 'below '}{high}"

    def _bound(self, value: float) -> str:
        if not self.is_date:
            return f"{value:.6g}"
        return str(np.datetime64(int(value), "s").astype("datetime64[D]"))


def feature_columns(schema: TableSchema, features: FeatureMatrix) -> dict[str, npt.NDArray[Any]]:
    """Take the matrices apart again: words, float32 numbers, and moments for dates; of texts nothing is left."""
    columns: dict[str, npt.NDArray[Any]] = {}
    numbers = {name: position for position, name in enumerate(schema.number_names)}
    strings = {name: position for position, name in enumerate(schema.string_names)}
    for column in schema.features:
        if column.type == "category":
            columns[column.name] = features.strings[:, strings[column.name]]
        elif column.type == "datetime":
            days = features.numbers[:, numbers[f"{column.name}.{DATE_PARTS[0]}"]].astype(np.float64)
            known = np.where(np.isnan(days), 0.0, days)
            moments = EPOCH + (known * 86_400_000_000).astype("timedelta64[us]")
            columns[column.name] = np.where(np.isnan(days), np.datetime64("NaT"), moments)
        elif column.type != "text":
            columns[column.name] = features.numbers[:, numbers[column.name]]
    return columns


def boolean_words(column: Column) -> dict[str, str]:
    """Return what a boolean column's 0 and 1 are called in the data: ``no`` and ``yes``, ``false`` and ``true``."""
    return {"0": next(iter(column.false_values), "false"), "1": next(iter(column.true_values), "true")}


def conditions_of(column: Column, values: npt.NDArray[Any]) -> list[Condition]:
    """Return the conditions that divide a column: its commonest words, or its quartiles; and what is missing.

    Booleans, and whole numbers of which there are few, are divided by value.
    """
    name, missing = column.name, missing_mask(values)
    called = boolean_words(column) if column.type == "boolean" else {}
    found: list[Condition] = []
    if values.dtype.kind not in "fM" or called or _are_few_whole(values[~missing]):
        words, counts = np.unique(as_words(values)[~missing], return_counts=True)
        commonest = np.sort(np.argsort(-counts, kind="stable")[:MAX_VALUES])
        chosen = [str(words[position]) for position in commonest]
        found = [Condition(name, values=(word,), shown=(called.get(word, word),)) for word in chosen]
    elif not missing.all():
        numbers = as_numbers(values)[~missing]
        inner = np.unique(np.quantile(numbers, np.linspace(0.0, 1.0, CELLS + 1)[1:-1], method="inverted_cdf"))
        edges = [None, *(float(edge) for edge in inner if edge > numbers.min()), None]
        found = [
            Condition(name, low=low, high=high, closed=False, is_date=values.dtype.kind == "M")
            for low, high in pairwise(edges)
            if (low, high) != (None, None)
        ]
    return [*found, Condition(name, missing=True)] if missing.any() else found


def _are_few_whole(known: npt.NDArray[Any]) -> bool:
    if known.dtype.kind != "f":
        return False
    distinct = np.unique(known)
    return len(distinct) <= MAX_WHOLE_VALUES and bool((distinct == np.round(distinct)).all())


def as_words(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values as text: whole numbers without a fraction, 0 and 1 of booleans as they are, missing as ``''``."""
    if values.dtype.kind == "U":
        return values
    missing = missing_mask(values)
    if values.dtype.kind == "f":
        known = np.where(missing, 0.0, values)
        whole = bool((known == np.round(known)).all() and np.abs(known).max(initial=0.0) < 2**53)
        texts = known.astype(np.int64).astype(np.str_) if whole else known.astype(np.str_)
    else:
        texts = values.astype(np.str_)
    return np.where(missing, "", texts)


def as_numbers(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return values as float64, moments as seconds since 1970, what is missing or no number as NaN."""
    if values.dtype.kind == "M":
        seconds = values.astype("datetime64[us]").astype(np.int64) / 1e6
        return np.where(np.isnat(values), np.nan, seconds)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return np.full(len(values), np.nan)


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
