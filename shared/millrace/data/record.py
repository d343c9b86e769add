"""A dataset's record: ``data.parquet``, written and read some rows at a time.

In it an integer column whose values are all whole is int64, and a column of words is one of strings.
"""

import io
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.data.row_store import ParquetRows, rows_at_once
from millrace.data.storage import StoredColumns, is_text, storage_type
from millrace.data.typed_table import TypedTable, stored_parts, stored_tables
from millrace.schema import Column, TableSchema

_EXACT_INTEGERS = 2.0**53
#: Parts of a row group: enough to compress well, few enough to be held while they are written.
_PARTS_A_GROUP = 2


def write_record(table: TypedTable, sink: Path | IO[bytes]) -> None:
    """Write a typed table as Parquet; the same rows give the same bytes however they were taken in."""
    columns = {column.name: _record_type(table, column) for column in table.schema.columns}
    schema = pa.schema(list(columns.items()))
    waiting: list[pa.Table] = []
    size = _PARTS_A_GROUP * rows_at_once(len(columns), _row_bytes(table))
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for part in stored_tables(table):
            cast = [part.column(name).cast(kind) for name, kind in columns.items()]
            waiting.append(pa.Table.from_arrays(cast, schema=schema))
            if sum(group.num_rows for group in waiting) >= size:
                whole = pa.concat_tables(waiting)
                writer.write_table(whole.slice(0, size), size)
                waiting = [whole.slice(size)]
        if waiting:
            writer.write_table(pa.concat_tables(waiting), size)


def dump_record(table: TypedTable) -> bytes:
    """Return what :func:`write_record` writes."""
    buffer = io.BytesIO()
    write_record(table, buffer)
    return buffer.getvalue()


def open_record(source: Path | IO[bytes], schema: TableSchema) -> TypedTable:
    """Open what :func:`write_record` wrote under the same version of the schema; a column added since is missing."""
    words = [column.name for column in schema.columns if column.type == "category"]
    absent = {column.name: storage_type(column) for column in schema.columns}
    rows = ParquetRows(source, words, absent)
    return TypedTable(schema, StoredColumns(rows), rows.num_rows)


def _row_bytes(table: TypedTable) -> float:
    """Return what a row takes, so that a row group is bounded however long the texts are."""
    texts = [column for column in table.schema.columns if is_text(column)]
    parts = (part for column in texts for part in stored_parts(table, column))
    letters = sum(pc.sum(pc.binary_length(part.cast(pa.string()))).as_py() or 0 for part in parts)
    return 8.0 * len(table.schema.columns) + letters / max(1, len(table))


def _record_type(table: TypedTable, column: Column) -> pa.DataType:
    kind = storage_type(column)
    if pa.types.is_dictionary(kind):
        return pa.string()
    whole = column.type == "integer" and pa.types.is_floating(kind)
    return pa.int64() if whole and all(_is_whole(part) for part in stored_parts(table, column)) else kind


def _is_whole(part: pa.Array) -> bool:
    if not pa.types.is_floating(part.type):
        return True
    bounds = pc.min_max(part).as_py()
    if bounds["min"] is None:
        return True
    exact = max(-bounds["min"], bounds["max"]) < _EXACT_INTEGERS
    return exact and pc.all(pc.equal(part, pc.round(part))).as_py() is not False
