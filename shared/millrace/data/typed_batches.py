"""Batches of a file as typed columns, for a schema that exists: read as training reads, checked as requests are.

Uploads are checked by :mod:`millrace.data.checks`, which counts, shows and stores every failure. Here a row is only
refused, with its reason.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.raw import RowBatch, TableReader
from millrace.data.typed_table import convert, read_types, to_values
from millrace.features import MISSING_STRING
from millrace.schema import TableSchema

BoolArray = npt.NDArray[np.bool_]
#: Reads a string of one column, as requests do; raises ``ValueError`` with the message about a bad one.
ValueReader = Callable[[str], Any]
#: Masks of the values that break a rule of a column, each with the rule's message; from all typed values of a batch.
ColumnCheck = Callable[[npt.NDArray[Any]], Iterator[tuple[BoolArray, str]]]


@dataclass(frozen=True, slots=True)
class RefusedValue:
    """A value, or a whole row, that cannot be scored."""

    place: int  # of its row, in the batch
    reason: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class TypedBatch:
    """Rows of a file in their order, also those that could not be read as rows.

    ``columns`` hold the rows that could, as :func:`millrace.features.build_features` takes them; ``places`` are these
    rows' places among all ``n_rows``.
    """

    n_rows: int
    places: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[Any]]
    refused: list[RefusedValue]
    missing: dict[str, int]
    batch: RowBatch
    identifiers: pa.Array | None = None

    @property
    def is_complete(self) -> bool:
        """True when every row could be read."""
        return len(self.places) == self.n_rows


@dataclass(frozen=True, slots=True)
class BatchTyper:
    """Types the batches of a file by a schema."""

    schema: TableSchema
    readers: dict[str, ValueReader]
    checks: dict[str, ColumnCheck]

    def batches(self, reader: TableReader) -> Iterator[Callable[[], TypedBatch]]:
        """Yield, in the rows' order, calls that read and type one batch each."""
        columns = list(self.schema.features)
        if self.schema.identifier is not None:
            columns.append(self.schema.identifier)
        wanted = read_types(column for column in columns if column.name in reader.names)
        for reading in reader.readings(wanted):
            yield partial(self._read, reading)

    def _read(self, reading: Callable[[], RowBatch]) -> TypedBatch:
        return self.type_rows(reading())

    def type_rows(self, batch: RowBatch) -> TypedBatch:
        """Type the features of a batch; a bad value is missing, and its row refused."""
        places, refused = _places(batch)
        columns: dict[str, npt.NDArray[Any]] = {}
        missing: dict[str, int] = {}
        for column in self.schema.features:
            converted = convert(column, batch)
            distinct, codes = _distinct_values(converted.stored)
            bad, gaps = converted.bad, converted.stored.null_count
            if bad is not None:
                gaps -= int(bad.sum())
                # Copies: Arrow's own memory may not be written.
                distinct, bad = distinct.copy(), bad.copy()
                refused.extend(self._read_again(column.name, batch, bad, distinct, places))
            if gaps:
                missing[column.name] = gaps
            columns[column.name] = distinct if codes is None else distinct[codes]
            for broken, message in self.checks[column.name](distinct):
                mask = broken if codes is None else broken[codes]
                refused.extend(_refused(places, mask if bad is None else mask & ~bad, message, column.name))
        identifier = self.schema.identifier
        identifiers = None
        if identifier is not None and identifier.name in batch.names:
            identifiers = convert(identifier, batch).stored
        n_rows = len(batch) + len(batch.malformed)
        return TypedBatch(n_rows, places, columns, refused, missing, batch, identifiers)

    def _read_again(
        self,
        name: str,
        batch: RowBatch,
        bad: BoolArray,
        values: npt.NDArray[Any],
        places: npt.NDArray[np.int64],
    ) -> Iterator[RefusedValue]:
        """Read values that training would refuse as requests read them, such as 20240131; yield those that stay bad.

        ``bad`` keeps the latter, and ``values`` gets the others.
        """
        rows = np.flatnonzero(bad)
        strings = batch.column(name).take(pa.array(rows)).to_pylist()
        known: dict[str, Any] = {}
        for row, string in zip(rows.tolist(), strings, strict=True):
            if string not in known:
                try:
                    known[string] = self.readers[name](string)
                except ValueError as fault:
                    known[string] = fault
            found = known[string]
            if isinstance(found, ValueError):
                yield RefusedValue(int(places[row]), str(found), name)
            else:
                bad[row], values[row] = False, found


def _places(batch: RowBatch) -> tuple[npt.NDArray[np.int64], list[RefusedValue]]:
    """Return the places of the readable rows among all, and the others."""
    if not batch.malformed:
        return np.arange(len(batch), dtype=np.int64), []
    lines = np.concatenate([batch.lines, [row.line for row in batch.malformed]])
    place = np.empty(len(lines), dtype=np.int64)
    place[np.argsort(lines, kind="stable")] = np.arange(len(lines))
    unreadable = zip(place[len(batch) :].tolist(), batch.malformed, strict=True)
    return place[: len(batch)], [RefusedValue(at, row.reason) for at, row in unreadable]


def _refused(places: npt.NDArray[np.int64], mask: BoolArray, reason: str, column: str) -> Iterator[RefusedValue]:
    for place in places[mask].tolist():
        yield RefusedValue(place, reason, column)


def _distinct_values(stored: pa.Array) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32] | None]:
    """Return a column's values; of categories each once, the missing one last, with the place of each row's."""
    if not pa.types.is_dictionary(stored.type):
        return to_values(stored), None
    # As NumPy's strings, which training has: they end before their trailing NULs.
    names = [name.rstrip("\0") for name in stored.dictionary.to_pylist()]
    codes = pc.fill_null(stored.indices, len(names)).to_numpy(zero_copy_only=False)
    return np.array([*names, MISSING_STRING], dtype=object), codes
