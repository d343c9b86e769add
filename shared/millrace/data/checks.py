"""Checks: an upload held to a schema, every finding collected, every row that does not fit set aside.

The first upload of a model is held to the schema that was inferred from it, each later one to the model's own: so
one code decides which rows are malformed. What is a mistake in a few cells is a mistake of those rows; what is one
in many is a mistake of the column, and rejects the upload.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.cells import Parsed, present
from millrace.data.evolution import compare_columns
from millrace.data.findings import Finding, error, listed, quoted, shorten, warning
from millrace.data.raw import QuarantinedRow, RawTable
from millrace.data.typed_table import TypedTable, encode_target, missing_cells, parse_column
from millrace.schema import Column, ColumnType, TableSchema

_TYPE_IN_WORDS: dict[ColumnType, str] = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "datetime": "a date",
    "category": "a category",
    "text": "text",
}


@dataclass(frozen=True, slots=True)
class CheckedTable:
    """An upload as its schema sees it.

    Parameters
    ----------
    table : TypedTable
        The rows that fit.
    quarantined : tuple of QuarantinedRow
        The rows that do not, by line.
    findings : tuple of Finding
        Everything that was found.
    """

    table: TypedTable
    quarantined: tuple[QuarantinedRow, ...]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Faults:
    """Rows to set aside by their position, each for the first fault found in it."""

    raw: RawTable
    rows: dict[int, QuarantinedRow] = field(default_factory=dict)

    def add(self, column: Column, bad: npt.NDArray[np.bool_], reason: str) -> None:
        """Set rows aside because of one column's cells."""
        if not bad.any():
            return
        cells = self.raw.column(column.name)
        for row in np.flatnonzero(bad).tolist():
            if row in self.rows:
                continue
            value = cells[row].as_py()
            shown = None if value is None else shorten(value)
            told = reason if value is None else f"{reason}, not {shown!r}"
            line, text = int(self.raw.lines[row]), self.raw.row_text(row)
            self.rows[row] = QuarantinedRow(line, told, text, column.name, shown)


def check_table(raw: RawTable, schema: TableSchema, max_quarantined_share: float) -> CheckedTable:
    """Hold an upload to a schema.

    Parameters
    ----------
    raw : RawTable
        The upload.
    schema : TableSchema
        The model's, or the one just inferred.
    max_quarantined_share : float
        Share of rows, or of a column's cells, that may be malformed.
    """
    findings = compare_columns(raw.names, schema)
    columns: dict[str, npt.NDArray[np.generic]] = {}
    faults = _Faults(raw)
    for column in schema.columns:
        cells = raw.column(column.name) if column.name in raw.names else pa.nulls(len(raw), pa.string())
        parsed = parse_column(column, cells)
        columns[column.name] = parsed.values
        found, bad = _judge_cells(column, cells, parsed, max_quarantined_share)
        findings.extend(found)
        faults.add(column, bad, f"{column.name!r} should be {_TYPE_IN_WORDS[column.type]}")
    table = TypedTable(schema, columns, len(raw))
    if schema.target.name in raw.names:
        findings.extend(_check_target(faults, table, max_quarantined_share))
    findings.extend(_check_values(raw, table))
    quarantined = tuple(sorted((*raw.malformed, *faults.rows.values()), key=lambda row: row.line))
    findings.extend(_quarantine_findings(quarantined, len(raw) + len(raw.malformed), max_quarantined_share))
    kept = np.ones(len(raw), dtype=np.bool_)
    kept[list(faults.rows)] = False
    return CheckedTable(table.take(kept), quarantined, tuple(findings))


