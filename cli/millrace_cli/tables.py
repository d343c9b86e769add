"""Rows for a prediction request, from a CSV file or inline JSON."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from millrace.schema import MISSING_WORDS

from millrace_cli.errors import RefusedError

_NUMERIC_TYPES = frozenset({"integer", "number"})

#: Column types by name, as a version's schema has them.
ColumnTypes = Mapping[str, str]


def read_request(source: str, column_types: ColumnTypes | None = None, drop: Sequence[str] = ()) -> dict[str, Any]:
    """Return the body of a prediction request.

    Parameters
    ----------
    source : str
        The path of a CSV file, or JSON: one row as an object, rows as a list of objects, or a whole request.
    column_types : mapping or None
        Types of the model's columns; without them a column is numeric when all its values are numbers.
    drop : sequence of str, default=()
        Columns of a file to leave out, such as the target.

    Raises
    ------
    RefusedError
        When it is neither.
    """
    text = source.strip()
    if text[:1] in ("{", "["):
        return _from_json(text)
    path = Path(source)
    if not path.is_file():
        raise RefusedError(f"{source} is neither a file nor JSON", """name a CSV file, or write '{"column": value}'""")
    if path.suffix.lower() == ".json":
        return _from_json(path.read_text(encoding="utf-8-sig"))
    return {"dataframe_split": read_csv(path, column_types, drop)}


def read_csv(path: Path, column_types: ColumnTypes | None = None, drop: Sequence[str] = ()) -> dict[str, Any]:
    """Return a CSV file as a split data frame: ``columns`` and ``data`` with JSON types.

    Raises
    ------
    RefusedError
        When it has no header, no rows, or rows of another length; names the first of those.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except UnicodeDecodeError as error:
        raise RefusedError(f"{path} is not text in UTF-8", "save it as CSV in UTF-8") from error
    if len(rows) < 2:  # noqa: PLR2004  # a header and one row
        raise RefusedError(f"{path} holds no rows", "a table needs a header and rows")
    header, *data = rows
    for number, row in enumerate(data, start=2):
        if len(row) != len(header):
            raise RefusedError(f"{path}: row {number} has {len(row)} values for {len(header)} columns")
    columns = {name: [row[index] for row in data] for index, name in enumerate(header) if name not in drop}
    typed = {name: convert_column(values, (column_types or {}).get(name)) for name, values in columns.items()}
    return {"columns": list(typed), "data": [list(row) for row in zip(*typed.values(), strict=True)]}


def convert_column(values: Sequence[str], column_type: str | None = None) -> list[Any]:
    """Return a column's text as JSON values; a number that is none stays text, for the API to name.

    Parameters
    ----------
    column_type : str or None
        ``integer``, ``number``, ``boolean``, ``category``, ``datetime`` or ``text``; None guesses.
    """
    present = [value.strip() for value in values if not _is_missing(value)]
    if column_type is None:
        is_numeric = bool(present) and all(_number(value) is not None for value in present)
    else:
        is_numeric = column_type in _NUMERIC_TYPES
    return [None if _is_missing(value) else _convert(value, is_numeric) for value in values]


def _convert(value: str, is_numeric: bool) -> Any:
    if not is_numeric:
        return value
    number = _number(value.strip())
    return value if number is None else number


def _number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_missing(value: str) -> bool:
    return value.strip() in MISSING_WORDS


def _from_json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"this is not JSON: {error}", """write one row as '{"column": value}'""") from error
    if isinstance(document, dict):
        is_request = any(key.startswith("dataframe_") for key in document)
        return document if is_request else {"dataframe_records": [document]}
    if isinstance(document, list) and document and all(isinstance(row, dict) for row in document):
        return {"dataframe_records": document}
    raise RefusedError("this JSON is no row", """write one row as '{"column": value}', or a list of rows""")


def row_count(request: Mapping[str, Any]) -> int:
    """Return how many rows a request holds."""
    if "dataframe_split" in request:
        return len(request["dataframe_split"].get("data", ()))
    return len(request.get("dataframe_records", ()))
