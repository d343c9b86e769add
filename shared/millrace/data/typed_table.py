"""Typed tables: columns of one type each, in memory while they are few, in a Parquet file past that.

A file of two gigabytes becomes about as much of Arrow, and a function has three. So past :data:`SPILL_BYTES` rows go to
disk as one row group, and later steps read one column at a time, and a column of text one row group at a time.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.data.parsers import (
    ISO_FORMAT,
    NumericView,
    Parsed,
    parse_booleans,
    parse_datetimes,
    parse_numbers,
    rewrite_by_first,
    view_numbers,
)
from millrace.data.raw import RowBatch, normalise, one_array
from millrace.features import MISSING_STRING, FeatureMatrix, build_features, missing_mask
from millrace.hashing import UInt64Array
from millrace.quantities import PLAIN, NumberStyle
from millrace.schema import Column, TableSchema

#: Arrow's bytes that are kept in memory before they go to disk.
SPILL_BYTES = 128 << 20
#: Cells, and bytes, that are looked at at once.
VALUES_AT_ONCE = 500_000
BYTES_AT_ONCE = 8 << 20
_READ_BUFFER = 1 << 20


def rows_at_once(columns: int, row_bytes: float = 0.0) -> int:
    """Return the number of rows to process at once, for columns and bytes of a row."""
    few = VALUES_AT_ONCE // max(1, columns)
    return max(1, min(few, int(BYTES_AT_ONCE / row_bytes)) if row_bytes else few)


class ParquetRows:
    """Rows in a Parquet file, read again for every column.

    Distinct strings of ``categories`` are read once each; ``absent`` columns, which the file may lack, are missing
    throughout.
    """

    def __init__(
        self, source: Path | IO[bytes], categories: Sequence[str] = (), absent: Mapping[str, pa.DataType] | None = None
    ) -> None:
        present = list(pq.read_schema(source).names)
        # Neither mapped nor buffered ahead: what counts as memory is what is being looked at.
        self._file = pq.ParquetFile(
            source,
            read_dictionary=[name for name in categories if name in present],
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
        """Number of columns."""
        return len(self.column_names)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return one whole column."""
        return pa.chunked_array(self.parts(name), type=self.type_of(name))

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
        return pa.table({name: pa.array([], type=self.type_of(name)) for name in self.column_names})

    def type_of(self, name: str) -> pa.DataType:
        """Return the type of a column."""
        if name in self._absent:
            return self._absent[name]
        return self._file.schema_arrow.field(name).type


#: Rows by column, in memory or on disk: both have ``column``, ``take`` and ``filter``.
StoredRows: TypeAlias = "pa.Table | ParquetRows"


class RowStore:
    """Collects typed rows, batch after batch; without a folder, all in memory."""

    def __init__(self, types: Mapping[str, pa.DataType], folder: Path | None = None) -> None:
        self._types = types
        self._path = Path(tempfile.mkdtemp(dir=folder), "rows.parquet") if folder else None
        self._writer: pq.ParquetWriter | None = None
        self._begin()

    def append(self, columns: Mapping[str, pa.Array]) -> None:
        """Add rows."""
        for name, stored in columns.items():
            self._columns[name].append(stored)
            self._bytes += stored.nbytes
        if self._path is not None and self._bytes > SPILL_BYTES:
            self._spill(self._path)

    def finish(self) -> "pa.Table | ParquetRows":
        """Return all rows."""
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
            categories = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
            self._writer = pq.ParquetWriter(
                path, table.schema, compression="zstd", compression_level=1, use_dictionary=categories
            )
        self._writer.write_table(table)


CATEGORY = pa.dictionary(pa.int32(), pa.string())
TIMESTAMP = pa.timestamp("us", "UTC")


class StoredColumns(Mapping[str, npt.NDArray[Any]]):
    """Stored columns, of the types of :func:`storage_type`, that become arrays one at a time when they are read."""

    def __init__(self, stored: StoredRows) -> None:
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
    """Return whether a column is kept as strings."""
    return column.role == "identifier" or column.type in ("category", "text")


def storage_type(column: Column) -> pa.DataType:
    """Return the Arrow type of a stored column."""
    if column.role == "identifier" or column.type == "text":
        return pa.string()
    if column.type == "category":
        return CATEGORY
    if column.type == "boolean":
        return pa.bool_()
    return TIMESTAMP if column.type == "datetime" else pa.float64()


