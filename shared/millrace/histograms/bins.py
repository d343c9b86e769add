"""Bins of a column: fixed by the training data, so that counts of any hours add up.

Numbers, dates in seconds since 1970, and texts by their numbers of words have about a hundred bins of equal share in
training. Categories have one bin for each value that training knows, one for the other known values, and one for unseen
values.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from millrace.documents import Record
from millrace.features import MISSING_STRING

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]

#: Limit of groups of one column; the smallest are dropped.
MAX_GROUPS = 20


class Histogram(Record, frozen=True, kw_only=True):
    """Counts and sums of rows; histograms in the same bins add up."""

    def __add__(self, other: Self) -> Self:
        """Return the histogram of the rows of both."""
        names = self.__struct_fields__
        return type(self)(**{name: self._add(name, getattr(self, name), getattr(other, name)) for name in names})

    def __sub__(self, other: Self) -> Self:
        """Return the histogram of the rows of this one without those of another, which are among them.

        Groups, extremes and examples are not known of the rest, and kept as they are or left out.
        """
        names = self.__struct_fields__
        return type(self)(**{name: self._subtract(name, getattr(self, name), getattr(other, name)) for name in names})

    def _subtract(self, name: str, first: Any, second: Any) -> Any:
        if name == "groups":
            return {}
        if isinstance(first, dict):
            return {key: value - second[key] for key, value in first.items()}
        return first if first is None or second is None else first - second

    def part(self, share: float) -> Self:
        """Return the histogram of a share of the rows, as if they were alike; groups and examples are left out."""
        names = self.__struct_fields__
        return type(self)(**{name: self._part(name, getattr(self, name), share) for name in names})

    def _part(self, name: str, value: Any, share: float) -> Any:
        if name == "groups" or value is None:
            return {} if value is not None else None
        if isinstance(value, Histogram):
            return value.part(share)
        if isinstance(value, dict):
            return {key: self._part(key, own, share) for key, own in value.items()}
        if isinstance(value, int):
            return round(value * share)
        return np.rint(value * share).astype(np.int64) if value.dtype.kind == "i" else value * share

    def _add(self, name: str, first: Any, second: Any) -> Any:
        if name == "groups":
            return _add_groups(first, second)
        if isinstance(first, dict):
            return {key: value + second[key] for key, value in first.items()}
        return second if first is None else first if second is None else first + second


def _add_groups(first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    total = {name: dict(groups) for name, groups in first.items()}
    for name, groups in second.items():
        own = total.setdefault(name, {})
        for group, counts in groups.items():
            if group in own:
                own[group] = own[group] + counts
            elif len(own) < MAX_GROUPS:
                own[group] = counts
    return total


#: Sums count larger values as this one, so that fourth powers of them, added up over months, are finite.
_GREATEST = 1e60


def bounded(values: Floats) -> Floats:
    """Return values without those that no sum can hold; such a value is a fault of a client, and no reason to fail."""
    if not len(values) or max(-values.min(), values.max()) <= _GREATEST:
        return values
    return np.clip(values, -_GREATEST, _GREATEST)


#: The table has to stay in the processor's nearest cache.
_BUCKETS = 4_096
#: With more edges than this in one bucket, a binary search is as fast.
_MAX_ROUNDS = 4
#: For fewer values the search costs nothing.
_MIN_VALUES = 500


class EdgeFinder:
    """Locate values between ascending edges, faster than a binary search."""

    def __init__(self, edges: Floats) -> None:
        self._edges = edges
        self._rounds = 0
        if not len(edges):
            return
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            self._factor = (_BUCKETS - 1) / (edges[-1] - edges[0])
        if not 0.0 < self._factor < np.inf:
            return
        buckets = self._buckets(edges)
        rounds = int(np.bincount(buckets).max())
        if rounds <= _MAX_ROUNDS:
            self._rounds = rounds
            self._below = np.searchsorted(buckets, np.arange(_BUCKETS), "left")
            self._next_edge = np.append(edges, np.inf)

    def locate(self, values: Floats) -> Indices:
        """Return ``numpy.searchsorted(edges, values, 'right')``; no value may be NaN."""
        if not self._rounds or len(values) < _MIN_VALUES:
            return np.searchsorted(self._edges, values, "right")
        found = self._below[self._buckets(values)]
        for _ in range(self._rounds):
            found += values >= self._next_edge[found]
        return found

    def _buckets(self, values: Floats) -> Indices:
        with np.errstate(over="ignore"):
            scaled = values - self._edges[0]
            scaled *= self._factor
        np.maximum(scaled, 0.0, out=scaled)
        np.minimum(scaled, _BUCKETS - 1.0, out=scaled)
        buckets: Indices = scaled.astype(np.int64)
        return buckets


@dataclass(frozen=True, slots=True)
class FactorizedColumn:
    """Distinct values in the order of their first rows, and each row's position in them, as pandas factorizes."""

    values: tuple[Any, ...]
    codes: Indices

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> "FactorizedColumn":
        return FactorizedColumn(self.values, self.codes[rows])

    def counts(self) -> Indices:
        """Return the number of rows of each value."""
        return np.bincount(self.codes, minlength=len(self.values))


class _NextCode(dict[Any, int]):
    def __missing__(self, value: Any) -> int:
        code = self[value] = len(self)
        return code


