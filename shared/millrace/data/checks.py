"""Checks: an upload held to a schema, every finding collected, every row that does not fit set aside.

The first upload of a model is held to the schema that was inferred from it, each later one to the model's own: so
one code decides which rows are malformed. What is a mistake in a few cells is a mistake of those rows; what is one
in many is a mistake of the column, and rejects the upload. The upload is read once, batch by batch; what is kept of a
batch is its typed columns.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.conversion import Converted, convert, read_types
from millrace.data.evolution import compare_columns
from millrace.data.expressions import Expression, parse_expression
from millrace.data.findings import MAX_EXAMPLES, Finding, error, listed, quoted, warning
from millrace.data.quarantine import MAX_QUARANTINED, BatchFaults, Kind, Locate, Quarantine, Tally
from millrace.data.raw import QuarantinedRow, RawTable, RowBatch, TableReader
from millrace.data.row_store import RowStore
from millrace.data.rules import Failures, broken_rules, to_numpy
from millrace.data.storage import StoredColumns, storage_type, to_values
from millrace.data.typed_table import TypedTable, encode_target, stored_parts
from millrace.data.words import count_different
from millrace.errors import InvalidInputError
from millrace.schema import Column, ColumnType, TableSchema
from millrace.spec.data import ExpressionCheck

BoolArray = npt.NDArray[np.bool_]

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
    lines : int64 array of shape (n_rows,)
        Where each of them starts in the file.
    quarantined : sequence of QuarantinedRow
        The rows that do not, by line.
    findings : tuple of Finding
        Everything that was found.
    rows : int
        Rows that the file holds.
    """

    table: TypedTable
    lines: npt.NDArray[np.int64]
    quarantined: Sequence[QuarantinedRow]
    findings: tuple[Finding, ...]
    rows: int


