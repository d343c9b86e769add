"""Checks: an upload held to a schema, every finding collected, every row that does not fit set aside.

The first upload of a model is held to the schema that was inferred from it, each later one to the model's own: so
one code decides which rows are malformed. What is a mistake in a few cells is a mistake of those rows; what is one
in many is a mistake of the column, and rejects the upload. The upload is read once, batch by batch; what is kept of a
batch is its typed columns.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from millrace.data.batch_checks import (
    TYPE_IN_WORDS,
    Condition,
    JudgedBatch,
    Tallies,
    Tally,
    count_repeats,
    describe_repeats,
    find_repeats,
    judge_batch,
    understand,
)
from millrace.data.blocks import in_order
from millrace.data.compare import History
from millrace.data.findings import MAX_EXAMPLES, Finding, error, listed, quoted, warning
from millrace.data.quarantine import MAX_QUARANTINED, Blame, Locate, Quarantine
from millrace.data.raw import QuarantinedRow, RawTable, RowBatch, TableReader, readings
from millrace.data.row_store import RowStore, StoredColumns, storage_type
from millrace.data.schema_changes import compare_columns
from millrace.data.typed_table import (
    TypedTable,
    class_texts,
    read_types,
    stored_column,
    stored_parts,
    stored_tables,
    without_rows,
)
from millrace.data.words import combine_hashes, count_different, hash_values
from millrace.schema import Column, TableSchema
from millrace.spec.data import ExpressionCheck, TableChecks


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
        Turns a line of an upload of several files into a file and its line.
    """
    collected = _Collected(schema, understand(expressions), folder, locate)
    judge = partial(judge_batch, schema, collected.conditions, collected.masked)
    reads = readings(reader, read_types(schema.columns))
    for judged in in_order(partial(_read_and_judge, read, judge) for read in reads):
        collected.add(judged)
    return _Conclusion(collected, list(reader.names), max_quarantined_share).conclude()


def _read_and_judge(read: Callable[[], RowBatch], judge: Callable[[RowBatch], JudgedBatch]) -> JudgedBatch:
    return judge(read())


@dataclass(slots=True)
class _Collected:
    """What the batches so far come to."""

    schema: TableSchema
    conditions: list[Condition]
    folder: Path | None = None
    locate: Locate | None = None
    rows: int = 0
    masked: frozenset[str] = field(init=False)
    quarantine: Quarantine = field(init=False)
    tallies: Tallies = field(default_factory=Tallies)
    _stored: RowStore = field(init=False)
    _lines: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stored = RowStore({column.name: storage_type(column) for column in self.schema.columns}, self.folder)
        self.masked = frozenset(column.name for column in self.schema.columns if column.sensitive)
        self.quarantine = Quarantine(self.folder, self.locate)

    def add(self, judged: JudgedBatch) -> None:
        """Take in the next batch."""
        self.rows += judged.rows
        self.quarantine.add_batch(judged.aside)
        self.tallies.merge(judged.tallies)
        self._stored.append(judged.columns)
        self._lines.append(judged.lines)

    def table(self) -> TypedTable:
        """Return the rows that were kept."""
        stored = self._stored.finish()
        return TypedTable(self.schema, StoredColumns(stored), int(stored.num_rows))

    def lines(self) -> npt.NDArray[np.int64]:
        """Return where the rows that were kept start."""
        return np.concatenate([np.empty(0, dtype=np.int64), *self._lines])


