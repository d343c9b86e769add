"""Typed columns: what a table is once its schema is known."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.raw import RowBatch, normalise, one_array
from millrace.data.row_store import (
    MOMENT,
    WORDS,
    ParquetRows,
    StoredColumns,
    column_parts,
    filter_rows,
    from_values,
    is_text,
    storage_type,
    table_parts,
)
from millrace.data.values import (
    ISO_FORMAT,
    PLAIN,
    Numbers,
    NumberStyle,
    Parsed,
    parse_booleans,
    parse_datetimes,
    parse_numbers,
    parse_strings,
    view_numbers,
)
from millrace.features import MISSING_STRING, FeatureMatrix, build_features, missing_mask
from millrace.schema import Column, TableSchema


@dataclass(frozen=True, slots=True)
class Converted:
    """One column of a batch.

    Parameters
    ----------
    stored : pyarrow.Array
        Its values; missing and unparsable ones are null.
    bad : bool array of shape (n_rows,) or None
        Cells that are there but do not parse; None where all do.
    numbers : Numbers or None, default=None
        A numeric column's values once more, as numpy sees them.
    """

    stored: pa.Array
    bad: npt.NDArray[np.bool_] | None = None
    numbers: Numbers | None = None


def read_types(columns: Iterable[Column]) -> dict[str, pa.DataType]:
    """Return the type that each column is best read as; booleans, and dates written otherwise, are words at first."""
    return {column.name: _read_type(column) for column in columns}


def _read_type(column: Column) -> pa.DataType:
    kind = storage_type(column)
    if kind == pa.bool_() or (kind == MOMENT and column.formats != (ISO_FORMAT,)):
        return WORDS
    return kind


def parse_column(column: Column, cells: pa.Array, numbers: NumberStyle = PLAIN) -> Parsed:
    """Type one column's cells as its schema says."""
    if is_text(column):
        return parse_strings(cells)
    if column.type == "boolean":
        return parse_booleans(cells, column.true_values, column.false_values)
    if column.type == "datetime":
        return parse_datetimes(cells, tuple(dict.fromkeys((*column.formats, ISO_FORMAT))))
    return parse_numbers(numbers.rewrite(cells))


def convert(column: Column, batch: RowBatch) -> Converted:
    """Type one column of a batch; a column that the batch has not is missing throughout."""
    kind = storage_type(column)
    typed = batch.typed.get(column.name)
    if typed is not None:
        converted = _convert_typed(column, one_array(typed.unify_dictionaries()), batch)
        if converted is not None:
            return converted
    if column.name not in batch.names:
        return Converted(pa.nulls(len(batch), kind))
    cells = batch.column(column.name)
    return _convert_cells(column, cells, batch.numbers) if kind != WORDS else Converted(cells.dictionary_encode())


def _convert_typed(column: Column, typed: pa.Array, batch: RowBatch) -> Converted | None:
    """Take a column that was read as some type; None when its text has to be looked at."""
    kind = storage_type(column)
    if pa.types.is_floating(typed.type):
        numbers = view_numbers(typed)
        if numbers is None or kind != typed.type:
            return None
        return Converted(pc.add(typed, 0.0) if _has_negative_zero(numbers) else typed, None, numbers)
    if pa.types.is_date(typed.type) or typed.type == MOMENT:
        return Converted(typed.cast(MOMENT)) if kind == MOMENT else None
    if pa.types.is_dictionary(typed.type):
        return _convert_words(column, typed, batch)
    cells = one_array(normalise(pa.chunked_array([typed]), batch.missing, nulls_known=batch.nulls_known))
    if kind in (WORDS, pa.bool_(), MOMENT):
        return _convert_words(column, cells.dictionary_encode(), batch)
    return _convert_cells(column, cells, batch.numbers)


def _has_negative_zero(numbers: Numbers) -> bool:
    """Tell whether adding zero would change the bytes: it makes negative zero positive, as where text is parsed."""
    if not numbers.least <= 0.0 <= numbers.greatest:
        return False
    return bool((np.signbit(numbers.values) & (numbers.values == 0.0)).any())


