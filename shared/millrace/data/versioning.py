"""Dataset identity: the same content is the same dataset, whatever file it came in."""

import hashlib
import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.storage import to_values
from millrace.data.typed_table import TypedTable, is_text, missing_cells, stored_parts
from millrace.features import MISSING_STRING
from millrace.schema import Column


def dataset_id(table: TypedTable) -> str:
    """Return the SHA-256 of a table's canonical content, as 64 hexadecimal digits.

    The content is the schema's version, every column's name and type, and every typed value in row order: a table
    written as CSV, gzipped or as Parquet is one dataset, and under another schema it is another.
    """
    digest = hashlib.sha256()
    columns = [(column.name, column.type, is_text(column)) for column in table.schema.columns]
    header = {"schema_version": table.schema.version, "rows": len(table), "columns": columns}
    digest.update(json.dumps(header, ensure_ascii=False).encode())
    for column in table.schema.columns:
        for part in _bytes_of_words(table, column) if is_text(column) else _bytes_of_values(table, column):
            digest.update(part)
    return digest.hexdigest()


def _bytes_of_values(table: TypedTable, column: Column) -> Iterator[bytes]:
    """Yield numbers, booleans and moments as 8 bytes each; missing ones are all the same NaN or NaT."""
    for part in stored_parts(table, column):
        values = to_values(part)
        if values.dtype.kind == "M":
            yield values.astype("datetime64[us]").astype("<i8").tobytes()
        else:
            yield np.where(missing_cells(values), np.nan, values + 0.0).astype("<f8").tobytes()


def _bytes_of_words(table: TypedTable, column: Column) -> Iterator[bytes]:
    """Yield the length of every word in UTF-8, then all words; a missing one is empty."""
    for part in _words(table, column):
        yield pc.binary_length(part).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
    for part in _words(table, column):
        offsets = np.frombuffer(part.buffers()[1], dtype=np.int64)[part.offset : part.offset + len(part) + 1]
        words = part.buffers()[2]
        yield b"" if words is None else words[int(offsets[0]) : int(offsets[-1])].to_pybytes()


def _words(table: TypedTable, column: Column) -> Iterator[pa.LargeStringArray]:
    """Yield some rows at a time, so that a category's words are never all written out at once."""
    for part in stored_parts(table, column):
        yield pc.fill_null(part.cast(pa.string()), MISSING_STRING).cast(pa.large_string())
