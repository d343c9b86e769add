"""A table as it was read: every cell still text, every row still knowing where it came from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import Finding, listed, shorten
from millrace.errors import FieldError, InvalidInputError
from millrace.schema import MISSING_WORDS

#: Columns that one table may have.
MAX_COLUMNS = 2_000

#: Characters of a malformed row that are kept.
MAX_ROW_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A row that was set aside.

    Parameters
    ----------
    line : int
        Where it starts in the file, from 1; for Parquet, the number of the row.
    reason : str
        Why, in words.
    text : str
        The row, cut to a length.
    column : str or None, default=None
        The column at fault, when it is one.
    value : str or None, default=None
        That column's value.
    """

    line: int
    reason: str
    text: str
    column: str | None = None
    value: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "line": self.line,
            "reason": self.reason,
            "column": self.column,
            "value": self.value,
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class RawTable:
    """An upload's rows before their columns have types.

    Parameters
    ----------
    cells : pyarrow.Table
        Strings throughout, without blanks around them; what stands for "missing" is null.
    lines : int64 array of shape (n_rows,)
        Where each row starts in the file, from 1.
    malformed : tuple of QuarantinedRow
        Rows that could not become part of the table.
    description : mapping of str to str
        Format, and where they apply encoding, delimiter and compression.
    findings : tuple of Finding, default=()
        What was remarkable about reading it.
    """

    cells: pa.Table
    lines: npt.NDArray[np.int64]
    malformed: tuple[QuarantinedRow, ...]
    description: dict[str, str]
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return int(self.cells.num_rows)

    @property
    def names(self) -> list[str]:
        """The column names, in the file's order."""
        return list(self.cells.column_names)

    def column(self, name: str) -> pa.Array:
        """Return one column's cells as a single array."""
        return self.cells.column(name).combine_chunks()

    def row_text(self, row: int) -> str:
        """Return one row for the quarantine: its cells by name, cut to a length."""
        cells = self.cells.slice(row, 1).to_pylist()[0]
        return shorten(", ".join(f"{name}={value}" for name, value in cells.items() if value is not None), MAX_ROW_TEXT)


def build_cells(names: Sequence[str], columns: Sequence[pa.ChunkedArray]) -> pa.Table:
    """Make the table of cells: blanks around values removed, missing words made null."""
    return pa.table([_normalise(column) for column in columns], names=list(names))


def check_header(names: Sequence[str]) -> None:
    """Refuse a header that cannot name a table's columns.

    Raises
    ------
    InvalidInputError
        Names every empty and every repeated name, or says that there are too many.
    """
    if len(names) > MAX_COLUMNS:
        raise InvalidInputError(f"the table has {len(names):,} columns; at most {MAX_COLUMNS:,} are allowed")
    empty = [position for position, name in enumerate(names, start=1) if not name]
    repeated = [name for name, count in Counter(names).items() if name and count > 1]
    faults = []
    if empty:
        positions = ", ".join(str(position) for position in empty[:20])
        hint = "; pandas writes such a column unless it is told to_csv(index=False)" if empty == [1] else ""
        faults.append(FieldError("header", f"column {positions} has no name; give every column one{hint}"))
    if repeated:
        faults.append(FieldError("header", f"the header repeats {listed(repeated)}; give every column its own name"))
    if faults:
        raise InvalidInputError("; ".join(fault.message for fault in faults), faults)
    if len(names) == 1:
        raise InvalidInputError(
            f"the table has the single column {shorten(names[0])!r}; it needs a target and at least one feature"
        )


def _normalise(column: pa.ChunkedArray) -> pa.ChunkedArray:
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    missing = pc.is_in(trimmed, value_set=pa.array(sorted(MISSING_WORDS)))
    return pc.if_else(missing, pa.scalar(None, pa.string()), trimmed)
