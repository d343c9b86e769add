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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy.typing as npt

from millrace.errors import FieldError
from millrace.features import FeatureMatrix, build_features, build_few_features
from millrace.schema import TableSchema
from millrace.serving.faults import Faults, count
from millrace.serving.feature_reader import FEW_ROWS, Cells, FeatureReader, Notice, Tally
from millrace.serving.table import RequestTable


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
            :data:`millrace.serving.faults.MAX_FAULTS` of them.
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
