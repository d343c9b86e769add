"""Typing a request: plain JSON values to the typed columns that :func:`millrace.features.build_features` takes.

============  ==================================================================================
column type   JSON values that are read
============  ==================================================================================
integer       numbers; one with a fraction is scored as it is, as in training, and noted
number        numbers
boolean       ``true``, ``false``, ``1``, ``0``, or the words seen in training, in any case
datetime      strings in a format seen in training, or ISO 8601; without an offset they are UTC
category      strings; one never seen in training is scored as unknown, and noted
text          strings of any length; what is beyond :data:`millrace.text.MAX_CHARACTERS` is not read
============  ==================================================================================

What the spec demands of a column (presence, range, set; see :class:`millrace.schema.ColumnRules`) is demanded here
too: a value that breaks a rule is a bad field, or noted where the rule only warns.

A ``null`` is a missing value in every column. Silence is not: a column that a row does not speak of is missing only
where training saw missing values, and a bad field elsewhere. Numeric strings are refused, as are booleans where
numbers are due, and numbers that float32 cannot hold. Columns that are no features are not looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import FieldError
from millrace.features import FeatureMatrix, build_features, build_few_features
from millrace.schema import Column, TableSchema
from millrace.serving.request import ABSENT, RequestTable
from millrace.serving.values import FLOAT32_MAX, Cell, Faults, ValueRule, cell_reader, count, missing_cell, value_rules
from millrace.text import MAX_CHARACTERS

#: Up to this many rows, reading values one by one is quicker than making arrays of them.
FEW_ROWS = 16

Cells = Sequence[Cell] | npt.NDArray[np.float64]

_DTYPES: dict[str, Any] = {
    "integer": np.float64,
    "number": np.float64,
    "boolean": np.float64,
    "datetime": "datetime64[us]",
    "category": np.object_,
    "text": np.object_,
}
#: Values of these kinds can be looked up: equal ones are read alike.
_PLAIN = frozenset({str, int, float, bool, type(None)})
_PLAIN_NUMBERS = frozenset({int, float, type(None)})


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a caller should know about a column that was scored all the same."""

    field: str
    message: str


@dataclass(slots=True)
class Tally:
    """What was noticed of a request's rows, in numbers and in words."""

    notices: list[Notice]
    missing: int = 0
    unknown: int = 0

    def note(self, field: str, message: str) -> None:
        """Add a notice."""
        self.notices.append(Notice(field, message))