@dataclass(slots=True)
class _Conclusion:
    """What all batches together come to."""

    collected: _Collected
    names: list[str]
    max_share: float
    blamed: set[Blame] = field(default_factory=set)

    def conclude(self) -> CheckedTable:
        """Tell mistakes of columns from mistakes of rows."""
        collected = self.collected
        table, lines, repeated = self._without_repeats(collected.table(), collected.lines())
        findings = compare_columns(self.names, collected.schema)
        for column in collected.schema.columns:
            findings.extend(self._of_cells(column))
        findings.extend(self._of_classes())
        findings.extend(self._of_rules())
        findings.extend(repeated)
        findings.extend(self._of_conditions())
        for column in collected.schema.columns:
            findings.extend(self._of_values(column, table))
        quarantined = collected.quarantine.rows(self.blamed)
        findings.extend(self._of_quarantine(quarantined))
        return CheckedTable(table, lines, quarantined, tuple(findings), collected.rows)

    def _without_repeats(
        self, table: TypedTable, lines: npt.NDArray[np.int64]
    ) -> tuple[TypedTable, npt.NDArray[np.int64], list[Finding]]:
        """Set rows aside, or only count them, that repeat a value which should be unique.

        What a row repeats is the value of a row that is kept: so this comes last, and for one column after the other.
        """
        findings = []
        for column in table.schema.columns:
            if not column.rules.unique:
                continue
            repeats = find_repeats(stored_column(table, column))
            if not len(repeats):
                continue
            tally = count_repeats(table, lines, column, repeats)
            rule = f"{column.name!r} should differ in every row: {tally.count:,} rows repeat an earlier one"
            findings.append(self._of_failures(tally, "unique", rule, column.name, column.rules.severity))
            if column.rules.severity == "error":
                masked, quarantine = self.collected.masked, self.collected.quarantine
                described = describe_repeats(table, lines, column, repeats, masked=masked, place=quarantine.place)
                quarantine.add_run(described)
                kept = np.ones(len(table), dtype=np.bool_)
                kept[repeats.rows] = False
                table, lines = without_rows(table, kept, self.collected.folder), lines[kept]
        return table, lines, findings

    def _of_cells(self, column: Column) -> list[Finding]:
        """Tell a retyped column from a few bad cells."""
        tally = self.collected.tallies.bad.get(column.name)
        if tally is None:
            return []
        kind, count, present = TYPE_IN_WORDS[column.type], tally.count, self.collected.tallies.present[column.name]
        if column.role == "ignored":
            message = f"the ignored column {column.name!r} has {count:,} values that are not {kind}"
            return [tally.finding("warning", "retyped_column", message, column.name, present)]
        if count <= self.max_share * present:
            message = f"{count:,} values of {column.name!r} are not {kind}; their rows were set aside"
            return [tally.finding("warning", "bad_values", message, column.name, present)]
        self.blamed.add(("type", column.name))
        such = quoted(value for _, value in tally.rows(3))
        message = (
            f"the column {column.name!r} should be {kind}, but {count / present:.0%} of its values are not, "
            f"such as {such}: mend them, or upload with metadata `schema` replace"
        )
        return [tally.finding("error", "retyped_column", message, column.name, present)]

    def _of_classes(self) -> list[Finding]:
        tally, column = self.collected.tallies.unknown_classes, self.collected.schema.target
        if not tally.count:
            return []
        classes, rows = listed(self.collected.schema.classes), self.collected.rows
        if tally.count > self.max_share * rows:
            self.blamed.add(("class", column.name))
            message = f"{tally.count:,} rows have a class of {column.name!r} that the model does not know"
            return [tally.finding("error", "unknown_class", f"{message}; it knows {classes}", column.name, rows)]
        message = f"{tally.count:,} rows with an unknown class of {column.name!r} were set aside; known are {classes}"
        return [tally.finding("warning", "unknown_class", message, column.name, rows)]

    def _of_rules(self) -> list[Finding]:
        findings = []
        for (name, check, demand), tally in self.collected.tallies.broken.items():
            rule = f"{name!r} should {demand}: {tally.count:,} values {'do' if tally.count > 1 else 'does'} not"
            findings.append(self._of_failures(tally, check, rule, name, self._severity(name)))
        return findings

    def _of_conditions(self) -> list[Finding]:
        findings = []
        for condition in self.collected.conditions:
            check = condition.check
            fault = condition.fault or self.collected.tallies.faults.get(check.name)
            if fault:
                findings.append(error("expression", f"the check {check.name!r} cannot be made: {fault}"))
            elif check.name in self.collected.tallies.unmet:
                tally = self.collected.tallies.unmet[check.name]
                rule = f"{check.name}: {tally.count:,} rows do not meet {check.expression}"
                findings.append(self._of_failures(tally, "expression", rule, None, check.severity))
        return findings

    def _of_failures(self, tally: Tally, check: str, rule: str, column: str | None, severity: str) -> Finding:
        rows = self.collected.rows
        if severity == "warning":
            return tally.finding("warning", check, rule, column, rows)
        if tally.count > self.max_share * rows:
            return tally.finding("error", check, f"{rule}; more than the {self.max_share:.0%} allowed", column, rows)
        return tally.finding("warning", check, f"{rule}; the rows were set aside", column, rows)

    def _severity(self, name: str) -> str:
        return self.collected.schema.column(name).rules.severity

    def _of_values(self, column: Column, table: TypedTable) -> list[Finding]:
        """Tell what is allowed but worth knowing: new categories, fractions among integers, repeated identifiers."""
        name, tallies = column.name, self.collected.tallies
        if name in tallies.unknown_categories:
            tally = tallies.unknown_categories[name]
            message = f"the column {name!r} has {tally.count:,} values of categories not seen before"
            return [tally.finding("warning", "unknown_category", message, name, tallies.present[name])]
        if name in tallies.fractions:
            tally = tallies.fractions[name]
            message = f"the integer column {name!r} has {tally.count:,} values with a fraction"
            return [tally.finding("warning", "fractions", message, name, tallies.present[name])]
        if column.role == "identifier" and name in self.names:
            repeated = len(table) - count_different(stored_parts(table, column))
            if repeated:
                message = f"{repeated:,} rows repeat a value of the identifier {name!r}; the last row of each is used"
                return [warning("repeated_identifier", message, name, repeated)]
        return []

    def _of_quarantine(self, rows: Sequence[QuarantinedRow]) -> list[Finding]:
        if self.collected.quarantine.too_many:
            message = (
                f"more than {MAX_QUARANTINED:,} rows would have to be set aside: mend the file, or upload it in parts"
            )
            return [error("too_many_malformed_rows", message, None, len(rows))]
        if not rows:
            return []
        total = self.collected.rows
        share = len(rows) / total
        first = f"the first is {rows[0].place}: {rows[0].reason}"
        if share > self.max_share:
            allowed = f"more than the {self.max_share:.0%} allowed"
            message = f"{len(rows):,} of {total:,} rows ({share:.0%}) are malformed, {allowed}; {first}"
            return [error("too_many_malformed_rows", message, None, len(rows))]
        return [warning("malformed_rows", f"{len(rows):,} of {total:,} rows were set aside; {first}", None, len(rows))]


