"""A request as every dialect hands it over: named columns of plain JSON values, not yet typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol


class _Absent:
    """What stands where a row says nothing about a column; a null is a value, silence is not."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


class RequestTable(Protocol):
    """Rows to score, whatever shape they came in."""

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """The columns that at least one row speaks of."""
        ...

    def column(self, name: str) -> Sequence[Any]:
        """Return one column's values, :data:`ABSENT` where a row is silent; ``name`` is one of ``names``."""
        ...


@dataclass(frozen=True)
class RecordsTable:
    """Rows given as objects.

    Columns are collected on demand, so that rows with thousands of made-up names cost no more than their bytes.
    """

    records: Sequence[Mapping[str, Any]]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.records)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that at least one row has."""
        return frozenset().union(*self.records)

    def column(self, name: str) -> Sequence[Any]:
        """Return one column's values."""
        return [record.get(name, ABSENT) for record in self.records]


@dataclass(frozen=True)
class ColumnsTable:
    """Rows given as columns."""

    columns: Mapping[str, Sequence[Any]]
    n_rows: int

    @cached_property
    def names(self) -> frozenset[str]:
        """The columns' names."""
        return frozenset(self.columns)

    def column(self, name: str) -> Sequence[Any]:
        """Return one column's values."""
        return self.columns[name]
