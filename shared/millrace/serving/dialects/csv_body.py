"""CSV bodies: a line of names, then rows; cells are read as training reads them."""

import csv
import io
import re
from typing import Any

from millrace.errors import InvalidInputError
from millrace.schema import MISSING_WORDS, TableSchema
from millrace.serving.dialects.frames import check_distinct, read_rows
from millrace.serving.request import Request
from millrace.serving.table import ColumnsTable, RequestTable

_FIELD = "the CSV table"
#: A number as training reads one from a text table.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")


def read_csv(request: Request, schema: TableSchema, max_rows: int) -> RequestTable:
    """Read rows from CSV in UTF-8: commas, double quotes, names in the first line.

    Raises
    ------
    InvalidInputError
        When it is no such table; a row's fault is named by its number.
    PayloadTooLargeError
        When there are more than ``max_rows`` rows.
    """
    text = request.text
    if not text.strip():
        raise InvalidInputError("the request has no body")
    try:
        names, *rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except csv.Error as error:
        raise InvalidInputError(f"the body is not CSV: {error}") from error
    names = [name.strip() for name in names]
    check_distinct("the first line", names)
    table = read_rows(_FIELD, names, rows, max_rows)
    numeric = {column.name for column in schema.features if column.type in ("integer", "number")}
    columns: dict[str, Any] = {
        name: [_number(cell) for cell in table.column(name)] if name in numeric else table.column(name)
        for name in table.names
    }
    return ColumnsTable(columns, table.n_rows)


def _number(cell: str) -> float | str | None:
    """Read a number; what is none stays text, and is refused with every other bad field."""
    text = cell.strip()
    if text in MISSING_WORDS:
        return None
    return float(text) if _NUMBER.match(text) else cell
