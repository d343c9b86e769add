"""Check an upload against a schema: collect every finding, quarantine every row that does not fit.

The first upload of a model is checked against the schema inferred from it, later ones against the model's own, by the
same code. Few invalid values reject their rows; many reject the column, and with it the upload. The upload is read
once, batch by batch; only typed columns are kept.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from millrace.data.batch_checks import (
    TYPE_LABELS,
    BatchResult,
    FailureCount,
    FailureCounts,
    ParsedCheck,
    count_duplicates,
    describe_duplicates,
    find_duplicates,
    parse_checks,
    validate_batch,
)
from millrace.data.blocks import in_order
from millrace.data.findings import Finding, error, listed, quoted, warning
from millrace.data.quarantine import Locate, Quarantine, ReasonKey, too_many_quarantined
from millrace.data.raw import QuarantinedRow, RowBatch, TableReader
from millrace.data.schema_changes import compare_column_names
from millrace.data.typed_table import (
    RowStore,
    StoredColumns,
    TypedTable,
    count_distinct,
    read_types,
    storage_type,
    stored_column,
    stored_parts,
    without_rows,
)
from millrace.schema import Column, TableSchema
from millrace.spec.data import ExpressionCheck

_SEPARATORS = (",", ";", "\t", "|")
_BLANK_BEFORE_QUOTE = re.compile(r'[,;\t|] +"')
_SINGLE_QUOTES = re.compile(r"(?:^|[,;\t|])'[^']*[,;\t|][^']*'(?:$|[,;\t|])")


@dataclass(frozen=True, slots=True)
class CheckedTable:
    """An upload after its checks: valid rows with their lines, quarantined rows by line, all findings."""

    table: TypedTable
    lines: npt.NDArray[np.int64]
    quarantined: Sequence[QuarantinedRow]
    findings: tuple[Finding, ...]
    rows: int


def check_table(
    reader: TableReader,
    schema: TableSchema,
    max_quarantined_share: float,
    expressions: Sequence[ExpressionCheck] = (),
    *,
    folder: Path | None = None,
    locate: Locate | None = None,
) -> CheckedTable:
    """Check an upload against a schema, the model's or the one just inferred.

    ``max_quarantined_share`` is of rows, or of a column's values. ``folder`` is for rows that do not fit into memory;
    it must outlive the result. ``locate`` turns a line of an upload of several files into a file and its line.
    """
    collected = _Collected(schema, parse_checks(expressions), folder, locate)
    validate = partial(validate_batch, schema, collected.conditions, collected.masked)
    reads = reader.readings(read_types(schema.columns))
    for batch_result in in_order(partial(_read_and_validate, read, validate) for read in reads):
        collected.add(batch_result)
    return _Conclusion(collected, list(reader.names), max_quarantined_share).conclude()


def _read_and_validate(read: Callable[[], RowBatch], validate: Callable[[RowBatch], BatchResult]) -> BatchResult:
    return validate(read())


@dataclass(slots=True)
class _Collected:
    """Results of the batches so far."""

    schema: TableSchema
    conditions: list[ParsedCheck]
    folder: Path | None = None
    locate: Locate | None = None
    rows: int = 0
    masked: frozenset[str] = field(init=False)
    quarantine: Quarantine = field(init=False)
    failures: FailureCounts = field(default_factory=FailureCounts)
    _stored: RowStore = field(init=False)
    _lines: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stored = RowStore({column.name: storage_type(column) for column in self.schema.columns}, self.folder)
        self.masked = frozenset(column.name for column in self.schema.columns if column.sensitive)
        self.quarantine = Quarantine(self.folder, self.locate)

    def add(self, batch_result: BatchResult) -> None:
        self.rows += batch_result.rows
        self.quarantine.add_batch(batch_result.quarantined)
        self.failures.merge(batch_result.failures)
        self._stored.append(batch_result.columns)
        self._lines.append(batch_result.lines)

    def table(self) -> TypedTable:
        stored = self._stored.finish()
        return TypedTable(self.schema, StoredColumns(stored), int(stored.num_rows))

    def lines(self) -> npt.NDArray[np.int64]:
        return np.concatenate([np.empty(0, dtype=np.int64), *self._lines])


@dataclass(slots=True)
class _Conclusion:
    """Findings on all batches together."""

    collected: _Collected
    names: list[str]
    max_share: float
    column_reasons: set[ReasonKey] = field(default_factory=set)

    def conclude(self) -> CheckedTable:
        """Return the rows and all findings."""
        collected = self.collected
        table, lines, repeated = self._without_repeats(collected.table(), collected.lines())
        findings = compare_column_names(self.names, collected.schema)
        for column in collected.schema.columns:
            findings.extend(self._of_types(column))
        findings.extend(self._of_classes())
        findings.extend(self._of_rules())
        findings.extend(repeated)
        findings.extend(self._of_conditions())
        for column in collected.schema.columns:
            findings.extend(self._of_values(column, table))
        quarantined = collected.quarantine.rows(self.column_reasons)
        findings.extend(self._of_quarantine(quarantined))
        return CheckedTable(table, lines, quarantined, tuple(findings), collected.rows)

    def _without_repeats(
        self, table: TypedTable, lines: npt.NDArray[np.int64]
    ) -> tuple[TypedTable, npt.NDArray[np.int64], list[Finding]]:
        """Reject rows, or only count them, that repeat a value of a unique column.

        A row repeats the value of a row that is kept: so this comes last, for one column after the other.
        """
        findings = []
        for column in table.schema.columns:
            if not column.rules.unique:
                continue
            repeats = find_duplicates(stored_column(table, column))
            if not len(repeats):
                continue
            failure = count_duplicates(table, lines, column, repeats)
            rule = f"{column.name!r} should differ in every row: {failure.count:,} rows repeat an earlier one"
            findings.append(self._of_failures(failure, "unique", rule, column.name, column.rules.severity))
            if column.rules.severity == "error":
                masked, quarantine = self.collected.masked, self.collected.quarantine
                described = describe_duplicates(table, lines, column, repeats, masked=masked, place=quarantine.place)
                quarantine.add_sorted(described)
                kept = np.ones(len(table), dtype=np.bool_)
                kept[repeats.rows] = False
                table, lines = without_rows(table, kept, self.collected.folder), lines[kept]
        return table, lines, findings

    def _of_types(self, column: Column) -> list[Finding]:
        """Separate a retyped column from a few invalid values."""
        failure = self.collected.failures.bad.get(column.name)
        if failure is None:
            return []
        kind, count, present = TYPE_LABELS[column.type], failure.count, self.collected.failures.present[column.name]
        if column.role == "ignored":
            message = f"the ignored column {column.name!r} has {count:,} values that are not {kind}"
            return [failure.finding("warning", "retyped_column", message, column.name, present)]
        if count <= self.max_share * present:
            message = f"{count:,} values of {column.name!r} are not {kind}; their rows were quarantined"
            return [failure.finding("warning", "bad_values", message, column.name, present)]
        self.column_reasons.add(("type", column.name))
        examples = quoted(value for _, value in failure.rows(3))
        message = (
            f"the column {column.name!r} should be {kind}, but {count / present:.0%} of its values are not, "
            f"such as {examples}: fix them, or upload with metadata `schema` replace"
        )
        return [failure.finding("error", "retyped_column", message, column.name, present)]

    def _of_classes(self) -> list[Finding]:
        failure, column = self.collected.failures.unknown_classes, self.collected.schema.target
        if not failure.count:
            return []
        classes, rows = listed(self.collected.schema.class_names), self.collected.rows
        if failure.count > self.max_share * rows:
            self.column_reasons.add(("class", column.name))
            message = f"{failure.count:,} rows have a class of {column.name!r} that the model does not know"
            return [failure.finding("error", "unknown_class", f"{message}; it knows {classes}", column.name, rows)]
        message = (
            f"{failure.count:,} rows with an unknown class of {column.name!r} were quarantined; known are {classes}"
        )
        return [failure.finding("warning", "unknown_class", message, column.name, rows)]

    def _of_rules(self) -> list[Finding]:
        findings = []
        for (name, check, demand), failure in self.collected.failures.broken.items():
            rule = f"{name!r} should {demand}: {failure.count:,} values {'do' if failure.count > 1 else 'does'} not"
            findings.append(self._of_failures(failure, check, rule, name, self._severity(name)))
        return findings

    def _of_conditions(self) -> list[Finding]:
        findings = []
        for condition in self.collected.conditions:
            check = condition.check
            if fault := self.collected.failures.faults.get(check.name):
                findings.append(error("expression", f"the check {check.name!r} cannot be made: {fault}"))
            elif check.name in self.collected.failures.unmet:
                failure = self.collected.failures.unmet[check.name]
                rule = f"{check.name}: {failure.count:,} rows do not meet {check.expression}"
                findings.append(self._of_failures(failure, "expression", rule, None, check.severity))
        return findings

    def _of_failures(self, failure: FailureCount, check: str, rule: str, column: str | None, severity: str) -> Finding:
        rows = self.collected.rows
        if severity == "warning":
            return failure.finding("warning", check, rule, column, rows)
        if failure.count > self.max_share * rows:
            return failure.finding("error", check, f"{rule}; more than the {self.max_share:.0%} allowed", column, rows)
        return failure.finding("warning", check, f"{rule}; the rows were quarantined", column, rows)

    def _severity(self, name: str) -> str:
        return self.collected.schema.column(name).rules.severity

    def _of_values(self, column: Column, table: TypedTable) -> list[Finding]:
        """Report new categories, fractions among integers, repeated identifiers."""
        name, failures = column.name, self.collected.failures
        if name in failures.unknown_categories:
            failure = failures.unknown_categories[name]
            message = f"the column {name!r} has {failure.count:,} values of categories not seen before"
            return [failure.finding("warning", "unknown_category", message, name, failures.present[name])]
        if name in failures.fractions:
            failure = failures.fractions[name]
            message = f"the integer column {name!r} has {failure.count:,} values with a fraction"
            return [failure.finding("warning", "fractions", message, name, failures.present[name])]
        if column.role == "identifier" and name in self.names:
            repeated = len(table) - count_distinct(stored_parts(table, column))
            if repeated:
                message = f"{repeated:,} rows repeat a value of the identifier {name!r}; the last row of each is used"
                return [warning("repeated_identifier", message, name, repeated)]
        return []

    def _of_quarantine(self, rows: Sequence[QuarantinedRow]) -> list[Finding]:
        if self.collected.quarantine.too_many:
            return [error("too_many_malformed_rows", too_many_quarantined(), None, len(rows))]
        if not rows:
            return []
        total = self.collected.rows
        share = len(rows) / total
        first = f"the first is {rows[0].place}: {rows[0].reason}"
        if share > self.max_share:
            allowed = f"more than the {self.max_share:.0%} allowed"
            message = (
                f"{len(rows):,} of {total:,} rows ({share:.0%}) are malformed, {allowed}; {first}{_remedy(rows[0])}"
            )
            return [error("too_many_malformed_rows", message, None, len(rows))]
        return [
            warning("malformed_rows", f"{len(rows):,} of {total:,} rows were quarantined; {first}", None, len(rows))
        ]


def _remedy(row: QuarantinedRow) -> str:
    """Return the cause and what to do about a row that some programs write, where its text shows them."""
    if "quotes do not match" in row.reason and '\\"' in row.text:
        return ", because quotes inside values are escaped by a backslash: double them"
    if "fields where the header has" not in row.reason:
        return ""
    if row.text[-1:] in _SEPARATORS:
        return (
            ", because it ends with a separator: remove the last one of each row, or name a further column in the "
            "header"
        )
    if _BLANK_BEFORE_QUOTE.search(row.text):
        return ", because a blank stands before a quote: write no blank after a separator"
    if _SINGLE_QUOTES.search(row.text):
        return ", because values stand in single quotes: write double ones"
    return ""
