"""Typed rows in any number: in memory while they are few, in a Parquet file past that.

A file of two gigabytes becomes about as much of Arrow, and a function has three. So past :data:`SPILL_BYTES` the rows
that were taken in so far go to disk as one row group, and whoever works on them reads one column at a time, and a
column of text one row group at a time.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.features import MISSING_STRING
from millrace.schema import Column

#: Arrow's bytes that are kept in memory before they go to disk.
SPILL_BYTES = 128 << 20
#: Cells, and bytes, that are looked at at once.
CELLS_AT_ONCE = 500_000
BYTES_AT_ONCE = 8 << 20
_READ_BUFFER = 1 << 20


def rows_at_once(columns: int, row_bytes: float = 0.0) -> int:
    """Return how many rows of so many columns, and of so many bytes, are looked at at once."""
    few = CELLS_AT_ONCE // max(1, columns)
    return max(1, min(few, int(BYTES_AT_ONCE / row_bytes)) if row_bytes else few)


class Rows(Protocol):
    """Rows by column: a ``pyarrow.Table``, or a file that is asked in the same words."""

    @property
    def column_names(self) -> list[str]:
        """The columns' names, in order."""
        ...

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def num_columns(self) -> int:
        """How many columns there are."""
        ...

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one whole column."""
        ...

    def take(self, rows: pa.Array) -> pa.Table:
        """Return the rows at these positions."""
        ...

    def filter(self, mask: pa.Array) -> pa.Table:
        """Return the rows where the mask is true."""
        ...


class ParquetRows:
    """Rows that stay in a Parquet file until they are asked for.

    Parameters
    ----------
    source : Path or binary file
        It is read again for every column that is asked for.
    words : sequence of str, default=()
        Columns of words that repeat: their different words are read once each.
    absent : mapping of str to pyarrow.DataType, default={}
        Columns that the file may lack; they are missing throughout.
    """

    def __init__(
        self, source: Path | IO[bytes], words: Sequence[str] = (), absent: Mapping[str, pa.DataType] | None = None
    ) -> None:
        present = list(pq.read_schema(source).names)
        # Neither mapped nor buffered ahead: what counts as memory is what is being looked at.
        self._file = pq.ParquetFile(
            source,
            read_dictionary=[name for name in words if name in present],
            memory_map=False,
            pre_buffer=False,
            buffer_size=_READ_BUFFER,
        )
        self._absent = {name: kind for name, kind in (absent or {}).items() if name not in present}
        self.column_names = [*present, *self._absent]
        metadata = self._file.metadata
        self.num_rows = int(metadata.num_rows)
        size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
        self._rows_at_once = rows_at_once(self.num_columns, size / max(1, self.num_rows))

    @property
    def num_columns(self) -> int:
        """How many columns there are."""
        return len(self.column_names)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one whole column."""
        return pa.chunked_array(self.parts(name), type=self._type(name))

    def parts(self, name: str) -> Iterator[pa.Array]:
        """Yield one column some rows at a time."""
        for table in self.tables([name]):
            yield from table.column(name).chunks

    def tables(self, names: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield some columns, or all, some rows at a time."""
        wanted = self.column_names if names is None else list(names)
        stored = [name for name in wanted if name not in self._absent]
        if not stored:
            yield pa.table({name: pa.nulls(self.num_rows, self._absent[name]) for name in wanted})
            return
        for batch in self._file.iter_batches(self._rows_at_once, columns=stored):
            # Parquet also finds "a.b" when asked for "a", so columns are picked by their whole name.
            columns = [
                pa.nulls(len(batch), self._absent[name]) if name in self._absent else batch.column(name)
                for name in wanted
            ]
            yield pa.table(columns, names=wanted)

    def take(self, rows: pa.Array) -> pa.Table:
        """Return the rows at these positions, which must not decrease."""
        return pa.concat_tables([self._nothing(), *self._taken(rows.to_numpy(zero_copy_only=False))])

    def filter(self, mask: pa.Array) -> pa.Table:
        """Return the rows where the mask is true."""
        return self.take(pa.array(np.flatnonzero(mask.to_numpy(zero_copy_only=False))))

    def _taken(self, rows: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
        first = 0
        for table in self.tables():
            start, end = np.searchsorted(rows, (first, first + table.num_rows))
            if end > start:
                yield table.take(pa.array(rows[start:end] - first))
            first += table.num_rows

    def _nothing(self) -> pa.Table:
        return pa.table({name: pa.array([], type=self._type(name)) for name in self.column_names})

    def _type(self, name: str) -> pa.DataType:
        if name in self._absent:
            return self._absent[name]
        return self._file.schema_arrow.field(name).type


class RowStore:
    """Takes in typed rows, batch after batch.

    Parameters
    ----------
    types : mapping of str to pyarrow.DataType
        Of every column.
    folder : Path or None, default=None
        Where a file may be written; None keeps every row in memory.
    """

    def __init__(self, types: Mapping[str, pa.DataType], folder: Path | None = None) -> None:
        self._types = types
        self._path = Path(tempfile.mkdtemp(dir=folder), "rows.parquet") if folder else None
        self._writer: pq.ParquetWriter | None = None
        self._begin()

    def append(self, columns: Mapping[str, pa.Array]) -> None:
        """Take in some more rows."""
        for name, stored in columns.items():
            self._columns[name].append(stored)
            self._bytes += stored.nbytes
        if self._path is not None and self._bytes > SPILL_BYTES:
            self._spill(self._path)

    def finish(self) -> "pa.Table | ParquetRows":
        """Return every row that was taken in."""
        if self._writer is None or self._path is None:
            return self._table()
        self._spill(self._path)
        self._writer.close()
        return ParquetRows(self._path)

    def _begin(self) -> None:
        self._columns: dict[str, list[pa.Array]] = {name: [] for name in self._types}
        self._bytes = 0

    def _table(self) -> pa.Table:
        return pa.table(
            {name: pa.chunked_array(parts, type=self._types[name]) for name, parts in self._columns.items()}
        )

    def _spill(self, path: Path) -> None:
        table = self._table()
        self._begin()
        if self._writer is None:
            words = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
            self._writer = pq.ParquetWriter(
                path, table.schema, compression="zstd", compression_level=1, use_dictionary=words
            )
        self._writer.write_table(table)


def filter_rows(rows: ParquetRows, kept: npt.NDArray[np.bool_], folder: Path) -> Rows:
    """Return the rows where a mask is true, on disk again where they are many."""
    store: RowStore | None = None
    first = 0
    for table in rows.tables():
        selection = pa.array(kept[first : first + table.num_rows])
        first += table.num_rows
        columns = {name: table.column(name).filter(selection).combine_chunks() for name in table.column_names}
        if store is None:
            store = RowStore({field.name: field.type for field in table.schema}, folder)
        store.append(columns)
    return rows if store is None else store.finish()


def column_parts(rows: Rows, name: str) -> Iterator[pa.Array]:
    """Yield one column some rows at a time, so that a file's is never held as a whole."""
    if isinstance(rows, ParquetRows):
        yield from rows.parts(name)
        return
    size = rows_at_once(rows.num_columns)
    for chunk in rows.column(name).chunks:
        for start in range(0, len(chunk), size):
            yield chunk.slice(start, size)


def table_parts(rows: Any) -> Iterator[pa.Table]:
    """Yield rows some at a time, with every column."""
    if isinstance(rows, ParquetRows):
        yield from rows.tables()
        return
    size = rows_at_once(rows.num_columns)
    for start in range(0, rows.num_rows, size):
        yield rows.slice(start, size)


WORDS = pa.dictionary(pa.int32(), pa.string())
MOMENT = pa.timestamp("us", "UTC")


class StoredColumns(Mapping[str, npt.NDArray[Any]]):
    """Columns that become arrays when they are asked for, one at a time, and take little memory until then.

    Parameters
    ----------
    stored : pyarrow.Table or ParquetRows
        As this module's table says.
    """

    def __init__(self, stored: Rows) -> None:
        self.stored = stored
        self._names = frozenset(stored.column_names)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        return to_values(self.stored.column(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored.column_names)

    def __len__(self) -> int:
        return int(self.stored.num_columns)


def is_text(column: Column) -> bool:
    """Tell whether a column is kept as strings."""
    return column.role == "identifier" or column.type in ("category", "text")


def storage_type(column: Column) -> pa.DataType:
    """Return what a column is stored as."""
    if column.role == "identifier" or column.type == "text":
        return pa.string()
    if column.type == "category":
        return WORDS
    if column.type == "boolean":
        return pa.bool_()
    return MOMENT if column.type == "datetime" else pa.float64()


def to_values(stored: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """Return a stored column as an array."""
    chunks = stored.chunks if isinstance(stored, pa.ChunkedArray) else [stored]
    if not chunks:
        chunks = [pa.array([], type=stored.type)]
    words: dict[str, str] = {}
    return np.concatenate([_chunk_values(chunk, words) for chunk in chunks])


def _chunk_values(chunk: pa.Array, words: dict[str, str]) -> npt.NDArray[Any]:
    kind = chunk.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return _objects(chunk, words)
    if pa.types.is_timestamp(kind):
        return np.asarray(chunk.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False), dtype="datetime64[us]")
    if pa.types.is_boolean(kind):
        chunk = chunk.cast(pa.uint8())
    numbers = chunk.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float64)


def _objects(chunk: pa.Array, words: dict[str, str]) -> npt.NDArray[Any]:
    """Return strings as objects, each different one of a category once."""
    if pa.types.is_string(chunk.type):
        return np.asarray(pc.fill_null(chunk, MISSING_STRING).to_numpy(zero_copy_only=False), dtype=object)
    distinct = [words.setdefault(word, word) for word in chunk.dictionary.to_pylist()]
    lookup = np.array([*distinct, MISSING_STRING], dtype=object)
    return np.asarray(lookup[pc.fill_null(chunk.indices, len(distinct)).to_numpy(zero_copy_only=False)])


def from_values(column: Column, values: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> pa.Array:
    """Store an array as a column."""
    if is_text(column):
        text = pa.array(values, type=pa.string(), mask=missing)
        return text.dictionary_encode() if storage_type(column) == WORDS else text
    if column.type == "datetime":
        return pa.array(values, type=pa.timestamp("us"), mask=missing).cast(MOMENT)
    if column.type == "boolean":
        return pa.array(np.where(missing, 0.0, values).astype(np.bool_), mask=missing)
    return pa.array(values, type=pa.float64(), mask=missing)
