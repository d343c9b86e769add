"""Typing a request: plain JSON values to the typed columns that :func:`millrace.features.build_features` takes.

============  ==================================================================================
column type   JSON values that are read
============  ==================================================================================
integer       numbers; one with a fraction is scored as it is, as in training, and noted
number        numbers
boolean       ``true``, ``false``, ``1``, ``0``, or the words seen in training, in any case
datetime      strings in a format seen in training, or ISO 8601; without an offset they are UTC
category      strings; one never seen in training is scored as unknown, and noted
============  ==================================================================================

What the spec demands of a column (presence, range, set; see :class:`millrace.schema.ColumnRules`) is demanded here
too: a value that breaks a rule is a bad field, or noted where the rule only warns.

A ``null`` is a missing value in every column. Silence is not: a column that a row does not speak of is missing only
where training saw missing values, and a bad field elsewhere. Numeric strings are refused, as are booleans where
numbers are due, and numbers that float32 cannot hold. Columns that are no features are not looked at.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import FieldError, InvalidInputError
from millrace.schema import Column, TableSchema
from millrace.serving.cells import Cell, cell_reader, missing_cell
from millrace.serving.rules import ValueRule, value_rules
from millrace.serving.table import ABSENT, RequestTable

#: Faults that a reply lists; the rest are counted.
MAX_FAULTS = 100

_DTYPES: dict[str, Any] = {
    "integer": np.float64,
    "number": np.float64,
    "boolean": np.float64,
    "datetime": "datetime64[us]",
    "category": np.str_,
}
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a caller should know about a column that was scored all the same."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class TypedRows:
    """Rows that are ready for :func:`millrace.features.build_features`.

    Parameters
    ----------
    columns : dict of str to array of shape (n_rows,)
        Every feature of the schema, typed as that function expects.
    n_rows : int
        How many rows there are.
    notices : tuple of Notice
        Missing values, unknown categories and columns that were ignored.
    """

    columns: dict[str, npt.NDArray[Any]]
    n_rows: int
    notices: tuple[Notice, ...]


class RowReader:
    """Types requests by one schema; built once for a model, since it keeps what each column needs at hand.

    Parameters
    ----------
    schema : TableSchema
        The schema that the model was trained under.
    """

    def __init__(self, schema: TableSchema) -> None:
        self._schema = schema
        self._known_names = frozenset(column.name for column in schema.columns)
        self._features = [_FeatureReader(column) for column in schema.features]

    def read(self, table: RequestTable) -> TypedRows:
        """Type every feature of every row.

        Raises
        ------
        InvalidInputError
            Names every bad field as ``row 3: age`` (rows count from 0), the first :data:`MAX_FAULTS` of them.
        """
        faults = _Faults()
        notices: list[Notice] = []
        columns: dict[str, npt.NDArray[Any]] = {}
        for feature in self._features:
            columns[feature.column.name] = feature.read(table, faults, notices)
        faults.raise_any()
        ignored = len(table.names - self._known_names)
        if ignored:
            notices.append(Notice("*", f"{_count(ignored, 'column')} unknown to the model: ignored"))
        return TypedRows(columns, table.n_rows, tuple(notices))


class _Faults:
    """Collects bad fields; keeps the first ones and counts the rest."""

    def __init__(self) -> None:
        self.listed: list[FieldError] = []
        self.total = 0

    def add(self, field: str, message: str) -> None:
        self.total += 1
        if len(self.listed) < MAX_FAULTS:
            self.listed.append(FieldError(field, message))

    def raise_any(self) -> None:
        if self.total:
            rest = self.total - len(self.listed)
            more = f"; {rest} more are not listed" if rest else ""
            raise InvalidInputError(f"the rows have {_count(self.total, 'bad field')}{more}", self.listed)


class _FeatureReader:
    """Reads one feature's values, all at once where they are plain and one by one where they are not."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self._read_cell: Callable[[Any], Cell] = cell_reader(column)
        self._missing = missing_cell(column)
        self._categories = frozenset(column.categories)
        self._rules = value_rules(column)

    def read(self, table: RequestTable, faults: _Faults, notices: list[Notice]) -> npt.NDArray[Any]:
        column = self.column
        if column.name not in table.names:
            if not column.nullable:
                faults.add(column.name, "is missing")
            notices.append(Notice(column.name, "is not in the request: scored as missing"))
            return self._array([self._missing] * table.n_rows)
        values = table.column(column.name)
        array = self._read_numbers(values)
        if array is None:
            array = self._array(self._read_cells(values, faults))
        for rule in self._rules:
            self._hold_to(rule, array, faults, notices)
        self._take_notice(array, notices)
        return array

    def _hold_to(self, rule: ValueRule, array: npt.NDArray[Any], faults: _Faults, notices: list[Notice]) -> None:
        """Report the values that break a rule: each as a bad field, or together where the rule only warns."""
        rows = np.flatnonzero(rule.breaks(array)).tolist()
        if self.column.rules.severity == "error":
            for row in rows:
                faults.add(f"row {row}: {self.column.name}", rule.demand)
        elif rows:
            notices.append(Notice(self.column.name, f"{_count(len(rows), 'value')}: {rule.demand}"))

    def _array(self, cells: Sequence[Cell]) -> npt.NDArray[Any]:
        return np.array(cells, dtype=_DTYPES[self.column.type])

    def _read_numbers(self, values: Sequence[Any]) -> npt.NDArray[Any] | None:
        """Read a column of plain numbers in one go; None when it needs a closer look."""
        if self.column.type not in ("integer", "number") or not set(map(type, values)) <= {int, float, type(None)}:
            return None
        try:
            array = np.array(values, dtype=np.float64)
        except OverflowError:
            return None
        missing = np.isnan(array)
        plain = np.abs(array) <= _FLOAT32_MAX
        return array + 0.0 if bool((plain | missing).all()) else None

    def _read_cells(self, values: Sequence[Any], faults: _Faults) -> list[Cell]:
        cells: list[Cell] = []
        for row, value in enumerate(values):
            cell = self._missing
            try:
                if value is ABSENT:
                    _check_silence(self.column)
                elif value is not None:
                    cell = self._read_cell(value)
            except ValueError as error:
                faults.add(f"row {row}: {self.column.name}", str(error))
            cells.append(cell)
        return cells

    def _take_notice(self, array: npt.NDArray[Any], notices: list[Notice]) -> None:
        column = self.column
        if column.type == "category":
            values = array.tolist()
            missing = values.count("")
            unknown = sum(value not in self._categories for value in values) if self._categories else 0
            unknown -= missing if self._categories and "" not in self._categories else 0
            if unknown:
                notices.append(Notice(column.name, f"{_count(unknown, 'value')} not seen in training"))
        else:
            missing = int((np.isnat(array) if column.type == "datetime" else np.isnan(array)).sum())
        if column.type == "integer":
            fractions = int((array % 1 > 0).sum())
            if fractions:
                message = f"{_count(fractions, 'value')} with a fraction, though training saw whole numbers"
                notices.append(Notice(column.name, message))
        if missing:
            unseen = "" if column.nullable else ", though none was in training"
            notices.append(Notice(column.name, f"{_count(missing, 'value')} missing{unseen}"))


def _check_silence(column: Column) -> None:
    if column.rules.settled_nullable is not False and not column.nullable:
        raise ValueError("is missing; write null for a value that is not known")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