def factorize(values: Iterable[Any] | npt.NDArray[Any]) -> FactorizedColumn:
    """Encode a column; NaN, which equals nothing, becomes None."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "f":
            missing = np.isnan(values)
            values = values.astype(object)
            values[missing] = None
        rows = values.tolist()
    else:
        rows = list(values)
    codes = _NextCode()
    coded = np.fromiter(map(codes.__getitem__, rows), dtype=np.int64, count=len(rows))
    return FactorizedColumn(tuple(codes), coded)


#: Number of quantile bins of a number, from which coarser ones are merged.
FINE_BINS = 100
#: Number of coarse bins, for comparisons that need enough rows in each (population stability index, chi-square).
COARSE_BINS = 10
_BOOLEANS = {"1": "true", "0": "false", "1.0": "true", "0.0": "false", "True": "true", "False": "false"}


@dataclass(frozen=True, slots=True)
class NumberBins:
    """Bins of a number, a date or the length of a text."""

    edges: Floats  # shape (n_bins - 1,); ascending; a value on an edge belongs to the bin above it
    groups: Indices  # shape (n_bins,); coarse bin of each bin
    minimum: float  # valid range, both ends included; infinite where there is none
    maximum: float
    center: float = 0.0  # mean and standard deviation in training
    scale: float = 1.0
    of_text: bool = False  # true for the word counts of texts
    is_date: bool = False  # true for seconds since 1970
    is_integer: bool = False
    ascends: bool = False  # true for whole numbers that grow with time
    #: Values up to it may continue what training had, as a counter or the number of a month does.
    limit: float = np.inf
    _finder: EdgeFinder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_finder", EdgeFinder(self.edges))

    def __len__(self) -> int:
        return len(self.edges) + 1

    @property
    def goes_on(self) -> bool:
        """True for dates, years and counters, whose later values are always past those of training."""
        return self.is_date or self.ascends

    def locate(self, values: Floats) -> Indices:
        """Return the bin of each value; none may be missing."""
        return self._finder.locate(values)

    def coarse(self, counts: npt.NDArray[Any]) -> Floats:
        """Sum counts over coarse bins."""
        return np.bincount(self.groups, weights=counts, minlength=int(self.groups[-1]) + 1).astype(np.float64)


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """Bins of a category or a boolean: one each, one for ``others``, one for unseen values.

    ``open`` bins have too many known values to list; then no value is unseen.
    """

    categories: tuple[str, ...]
    others: frozenset[str] = frozenset()
    open: bool = False
    _positions: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {category: index for index, category in enumerate(self.categories)}
        positions |= dict.fromkeys(self.others - positions.keys(), len(self.categories))
        object.__setattr__(self, "_positions", positions)

    def __len__(self) -> int:
        return len(self.categories) + 2

    @property
    def unseen(self) -> int:
        """Position of the bin of unseen values."""
        return len(self.categories) + 1

    def positions(self, values: Sequence[Any]) -> Indices:
        """Return the bin of each value; -1 for missing ones."""
        return np.array([self._position(value) for value in values], dtype=np.int64)

    def _position(self, value: Any) -> int:
        if value is None or value == MISSING_STRING or (isinstance(value, float) and math.isnan(value)):
            return -1
        category = str(value)
        position = self._positions.get(category)
        if position is None:
            position = self._positions.get(_BOOLEANS.get(category, category))
        if position is None:
            return len(self.categories) if self.open else self.unseen
        return position


Bins = NumberBins | CategoryBins


def coarse_groups(counts: Floats) -> Indices:
    """Return a coarse bin for each bin: neighbours are merged until each coarse bin has a tenth of the rows."""
    total = counts.sum()
    groups, group, held = np.zeros(len(counts), dtype=np.int64), 0, 0.0
    for index, count in enumerate(counts.tolist()):
        if held and held + count / 2 > total / COARSE_BINS:
            group, held = group + 1, 0.0
        groups[index] = group
        held += count
    return groups


#: Categories that have a bin of their own in the population stability index.
COMPARED_CATEGORIES = 20


def merge_rare_categories(reference: Floats, present: Floats) -> tuple[Floats, Floats]:
    """Keep the bins of the reference's most frequent categories, and merge the others into the last bin."""
    kept = np.argsort(-reference[:-1], kind="stable")[:COMPARED_CATEGORIES]
    first, second = (np.append(counts[kept], np.delete(counts, kept).sum()) for counts in (reference, present))
    return first, second


def quantile_bins(ordered: Floats, bins: int) -> tuple[Floats, Indices]:
    """Cut sorted values at their quantiles; return the inner edges, which are values, and the counts.

    A value on an edge is in the bin above it.
    """
    positions = np.round(np.linspace(0.0, 1.0, bins + 1)[1:-1] * (len(ordered) - 1)).astype(np.int64)
    edges = np.unique(ordered[positions])
    return edges, np.diff(np.searchsorted(ordered, edges, "left"), prepend=0, append=len(ordered))


def comparison_bins(ordered: Floats) -> tuple[Floats, Indices]:
    """Cut sorted values into the bins of the population stability index: inner edges and counts.

    A hundred quantile bins, merged into about ten: a value that a tenth of the rows have gets a bin of its own.
    """
    edges, counts = quantile_bins(ordered, FINE_BINS)
    groups = coarse_groups(counts.astype(np.float64))
    return edges[np.diff(groups) > 0], np.bincount(groups, weights=counts).astype(np.int64)
