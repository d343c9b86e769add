"""Validate one batch of an upload: type its columns, reject invalid rows, count every failure.

Batches are independent, so that they are validated concurrently; Arrow and numpy, which do most of the work, release
the interpreter lock.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import MAX_EXAMPLES, Finding, Severity, shorten
from millrace.data.quarantine import MAX_QUARANTINED, Kind, RejectReason, quarantine_malformed, quarantine_rows
from millrace.data.raw import RowBatch
from millrace.data.row_rules import (
    Positions,
    broken_rules,
    code_positions,
    true_positions,
    unmet_rows,
)
from millrace.data.typed_table import (
    Converted,
    TypedTable,
    convert,
    encode_target,
    hash_text,
    stored_column,
    stored_rows,
    to_values,
)
from millrace.errors import InvalidInputError
from millrace.schema import MASK, Column, ColumnType, TableSchema
from millrace.spec.data import ExpressionCheck
from millrace.spec.expressions import Expression, parse_expression

BoolArray = npt.NDArray[np.bool_]

#: A row that fails: its line, and what is shown of it.
Example = tuple[int, str]
#: Returns the first rows that fail, at most so many.
LookUp = Callable[[int], list[Example]]


@dataclass(slots=True)
class FailureCount:
    """Failures of one check, with the first examples; a batch's are read only if those before it are too few."""

    count: int = 0
    _rows: list[Example] = field(default_factory=list)
    _look_ups: list[LookUp] = field(default_factory=list)

    def add(self, count: int, look_up: LookUp) -> None:
        """Add failures."""
        self.count += count
        self._look_ups.append(look_up)

    def merge(self, later: "FailureCount") -> None:
        """Add failures from later in the file."""
        self.count += later.count
        self._rows.extend(later.rows(MAX_EXAMPLES - len(self._rows)))

    def rows(self, wanted: int = MAX_EXAMPLES) -> list[Example]:
        """Return the first failures."""
        found = self._rows[:wanted]
        for look_up in self._look_ups:
            found.extend(look_up(wanted - len(found)) if len(found) < wanted else ())
        return found

    def finding(self, severity: Severity, check: str, message: str, column: str | None, total: int) -> Finding:
        """Return the finding on these failures."""
        rows = tuple(self.rows())
        examples = tuple(dict.fromkeys(value for _, value in rows))
        share = self.count / total if total else None
        return Finding(severity, check, column, message, self.count, examples, share, rows)


def look_up_rows(
    lines: npt.NDArray[np.int64], positions: Positions, show: Callable[[int], object], *, masked: bool
) -> LookUp:
    """Return a function that looks up the first of some rows: their lines, and a value of each, or a mask."""

    def look_up(wanted: int) -> list[Example]:
        first = positions[:wanted].tolist()
        return [(int(lines[row]), MASK if masked else shorten(str(show(row)))) for row in first]

    return look_up


@dataclass(slots=True)
class _BatchRejects:
    """Rejected rows of a batch, each with its first reason."""

    batch: RowBatch
    _faults: list[RejectReason] = field(default_factory=list)
    _first: npt.NDArray[np.int64] | None = None

    def add(self, kind: Kind, column: Column | None, positions: Positions, reason: str) -> None:
        if self._first is None:
            self._first = np.full(len(self.batch), -1, dtype=np.int64)
        self._first[positions[self._first[positions] < 0]] = len(self._faults)
        self._faults.append(RejectReason(kind, column.name if column else None, reason))

    def split(self, masked: frozenset[str]) -> tuple[BoolArray | None, list[pa.Table]]:
        """Return the mask of the kept rows, None when all are, and the quarantine tables of the others."""
        malformed = self.batch.malformed
        quarantined = [quarantine_malformed(malformed, masked=bool(masked))] if malformed else []
        if self._first is None or not (self._first >= 0).any():
            return None, quarantined
        positions = np.flatnonzero(self._first >= 0)
        strings, lines = self.batch.strings.take(pa.array(positions)), self.batch.lines[positions]
        rejected = quarantine_rows(lines, self._faults, self._first[positions], strings, masked)
        return self._first < 0, [*quarantined, rejected]


