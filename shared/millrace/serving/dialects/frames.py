"""The shapes that a table has in JSON: objects, rows of values, columns, and pandas' ``split``."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from millrace.errors import FieldError, InvalidInputError, PayloadTooLargeError
from millrace.serving.dialects.json_body import LISTED_FAULTS, wrong
from millrace.serving.json_words import describe
from millrace.serving.table import ColumnsTable, RecordsTable, RequestTable


def read_records(field: str, records: Any, max_rows: int) -> RequestTable:
    """Read a list of objects, one a row."""
    check_rows(field, records, max_rows)
    _refuse_other_than(dict, field, records, "an object")
    return RecordsTable(records)


def read_split(field: str, split: Any, max_rows: int) -> RequestTable:
    """Read ``{"columns": names, "data": rows}``; an ``index`` is taken and not used."""
    if not isinstance(split, dict):
        raise wrong(field, f"expects an object with 'columns' and 'data', got {describe(split)}")
    faults = [FieldError(f"{field}.{key}", "is missing") for key in ("columns", "data") if key not in split]
    faults += [
        FieldError(f"{field}.{key[:100]}", "is not a part of a split")
        for key in sorted(split.keys() - {"columns", "data", "index"})
    ]
    if faults:
        raise InvalidInputError(f"{field!r} is not a split data frame", faults[:LISTED_FAULTS])
    columns = split["columns"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise wrong(f"{field}.columns", "expects a list of names")
    check_distinct(f"{field}.columns", columns)
    return read_rows(f"{field}.data", columns, split["data"], max_rows)


def read_rows(field: str, names: Sequence[str], rows: Any, max_rows: int) -> RequestTable:
    """Read rows of values under ``names``, which are distinct."""
    check_rows(field, rows, max_rows)
    _refuse_other_than(list, field, rows, "a list")
    if set(map(len, rows)) != {len(names)}:
        ragged = [
            FieldError(f"row {row}", f"has {len(values)} values for {len(names)} columns")
            for row, values in enumerate(rows)
            if len(values) != len(names)
        ]
        raise InvalidInputError(
            f"{len(ragged)} rows of {field!r} have another number of values than there are columns",
            ragged[:LISTED_FAULTS],
        )
    return ColumnsTable(dict(zip(names, zip(*rows, strict=True), strict=True)), len(rows))


def read_columns(field: str, columns: dict[str, Any], names: Sequence[str], max_rows: int) -> RequestTable:
    """Read an object of columns, each a list as long as the others; one without a list in ``names`` is one row."""
    if not columns:
        raise wrong(field, "holds no columns")
    if not any(isinstance(columns.get(name), list) for name in names):
        return RecordsTable([columns])
    faults = [
        FieldError(f"{field}.{name[:100]}", f"expects a list of values, got {describe(values)}")
        for name, values in columns.items()
        if not isinstance(values, list)
    ]
    if faults:
        raise InvalidInputError(f"{len(faults)} columns of {field!r} are no lists", faults[:LISTED_FAULTS])
    # MLflow's own client sends a column as a matrix of one column when it was one.
    flat = {name: _without_inner_lists(values) for name, values in columns.items()}
    n_rows = max(len(values) for values in flat.values())
    uneven = [
        FieldError(f"{field}.{name[:100]}", f"has {len(values)} values where others have {n_rows}")
        for name, values in flat.items()
        if len(values) != n_rows
    ]
    if uneven:
        raise InvalidInputError(f"the columns of {field!r} are not equally long", uneven[:LISTED_FAULTS])
    check_row_count(field, n_rows, max_rows)
    return ColumnsTable(flat, n_rows)


def read_array(field: str, rows: Any, names: Sequence[str], max_rows: int) -> RequestTable:
    """Read a list of rows: objects, or values in the order of ``names``; plain values are rows of one each."""
    check_rows(field, rows, max_rows)
    if isinstance(rows[0], dict):
        return read_records(field, rows, max_rows)
    if len(names) == 1 and not any(isinstance(row, list) for row in rows):
        return ColumnsTable({names[0]: rows}, len(rows))
    return read_rows(field, names, rows, max_rows)


def check_distinct(field: str, names: Sequence[str]) -> None:
    """Refuse a name that stands twice."""
    if len(set(names)) < len(names):
        repeated = sorted(name for name, count in Counter(names).items() if count > 1)
        faults = [FieldError(field, f"{name[:100]!r} stands there twice") for name in repeated]
        raise InvalidInputError("a column is named twice", faults[:LISTED_FAULTS])


def check_rows(field: str, rows: Any, max_rows: int) -> None:
    """Refuse what is no list, an empty one, and one that is too long."""
    if not isinstance(rows, list):
        raise wrong(field, f"expects a list of rows, got {describe(rows)}")
    check_row_count(field, len(rows), max_rows)


def check_row_count(field: str, n_rows: int, max_rows: int) -> None:
    """Refuse no rows, and more than a request may hold."""
    if not n_rows:
        raise wrong(field, "holds no rows")
    if n_rows > max_rows:
        raise PayloadTooLargeError(
            f"the request holds {n_rows} rows; one request may hold {max_rows}: send the rows in batches"
        )


def _without_inner_lists(values: list[Any]) -> list[Any]:
    inner = all(isinstance(value, list) and len(value) == 1 for value in values)
    return [value[0] for value in values] if inner else values


def _refuse_other_than(kind: type, field: str, rows: Sequence[Any], expected: str) -> None:
    if set(map(type, rows)) <= {kind}:
        return
    faults = [
        FieldError(f"row {row}", f"expects {expected}, got {describe(value)}")
        for row, value in enumerate(rows)
        if not isinstance(value, kind)
    ]
    if faults:
        raise InvalidInputError(f"{len(faults)} rows of {field!r} are no rows", faults[:LISTED_FAULTS])
