"""Dataset identity: the same content is the same dataset, whatever file it came in."""

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.typed_table import TypedTable, is_text, missing_cells


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
        for part in _canonical_bytes(table.columns[column.name]):
            digest.update(part)
    return digest.hexdigest()


def _canonical_bytes(values: npt.NDArray[Any]) -> list[bytes]:
    if values.dtype.kind == "f":
        return [np.where(missing_cells(values), np.nan, values + 0.0).astype("<f8").tobytes()]
    if values.dtype.kind == "M":
        return [values.astype("datetime64[us]").astype("<i8").tobytes()]
    encoded = [value.encode() for value in values.tolist()]
    lengths = np.array([len(value) for value in encoded], dtype="<i8")
    return [lengths.tobytes(), b"".join(encoded)]