#: Repeats that are described at a time.
_ROWS_AT_ONCE = 100_000
#: Whole numbers within a range of so many times the rows are marked in an array.
_SPARSENESS = 16


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows of a column that repeat an earlier value, in order, and the first row with the value of each."""

    rows: Positions
    firsts: Positions

    def __len__(self) -> int:
        return len(self.rows)


_NO_DUPLICATES = Duplicates(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def find_duplicates(stored: pa.ChunkedArray) -> Duplicates:
    """Find the rows of a column that repeat an earlier value; missing values repeat nothing."""
    if len(stored) - stored.null_count < 2:  # noqa: PLR2004  # two that could be equal
        return _NO_DUPLICATES
    if pa.types.is_dictionary(stored.type) or pa.types.is_string(stored.type):
        return _repeated_strings(stored)
    if stored.null_count == 0 and _all_differ([_view(chunk) for chunk in stored.chunks if len(chunk)]):
        return _NO_DUPLICATES
    return _duplicates_of(np.asarray(pd.factorize(to_values(stored))[0], dtype=np.int64))


def _repeated_strings(stored: pa.ChunkedArray) -> Duplicates:
    """Find repeated strings by their hashes, with a tenth of the memory that a table of the strings takes."""
    known = np.flatnonzero(pc.is_valid(stored).to_numpy())
    hashes = np.concatenate([hash_text(chunk.drop_null()) for chunk in stored.chunks])
    ordered = np.sort(hashes)
    repeated = np.isin(hashes, np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    suspects = known[repeated]
    if not len(suspects):
        return _NO_DUPLICATES
    # Equal hashes may, once in a lifetime, be of different strings: these few are compared themselves.
    strings = pc.take(stored, pa.array(suspects)).cast(pa.string()).to_numpy(zero_copy_only=False)
    among = _duplicates_of(np.asarray(pd.factorize(strings)[0], dtype=np.int64))
    return Duplicates(suspects[among.rows], suspects[among.firsts])


def _view(numbers: pa.Array) -> npt.NDArray[Any]:
    """Return numbers or timestamps as numpy sees them, without copying."""
    if pa.types.is_timestamp(numbers.type):
        return np.asarray(numbers.cast(pa.int64()).to_numpy())
    return np.asarray(to_values(numbers) if pa.types.is_boolean(numbers.type) else numbers.to_numpy())


def _all_differ(parts: Sequence[npt.NDArray[Any]]) -> bool:
    """Return True when numbers clearly differ: they increase, or are whole and lie close together."""
    ends = [(part[0], part[-1]) for part in parts]
    if all(one[1] < other[0] for one, other in pairwise(ends)) and all(np.all(part[1:] > part[:-1]) for part in parts):
        return True
    least, rows = min(part.min() for part in parts), sum(len(part) for part in parts)
    span = float(max(part.max() for part in parts)) - float(least)
    if not span < _SPARSENESS * rows:
        return False
    seen = np.zeros(int(span) + 1, dtype=np.bool_)
    for part in parts:
        seen[(part - least).astype(np.int64)] = True
    # Two numbers with one whole part may still differ: that takes a closer look.
    return int(np.count_nonzero(seen)) == rows


def _duplicates_of(codes: Positions) -> Duplicates:
    """Find repeated codes; -1 stands for a missing value."""
    firsts = np.full(int(codes.max()) + 1, -1, dtype=np.int64)
    positions = np.arange(len(codes))
    known = codes >= 0
    # Written from the last row to the first, so that what stays is the first.
    firsts[codes[known][::-1]] = positions[known][::-1]
    rows = positions[known & (firsts[codes] != positions)]
    return Duplicates(rows, firsts[codes[rows]])


def count_duplicates(table: TypedTable, lines: Positions, column: Column, repeats: Duplicates) -> FailureCount:
    """Count repeated values, with the first as examples."""
    failure, shown = FailureCount(), stored_column(table, column)
    look_up = look_up_rows(lines, repeats.rows, partial(_shown_value, shown), masked=column.sensitive)
    failure.add(len(repeats), look_up)
    return failure


def describe_duplicates(
    table: TypedTable,
    lines: Positions,
    column: Column,
    repeats: Duplicates,
    *,
    masked: frozenset[str],
    place: Callable[[int], str],
) -> Iterator[pa.Table]:
    """Yield quarantine tables of the rows that repeat a value, from their typed values: their text is gone by now."""
    for start in range(0, min(len(repeats), MAX_QUARANTINED + 1), _ROWS_AT_ONCE):
        rows, firsts = repeats.rows[start : start + _ROWS_AT_ONCE], repeats.firsts[start : start + _ROWS_AT_ONCE]
        strings = stored_rows(table, rows).to_pydict()
        texts = pa.table({name: pa.array(map(_text, values), pa.string()) for name, values in strings.items()})
        rule = f"{column.name!r} should differ in every row"
        faults = [
            RejectReason("repeat", column.name, f"{rule}, and {place(line)} has it already")
            for line in lines[firsts].tolist()
        ]
        yield quarantine_rows(lines[rows], faults, np.arange(len(rows)), texts, masked)


def _text(value: object) -> str | None:
    """Return a value as a file would hold it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return None if value is None else str(value)