def to_values(stored: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """Return a stored column as an array."""
    chunks = stored.chunks if isinstance(stored, pa.ChunkedArray) else [stored]
    if not chunks:
        chunks = [pa.array([], type=stored.type)]
    categories: dict[str, str] = {}
    return np.concatenate([_chunk_values(chunk, categories) for chunk in chunks])


def _chunk_values(chunk: pa.Array, categories: dict[str, str]) -> npt.NDArray[Any]:
    kind = chunk.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return _objects(chunk, categories)
    if pa.types.is_timestamp(kind):
        return np.asarray(chunk.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False), dtype="datetime64[us]")
    if pa.types.is_boolean(kind):
        chunk = chunk.cast(pa.uint8())
    numbers = chunk.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float64)


def _objects(chunk: pa.Array, categories: dict[str, str]) -> npt.NDArray[Any]:
    """Return strings as objects, each distinct one of a category once."""
    if pa.types.is_string(chunk.type):
        return np.asarray(pc.fill_null(chunk, MISSING_STRING).to_numpy(zero_copy_only=False), dtype=object)
    distinct = [categories.setdefault(name, name) for name in chunk.dictionary.to_pylist()]
    lookup = np.array([*distinct, MISSING_STRING], dtype=object)
    return np.asarray(lookup[pc.fill_null(chunk.indices, len(distinct)).to_numpy(zero_copy_only=False)])


def from_values(column: Column, values: npt.NDArray[Any], missing: npt.NDArray[np.bool_]) -> pa.Array:
    """Return an array as a stored column."""
    if is_text(column):
        text = pa.array(values, type=pa.string(), mask=missing)
        return text.dictionary_encode() if storage_type(column) == CATEGORY else text
    if column.type == "datetime":
        return pa.array(values, type=pa.timestamp("us"), mask=missing).cast(TIMESTAMP)
    if column.type == "boolean":
        return pa.array(np.where(missing, 0.0, values).astype(np.bool_), mask=missing)
    return pa.array(values, type=pa.float64(), mask=missing)


@dataclass(frozen=True, slots=True)
class Converted:
    """One column of a batch: missing and invalid values are null; ``bad`` masks the invalid ones, if any."""

    stored: pa.Array
    bad: npt.NDArray[np.bool_] | None = None
    numbers: NumericView | None = None


def read_types(columns: Iterable[Column]) -> dict[str, pa.DataType]:
    """Return the type to read each column as; booleans, and dates of other formats, are read as categories."""
    return {column.name: _read_type(column) for column in columns}


def _read_type(column: Column) -> pa.DataType:
    kind = storage_type(column)
    if column.notation and kind == pa.float64():
        return pa.string()
    if kind == pa.bool_() or (kind == TIMESTAMP and column.formats != (ISO_FORMAT,)):
        return CATEGORY
    return kind


def parse_column(column: Column, strings: pa.Array, numbers: NumberStyle = PLAIN, *, plain: bool = False) -> Parsed:
    """Parse one column's strings as its schema says; ``plain`` where the file's numbers are surely so."""
    if is_text(column):
        return Parsed(to_values(strings), np.zeros(len(strings), dtype=np.bool_))
    strings = without_marks(strings, column.missing_strings)
    if column.type == "boolean":
        return parse_booleans(strings, column.true_values, column.false_values)
    if column.type == "datetime":
        return parse_datetimes(strings, tuple(dict.fromkeys((*column.formats, ISO_FORMAT))))
    return parse_numbers(rewrite_by_first(column.number_styles(numbers, plain=plain), strings))


def without_marks(strings: pa.Array, marks: frozenset[str]) -> pa.Array:
    """Return strings with nulls for those that mean a missing value."""
    found = pc.is_in(strings, value_set=pa.array(sorted(marks)))
    return pc.if_else(found, pa.scalar(None, pa.string()), strings) if pc.any(found).as_py() else strings


def convert(column: Column, batch: RowBatch) -> Converted:
    """Convert one column of a batch; a column that the batch lacks is missing throughout."""
    kind = storage_type(column)
    typed = batch.typed.get(column.name)
    if typed is not None:
        converted = _convert_typed(column, one_array(typed.unify_dictionaries()), batch)
        if converted is not None:
            return converted
    if column.name not in batch.names:
        return Converted(pa.nulls(len(batch), kind))
    strings = batch.column(column.name)
    return _convert_strings(column, strings, batch) if kind != CATEGORY else Converted(strings.dictionary_encode())


