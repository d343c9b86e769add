"""Columns of a batch job's files: checked against a version's schema, and typed, as those of requests are."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.typed_batches import BatchTyper, ColumnCheck
from millrace.errors import FieldError, InvalidInputError
from millrace.schema import Column, TableSchema
from millrace.serving.rows import (
    describe_missing,
    longest_string,
    missing_value,
    read_numeric_text,
    too_long,
    value_reader,
    value_rules,
)

BoolArray = npt.NDArray[np.bool_]

_LISTED = 20


def check_names(names: Sequence[str], schema: TableSchema) -> list[str]:
    """Check a file's columns as a request's are; return warnings.

    Raises ``InvalidInputError`` when it lacks a feature that always had values in training. Features that may be
    missing are missing throughout, further columns are ignored, and the order is of no account.
    """
    present = frozenset(names)
    unknown = present - {column.name for column in schema.columns}
    absent = [column for column in schema.features if column.name not in present]
    faults = [
        FieldError(column.name, describe_missing(column.name, unknown)) for column in absent if not column.nullable
    ]
    if faults:
        listed = "; ".join(f"{fault.field!r} {fault.message}" for fault in faults[:_LISTED])
        raise InvalidInputError(f"{listed}: a file to score has every column that was never empty in training", faults)
    warnings = [f"the column {column.name!r} is not in the file: scored as missing" for column in absent]
    if unknown:
        count = f"{len(unknown)} column{'s' if len(unknown) > 1 else ''}"
        warnings.append(f"{count} unknown to the model: ignored")
    return warnings


def build_typer(schema: TableSchema) -> BatchTyper:
    """Return what types batches by a schema; refuses what requests refuse."""
    return BatchTyper(
        schema,
        {column.name: _reader_of(column) for column in schema.features},
        {column.name: _check_of(column) for column in schema.features},
    )


def _reader_of(column: Column) -> Callable[[str], Any]:
    missing: Any = np.datetime64("NaT") if column.type == "datetime" else missing_value(column)
    if column.type in ("integer", "number"):
        read: Callable[[str], Any] = lambda text: read_numeric_text(text, column)  # noqa: E731 - one of two readers
    else:
        read = value_reader(column)

    def read_or_missing(text: str) -> Any:
        value = read(text)
        return missing if value is None else value

    return read_or_missing


def _check_of(column: Column) -> ColumnCheck:
    checks: list[tuple[Callable[[npt.NDArray[Any]], BoolArray], str]] = []
    if column.type == "category":
        longest = longest_string(column)
        checks.append((lambda values: np.array([len(value) > longest for value in values]), too_long(longest)))
    if column.rules.severity == "error":
        checks.extend((rule.violations, rule.message) for rule in value_rules(column))

    def check(values: npt.NDArray[Any]) -> Iterator[tuple[BoolArray, str]]:
        for violations, message in checks:
            broken = violations(values)
            if broken.any():
                yield broken, message

    return check