#: So many numbers are looked for one by one.
_FEW_CLASSES = 16

TYPE_LABELS: dict[ColumnType, str] = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "datetime": "a date",
    "category": "a category",
    "text": "text",
}


@dataclass(frozen=True, slots=True)
class ParsedCheck:
    """An expression check, parsed."""

    check: ExpressionCheck
    expression: Expression


def parse_checks(checks: Sequence[ExpressionCheck]) -> list[ParsedCheck]:
    """Parse the spec's expression checks."""
    return [ParsedCheck(check, parse_expression(check.expression)) for check in checks]


@dataclass(slots=True)
class FailureCounts:
    """Failures of each check, by column; :attr:`faults` explains expressions that could not be computed."""

    present: Counter[str] = field(default_factory=Counter)
    bad: dict[str, FailureCount] = field(default_factory=lambda: defaultdict(FailureCount))
    broken: dict[tuple[str, str, str], FailureCount] = field(default_factory=lambda: defaultdict(FailureCount))
    unknown_categories: dict[str, FailureCount] = field(default_factory=lambda: defaultdict(FailureCount))
    fractions: dict[str, FailureCount] = field(default_factory=lambda: defaultdict(FailureCount))
    unknown_classes: FailureCount = field(default_factory=FailureCount)
    unmet: dict[str, FailureCount] = field(default_factory=lambda: defaultdict(FailureCount))
    faults: dict[str, str] = field(default_factory=dict)

    def merge(self, later: "FailureCounts") -> None:
        """Add the counts of a batch that comes later in the file."""
        self.present.update(later.present)
        for name in ("bad", "broken", "unknown_categories", "fractions", "unmet"):
            failures = getattr(self, name)
            for key, failure in getattr(later, name).items():
                failures[key].merge(failure)
        self.unknown_classes.merge(later.unknown_classes)
        self.faults = later.faults | self.faults


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Result of a batch: its rows in the file, the columns and lines of the valid rows, and the rejected rows."""

    rows: int
    columns: dict[str, pa.Array]
    lines: npt.NDArray[np.int64]
    quarantined: list[pa.Table]
    failures: FailureCounts


def validate_batch(
    schema: TableSchema, conditions: Sequence[ParsedCheck], masked: frozenset[str], batch: RowBatch
) -> BatchResult:
    """Validate a batch against a schema and expressions; values of the columns ``masked`` are not shown."""
    validate = _BatchValidator(schema, batch, masked)
    columns = {column.name: validate.validate_column(column) for column in schema.columns}
    validate.validate_target(columns[schema.target.name])
    for condition in conditions:
        validate.check_condition(condition, columns)
    kept, quarantined = validate.faults.split(masked)
    lines = batch.lines
    if kept is not None:
        selection = pa.array(kept)
        columns = {name: stored.filter(selection) for name, stored in columns.items()}
        lines = lines[kept]
    rows = len(batch) + len(batch.malformed)
    return BatchResult(rows, columns, lines, quarantined, validate.failures)


@dataclass(slots=True)
class _BatchValidator:
    schema: TableSchema
    batch: RowBatch
    masked: frozenset[str]
    failures: FailureCounts = field(default_factory=FailureCounts)
    faults: _BatchRejects = field(init=False)

    def __post_init__(self) -> None:
        self.faults = _BatchRejects(self.batch)

    def validate_column(self, column: Column) -> pa.Array:
        """Type a column and validate its values; return it as it is stored."""
        converted = convert(column, self.batch)
        stored, bad = converted.stored, converted.bad
        self.failures.present[column.name] += len(stored) - stored.null_count
        if bad is not None:
            positions = np.flatnonzero(bad)
            self.failures.present[column.name] += len(positions)
            self._count(self.failures.bad[column.name], column, positions, self.batch.column(column.name))
            if column.role != "ignored":
                self.faults.add("type", column, positions, f"{column.name!r} should be {TYPE_LABELS[column.type]}")
        if column.name in self.batch.names:
            self._validate_values(column, converted)
        return stored

    def _validate_values(self, column: Column, converted: Converted) -> None:
        stored, failures = converted.stored, self.failures
        for broken in broken_rules(column, converted, self.batch):
            failure = failures.broken[(column.name, broken.check, broken.demand)]
            self._count(failure, column, broken.positions, stored)
            if column.rules.severity == "error":
                self.faults.add("rule", column, broken.positions, f"{column.name!r} should {broken.demand}")
        if column.role != "feature":
            return
        if column.type == "category" and column.categories:
            known = pc.is_in(stored.dictionary, value_set=pa.array(column.categories))
            unknown = code_positions(stored, true_positions(pc.invert(known)))
            if len(unknown):
                self._count(failures.unknown_categories[column.name], column, unknown, stored)
        elif column.type == "integer" and converted.numbers is not None:
            values = converted.numbers.values
            fractional = np.trunc(values) != values
            if np.count_nonzero(fractional) > stored.null_count:
                positions = np.flatnonzero(fractional & ~np.isnan(values))
                self._count(failures.fractions[column.name], column, positions, stored)

    def validate_target(self, stored: pa.Array) -> None:
        column = self.schema.target
        if column.name not in self.batch.names:
            return
        if stored.null_count:
            # A cell that is there but does not parse is at fault already.
            missing = true_positions(pc.is_null(stored))
            self.faults.add("target", column, missing, f"the target {column.name!r} is missing")
        if not self.schema.classes or _are_classes(stored, self.schema.classes):
            return
        different = pc.unique(stored).drop_null()
        foreign = different.filter(pa.array(encode_target(self.schema, to_values(different)) < 0))
        if len(foreign):
            strings = stored.cast(foreign.type.value_type) if pa.types.is_dictionary(foreign.type) else stored
            known_classes = foreign.cast(strings.type) if foreign.type != strings.type else foreign
            unknown = true_positions(pc.is_in(strings, value_set=known_classes))
            self._count(self.failures.unknown_classes, column, unknown, stored)
            self.faults.add("class", column, unknown, f"the target {column.name!r} has an unknown class")

    def check_condition(self, condition: ParsedCheck, columns: dict[str, pa.Array]) -> None:
        check, expression = condition.check, condition.expression
        try:
            positions = true_positions(unmet_rows(expression, columns))
        except InvalidInputError as fault:
            self.failures.faults[check.name] = fault.message
            return
        if not len(positions):
            return
        shown = pa.table({column: columns[column] for column in sorted(expression.columns)})
        masked = bool(self.masked & expression.columns)
        look_up = look_up_rows(self.batch.lines, positions, partial(_shown_row, shown), masked=masked)
        self.failures.unmet[check.name].add(len(positions), look_up)
        if check.severity == "error":
            self.faults.add("rule", None, positions, f"{check.name}: {check.expression} is false")

    def _count(self, failure: FailureCount, column: Column, positions: Positions, values: pa.Array) -> None:
        # What is kept for later must not keep the whole batch with it.
        show = partial(_shown_value, values)
        failure.add(len(positions), look_up_rows(self.batch.lines, positions, show, masked=column.sensitive))


def _shown_value(values: pa.Array | pa.ChunkedArray, row: int) -> str:
    return _text(values[row].as_py()) or ""


def _shown_row(strings: pa.Table, row: int) -> str:
    (record,) = strings.slice(row, 1).to_pylist()
    return ", ".join(f"{key}={value}" for key, value in record.items())


def _are_classes(stored: pa.Array, classes: Sequence[str]) -> bool:
    """Return True when every number is clearly one of a few classes."""
    if not pa.types.is_floating(stored.type) or stored.null_count or len(classes) > _FEW_CLASSES:
        return False
    values = stored.to_numpy()
    return sum(int(np.count_nonzero(values == float(name))) for name in classes) == len(values)