def _convert_typed(column: Column, typed: pa.Array, batch: RowBatch) -> Converted | None:
    """Convert a column that was read as some type; None when its strings are needed."""
    kind = storage_type(column)
    if pa.types.is_floating(typed.type):
        numbers = view_numbers(typed)
        if numbers is None or kind != typed.type:
            return None
        return Converted(pc.add(typed, 0.0) if _has_negative_zero(numbers) else typed, None, numbers)
    if pa.types.is_date(typed.type) or typed.type == TIMESTAMP:
        return Converted(typed.cast(TIMESTAMP)) if kind == TIMESTAMP else None
    if pa.types.is_dictionary(typed.type):
        return _convert_categories(column, typed, batch)
    strings = one_array(normalise(pa.chunked_array([typed]), batch.null_values, nulls_known=batch.nulls_known))
    if kind in (CATEGORY, pa.bool_(), TIMESTAMP):
        return _convert_categories(column, strings.dictionary_encode(), batch)
    return _convert_strings(column, strings, batch)


def _has_negative_zero(numbers: NumericView) -> bool:
    """Return whether adding zero would change the bytes: it makes negative zero positive, as parsing does."""
    if not numbers.least <= 0.0 <= numbers.greatest:
        return False
    return bool((np.signbit(numbers.values) & (numbers.values == 0.0)).any())


def _convert_categories(column: Column, encoded: pa.DictionaryArray, batch: RowBatch) -> Converted:
    """Convert the distinct strings once each."""
    distinct = pa.chunked_array([encoded.dictionary])
    categories = one_array(normalise(distinct, batch.null_values, nulls_known=batch.nulls_known))
    if storage_type(column) == CATEGORY:
        if categories.equals(encoded.dictionary):
            return Converted(encoded)
        return Converted(categories.take(encoded.indices).dictionary_encode())
    converted = _convert_strings(column, categories, batch)
    bad = None
    if converted.bad is not None:
        bad = pc.fill_null(pa.array(converted.bad).take(encoded.indices), False).to_numpy(zero_copy_only=False)
    return Converted(converted.stored.take(encoded.indices), bad)


def _convert_strings(column: Column, strings: pa.Array, batch: RowBatch) -> Converted:
    if storage_type(column) == pa.string():
        if column.role == "identifier" and column.type == "integer":
            # Writers of tables make 1.0 of 1 when a number is missing somewhere.
            strings = pc.replace_substring_regex(strings, r"^([+-]?[0-9]+)\.0*$", r"\1")
        return Converted(strings)
    parsed = parse_column(column, strings, batch.numbers, plain=column.name in batch.plain_names)
    stored = from_values(column, parsed.values, missing_mask(parsed.values))
    numbers = view_numbers(stored) if pa.types.is_floating(stored.type) else None
    return Converted(stored, parsed.bad if parsed.bad.any() else None, numbers)


@dataclass(frozen=True, slots=True)
class TypedTable:
    """A table's columns as typed arrays, as :func:`to_values` returns them."""

    schema: TableSchema
    columns: Mapping[str, npt.NDArray[Any]]
    n_rows: int

    def __len__(self) -> int:
        return self.n_rows

    def take(self, rows: npt.NDArray[Any]) -> "TypedTable":
        """Return the rows at these positions (or where this mask is true)."""
        if isinstance(self.columns, StoredColumns):
            stored = self.columns.stored
            kept = stored.filter(pa.array(rows)) if rows.dtype == np.bool_ else stored.take(pa.array(rows))
            return TypedTable(self.schema, StoredColumns(kept), int(kept.num_rows))
        columns = {name: values[rows] for name, values in self.columns.items()}
        return TypedTable(self.schema, columns, int(np.arange(self.n_rows)[rows].size))

    def features(self) -> FeatureMatrix:
        """Return the two matrices that models take."""
        return build_features(self.schema, self.columns, self.n_rows)

    def contents(self) -> FeatureMatrix:
        """Return the matrices by which rows are compared, with each text as a string."""
        schema = self.schema.with_whole_texts()
        if schema == self.schema:
            return self.features()
        # As objects: a matrix of strings is as wide as the longest text.
        return build_features(schema, self.columns, self.n_rows, texts=object)

    def target(self) -> npt.NDArray[Any]:
        """Return the target: int64 class indices (-1 for an unknown class), or float64 values."""
        return encode_target(self.schema, self.columns[self.schema.target.name])


