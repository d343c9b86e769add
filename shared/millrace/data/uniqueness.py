"""Values that should differ in every row: which rows repeat the value of an earlier one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.aside import Fault, aside_rows
from millrace.data.batch_faults import Tally, look_up_rows
from millrace.data.quarantine import MAX_QUARANTINED
from millrace.data.storage import to_values
from millrace.data.typed_table import TypedTable, stored_column, stored_rows
from millrace.data.words import hash_words
from millrace.schema import Column

Positions = npt.NDArray[np.int64]

#: Repeats that are described at a time.
_ROWS_AT_ONCE = 100_000
#: Whole numbers within so many times as many as there are rows are ticked off in a list.
_SPARSENESS = 16
#: With more rows than this, words are told apart by their hashes.
MANY_ROWS = 2_000_000


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows of a column that repeat an earlier value.

    Parameters
    ----------
    rows : int64 array of shape (n_repeats,)
        Their positions, in order.
    firsts : int64 array of shape (n_repeats,)
        The position of the first row with the same value.
    """

    rows: Positions
    firsts: Positions

    def __len__(self) -> int:
        return len(self.rows)


NO_REPEATS = Repeats(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def find_repeats(stored: pa.ChunkedArray) -> Repeats:
    """Find the rows of a column that repeat an earlier value; missing values repeat nothing."""
    if len(stored) - stored.null_count < 2:  # noqa: PLR2004  # two that could be equal
        return NO_REPEATS
    if len(stored) > MANY_ROWS and not pa.types.is_floating(stored.type) and not pa.types.is_timestamp(stored.type):
        return _repeats_among_many(stored)
    if pa.types.is_dictionary(stored.type) or pa.types.is_string(stored.type):
        words = stored.cast(pa.string())
        if pc.count_distinct(words).as_py() == len(words) - words.null_count:
            return NO_REPEATS
        encoded = words.combine_chunks().dictionary_encode()
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    else:
        if stored.null_count == 0 and _all_differ([_view(chunk) for chunk in stored.chunks if len(chunk)]):
            return NO_REPEATS
        codes = np.asarray(pd.factorize(to_values(stored))[0])
    return _repeats_of(codes.astype(np.int64))


def _repeats_among_many(stored: pa.ChunkedArray) -> Repeats:
    """Find repeated words by their hashes, with a tenth of the memory that a table of the words takes."""
    known = np.flatnonzero(pc.is_valid(stored).to_numpy())
    hashes = np.concatenate([hash_words(chunk.drop_null()) for chunk in stored.chunks])
    ordered = np.sort(hashes)
    repeated = np.isin(hashes, np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    suspects = known[repeated]
    if not len(suspects):
        return NO_REPEATS
    # Equal hashes may, once in a lifetime, be of different words: these few are compared as words.
    words = pc.take(stored, pa.array(suspects)).cast(pa.string()).to_numpy(zero_copy_only=False)
    among = _repeats_of(np.asarray(pd.factorize(words)[0], dtype=np.int64))
    return Repeats(suspects[among.rows], suspects[among.firsts])


def _view(numbers: pa.Array) -> npt.NDArray[Any]:
    """Look at numbers or moments without copying them."""
    if pa.types.is_timestamp(numbers.type):
        return np.asarray(numbers.cast(pa.int64()).to_numpy())
    return np.asarray(to_values(numbers) if pa.types.is_boolean(numbers.type) else numbers.to_numpy())


def _all_differ(parts: Sequence[npt.NDArray[Any]]) -> bool:
    """Tell at a glance that numbers differ, where they grow or are whole and lie close together."""
    ends = [(part[0], part[-1]) for part in parts]
    if all(one[1] < other[0] for one, other in pairwise(ends)) and all(np.all(part[1:] > part[:-1]) for part in parts):
        return True
    least, rows = min(part.min() for part in parts), sum(len(part) for part in parts)
    span = float(max(part.max() for part in parts)) - float(least)
    if not span < _SPARSENESS * rows:
        return False
    seen = np.zeros(int(span) + 1, dtype=np.bool_)
    for part in parts:
        seen[(part - least).astype(np.int64)] = True
    # Two numbers with one whole part may still differ: that takes a closer look.
    return int(np.count_nonzero(seen)) == rows


def _repeats_of(codes: Positions) -> Repeats:
    """Find repeated codes; -1 stands for a missing value."""
    firsts = np.full(int(codes.max()) + 1, -1, dtype=np.int64)
    positions = np.arange(len(codes))
    known = codes >= 0
    # Written from the last row to the first, so that what stays is the first.
    firsts[codes[known][::-1]] = positions[known][::-1]
    rows = positions[known & (firsts[codes] != positions)]
    return Repeats(rows, firsts[codes[rows]])


def count_repeats(table: TypedTable, lines: Positions, column: Column, repeats: Repeats) -> Tally:
    """Count repeats, and show the first few."""
    tally, shown = Tally(), stored_column(table, column)
    look_up = look_up_rows(lines, repeats.rows, lambda row: shown_value(shown[row].as_py()), masked=column.sensitive)
    tally.add(len(repeats), look_up)
    return tally


def describe_repeats(
    table: TypedTable,
    lines: Positions,
    column: Column,
    repeats: Repeats,
    *,
    masked: frozenset[str],
    place: Callable[[int], str],
) -> Iterator[pa.Table]:
    """Describe the rows that repeat a value, as they were typed: their text has been let go by now."""
    for start in range(0, min(len(repeats), MAX_QUARANTINED + 1), _ROWS_AT_ONCE):
        rows, firsts = repeats.rows[start : start + _ROWS_AT_ONCE], repeats.firsts[start : start + _ROWS_AT_ONCE]
        cells = stored_rows(table, rows)
        texts = pa.table({name: _as_text(cells.column(name)) for name in cells.column_names})
        rule = f"{column.name!r} should differ in every row"
        faults = [
            Fault("repeat", column.name, f"{rule}, and {place(line)} has it already") for line in lines[firsts].tolist()
        ]
        yield aside_rows(lines[rows], faults, np.arange(len(rows)), texts, masked)


def _as_text(stored: pa.ChunkedArray) -> pa.Array:
    texts = [None if value is None else shown_value(value) for value in stored.to_pylist()]
    return pa.array(texts, pa.string())


def shown_value(value: object) -> str:
    """Write a value as a file would hold it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return "" if value is None else str(value)
