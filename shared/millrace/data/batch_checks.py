"""Judging one batch of an upload: its cells typed, its rows at fault set aside, every failure counted.

Nothing here depends on any other batch, so that batches are judged at the same time; Arrow and numpy, which do most of
the work, let other threads run meanwhile.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.batch_faults import BatchFaults, Tally, look_up_rows
from millrace.data.conversion import Converted, convert
from millrace.data.expressions import Expression, parse_expression
from millrace.data.positions import Positions, true_positions, word_positions
from millrace.data.raw import RowBatch
from millrace.data.rules import broken_rules
from millrace.data.storage import to_values
from millrace.data.typed_table import encode_target
from millrace.data.uniqueness import shown_value
from millrace.errors import InvalidInputError
from millrace.schema import Column, ColumnType, TableSchema
from millrace.spec.data import ExpressionCheck

Key = TypeVar("Key")

#: So many numbers are looked for one by one.
_FEW_CLASSES = 16

TYPE_IN_WORDS: dict[ColumnType, str] = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "a boolean",
    "datetime": "a date",
    "category": "a category",
    "text": "text",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition over several columns, and what it means; or why it means nothing."""

    check: ExpressionCheck
    expression: Expression | None
    fault: str = ""


def understand(checks: Sequence[ExpressionCheck]) -> list[Condition]:
    """Parse what the spec demands of several columns together."""
    conditions = []
    for check in checks:
        try:
            conditions.append(Condition(check, parse_expression(check.expression)))
        except InvalidInputError as fault:
            conditions.append(Condition(check, None, fault.message))
    return conditions


@dataclass(slots=True)
class Tallies:
    """How often each check failed, by column; :attr:`faults` says which conditions could not be computed."""

    present: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    bad: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    broken: dict[tuple[str, str, str], Tally] = field(default_factory=lambda: defaultdict(Tally))
    unknown_categories: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    fractions: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    unknown_classes: Tally = field(default_factory=Tally)
    unmet: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    faults: dict[str, str] = field(default_factory=dict)

    def merge(self, later: "Tallies") -> None:
        """Add what was counted in a batch that comes later in the file."""
        for name, count in later.present.items():
            self.present[name] += count
        _merge(self.bad, later.bad)
        _merge(self.broken, later.broken)
        _merge(self.unknown_categories, later.unknown_categories)
        _merge(self.fractions, later.fractions)
        _merge(self.unmet, later.unmet)
        self.unknown_classes.merge(later.unknown_classes)
        self.faults = later.faults | self.faults


def _merge(tallies: dict[Key, Tally], later: dict[Key, Tally]) -> None:
    for key, tally in later.items():
        tallies[key].merge(tally)


@dataclass(frozen=True, slots=True)
class JudgedBatch:
    """What became of a batch.

    Parameters
    ----------
    rows : int
        Rows that the file holds here.
    columns : dict of str to pyarrow.Array
        The columns of the rows that fit.
    lines : int64 array of shape (n_kept,)
        Where each of these starts in the file.
    aside : list of pyarrow.Table
        Rows that could not be read, and rows that do not fit; see :mod:`millrace.data.aside`.
    tallies : Tallies
        What failed how often.
    """

    rows: int
    columns: dict[str, pa.Array]
    lines: npt.NDArray[np.int64]
    aside: list[pa.Table]
    tallies: Tallies


def judge_batch(
    schema: TableSchema, conditions: Sequence[Condition], masked: frozenset[str], batch: RowBatch
) -> JudgedBatch:
    """Hold a batch to a schema and to conditions; values of the columns ``masked`` are not shown."""
    judge = _Judge(schema, batch, masked)
    columns = {column.name: judge.judge_column(column) for column in schema.columns}
    judge.judge_target(columns[schema.target.name])
    for condition in conditions:
        judge.judge_condition(condition, columns)
    kept, aside = judge.faults.set_aside(masked)
    lines = batch.lines
    if kept is not None:
        selection = pa.array(kept)
        columns = {name: stored.filter(selection) for name, stored in columns.items()}
        lines = lines[kept]
    rows = len(batch) + len(batch.malformed)
    return JudgedBatch(rows, columns, lines, aside, judge.tallies)


