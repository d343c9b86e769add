"""How typed columns lie in memory and in Parquet, and how they become the arrays that the stages compute with.

======================  ===========================  =====================================
column                  stored as                    array
======================  ===========================  =====================================
integer, number         double, null missing         float64, NaN missing
boolean                 bool, null missing           float64: 0, 1, NaN missing
datetime                timestamp[us, UTC]           datetime64[us] in UTC, NaT missing
category                dictionary of strings        str objects, ``''`` missing
text, identifier        string, null missing         str objects, ``''`` missing
======================  ===========================  =====================================

In Parquet an integer column whose values are all whole is int64, and a dictionary is a string column.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.row_store import Rows
from millrace.features import MISSING_STRING
from millrace.schema import Column

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