def _judge_cells(
    column: Column, cells: pa.Array, parsed: Parsed, max_share: float
) -> tuple[list[Finding], npt.NDArray[np.bool_]]:
    """Tell a retyped column from a few bad cells, whose rows are returned."""
    none_bad = np.zeros(len(cells), dtype=np.bool_)
    if not parsed.bad_count:
        return [], none_bad
    examples = cells.filter(pa.array(parsed.bad)).slice(0, 100).to_pylist()
    count = parsed.bad_count
    if column.role == "ignored":
        message = f"the ignored column {column.name!r} has {count:,} values that are not {_TYPE_IN_WORDS[column.type]}"
        return [warning("retyped_column", message, column.name, count, examples)], none_bad
    share = count / max(1, int(present(cells).sum()))
    if share <= max_share:
        return [], parsed.bad
    message = (
        f"the column {column.name!r} should be {_TYPE_IN_WORDS[column.type]}, but {share:.0%} of its values are not, "
        f"such as {quoted(examples[:3])}: mend them, or upload with metadata `schema` replace"
    )
    return [error("retyped_column", message, column.name, count, examples)], none_bad


def _check_target(faults: "_Faults", table: TypedTable, max_share: float) -> list[Finding]:
    """Set rows aside whose target is missing or of an unknown class."""
    column = table.schema.target
    cells = faults.raw.column(column.name)
    values = table.columns[column.name]
    missing = missing_cells(values) & ~present(cells)
    faults.add(column, missing, f"the target {column.name!r} is missing")
    if not table.schema.classes:
        return []
    unknown = (encode_target(table.schema, values) < 0) & ~missing_cells(values)
    if not unknown.any():
        return []
    examples = cells.filter(pa.array(unknown)).slice(0, 100).to_pylist()
    count = int(unknown.sum())
    classes = listed(table.schema.classes)
    if count > max_share * max(1, len(table)):
        message = f"{count:,} rows have a class of {column.name!r} that the model does not know; it knows {classes}"
        return [error("unknown_class", message, column.name, count, examples)]
    faults.add(column, unknown, f"the target {column.name!r} has an unknown class")
    message = f"{count:,} rows with an unknown class of {column.name!r} were set aside; known are {classes}"
    return [warning("unknown_class", message, column.name, count, examples)]


def _check_values(raw: RawTable, table: TypedTable) -> list[Finding]:
    """Look for what is allowed but worth knowing: new categories, fractions among integers, repeated identifiers."""
    findings = []
    for column in table.schema.columns:
        if column.name not in raw.names:
            continue
        values = table.columns[column.name]
        if column.role == "feature" and column.type == "category" and column.categories:
            findings.extend(_unknown_categories(column, raw.column(column.name)))
        elif column.role == "feature" and column.type == "integer":
            fractions = values[~missing_cells(values) & (values % 1 != 0)]
            if len(fractions):
                message = f"the integer column {column.name!r} has {len(fractions):,} values with a fraction"
                examples = [str(value) for value in fractions[:100]]
                findings.append(warning("fractions", message, column.name, len(fractions), examples))
        elif column.role == "identifier":
            repeated = len(values) - len(np.unique(values.astype(np.str_)))
            if repeated:
                message = (
                    f"{repeated:,} rows repeat a value of the identifier {column.name!r}; the last row of each is used"
                )
                findings.append(warning("repeated_identifier", message, column.name, repeated))
    return findings


def _unknown_categories(column: Column, cells: pa.Array) -> list[Finding]:
    unknown = pc.and_(pc.is_valid(cells), pc.invert(pc.is_in(cells, value_set=pa.array(column.categories))))
    count = pc.sum(unknown).as_py() or 0
    if not count:
        return []
    examples = pc.unique(cells.filter(unknown)).slice(0, 100).to_pylist()
    message = f"the column {column.name!r} has {count:,} values of {len(examples)} categories not seen before"
    return [warning("unknown_category", message, column.name, count, examples)]


def _quarantine_findings(rows: Sequence[QuarantinedRow], total: int, max_share: float) -> list[Finding]:
    if not rows:
        return []
    share = len(rows) / total
    first = f"the first is line {rows[0].line:,}: {rows[0].reason}"
    if share > max_share:
        allowed = f"more than the {max_share:.0%} allowed"
        message = f"{len(rows):,} of {total:,} rows ({share:.0%}) are malformed, {allowed}; {first}"
        return [error("too_many_malformed_rows", message, None, len(rows))]
    return [warning("malformed_rows", f"{len(rows):,} of {total:,} rows were set aside; {first}", None, len(rows))]
