"""From an uploaded file's bytes to a table of text cells.

What a file is follows from its content; its name only tells JSON Lines from other text. Every format ends in the
same table of strings, so that the same table has the same types however it was written.
"""

import gzip
import io
import json
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.data.delimited import detect_encoding, read_delimited
from millrace.data.findings import shorten
from millrace.data.raw import MAX_COLUMNS, MAX_ROW_TEXT, QuarantinedRow, RawTable, build_cells, check_header
from millrace.errors import InvalidInputError, PayloadTooLargeError

#: Bytes that one file may hold, unpacked. Examining and preparing takes about seven times as much memory.
MAX_FILE_BYTES = 250_000_000

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_JSON_NAMES = (".jsonl", ".ndjson", ".json")
_KNOWN_FORMATS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"SQLite format 3": "an SQLite database",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"BZh": "a bzip2 archive",
    b"<html": "a web page",
    b"<!DOCTYPE": "a web page",
    b"<?xml": "an XML document",
}


def read_table(body: bytes, file_name: str) -> RawTable:
    """Read CSV, TSV, JSON Lines or Parquet, gzipped or not.

    Every row of the file is in the table or among its malformed rows.

    Parameters
    ----------
    body : bytes
        The file.
    file_name : str
        Tells JSON Lines (``.jsonl``, ``.ndjson``, ``.json``) from delimited text.

    Raises
    ------
    InvalidInputError
        When it is no table that can be read, with what to do about it.
    PayloadTooLargeError
        When it unpacks to more than :data:`MAX_FILE_BYTES`.
    """
    name = file_name.lower()
    compressed = body.startswith(_GZIP_MAGIC)
    if compressed:
        body = _unpack(body)
        name = name.removesuffix(".gz")
    if not body.strip(b" \t\r\n\0\xef\xbb\xbf"):
        raise InvalidInputError("the file is empty")
    for magic, what in _KNOWN_FORMATS.items():
        if body[: len(magic)].lower() == magic.lower():
            raise InvalidInputError(f"the file is {what}, not a table: upload CSV, JSON Lines or Parquet")
    if body.startswith(_PARQUET_MAGIC) or name.endswith(".parquet"):
        table = _read_parquet(body)
    elif name.endswith(_JSON_NAMES) or body.lstrip()[:1] == b"{":
        table = _read_json_lines(body)
    else:
        table = read_delimited(body)
    if compressed:
        table.description["compression"] = "gzip"
    return table


def _unpack(body: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(body)) as stream:
            unpacked = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as fault:
        raise InvalidInputError("the gzip file is damaged or cut off: upload it again") from fault
    if len(unpacked) > MAX_FILE_BYTES:
        raise PayloadTooLargeError(f"the file unpacks to more than {MAX_FILE_BYTES // 1_000_000:,} MB: upload parts")
    return unpacked


def _read_parquet(body: bytes) -> RawTable:
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        names = [name.strip() for name in file.schema_arrow.names]
        check_header(names)
        table = file.read()
    except (pa.ArrowException, OSError) as fault:
        raise InvalidInputError("the Parquet file is damaged or cut off: write and upload it again") from fault
    if not table.num_rows:
        raise InvalidInputError(f"the file has {len(names):,} columns but no rows")
    cells = build_cells(names, [_column_as_text(column) for column in table.columns])
    lines = np.arange(1, table.num_rows + 1, dtype=np.int64)
    return RawTable(cells, lines, (), {"format": "parquet"})


def _column_as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column_as_text(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        # Arrow writes 2.0 as "2"; a column of floats must not look like one of integers.
        text = pc.replace_substring_regex(column.cast(pa.float64()).cast(pa.string()), r"^(-?\d+)$", r"\1.0")
        return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.string()), text)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.chunked_array([[_json_text(value) for value in column.to_pylist()]], type=pa.string())
    return column.cast(pa.string())


def _read_json_lines(body: bytes) -> RawTable:
    """Read one object a line; the columns are every key that any of them has."""
    encoding = detect_encoding(body)
    columns: dict[str, list[str | None]] = {}
    lines: list[int] = []
    malformed: list[QuarantinedRow] = []
    for number, text in enumerate(encoding.lines(body), start=1):
        if not text.strip():
            continue
        try:
            record = _json_record(text)
        except ValueError as fault:
            readable = text.encode("utf-8", "replace").decode().rstrip("\r\n")
            malformed.append(QuarantinedRow(number, f"not a JSON object: {fault}", shorten(readable, MAX_ROW_TEXT)))
            continue
        for name in record:
            columns.setdefault(name, [None] * len(lines))
        if len(columns) > MAX_COLUMNS:
            check_header(list(columns))
        for name, values in columns.items():
            values.append(record.get(name))
        lines.append(number)
    if not lines:
        raise InvalidInputError("no line of the file is a JSON object: write one object a line")
    check_header(list(columns))
    cells = build_cells(list(columns), [pa.chunked_array([values], type=pa.string()) for values in columns.values()])
    description = {"format": "JSON Lines", "encoding": encoding.label}
    return RawTable(cells, np.array(lines, dtype=np.int64), tuple(malformed), description)


def _json_record(text: str) -> dict[str, str | None]:
    text.encode("utf-8")  # a lone surrogate stands for bytes that were not valid
    record = json.loads(text, object_pairs_hook=_unique_pairs)
    if not isinstance(record, dict):
        raise ValueError(f"found {type(record).__name__}")  # noqa: TRY004  # like every other fault of the text
    for name in record:
        name.encode("utf-8")
    return {name: _json_text(value) for name, value in record.items()}


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key is repeated")
    return record


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        value.encode("utf-8")
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)