class FeatureReader:
    """Reads the values of one feature.

    Parameters
    ----------
    column : Column
        As the schema has it.
    """

    def __init__(self, column: Column) -> None:
        self.name = column.name
        self._column = column
        self._kind = column.type
        self._read_cell: Callable[[Any], Cell] = cell_reader(column)
        self._missing = missing_cell(column)
        self._categories = frozenset(column.categories)
        self._rules = value_rules(column)
        self._is_usual = _usual_cells(column)

    def read(self, table: RequestTable, faults: Faults, tally: Tally) -> Cells:
        """Return the feature's value in every row, missing where it is bad."""
        if self.name not in table.names:
            if not self._column.nullable:
                faults.add_column(self.name, "is missing")
            tally.note(self.name, "is not in the request: scored as missing")
            tally.missing += table.n_rows
            return [self._missing] * table.n_rows
        values = table.column(self.name)
        if len(values) == 1 and (cell := self._read_usual(values[0])) is not None:
            return [cell]
        cells = self._read_few(values, faults) if table.n_rows <= FEW_ROWS else self._read_many(values, faults)
        for rule in self._rules:
            self._hold_to(rule, cells, faults, tally)
        if table.n_rows > FEW_ROWS or not all(map(self._is_usual, cells)):
            self._take_notice(cells, tally)
        return cells

    def array(self, cells: Cells) -> npt.NDArray[Any]:
        """Return cells as :func:`millrace.features.build_features` takes them."""
        return np.asarray(cells, dtype=_DTYPES[self._kind])

    def _read_usual(self, value: Any) -> Cell:
        """Read a value about which there is nothing to say, which most requests of one row are made of; else None."""
        if value is None or value is ABSENT or self._rules:
            return None
        try:
            cell = self._read_cell(value)
        except ValueError:
            return None
        return cell if self._is_usual(cell) else None

    def _read_few(self, values: Sequence[Any], faults: Faults) -> list[Cell]:
        cells: list[Cell] = []
        for row, value in enumerate(values):
            cell = self._missing
            try:
                if value is ABSENT:
                    _check_silence(self._column)
                elif value is not None:
                    cell = self._read_cell(value)
            except ValueError as error:
                faults.add(row, self.name, str(error))
            cells.append(cell)
        return cells

    def _read_many(self, values: Sequence[Any], faults: Faults) -> Cells:
        kinds = set(map(type, values))
        if self._kind in ("integer", "number"):
            numbers = _read_numbers(values) if kinds <= _PLAIN_NUMBERS else None
            return self._read_few(values, faults) if numbers is None else numbers
        if kinds <= _PLAIN:
            try:
                cells = {value: self._missing if value is None else self._read_cell(value) for value in set(values)}
                return [cells[value] for value in values]
            except ValueError:
                pass  # somebody has to be told which row it was
        return self._read_few(values, faults)

    def _hold_to(self, rule: ValueRule, cells: Cells, faults: Faults, tally: Tally) -> None:
        """Report the values that break a rule: each as a bad field, or together where the rule only warns."""
        rows = np.flatnonzero(rule.breaks(self.array(cells))).tolist()
        if self._column.rules.severity == "error":
            for row in rows:
                faults.add(row, self.name, rule.demand)
        elif rows:
            tally.note(self.name, f"{count(len(rows), 'value')}: {rule.demand}")

    def _take_notice(self, cells: Cells, tally: Tally) -> None:
        missing = self._count_missing(cells)
        if self._kind == "category" and self._categories:
            new = set(cells) - self._categories - {""}
            unknown = sum(map(new.__contains__, cells)) if new else 0
            if unknown:
                tally.unknown += unknown
                tally.note(self.name, f"{count(unknown, 'value')} not seen in training")
        elif self._kind in ("integer", "number"):
            self._look_at_numbers(cells, tally)
        elif self._kind == "text":
            cut = sum(len(cell) > MAX_CHARACTERS for cell in cells if isinstance(cell, str))
            if cut:
                tally.note(self.name, f"{count(cut, 'value')} read up to character {MAX_CHARACTERS:,}, as in training")
        if missing:
            tally.missing += missing
            unseen = "" if self._column.nullable else ", though none was in training"
            tally.note(self.name, f"{count(missing, 'value')} missing{unseen}")

    def _count_missing(self, cells: Cells) -> int:
        if isinstance(cells, np.ndarray):
            return int(np.isnan(cells).sum())
        if self._kind in ("category", "text", "datetime"):
            return cells.count(self._missing)
        return sum(cell != cell for cell in cells)  # noqa: PLR0124 - only NaN differs from itself

    def _look_at_numbers(self, cells: Any, tally: Tally) -> None:
        """Note fractions among whole numbers, and numbers outside what training saw."""
        low, high = self._column.minimum, self._column.maximum
        # Every comparison with a missing number is false.
        if isinstance(cells, np.ndarray):
            fractions = int((cells % 1 > 0).sum()) if self._kind == "integer" else 0
            outside = int(((cells < low) | (cells > high)).sum()) if low is not None and high is not None else 0
        else:
            fractions = sum(cell % 1 > 0 for cell in cells) if self._kind == "integer" else 0
            outside = sum(cell < low or cell > high for cell in cells) if low is not None and high is not None else 0
        if fractions:
            tally.note(self.name, f"{count(fractions, 'value')} with a fraction, though training saw whole numbers")
        if outside:
            tally.note(self.name, f"{count(outside, 'value')} outside the range of training, {low:g} to {high:g}")


def _usual_cells(column: Column) -> Callable[[Any], bool]:
    """Return what tells of one value that there is nothing to notice about it; it may say so too seldom."""
    low, high = column.minimum, column.maximum
    if column.type == "category":
        return (frozenset(column.categories) - {""}).__contains__
    if column.type == "text":
        return _is_plain_text
    if column.type == "datetime":
        return _is_known
    if column.type == "boolean" or low is None or high is None:
        return _is_whole if column.type == "integer" else _is_a_number
    if column.type == "integer":
        return lambda cell: low <= cell <= high and cell.is_integer()
    return lambda cell: low <= cell <= high


def _is_plain_text(cell: str) -> bool:
    return 0 < len(cell) <= MAX_CHARACTERS