@dataclass(slots=True)
class _Judge:
    """Judges one batch."""

    schema: TableSchema
    batch: RowBatch
    masked: frozenset[str]
    tallies: Tallies = field(default_factory=Tallies)
    faults: BatchFaults = field(init=False)

    def __post_init__(self) -> None:
        self.faults = BatchFaults(self.batch)

    def judge_column(self, column: Column) -> pa.Array:
        """Type a column and judge its values; return it as it is stored."""
        converted = convert(column, self.batch)
        stored, bad = converted.stored, converted.bad
        self.tallies.present[column.name] += len(stored) - stored.null_count
        if bad is not None:
            positions = np.flatnonzero(bad)
            self.tallies.present[column.name] += len(positions)
            self._count(self.tallies.bad[column.name], column, positions, self.batch.column(column.name))
            if column.role != "ignored":
                self.faults.add("type", column, positions, f"{column.name!r} should be {TYPE_IN_WORDS[column.type]}")
        if column.name in self.batch.names:
            self._judge_values(column, converted)
        return stored

    def _judge_values(self, column: Column, converted: Converted) -> None:
        stored, tallies = converted.stored, self.tallies
        for failures in broken_rules(column, converted, self.batch):
            tally = tallies.broken[(column.name, failures.check, failures.demand)]
            self._count(tally, column, failures.positions, stored)
            if column.rules.severity == "error":
                self.faults.add("rule", column, failures.positions, f"{column.name!r} should {failures.demand}")
        if column.role != "feature":
            return
        if column.type == "category" and column.categories:
            known = pc.is_in(stored.dictionary, value_set=pa.array(column.categories))
            unknown = word_positions(stored, true_positions(pc.invert(known)))
            if len(unknown):
                self._count(tallies.unknown_categories[column.name], column, unknown, stored)
        elif column.type == "integer" and converted.numbers is not None:
            values = converted.numbers.values
            fractional = np.trunc(values) != values
            if np.count_nonzero(fractional) > stored.null_count:
                positions = np.flatnonzero(fractional & ~np.isnan(values))
                self._count(tallies.fractions[column.name], column, positions, stored)

    def judge_target(self, stored: pa.Array) -> None:
        """Set rows aside whose target is missing or of an unknown class."""
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
            words = stored.cast(foreign.type.value_type) if pa.types.is_dictionary(foreign.type) else stored
            known_as = foreign.cast(words.type) if foreign.type != words.type else foreign
            unknown = true_positions(pc.is_in(words, value_set=known_as))
            self._count(self.tallies.unknown_classes, column, unknown, stored)
            self.faults.add("class", column, unknown, f"the target {column.name!r} has an unknown class")

    def judge_condition(self, condition: Condition, columns: dict[str, pa.Array]) -> None:
        """Set rows aside, or count them, that do not meet a condition."""
        check, expression = condition.check, condition.expression
        if expression is None:
            return
        try:
            positions = true_positions(expression.failures(columns))
        except InvalidInputError as fault:
            self.tallies.faults[check.name] = fault.message
            return
        if not len(positions):
            return
        shown = pa.table({column: columns[column] for column in sorted(expression.columns)})
        self.tallies.unmet[check.name].add(
            len(positions),
            look_up_rows(
                self.batch.lines, positions, partial(_shown_row, shown), masked=bool(self.masked & expression.columns)
            ),
        )
        if check.severity == "error":
            self.faults.add("rule", None, positions, f"{check.name}: {check.expression} is not so")

    def _count(self, tally: Tally, column: Column, positions: Positions, values: pa.Array) -> None:
        # What is kept for later must not keep the whole batch with it.
        show = partial(_shown_cell, values)
        tally.add(len(positions), look_up_rows(self.batch.lines, positions, show, masked=column.sensitive))


def _shown_cell(values: pa.Array, row: int) -> str:
    return shown_value(values[row].as_py())


def _shown_row(cells: pa.Table, row: int) -> str:
    (record,) = cells.slice(row, 1).to_pylist()
    return ", ".join(f"{key}={value}" for key, value in record.items())


def _are_classes(stored: pa.Array, classes: Sequence[str]) -> bool:
    """Tell at a glance that every number is one of a few classes; False where that takes a closer look."""
    if not pa.types.is_floating(stored.type) or stored.null_count or len(classes) > _FEW_CLASSES:
        return False
    values = stored.to_numpy()
    return sum(int(np.count_nonzero(values == float(name))) for name in classes) == len(values)