_SECONDS_A_DAY = 86_400.0


def check_whole(
    table: TypedTable, lines: npt.NDArray[np.int64], checks: TableChecks, history: History
) -> Iterator[Finding]:
    """Yield what is wrong with a dataset as a whole.

    Parameters
    ----------
    table : TypedTable
        The rows that are left after malformed ones were set aside.
    lines : int64 array of shape (n_rows,)
        Where they start in the file.
    checks : TableChecks
        What the spec asks for.
    history : History
        What the dataset is compared with.
    """
    yield from _volume(len(table), checks, history)
    if not len(table):
        return
    for column in table.schema.columns:
        yield from _missing_share(column, table)
    if checks.max_duplicate_share is not None:
        yield from _repeated_rows(table, lines, checks.max_duplicate_share)
    if checks.freshness_column is not None:
        yield from _freshness(table, checks, history)
    if checks.label_share_tolerance is not None:
        yield from _label_shares(table, checks.label_share_tolerance, history)


def _volume(rows: int, checks: TableChecks, history: History) -> Iterator[Finding]:
    if checks.min_rows is not None and rows < checks.min_rows:
        yield error(
            "row_count", f"{rows:,} rows are usable; the spec asks for at least {checks.min_rows:,}", None, rows
        )
    if checks.max_rows is not None and rows > checks.max_rows:
        yield error("row_count", f"{rows:,} rows are usable; the spec allows at most {checks.max_rows:,}", None, rows)
    if checks.row_count_factor is not None and history.rows:
        usual = float(np.median(list(history.rows)))
        if rows > usual * checks.row_count_factor or rows < usual / checks.row_count_factor:
            message = (
                f"{rows:,} rows are usable, where the earlier datasets have {usual:,.0f} (their median); the spec "
                f"allows {checks.row_count_factor:g} times more or fewer"
            )
            yield error("row_count", message, None, rows)