def _convert_words(column: Column, encoded: pa.DictionaryArray, batch: RowBatch) -> Converted:
    """Type the different words once each."""
    distinct = pa.chunked_array([encoded.dictionary])
    words = one_array(normalise(distinct, batch.missing, nulls_known=batch.nulls_known))
    if storage_type(column) == WORDS:
        if words.equals(encoded.dictionary):
            return Converted(encoded)
        return Converted(words.take(encoded.indices).dictionary_encode())
    converted = _convert_cells(column, words, batch.numbers)
    bad = None
    if converted.bad is not None:
        bad = pc.fill_null(pa.array(converted.bad).take(encoded.indices), False).to_numpy(zero_copy_only=False)
    return Converted(converted.stored.take(encoded.indices), bad)


def _convert_cells(column: Column, cells: pa.Array, style: NumberStyle) -> Converted:
    if storage_type(column) == pa.string():
        return Converted(cells)
    parsed = parse_column(column, cells, style)
    missing = np.isnat(parsed.values) if column.type == "datetime" else np.isnan(parsed.values)
    if column.type == "boolean":
        stored = pa.array(np.where(missing, 0.0, parsed.values).astype(np.bool_), mask=missing)
    elif column.type == "datetime":
        stored = pa.array(parsed.values, type=pa.timestamp("us"), mask=missing).cast(MOMENT)
    else:
        stored = pa.array(parsed.values, mask=missing)
    numbers = view_numbers(stored) if pa.types.is_floating(stored.type) else None
    return Converted(stored, parsed.bad if parsed.bad.any() else None, numbers)


__all__ = [
    "TypedTable",
    "class_texts",
    "encode_target",
    "is_text",
    "missing_mask",
    "parse_column",
    "row_parts",
    "stored_column",
    "stored_parts",
    "stored_rows",
    "stored_tables",
    "without_rows",
]


@dataclass(frozen=True, slots=True)
class TypedTable:
    """A table's columns as typed arrays.

    Parameters
    ----------
    schema : TableSchema
        Names and types of the columns.
    columns : mapping of str to array of shape (n_rows,)
        As :mod:`millrace.data.row_store` says, every column of the schema.
    n_rows : int
        Number of rows.
    """

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
        """Return what makes two rows the same: the matrices, with each text as the string that it is."""
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
    """Turn a typed target into what models are trained on.

    Returns
    -------
    array of shape (n_rows,)
        float64 values for regression; else int64 indices into ``schema.classes``, -1 where the class is not among
        them or missing.
    """
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
    """Yield a column as it is stored, some rows at a time."""
    if isinstance(table.columns, StoredColumns):
        return column_parts(table.columns.stored, column.name)
    return column_parts(pa.table({column.name: stored_column(table, column)}), column.name)


def stored_rows(table: TypedTable, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Return a few rows, by positions that do not decrease, as they are stored."""
    if isinstance(table.columns, StoredColumns):
        return table.columns.stored.take(pa.array(rows))
    names = [column.name for column in table.schema.columns]
    return pa.table([stored_column(table, column).take(pa.array(rows)) for column in table.schema.columns], names=names)


def stored_tables(table: TypedTable) -> Iterator[pa.Table]:
    """Yield every column of the schema as it is stored, some rows at a time."""
    if isinstance(table.columns, StoredColumns):
        return table_parts(table.columns.stored)
    return table_parts(pa.table({column.name: stored_column(table, column) for column in table.schema.columns}))


def without_rows(table: TypedTable, kept: npt.NDArray[np.bool_], folder: Path | None) -> TypedTable:
    """Return the rows where a mask is true; of rows on disk, on disk again."""
    stored = table.columns.stored if isinstance(table.columns, StoredColumns) else None
    if folder is None or not isinstance(stored, ParquetRows):
        return table.take(kept)
    rows = filter_rows(stored, kept, folder)
    return TypedTable(table.schema, StoredColumns(rows), rows.num_rows)


def row_parts(table: TypedTable) -> Iterator[TypedTable]:
    """Yield a table some rows at a time."""
    for part in stored_tables(table):
        yield TypedTable(table.schema, StoredColumns(part), int(part.num_rows))
