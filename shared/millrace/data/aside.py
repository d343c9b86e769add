"""Rows that were set aside, described by column: objects would take ten times the memory and most of the time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import MAX_EXAMPLE_LENGTH
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow

MASK = "***"

#: What a row is set aside for; of the first two, too many speak against the column rather than its rows.
Kind = Literal["type", "class", "target", "rule", "repeat", "malformed"]
#: The columns of such a table.
ASIDE = pa.schema(
    [("line", pa.int64()), *((name, pa.string()) for name in ("kind", "column", "reason", "value", "text"))]
)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row is set aside.

    Parameters
    ----------
    kind : Kind
        What is at fault.
    column : str or None
        Where, when it is one column.
    reason : str
        A sentence, to which the value is added.
    """

    kind: Kind
    column: str | None
    reason: str


def aside_rows(
    lines: npt.NDArray[np.int64],
    faults: Sequence[Fault],
    found: npt.NDArray[np.int64],
    cells: pa.Table,
    masked: frozenset[str],
) -> pa.Table:
    """Describe rows at fault.

    Parameters
    ----------
    lines : int64 array of shape (n_rows,)
        Where they start.
    faults : sequence of Fault
        Everything that was found.
    found : int64 array of shape (n_rows,)
        Which of these each row is set aside for.
    cells : pyarrow.Table
        Their cells, as text.
    masked : frozenset of str
        Columns whose values must not be shown.
    """
    values = np.full(len(lines), None, dtype=object)
    columns = [fault.column for fault in faults]
    for column in dict.fromkeys(columns):
        if column is not None and column in cells.column_names:
            rows = np.flatnonzero(np.array([name == column for name in columns])[found])
            values[rows] = _masked(cells, column, masked).take(pa.array(rows)).to_numpy()
    of_rows = pa.array(found)
    return pa.table(
        [
            pa.array(lines),
            *(
                pa.array([getattr(fault, name) for fault in faults], pa.string()).take(of_rows)
                for name in ("kind", "column", "reason")
            ),
            _shortened(pa.array(values, pa.string()), MAX_EXAMPLE_LENGTH),
            _row_texts(cells, masked),
        ],
        schema=ASIDE,
    )


def malformed_rows(rows: Sequence[QuarantinedRow], *, masked: bool) -> pa.Table:
    """Describe rows that could not be read; where a column is masked, none of their text is shown."""
    columns: list[list[Any]] = [
        [row.line for row in rows],
        ["malformed"] * len(rows),
        [row.column for row in rows],
        [row.reason for row in rows],
        [row.value for row in rows],
        [MASK if masked else row.text for row in rows],
    ]
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, ASIDE.types, strict=True)], ASIDE)


def as_object(row: Mapping[str, Any]) -> QuarantinedRow:
    """Return one such row as an object; a repeat's reason says all there is to say."""
    reason, value = row["reason"], row["value"]
    told = reason if value is None or row["kind"] == "repeat" else f"{reason}, not {value!r}"
    return QuarantinedRow(row["line"], told, row["text"], row["column"], value)


def _row_texts(cells: pa.Table, masked: frozenset[str]) -> pa.Array:
    """Write rows as their cells by name, without what is missing."""
    parts = [pc.binary_join_element_wise(f"{name}=", _masked(cells, name, masked), "") for name in cells.column_names]
    return _shortened(pc.binary_join_element_wise(*parts, ", ", null_handling="skip"), MAX_ROW_TEXT)


def _masked(cells: pa.Table, name: str, masked: frozenset[str]) -> pa.ChunkedArray:
    column = cells.column(name)
    return pc.if_else(pc.is_valid(column), MASK, pa.scalar(None, pa.string())) if name in masked else column


def _shortened(texts: pa.Array, length: int) -> pa.Array:
    """Cut what is too long, as :func:`millrace.data.findings.shorten` does."""
    too_long = pc.greater(pc.utf8_length(texts), length)
    if not pc.any(too_long).as_py():
        return texts
    return pc.if_else(
        too_long, pc.binary_join_element_wise(pc.utf8_slice_codeunits(texts, 0, length - 3), "...", ""), texts
    )