def class_texts(column: Column, classes: tuple[str, ...], values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a classification target's typed values as class names, ``''`` where missing."""
    missing = missing_mask(values)
    if column.type == "category":
        return values
    if column.type == "boolean":
        names = np.array([*classes, MISSING_STRING], dtype=object)
        return names[np.where(missing, 2, values).astype(np.int64)]
    codes, distinct = pd.factorize(values)
    written = [str(int(value)) if value.is_integer() else repr(value) for value in distinct.tolist()]
    return np.array([*written, MISSING_STRING], dtype=object)[codes]  # a missing value has code -1: the last name


def encode_target(schema: TableSchema, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Encode a target: float64 for regression, else int64 class indices, -1 where missing or no known class."""
    if schema.task == "regression":
        return values.astype(np.float64)
    texts = class_texts(schema.target, schema.classes, values)
    index_of = {name: index for index, name in enumerate(schema.classes)}
    codes, distinct = pd.factorize(texts)
    indices = np.array([index_of.get(text, -1) for text in distinct.tolist()], dtype=np.int64)
    return indices[codes]


def stored_column(table: TypedTable, column: Column) -> pa.ChunkedArray:
    """Return a column as it is stored."""
    if isinstance(table.columns, StoredColumns):
        return table.columns.stored.column(column.name)
    values = table.columns[column.name]
    return pa.chunked_array([from_values(column, values, missing_mask(values))])


def stored_parts(table: TypedTable, column: Column) -> Iterator[pa.Array]:
    """Yield a column as it is stored, some rows at a time, so that a file's is never held as a whole."""
    rows = table.columns.stored if isinstance(table.columns, StoredColumns) else None
    if isinstance(rows, ParquetRows):
        yield from rows.parts(column.name)
        return
    size = rows_at_once(rows.num_columns if rows else 1)
    for chunk in stored_column(table, column).chunks:
        for start in range(0, len(chunk), size):
            yield chunk.slice(start, size)


def stored_rows(table: TypedTable, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Return a few rows, by positions that do not decrease, as they are stored."""
    if isinstance(table.columns, StoredColumns):
        return table.columns.stored.take(pa.array(rows))
    names = [column.name for column in table.schema.columns]
    return pa.table([stored_column(table, column).take(pa.array(rows)) for column in table.schema.columns], names=names)


def stored_tables(table: TypedTable) -> Iterator[pa.Table]:
    """Yield every column as it is stored, some rows at a time."""
    if isinstance(table.columns, StoredColumns):
        rows = table.columns.stored
    else:
        rows = pa.table({column.name: stored_column(table, column) for column in table.schema.columns})
    if isinstance(rows, ParquetRows):
        yield from rows.tables()
        return
    size = rows_at_once(rows.num_columns)
    for start in range(0, rows.num_rows, size):
        yield rows.slice(start, size)


def without_rows(table: TypedTable, kept: npt.NDArray[np.bool_], folder: Path | None) -> TypedTable:
    """Return the rows where a mask is true; of rows on disk, on disk again."""
    stored = table.columns.stored if isinstance(table.columns, StoredColumns) else None
    if folder is None or not isinstance(stored, ParquetRows):
        return table.take(kept)
    store = RowStore({name: stored.type_of(name) for name in stored.column_names}, folder)
    first = 0
    for part in stored.tables():
        rows = part.filter(pa.array(kept[first : first + part.num_rows]))
        first += part.num_rows
        store.append({name: one_array(rows.column(name)) for name in rows.column_names})
    return TypedTable(table.schema, StoredColumns(store.finish()), int(np.count_nonzero(kept)))


def row_parts(table: TypedTable) -> Iterator[TypedTable]:
    """Yield a table some rows at a time."""
    for part in stored_tables(table):
        yield TypedTable(table.schema, StoredColumns(part), int(part.num_rows))


def hash_text(strings: pa.Array) -> UInt64Array:
    """Hash strings, none of them missing, by pandas' SipHash-2-4: quicker than BLAKE2b, and not stored."""
    if pa.types.is_dictionary(strings.type):
        return np.asarray(hash_text(strings.dictionary)[strings.indices.to_numpy(zero_copy_only=False)])
    values = strings.cast(pa.string()).to_numpy(zero_copy_only=False)
    return np.asarray(pd.util.hash_array(values, categorize=False), dtype=np.uint64)


def hash_values(column: pa.ChunkedArray) -> UInt64Array:
    """Hash a column's values; equal ones alike, and missing ones too."""
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        hashes = [hash_text(pc.fill_null(chunk.cast(pa.string()), "")) for chunk in column.chunks]
    else:
        hashes = [pd.util.hash_array(to_values(chunk), categorize=False) for chunk in column.chunks]
    return np.concatenate([np.empty(0, dtype=np.uint64), *hashes])


def count_distinct(parts: Iterable[pa.Array]) -> int:
    """Count distinct strings, a missing one among them."""
    hashes, missing = [np.empty(0, dtype=np.uint64)], False
    for part in parts:
        missing = missing or bool(part.null_count)
        hashes.append(hash_text(part.drop_null()))
    ordered = np.concatenate(hashes)
    hashes.clear()
    ordered.sort()
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + bool(len(ordered)) + missing