def _missing_share(column: Column, table: TypedTable) -> Iterator[Finding]:
    allowed = column.rules.max_null_share
    if allowed is None:
        return
    count = sum(part.null_count for part in stored_parts(table, column))
    if count > allowed * len(table):
        share = count / len(table)
        message = f"{share:.1%} of the values of {column.name!r} are missing; the spec allows {allowed:.1%}"
        yield Finding(column.rules.severity, "null_share", column.name, message, count, (), share)


def _repeated_rows(table: TypedTable, lines: npt.NDArray[np.int64], allowed: float) -> Iterator[Finding]:
    repeated = np.flatnonzero(repeated_rows(table))
    share = len(repeated) / len(table)
    if share > allowed:
        rows = tuple((int(lines[row]), "") for row in repeated[:MAX_EXAMPLES].tolist())
        message = f"{len(repeated):,} rows ({share:.1%}) repeat an earlier row; the spec allows {allowed:.1%}"
        yield Finding("error", "duplicate_rows", None, message, len(repeated), (), share, rows)


def repeated_rows(table: TypedTable) -> npt.NDArray[np.bool_]:
    """Tell which rows have the same values as an earlier one in every column.

    Rows are compared by a hash of 64 bits: that two of 25 million different ones share one has a chance of 1 in 60,000.
    """
    hashes = [np.empty(0, dtype=np.uint64)]
    for part in stored_tables(table):
        columns = [hash_values(part.column(column.name)) for column in table.schema.columns]
        hashes.append(combine_hashes(columns, part.num_rows))
    return np.asarray(pd.Series(np.concatenate(hashes)).duplicated().to_numpy())


def _freshness(table: TypedTable, checks: TableChecks, history: History) -> Iterator[Finding]:
    name = checks.freshness_column or ""
    column = next((column for column in table.schema.columns if column.name == name), None)
    if column is None or column.type != "datetime":
        what = "is not there" if column is None else f"holds {column.type} values"
        yield error("freshness", f"the freshness column {name!r} should hold dates, and {what}", name)
        return
    newest = pc.max(stored_column(table, column)).as_py()
    if newest is None:
        yield error("freshness", f"every value of the freshness column {name!r} is missing", name)
    elif checks.max_age_days is not None and history.now is not None:
        age = (history.now - newest.astimezone(UTC)).total_seconds() / _SECONDS_A_DAY
        if age > checks.max_age_days:
            message = (
                f"the newest value of {name!r} is {newest.date()}, {age:,.1f} days old; the spec allows "
                f"{checks.max_age_days:g}"
            )
            yield error("freshness", message, name)


def _label_shares(table: TypedTable, tolerance: float, history: History) -> Iterator[Finding]:
    earlier = history.profile.get("target", {}).get("classes") or {}
    total = sum(earlier.values())
    schema = table.schema
    if not schema.classes or not total:
        return
    names = class_texts(schema.target, schema.classes, table.columns[schema.target.name])
    for name in schema.classes:
        count = int(np.count_nonzero(names == name))
        share, before = count / len(table), earlier.get(name, 0) / total
        if abs(share - before) > tolerance:
            message = (
                f"class {name!r} of {schema.target.name!r} is {share:.1%} of the rows, and was {before:.1%} in the "
                f"dataset before; the spec allows a difference of {tolerance:.1%}"
            )
            yield Finding("error", "label_share", schema.target.name, message, count, (), share)
