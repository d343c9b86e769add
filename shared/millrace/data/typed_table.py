"""Typed columns: what a table is once its schema is known, and how it is kept as Parquet.

======================  =====================================  ==================
column                  array                                  in Parquet
======================  =====================================  ==================
integer                 float64, NaN missing                   int64, or double
number                  float64, NaN missing                   double
boolean                 float64: 0, 1, NaN missing             bool
datetime                datetime64[us] in UTC, NaT missing     timestamp[us, UTC]
category, text          str objects, ``''`` missing            string
identifier, any type    str objects, ``''`` missing            string
======================  =====================================  ==================
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.data.cells import ISO_FORMAT, Parsed, parse_booleans, parse_datetimes, parse_numbers, parse_strings
from millrace.features import MISSING_STRING, FeatureMatrix, build_features
from millrace.schema import Column, TableSchema

_EXACT_INTEGERS = 2.0**53


@dataclass(frozen=True, slots=True)
class TypedTable:
    """A table's columns as typed arrays.

    Parameters
    ----------
    schema : TableSchema
        Names and types of the columns.
    columns : mapping of str to array of shape (n_rows,)
        As the module's docstring says, every column of the schema.
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
        columns = {name: values[rows] for name, values in self.columns.items()}
        return TypedTable(self.schema, columns, int(np.arange(self.n_rows)[rows].size))

    def features(self) -> FeatureMatrix:
        """Return the two matrices that models take."""
        return build_features(self.schema, self.columns, self.n_rows)

    def target(self) -> npt.NDArray[Any]:
        """Return the target: int64 class indices (-1 for an unknown class), or float64 values."""
        return encode_target(self.schema, self.columns[self.schema.target.name])


def is_text(column: Column) -> bool:
    """Tell whether a column is kept as strings."""
    return column.role == "identifier" or column.type in ("category", "text")


def parse_column(column: Column, cells: pa.Array) -> Parsed:
    """Type one column's cells as its schema says."""
    if is_text(column):
        return parse_strings(cells)
    if column.type == "boolean":
        return parse_booleans(cells, column.true_values, column.false_values)
    if column.type == "datetime":
        return parse_datetimes(cells, tuple(dict.fromkeys((*column.formats, ISO_FORMAT))))
    return parse_numbers(cells)


def missing_cells(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which typed values are missing."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values), dtype=np.bool_)
    if values.dtype.kind == "M":
        return np.asarray(np.isnat(values), dtype=np.bool_)
    return np.asarray(values == MISSING_STRING, dtype=np.bool_)


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


def dump_table(table: TypedTable) -> bytes:
    """Write a typed table as Parquet."""
    arrays = [_to_arrow(column, table.columns[column.name]) for column in table.schema.columns]
    names = [column.name for column in table.schema.columns]
    buffer = io.BytesIO()
    pq.write_table(pa.table(arrays, names=names), buffer, compression="zstd")
    return buffer.getvalue()


def load_table(body: bytes, schema: TableSchema) -> TypedTable:
    """Read what :func:`dump_table` wrote under the same version of the schema; a column added since is missing."""
    stored = pq.read_table(pa.BufferReader(body))
    columns = {
        column.name: _from_arrow(stored.column(column.name).combine_chunks())
        if column.name in stored.column_names
        else parse_column(column, pa.nulls(stored.num_rows, pa.string())).values
        for column in schema.columns
    }
    return TypedTable(schema, columns, stored.num_rows)


def _to_arrow(column: Column, values: npt.NDArray[Any]) -> pa.Array:
    missing = missing_cells(values)
    if is_text(column):
        return pa.array(values, type=pa.string(), mask=missing)
    if column.type == "datetime":
        return pa.array(values, type=pa.timestamp("us"), mask=missing).cast(pa.timestamp("us", "UTC"))
    known = np.where(missing, 0.0, values)
    if column.type == "boolean":
        return pa.array(known.astype(np.bool_), mask=missing)
    if column.type == "integer" and bool(np.all((known % 1 == 0) & (np.abs(known) < _EXACT_INTEGERS))):
        return pa.array(known.astype(np.int64), mask=missing)
    return pa.array(known, mask=missing)


def _from_arrow(array: pa.Array) -> npt.NDArray[Any]:
    if pa.types.is_string(array.type):
        return parse_strings(array).values
    if pa.types.is_timestamp(array.type):
        moments = array.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
        return np.asarray(moments, dtype="datetime64[us]")
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    numbers = pc.fill_null(array.cast(pa.float64()), float("nan")).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float64)
