"""Typed columns: what a table is once its schema is known."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from millrace.data.conversion import parse_column
from millrace.data.row_store import ParquetRows, column_parts, filter_rows, table_parts
from millrace.data.storage import StoredColumns, from_values, is_text
from millrace.features import MISSING_STRING, FeatureMatrix, build_features, missing_cells
from millrace.schema import Column, TableSchema

__all__ = [
    "TypedTable",
    "class_texts",
    "encode_target",
    "is_text",
    "missing_cells",
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
        As :mod:`millrace.data.storage` says, every column of the schema.
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
    missing = missing_cells(values)
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
    return pa.chunked_array([from_values(column, values, missing_cells(values))])


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
