"""Local table files: format, columns and rows, and the columns that options name."""

import codecs
import csv
import difflib
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from millrace_cli.errors import RefusedError

#: Bytes of a text file that its format is detected from.
_SAMPLE_BYTES = 262_144
_SAMPLE_LINES = 20
_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_PARQUET_MARK, _ZIP_MARK, _GZIP_MARK = b"PAR1", b"PK\x03\x04", b"\x1f\x8b"
_JSON_LINES_SUFFIXES = frozenset({".jsonl", ".ndjson"})


@dataclass(frozen=True, slots=True)
class TableFormat:
    """Format and columns of a table file.

    Parameters
    ----------
    kind : {'Parquet', 'JSON Lines', 'CSV'}
        Format; CSV stands for delimited text with any delimiter.
    columns : tuple of str
        Names in the file's order; of JSON Lines those of the first record.
    delimiter, encoding : str, default=""
        Of delimited text; the encoding also of JSON Lines.
    first_line : int, default=0
        Lines before the header of delimited text, such as ``sep=;``.
    """

    kind: str
    columns: tuple[str, ...]
    delimiter: str = ""
    encoding: str = ""
    first_line: int = 0

    def describe(self) -> str:
        """Return the format in one phrase."""
        details = [_DELIMITERS.get(self.delimiter, self.delimiter), self.encoding]
        return ", ".join([self.kind, f"{len(self.columns):,} columns", *filter(None, details)])


def read_format(path: Path) -> TableFormat:
    """Read a file's format and its columns.

    Raises
    ------
    RefusedError
        When the file is an Excel workbook, a damaged file, or text without a header.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start == _PARQUET_MARK:
            return _parquet_format(path)
        if start == _ZIP_MARK:
            raise RefusedError(f"{path} is a workbook or an archive, not a table", "save the sheet as CSV in UTF-8")
        with _open_bytes(path) as body:
            sample = body.read(_SAMPLE_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise RefusedError(f"{path} cannot be read: {error}", "check the file and its permissions") from error
    encoding = _detect_encoding(sample)
    text = sample.decode(encoding, errors="replace")
    if path.name.removesuffix(".gz").endswith(tuple(_JSON_LINES_SUFFIXES)) or text.lstrip().startswith("{"):
        return _json_lines_format(path, text, encoding)
    return _delimited_format(path, text, encoding)


def read_rows(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Read a table: its column names and its rows. Values of delimited text are strings, of Parquet JSON values.

    Raises
    ------
    RefusedError
        As :func:`read_format`; and when there are no rows, or a row's length differs from the header's.
    """
    table = read_format(path)
    if table.kind == "Parquet":
        columns, rows = _parquet_rows(path, table)
    elif table.kind == "JSON Lines":
        columns, rows = _json_lines_rows(path, table)
    else:
        columns, rows = _delimited_rows(path, table)
    if not rows:
        raise RefusedError(f"{path} has no rows", "add a header and rows")
    return columns, rows


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """Return the name that ``name`` most likely stands for; None when no name resembles it."""
    by_key = {_key(known): known for known in names}
    found = difflib.get_close_matches(_key(name), by_key, n=1, cutoff=0.6)
    return by_key[found[0]] if found else None


def check_column(name: str, columns: Sequence[str], path: Path) -> None:
    """Check that a file has a column.

    Raises
    ------
    RefusedError
        When it has not; names the most similar column, and every column.
    """
    if name in columns:
        return
    near = nearest_name(name, columns)
    suggestion = f"did you mean {near!r}? " if near else ""
    raise RefusedError(f"{path} has no column {name!r}", f"{suggestion}the columns are {', '.join(columns)}")


def _key(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum()) or name


def _open_bytes(path: Path) -> Any:
    with path.open("rb") as file:
        is_compressed = file.read(2) == _GZIP_MARK
    return gzip.open(path, "rb") if is_compressed else path.open("rb")


def _detect_encoding(sample: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    try:
        # The sample may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _delimited_format(path: Path, text: str, encoding: str) -> TableFormat:
    lines = text.splitlines()
    first = 1 if lines and lines[0].lower().startswith("sep=") else 0
    lines = lines[first : first + _SAMPLE_LINES]
    if not any(line.strip() for line in lines):
        raise RefusedError(f"{path} has no header", "write the columns' names into the first line")
    named = text.splitlines()[0][4:5] if first else ""
    best, best_score = named or ",", (0.0, 0)
    for delimiter in [named] if named else _DELIMITERS:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        width = len(rows[0])
        score = (sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0, width)
        if score > best_score:
            best, best_score = delimiter, score
    header = next(row for row in csv.reader(lines, delimiter=best) if row)
    return TableFormat("CSV", tuple(name.strip() for name in header), best, encoding, first)


def _delimited_rows(path: Path, table: TableFormat) -> tuple[list[str], list[list[Any]]]:
    with _open_bytes(path) as body:
        text = io.TextIOWrapper(body, encoding=table.encoding, errors="replace", newline="")
        for _ in range(table.first_line):
            text.readline()
        reader = csv.reader(text, delimiter=table.delimiter)
        next(row for row in reader if row)
        rows: list[list[Any]] = []
        for row in reader:
            if not row:
                continue
            if len(row) != len(table.columns):
                raise RefusedError(
                    f"{path}: line {reader.line_num + table.first_line} has {len(row)} values for "
                    f"{len(table.columns)} columns",
                    "quote values that contain the delimiter",
                )
            rows.append(row)
    return list(table.columns), rows


def _json_lines_format(path: Path, text: str, encoding: str) -> TableFormat:
    line = next((line for line in text.splitlines() if line.strip()), "")
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RefusedError(f"{path}: the first line is not a JSON object: {error}") from error
    if not isinstance(record, dict):
        raise RefusedError(f"{path}: the first line is not a JSON object", "write one object for each line")
    return TableFormat("JSON Lines", tuple(record), encoding=encoding)


def _json_lines_rows(path: Path, table: TableFormat) -> tuple[list[str], list[list[Any]]]:
    with _open_bytes(path) as body:
        lines = body.read().decode(table.encoding, errors="replace").splitlines()
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise RefusedError(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(records[-1], dict):
            raise RefusedError(f"{path}: line {number} is not a JSON object")
    columns = list(dict.fromkeys(name for record in records for name in record))
    return columns, [[record.get(name) for name in columns] for record in records]


def _parquet_format(path: Path) -> TableFormat:
    import pyarrow as pa  # noqa: PLC0415  # loads slowly, and most commands need no Parquet
    from pyarrow import parquet  # noqa: PLC0415  # as above

    try:
        schema = parquet.read_schema(path)
    except pa.ArrowException as error:
        raise RefusedError(f"{path} is a damaged Parquet file: {error}", "write it again") from error
    return TableFormat("Parquet", tuple(schema.names))


def _parquet_rows(path: Path, table: TableFormat) -> tuple[list[str], list[list[Any]]]:
    import pyarrow as pa  # noqa: PLC0415  # as above
    from pyarrow import parquet  # noqa: PLC0415  # as above

    try:
        columns = parquet.read_table(path).to_pydict()
    except pa.ArrowException as error:
        raise RefusedError(f"{path} is a damaged Parquet file: {error}", "write it again") from error
    values = [[_json_value(value) for value in columns[name]] for name in table.columns]
    return list(table.columns), [list(row) for row in zip(*values, strict=True)]


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
