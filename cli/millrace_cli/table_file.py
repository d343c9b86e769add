"""Local table files: format, columns and rows, and the columns that options name."""

import codecs
import csv
import difflib
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from millrace.quantities import PLAIN, NumberStyle
from millrace.schema import DELIMITERS, Column

from millrace_cli.errors import RefusedError

#: Bytes of a text file that its format is detected from.
_SAMPLE_BYTES = 262_144
_SAMPLE_LINES = 20
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: Excel's line, also as other tools write it again.
_SEPARATOR_LINE = re.compile(r'"?sep= ?(\\t|.) ?"?\1*[,;\t|]*\s*', re.IGNORECASE)
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
        details = [DELIMITERS.get(self.delimiter, self.delimiter), self.encoding]
        return ", ".join([self.kind, f"{len(self.columns):,} columns", *filter(None, details)])


def read_format(path: Path) -> TableFormat:
    """Read a file's format and its columns.

    Raises
    ------
    RefusedError
        When the file is an Excel workbook, a damaged or binary file, or text without a header.
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
    if "\0" in text:
        raise RefusedError(f"{path} is binary, not a table", "save the table as CSV, JSON Lines or Parquet")
    if path.name.removesuffix(".gz").endswith(tuple(_JSON_LINES_SUFFIXES)) or text.lstrip().startswith("{"):
        return _json_lines_format(path, text, encoding)
    return _delimited_format(path, text, encoding)


@dataclass(frozen=True, slots=True)
class Table:
    """A table: values of delimited text are strings, trimmed and None where empty; those of Parquet are JSON values."""

    columns: list[str]
    rows: list[list[Any]]
    lines: list[int]  # line of each row in the file, from 1; of Parquet the row
    numbers: NumberStyle = PLAIN  # notation of numbers in delimited text
    plain_names: frozenset[str] = frozenset()  # columns whose numbers are surely plain

    def styles(self, name: str, column: Column | None) -> tuple[NumberStyle, ...]:
        """Return the notations of a column's numbers, the surest first, as training reads the same file."""
        return column.number_styles(self.numbers, plain=name in self.plain_names) if column else (self.numbers,)


def read_rows(path: Path) -> Table:
    """Read a table.

    Raises
    ------
    RefusedError
        As :func:`read_format`; and when there are no rows, or a row's length differs from the header's.
    """
    form = read_format(path)
    if form.kind == "Parquet":
        table = _parquet_table(path, form)
    elif form.kind == "JSON Lines":
        table = _json_lines_table(path, form)
    else:
        table = _delimited_table(path) if len(form.columns) > 1 else _single_column(path, form)
    if not table.rows:
        raise RefusedError(f"{path} has no rows", "add a header and rows")
    return table


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
    separator = _SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    first = 1 if separator else 0
    lines = lines[first : first + _SAMPLE_LINES]
    if not any(line.strip() for line in lines):
        raise RefusedError(f"{path} has no header", "write the columns' names into the first line")
    named = separator[1].replace("\\t", "\t") if separator else ""
    best, best_score = named or ",", (0.0, 0)
    for delimiter in [named] if named else DELIMITERS:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        width = len(rows[0])
        score = (sum(len(row) == width for row in rows) / len(rows) if width > 1 else 0.0, width)
        if score > best_score:
            best, best_score = delimiter, score
    header = next(row for row in csv.reader(lines, delimiter=best) if row)
    return TableFormat("CSV", tuple(name.strip() for name in header), best, encoding, first)


def _single_column(path: Path, form: TableFormat) -> Table:
    """Read delimited text of one column, which no training reads but a model of one feature does."""
    with (
        _open_bytes(path) as body,
        io.TextIOWrapper(body, encoding=form.encoding, errors="replace", newline="") as text,
    ):
        records = [row for row in csv.reader(text) if row]
    rows: list[list[Any]] = [[row[0].strip() or None] for row in records[1:]]
    return Table(list(form.columns), rows, list(range(2, len(rows) + 2)))


def _delimited_table(path: Path) -> Table:
    """Read delimited text as training reads it, with every string as it stands in the file."""
    from millrace.data.read import open_table  # noqa: PLC0415  # loads slowly, and most commands read no rows
    from millrace.errors import MillraceError  # noqa: PLC0415  # as above
    from millrace.spec.data import ReadSpec  # noqa: PLC0415  # as above

    try:
        reader = open_table(path, path.name, ReadSpec(null_values=()))
        parts = list(reader.batches())
    except MillraceError as error:
        raise RefusedError(f"{path}: {error.message}") from error
    malformed = [row for part in parts for row in part.malformed]
    if malformed:
        raise RefusedError(
            f"{path}: line {malformed[0].line}: {malformed[0].reason}", "quote values that contain the delimiter"
        )
    columns = {name: [value for part in parts for value in part.column(name).to_pylist()] for name in reader.names}
    # A delimiter at the end of every line makes a column without name and values.
    columns = {name: values for name, values in columns.items() if name not in reader.unnamed}
    lines = [line for part in parts for line in part.lines.tolist()]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return Table(list(columns), rows, lines, reader.numbers, reader.plain_names)


def _json_lines_format(path: Path, text: str, encoding: str) -> TableFormat:
    line = next((line for line in text.splitlines() if line.strip()), "")
    try:
        record = json.loads(line)
    except ValueError as error:
        raise RefusedError(f"{path}: the first line is not a JSON object: {error}") from error
    if not isinstance(record, dict):
        raise RefusedError(f"{path}: the first line is not a JSON object", "write one object for each line")
    return TableFormat("JSON Lines", tuple(record), encoding=encoding)


def _json_lines_table(path: Path, table: TableFormat) -> Table:
    with _open_bytes(path) as body:
        text = body.read().decode(table.encoding, errors="replace").split("\n")
    records, lines = [], []
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise RefusedError(f"{path}: line {number} is not JSON: {error}") from error
        if not isinstance(records[-1], dict):
            raise RefusedError(f"{path}: line {number} is not a JSON object")
        lines.append(number)
    columns = list(dict.fromkeys(name for record in records for name in record))
    return Table(columns, [[record.get(name) for name in columns] for record in records], lines)


def _parquet_format(path: Path) -> TableFormat:
    import pyarrow as pa  # noqa: PLC0415  # loads slowly, and most commands need no Parquet
    from pyarrow import parquet  # noqa: PLC0415  # as above

    try:
        schema = parquet.read_schema(path)
    except pa.ArrowException as error:
        raise RefusedError(f"{path} is a damaged Parquet file: {error}", "write it again") from error
    return TableFormat("Parquet", tuple(schema.names))


def _parquet_table(path: Path, table: TableFormat) -> Table:
    import pyarrow as pa  # noqa: PLC0415  # as above
    from pyarrow import parquet  # noqa: PLC0415  # as above

    try:
        columns = parquet.read_table(path).to_pydict()
    except pa.ArrowException as error:
        raise RefusedError(f"{path} is a damaged Parquet file: {error}", "write it again") from error
    values = [[_json_value(value) for value in columns[name]] for name in table.columns]
    rows = [list(row) for row in zip(*values, strict=True)]
    return Table(list(table.columns), rows, list(range(1, len(rows) + 1)))


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
