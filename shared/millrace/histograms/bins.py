"""Cells: what a column's values are counted in, fixed by the training data so that counts of any hours add up.

Numbers, dates in seconds since 1970, and texts as their numbers of words have about a hundred cells of equal share in
training; words have one for each
value that training knows, one for the rest that it knows, and one for what it never saw.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import MISSING_STRING
from millrace.schema import Column

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

#: The table has to stay in the processor's nearest cache.
_BUCKETS = 4_096
#: With more edges than this in one bucket, a binary search is as fast.
_MOST_ROUNDS = 4
#: For fewer values the search costs nothing.
_FEWEST_VALUES = 500


class EdgeFinder:
    """Finds how many edges a value has reached.

    Parameters
    ----------
    edges : float64 array of shape (n_edges,)
        Ascending.
    """

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
        if rounds <= _MOST_ROUNDS:
            self._rounds = rounds
            self._below = np.searchsorted(buckets, np.arange(_BUCKETS), "left")
            self._next_edge = np.append(edges, np.inf)

    def locate(self, values: Floats) -> Indices:
        """Return ``numpy.searchsorted(edges, values, 'right')`` of values that are numbers."""
        if not self._rounds or len(values) < _FEWEST_VALUES:
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
class CodedWords:
    """A column of words.

    Parameters
    ----------
    values : tuple
        What there is, each once, in the order of their first rows; None where a number was missing.
    codes : int64 array of shape (rows,)
        Position in ``values`` of each row's.
    """

    values: tuple[Any, ...]
    codes: Indices

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> "CodedWords":
        return CodedWords(self.values, self.codes[rows])

    def counts(self) -> Indices:
        """Return how often there is each value."""
        return np.bincount(self.codes, minlength=len(self.values))


class _NextCode(dict[Any, int]):
    def __missing__(self, value: Any) -> int:
        code = self[value] = len(self)
        return code


def code_words(values: Iterable[Any] | npt.NDArray[Any]) -> CodedWords:
    """Code a column; NaN, which equals nothing, is coded as None."""
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
    return CodedWords(tuple(codes), coded)


#: Number of quantile bins of a number, from which coarser ones are merged.
FINE_BINS = 100
#: Cells that are compared where each cell has to hold rows enough (population stability index, chi-square).
COARSE_CELLS = 10
#: Values that a column may have a cell each for.
MAX_WORDS = 100
_TRUTHS = {"1": "true", "0": "false", "1.0": "true", "0.0": "false", "True": "true", "False": "false"}


@dataclass(frozen=True, slots=True)
class NumberCells:
    """Cells of a number or a date.

    Parameters
    ----------
    edges : float64 array of shape (n_cells - 1,)
        Ascending; a value on an edge is in the cell above it.
    groups : int64 array of shape (n_cells,)
        Which of the coarse cells each one belongs to.
    minimum, maximum : float
        What is in range, both ends included.
    center, scale : float
        Mean and standard deviation in training; 1 where there is none.
    of_text : bool, default=False
        Whether the numbers are those of the words of texts.
    """

    edges: Floats
    groups: Indices
    minimum: float
    maximum: float
    center: float = 0.0
    scale: float = 1.0
    of_text: bool = False
    _finder: EdgeFinder = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_finder", EdgeFinder(self.edges))

    def __len__(self) -> int:
        return len(self.edges) + 1

    def locate(self, values: Floats) -> Indices:
        """Return the cell of each value; none may be missing."""
        return self._finder.locate(values)

    def coarse(self, counts: npt.NDArray[Any]) -> Floats:
        """Take neighbouring cells together."""
        return np.bincount(self.groups, weights=counts, minlength=int(self.groups[-1]) + 1).astype(np.float64)


@dataclass(frozen=True, slots=True)
class WordCells:
    """Cells of a category or a boolean.

    Parameters
    ----------
    words : tuple of str
        Values that have a cell each.
    rest : frozenset of str, default=()
        Values that training knows and that share a cell.
    open : bool, default=False
        Whether the values that share a cell were too many to be listed; then nothing is unknown.
    """

    words: tuple[str, ...]
    rest: frozenset[str] = frozenset()
    open: bool = False
    _positions: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {word: index for index, word in enumerate(self.words)}
        positions |= dict.fromkeys(self.rest - positions.keys(), len(self.words))
        object.__setattr__(self, "_positions", positions)

    def __len__(self) -> int:
        return len(self.words) + 2

    @property
    def unknown(self) -> int:
        """Position of the cell of what training never saw."""
        return len(self.words) + 1

    def locate(self, values: Sequence[Any] | npt.NDArray[Any] | CodedWords) -> Indices:
        """Return the cell of each value; -1 where it is missing."""
        coded = values if isinstance(values, CodedWords) else code_words(values)
        return self.positions(coded.values)[coded.codes]

    def positions(self, values: Sequence[Any]) -> Indices:
        """Return the cell of each of a few values; -1 of one that is missing."""
        return np.array([self._position(value) for value in values], dtype=np.int64)

    def _position(self, value: Any) -> int:
        if _is_missing(value):
            return -1
        word = str(value)
        position = self._positions.get(word)
        if position is None:
            position = self._positions.get(_TRUTHS.get(word, word))
        if position is None:
            return len(self.words) if self.open else self.unknown
        return position


def _is_missing(value: Any) -> bool:
    return value is None or value == MISSING_STRING or (isinstance(value, float) and math.isnan(value))


Cells = NumberCells | WordCells


def make_cells(described: Mapping[str, Any], column: Column | None = None) -> Cells:
    """Return the cells of a column as :mod:`millrace.data.reference` describes it.

    Parameters
    ----------
    described : mapping
        One of the reference's ``features``, or its ``target``.
    column : Column or None, default=None
        Of the model's schema, which knows every category, and the range that a user allows.
    """
    if "shares" in described:
        return _word_cells(described, column)
    fine = described.get("cells") or described["histogram"]
    edges = np.asarray(fine["edges"], dtype=np.float64)
    minimum, maximum = described["minimum"], described["maximum"]
    rules = column.rules if column else None
    if rules and rules.minimum is not None:
        minimum = rules.minimum
    if rules and rules.maximum is not None:
        maximum = rules.maximum
    return NumberCells(
        edges=edges,
        groups=coarse_groups(np.asarray(fine["counts"], dtype=np.float64)),
        minimum=-np.inf if minimum is None else float(minimum),
        maximum=np.inf if maximum is None else float(maximum),
        center=float(described["mean"] or 0.0),
        scale=float(described["standard_deviation"] or 1.0),
        of_text=described["type"] == "text",
    )


def _word_cells(described: Mapping[str, Any], column: Column | None) -> WordCells:
    words = tuple(described["shares"])[:MAX_WORDS]
    listed = set(column.categories) if column else set()
    # A column with more values than the reference lists, in a schema that lists none: what else there is may be known.
    is_open = bool(described.get("other_share")) and not listed
    return WordCells(words, frozenset((listed | set(described["shares"])) - set(words)), open=is_open)


def coarse_groups(counts: Floats) -> Indices:
    """Take neighbouring cells together until each group has its tenth of the rows."""
    total = counts.sum()
    groups, group, held = np.zeros(len(counts), dtype=np.int64), 0, 0.0
    for index, count in enumerate(counts.tolist()):
        if held and held + count / 2 > total / COARSE_CELLS:
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