def _is_known(cell: Any) -> bool:
    return cell is not None


def _is_a_number(cell: float) -> bool:
    return cell == cell  # noqa: PLR0124 - only NaN differs from itself


def _is_whole(cell: float) -> bool:
    return cell.is_integer()


def _read_numbers(values: Sequence[Any]) -> npt.NDArray[np.float64] | None:
    """Read a column of plain numbers in one go; None when it needs a closer look."""
    try:
        array = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    fits = np.abs(array) <= FLOAT32_MAX
    # A negative zero becomes positive, as in training.
    return array + 0.0 if bool((fits | np.isnan(array)).all()) else None


def _check_silence(column: Column) -> None:
    if column.rules.settled_nullable is not False and not column.nullable:
        raise ValueError("is missing; write null for a value that is not known")


@dataclass(frozen=True)
class TypedRows:
    """Rows that are ready to be scored.

    Parameters
    ----------
    reader : RowReader
        What typed them.
    cells : mapping of str to sequence of length n_rows
        Every feature of the schema: floats (NaN is missing), strings ('' is missing), moments (None is missing).
    n_rows : int
        How many rows there are.
    notices : tuple of Notice
        Missing values, unknown categories and columns that were ignored.
    n_missing, n_unknown : int
        Missing values, and categories that training did not see, in all features together.
    bad_rows : mapping of int to tuple of FieldError
        What is wrong with rows of the request that are not among these; their numbers are the request's.
    """

    reader: "RowReader"
    cells: Mapping[str, Cells]
    n_rows: int
    notices: tuple[Notice, ...] = ()
    n_missing: int = 0
    n_unknown: int = 0
    bad_rows: Mapping[int, tuple[FieldError, ...]] = field(default_factory=dict)

    @cached_property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Every feature as the array that :func:`millrace.features.build_features` takes."""
        return {feature.name: feature.array(self.cells[feature.name]) for feature in self.reader.features}

    def features(self, start: int, stop: int) -> FeatureMatrix:
        """Return the two matrices of some of the rows."""
        if self.n_rows <= FEW_ROWS:
            return build_few_features(self.reader.plan, self.cells, self.n_rows, self.reader.word_columns)
        chunk = {name: values[start:stop] for name, values in self.columns.items()}
        return build_features(self.reader.schema, chunk, stop - start, texts=object)


class RowReader:
    """Types requests by one schema; built once for a model, since it keeps what each column needs at hand.

    Parameters
    ----------
    schema : TableSchema
        The schema that the model was trained under.
    """

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.features = [FeatureReader(column) for column in schema.features]
        self.plan = [(column.name, column.type) for column in schema.features]
        self.word_columns = schema.word_columns
        self._known_names = frozenset(column.name for column in schema.columns)

    def read(self, table: RequestTable, partial: bool = False) -> TypedRows:
        """Type every feature of every row.

        Parameters
        ----------
        table : RequestTable
            The rows as they came.
        partial : bool, default=False
            Leave out the rows that have a bad field, as long as there are others, and say what is wrong with them.

        Raises
        ------
        InvalidInputError
            Names every bad field as ``row 3: age`` (rows count from 0), the first
            :data:`millrace.serving.values.MAX_FAULTS` of them.
        """
        faults = Faults(partial)
        tally = Tally([])
        cells = {feature.name: feature.read(table, faults, tally) for feature in self.features}
        bad_rows = faults.bad_rows(table.n_rows)
        if bad_rows:
            good = self.read(_SelectedRows(table, [row for row in range(table.n_rows) if row not in bad_rows]))
            return TypedRows(self, good.cells, good.n_rows, good.notices, good.n_missing, good.n_unknown, bad_rows)
        ignored = len(table.names - self._known_names)
        if ignored:
            tally.note("*", f"{count(ignored, 'column')} unknown to the model: ignored")
        return TypedRows(self, cells, table.n_rows, tuple(tally.notices), tally.missing, tally.unknown)


@dataclass(frozen=True)
class _SelectedRows:
    """Some rows of a table."""

    table: RequestTable
    rows: Sequence[int]

    @property
    def n_rows(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> frozenset[str]:
        return self.table.names

    def column(self, name: str) -> Sequence[Any]:
        values = self.table.column(name)
        return [values[row] for row in self.rows]
