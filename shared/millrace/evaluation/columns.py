"""A split's columns as values once more, and conditions on them that make a slice."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import EPOCH, FeatureMatrix, missing_cells
from millrace.schema import DATE_PARTS, Column, TableSchema

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
            return missing_cells(column)
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
    name, missing = column.name, missing_cells(values)
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
    missing = missing_cells(values)
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