def check_table(
    reader: TableReader | RawTable,
    schema: TableSchema,
    max_quarantined_share: float,
    expressions: Sequence[ExpressionCheck] = (),
    *,
    folder: Path | None = None,
    locate: Locate | None = None,
) -> CheckedTable:
    """Hold an upload to a schema.

    Parameters
    ----------
    reader : TableReader or RawTable
        The upload.
    schema : TableSchema
        The model's, or the one just inferred.
    max_quarantined_share : float
        Share of rows, or of a column's cells, that may be malformed.
    expressions : sequence of ExpressionCheck, default=()
        Conditions over several columns.
    folder : Path or None, default=None
        Where rows may be written that do not fit into memory; it must outlive the result.
    locate : callable or None, default=None
        Turns a line of an upload of several files into a file and its line, for the rows that are set aside.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        judged = _Judge(schema, _understood(expressions), pool, folder, locate)
        for batch in _ahead(reader.batches(read_types(schema.columns)), pool):
            judged.judge(batch)
    return _Conclusion(judged, list(reader.names), max_quarantined_share).conclude()


def _ahead(batches: Iterator[RowBatch], pool: Executor) -> Iterator[RowBatch]:
    """Yield batches, reading the next one while the present one is judged."""
    coming = pool.submit(next, batches, None)
    while (batch := coming.result()) is not None:
        coming = pool.submit(next, batches, None)
        yield batch


@dataclass(frozen=True, slots=True)
class _Condition:
    check: ExpressionCheck
    expression: Expression | None
    fault: str = ""


def _understood(checks: Sequence[ExpressionCheck]) -> list[_Condition]:
    conditions = []
    for check in checks:
        try:
            conditions.append(_Condition(check, parse_expression(check.expression)))
        except InvalidInputError as fault:
            conditions.append(_Condition(check, None, fault.message))
    return conditions


def _look_at(column: Column, batch: RowBatch) -> tuple[Converted, list[Failures]]:
    """Do what needs most of the time and nothing but one column; Arrow and numpy let other threads run meanwhile."""
    converted = convert(column, batch)
    return converted, list(broken_rules(column, converted, batch))


@dataclass(slots=True)
class _Judge:
    """Judges batch after batch."""

    schema: TableSchema
    conditions: list[_Condition]
    pool: Executor
    folder: Path | None = None
    locate: Locate | None = None
    rows: int = 0
    quarantine: Quarantine = field(init=False)
    present: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    bad: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    broken: dict[tuple[str, str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    unknown_categories: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    fractions: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    unknown_classes: Tally = field(default_factory=Tally)
    unmet: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    faults: dict[str, str] = field(default_factory=dict)
    _stored: RowStore = field(init=False)
    _lines: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stored = RowStore({column.name: storage_type(column) for column in self.schema.columns}, self.folder)
        masked = frozenset(column.name for column in self.schema.columns if column.sensitive)
        self.quarantine = Quarantine(masked, self.folder, self.locate)

    def judge(self, batch: RowBatch) -> None:
        """Type a batch's cells, and set its malformed rows aside."""
        self.rows += len(batch) + len(batch.malformed)
        self.quarantine.add_malformed(batch.malformed)
        faults = BatchFaults(batch)
        columns: dict[str, pa.Array] = {}
        looked_at = self.pool.map(lambda column: _look_at(column, batch), self.schema.columns)
        for column, (converted, broken) in zip(self.schema.columns, looked_at, strict=True):
            columns[column.name] = self._judge_column(column, batch, faults, converted, broken)
        self._judge_target(columns[self.schema.target.name], batch, faults)
        self._judge_conditions(columns, batch, faults)
        kept = faults.set_aside(self.quarantine)
        selection = None if kept is None else pa.array(kept)
        self._stored.append(
            {name: stored if selection is None else stored.filter(selection) for name, stored in columns.items()}
        )
        self._lines.append(batch.lines if kept is None else batch.lines[kept])

    def table(self) -> TypedTable:
        """Return the rows that were kept."""
        stored = self._stored.finish()
        return TypedTable(self.schema, StoredColumns(stored), int(stored.num_rows))

    def lines(self) -> npt.NDArray[np.int64]:
        """Return where the rows that were kept start."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._lines])

    def _judge_column(
        self, column: Column, batch: RowBatch, faults: BatchFaults, converted: Converted, broken: list[Failures]
    ) -> pa.Array:
        stored, bad = converted.stored, converted.bad
        self.present[column.name] += len(stored) - stored.null_count
        if bad is not None:
            self.present[column.name] += int(bad.sum())
            cells = batch.column(column.name)
            self._count(self.bad[column.name], column, bad, batch, cells)
            if column.role != "ignored":
                faults.add("type", column, bad, f"{column.name!r} should be {_TYPE_IN_WORDS[column.type]}")
        if column.name in batch.names:
            self._judge_values(column, stored, broken, batch, faults)
        return stored

    def _judge_values(
        self, column: Column, stored: pa.Array, broken: list[Failures], batch: RowBatch, faults: BatchFaults
    ) -> None:
        for failures in broken:
            tally = self.broken[(column.name, failures.check, failures.demand)]
            self._count(tally, column, failures.mask, batch, stored)
            if column.rules.severity == "error":
                faults.add("rule", column, failures.mask, f"{column.name!r} should {failures.demand}")
        if column.role != "feature":
            return
        if column.type == "category" and column.categories:
            known = pc.is_in(stored.dictionary, value_set=pa.array(column.categories))
            if not pc.all(known).as_py():
                unknown = to_numpy(pc.invert(known).take(stored.indices))
                self._count(self.unknown_categories[column.name], column, unknown, batch, stored)
        elif column.type == "integer":
            fractional = to_numpy(pc.not_equal(pc.trunc(stored), stored))
            if fractional.any():
                self._count(self.fractions[column.name], column, fractional, batch, stored)

    def _judge_target(self, stored: pa.Array, batch: RowBatch, faults: BatchFaults) -> None:
        """Set rows aside whose target is missing or of an unknown class."""
        column = self.schema.target
        if column.name not in batch.names:
            return
        if stored.null_count:
            # A cell that is there but does not parse is at fault already.
            faults.add("target", column, to_numpy(pc.is_null(stored)), f"the target {column.name!r} is missing")
        if not self.schema.classes:
            return
        different = pc.unique(stored).drop_null()
        foreign = different.filter(pa.array(encode_target(self.schema, to_values(different)) < 0))
        if len(foreign):
            words = stored.cast(foreign.type.value_type) if pa.types.is_dictionary(foreign.type) else stored
            known_as = foreign.cast(words.type) if foreign.type != words.type else foreign
            unknown = to_numpy(pc.is_in(words, value_set=known_as))
            self._count(self.unknown_classes, column, unknown, batch, stored)
            faults.add("class", column, unknown, f"the target {column.name!r} has an unknown class")

    def _judge_conditions(self, columns: dict[str, pa.Array], batch: RowBatch, faults: BatchFaults) -> None:
        for condition in self.conditions:
            name = condition.check.name
            if condition.expression is None or name in self.faults:
                continue
            try:
                failing = to_numpy(condition.expression.failures(columns))
            except InvalidInputError as fault:
                self.faults[name] = fault.message
                continue
            if not failing.any():
                continue
            involved = sorted(condition.expression.columns)
            masked = bool(self.quarantine.masked & condition.expression.columns)
            shown = pa.table({column: columns[column] for column in involved})
            positions = np.flatnonzero(failing)
            self.unmet[name].add(
                len(positions),
                batch.lines[positions[:MAX_EXAMPLES]].tolist(),
                lambda n, shown=shown, positions=positions: [  # type: ignore[misc]  # binds this round's
                    ", ".join(f"{key}={value}" for key, value in row.items())
                    for row in shown.take(pa.array(positions[:n])).to_pylist()
                ],
                masked=masked,
            )
            if condition.check.severity == "error":
                faults.add("rule", None, failing, f"{name}: {condition.check.expression} is not so")

    def _count(self, tally: Tally, column: Column, mask: BoolArray, batch: RowBatch, values: pa.Array) -> None:
        positions = np.flatnonzero(mask)
        tally.add(
            len(positions),
            batch.lines[positions[:MAX_EXAMPLES]].tolist(),
            lambda n: [_shown(value) for value in values.take(pa.array(positions[:n])).to_pylist()],
            masked=column.sensitive,
        )


@dataclass(slots=True)
class _Conclusion:
    """What all batches together come to."""

    judge: _Judge
    names: list[str]
    max_share: float
    blamed: set[tuple[Kind, str]] = field(default_factory=set)

    def conclude(self) -> CheckedTable:
        """Tell mistakes of columns from mistakes of rows."""
        judge = self.judge
        table = judge.table()
        findings = compare_columns(self.names, judge.schema)
        for column in judge.schema.columns:
            findings.extend(self._of_cells(column))
        findings.extend(self._of_classes())
        findings.extend(self._of_rules())
        findings.extend(self._of_conditions())
        for column in judge.schema.columns:
            findings.extend(self._of_values(column, table))
        quarantined = judge.quarantine.rows(self.blamed)
        findings.extend(self._of_quarantine(quarantined))
        return CheckedTable(table, judge.lines(), quarantined, tuple(findings), judge.rows)

    def _of_cells(self, column: Column) -> list[Finding]:
        """Tell a retyped column from a few bad cells."""
        tally = self.judge.bad.get(column.name)
        if tally is None:
            return []
        kind, count, present = _TYPE_IN_WORDS[column.type], tally.count, self.judge.present[column.name]
        if column.role == "ignored":
            message = f"the ignored column {column.name!r} has {count:,} values that are not {kind}"
            return [tally.finding("warning", "retyped_column", message, column.name, present)]
        if count <= self.max_share * present:
            message = f"{count:,} values of {column.name!r} are not {kind}; their rows were set aside"
            return [tally.finding("warning", "bad_values", message, column.name, present)]
        self.blamed.add(("type", column.name))
        such = quoted(value for _, value in tally.rows[:3])
        message = (
            f"the column {column.name!r} should be {kind}, but {count / present:.0%} of its values are not, "
            f"such as {such}: mend them, or upload with metadata `schema` replace"
        )
        return [tally.finding("error", "retyped_column", message, column.name, present)]

    def _of_classes(self) -> list[Finding]:
        tally, column = self.judge.unknown_classes, self.judge.schema.target
        if not tally.count:
            return []
        classes, rows = listed(self.judge.schema.classes), self.judge.rows
        if tally.count > self.max_share * rows:
            self.blamed.add(("class", column.name))
            message = f"{tally.count:,} rows have a class of {column.name!r} that the model does not know"
            return [tally.finding("error", "unknown_class", f"{message}; it knows {classes}", column.name, rows)]
        message = f"{tally.count:,} rows with an unknown class of {column.name!r} were set aside; known are {classes}"
        return [tally.finding("warning", "unknown_class", message, column.name, rows)]

    def _of_rules(self) -> list[Finding]:
        findings = []
        for (name, check, demand), tally in self.judge.broken.items():
            rule = f"{name!r} should {demand}: {tally.count:,} values {'do' if tally.count > 1 else 'does'} not"
            findings.append(self._of_failures(tally, check, rule, name, self._severity(name)))
        return findings

    def _of_conditions(self) -> list[Finding]:
        findings = []
        for condition in self.judge.conditions:
            check = condition.check
            fault = condition.fault or self.judge.faults.get(check.name)
            if fault:
                findings.append(error("expression", f"the check {check.name!r} cannot be made: {fault}"))
            elif check.name in self.judge.unmet:
                tally = self.judge.unmet[check.name]
                rule = f"{check.name}: {tally.count:,} rows do not meet {check.expression}"
                findings.append(self._of_failures(tally, "expression", rule, None, check.severity))
        return findings

    def _of_failures(self, tally: Tally, check: str, rule: str, column: str | None, severity: str) -> Finding:
        rows = self.judge.rows
        if severity == "warning":
            return tally.finding("warning", check, rule, column, rows)
        if tally.count > self.max_share * rows:
            return tally.finding("error", check, f"{rule}; more than the {self.max_share:.0%} allowed", column, rows)
        return tally.finding("warning", check, f"{rule}; the rows were set aside", column, rows)

    def _severity(self, name: str) -> str:
        return self.judge.schema.column(name).rules.severity

    def _of_values(self, column: Column, table: TypedTable) -> list[Finding]:
        """Tell what is allowed but worth knowing: new categories, fractions among integers, repeated identifiers."""
        name, judge = column.name, self.judge
        if name in judge.unknown_categories:
            tally = judge.unknown_categories[name]
            message = f"the column {name!r} has {tally.count:,} values of categories not seen before"
            return [tally.finding("warning", "unknown_category", message, name, judge.present[name])]
        if name in judge.fractions:
            tally = judge.fractions[name]
            message = f"the integer column {name!r} has {tally.count:,} values with a fraction"
            return [tally.finding("warning", "fractions", message, name, judge.present[name])]
        if column.role == "identifier" and name in self.names:
            repeated = len(table) - count_different(stored_parts(table, column))
            if repeated:
                message = f"{repeated:,} rows repeat a value of the identifier {name!r}; the last row of each is used"
                return [warning("repeated_identifier", message, name, repeated)]
        return []

    def _of_quarantine(self, rows: Sequence[QuarantinedRow]) -> list[Finding]:
        if self.judge.quarantine.too_many:
            message = (
                f"more than {MAX_QUARANTINED:,} rows would have to be set aside: mend the file, or upload it in parts"
            )
            return [error("too_many_malformed_rows", message, None, len(rows))]
        if not rows:
            return []
        total = self.judge.rows
        share = len(rows) / total
        first = f"the first is {rows[0].place}: {rows[0].reason}"
        if share > self.max_share:
            allowed = f"more than the {self.max_share:.0%} allowed"
            message = f"{len(rows):,} of {total:,} rows ({share:.0%}) are malformed, {allowed}; {first}"
            return [error("too_many_malformed_rows", message, None, len(rows))]
        return [warning("malformed_rows", f"{len(rows):,} of {total:,} rows were set aside; {first}", None, len(rows))]


def _shown(value: object) -> str:
    """Write a value as a file would hold it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return "" if value is None else str(value)
