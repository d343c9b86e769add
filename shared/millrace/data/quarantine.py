"""Setting rows aside: one entry for each row at fault, and a tally for each check that some rows fail."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import MAX_EXAMPLES, Finding, Severity, shorten
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow, RowBatch
from millrace.schema import Column

MASK = "***"

BoolArray = npt.NDArray[np.bool_]
#: What a row is set aside for; of the first two, too many speak against the column rather than its rows.
Kind = Literal["type", "class", "target", "rule"]


@dataclass(slots=True)
class Tally:
    """How often one check failed, and where first."""

    count: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)

    def add(self, count: int, lines: Sequence[int], values: Callable[[int], Sequence[Any]], *, masked: bool) -> None:
        """Count failures; ``values`` returns the first few values at fault."""
        wanted = min(MAX_EXAMPLES - len(self.rows), count)
        if wanted > 0:
            shown = [MASK] * wanted if masked else [shorten(str(value)) for value in values(wanted)]
            self.rows.extend(zip(lines[:wanted], shown, strict=True))
        self.count += count

    def merge(self, later: "Tally") -> None:
        """Add what was counted later in the file."""
        self.rows.extend(later.rows[: MAX_EXAMPLES - len(self.rows)])
        self.count += later.count

    def finding(self, severity: Severity, check: str, message: str, column: str | None, total: int) -> Finding:
        """Return what it comes to."""
        examples = tuple(dict.fromkeys(value for _, value in self.rows))
        share = self.count / total if total else None
        return Finding(severity, check, column, message, self.count, examples, share, tuple(self.rows))


@dataclass(slots=True)
class Quarantine:
    """The rows that were set aside so far.

    Parameters
    ----------
    masked : frozenset of str
        Columns whose values must not be shown.
    """

    masked: frozenset[str]
    entries: list[tuple[Kind, QuarantinedRow]] = field(default_factory=list)
    malformed: list[QuarantinedRow] = field(default_factory=list)

    def rows(self, without: set[tuple[Kind, str]]) -> tuple[QuarantinedRow, ...]:
        """Return them by line, leaving out those for which a whole column is to blame."""
        kept = [row for kind, row in self.entries if (kind, row.column) not in without]
        return tuple(sorted((*self.malformed, *kept), key=lambda row: row.line))

    def add_malformed(self, rows: Sequence[QuarantinedRow]) -> None:
        """Add rows that could not be read; their text cannot be masked in parts."""
        if self.masked:
            rows = [QuarantinedRow(row.line, row.reason, MASK) for row in rows]
        self.malformed.extend(rows)


@dataclass(slots=True)
class BatchFaults:
    """The rows of a batch that are at fault, each for the first fault found in it."""

    batch: RowBatch
    _found: list[tuple[Kind, str | None, str]] = field(default_factory=list)
    _first: npt.NDArray[np.int64] | None = None

    def add(self, kind: Kind, column: Column | None, mask: BoolArray, reason: str) -> None:
        """Find rows at fault because of one column, or of several together."""
        if self._first is None:
            self._first = np.full(len(self.batch), -1, dtype=np.int64)
        self._first[mask & (self._first < 0)] = len(self._found)
        self._found.append((kind, column.name if column else None, reason))

    def set_aside(self, masked: frozenset[str]) -> tuple[BoolArray | None, list[tuple[Kind, QuarantinedRow]]]:
        """Tell which rows are kept, None when all are, and describe the others."""
        if self._first is None or not (self._first >= 0).any():
            return None, []
        positions = np.flatnonzero(self._first >= 0)
        cells = self.batch.cells.take(pa.array(positions))
        texts = _row_texts(cells, masked)
        values: dict[str | None, list[str | None]] = {None: [None] * len(positions)}
        aside: list[tuple[Kind, QuarantinedRow]] = []
        lines, first = self.batch.lines[positions].tolist(), self._first[positions].tolist()
        for row, (line, found) in enumerate(zip(lines, first, strict=True)):
            kind, column, reason = self._found[found]
            if column not in values:
                values[column] = cells.column(column).to_pylist() if column in cells.column_names else values[None]
            value = values[column][row]
            if value is not None:
                value = MASK if column in masked else shorten(value)
            aside.append((kind, QuarantinedRow(line, _told(reason, value), texts[row], column, value)))
        return self._first < 0, aside


def _row_texts(cells: pa.Table, masked: frozenset[str]) -> list[str]:
    """Write rows as their cells by name, without what is missing, each cut to a length."""
    parts = []
    for name in cells.column_names:
        column = cells.column(name)
        shown = pc.if_else(pc.is_valid(column), MASK, None) if name in masked else column
        parts.append(pc.binary_join_element_wise(f"{name}=", shown, ""))
    texts = pc.binary_join_element_wise(*parts, ", ", null_handling="skip")
    cut = pc.binary_join_element_wise(pc.utf8_slice_codeunits(texts, 0, MAX_ROW_TEXT - 3), "...", "")
    written: list[str] = pc.if_else(pc.greater(pc.utf8_length(texts), MAX_ROW_TEXT), cut, texts).to_pylist()
    return written


def describe(
    line: int, column: str | None, reason: str, row: Mapping[str, str | None], masked: frozenset[str]
) -> QuarantinedRow:
    """Describe a row, given as its cells by name; the values of the columns ``masked`` are not shown."""
    shown = {name: MASK if name in masked else value for name, value in row.items() if value is not None}
    value = shown.get(column) if column else None
    value = None if value is None else shorten(value)
    text = shorten(", ".join(f"{name}={cell}" for name, cell in shown.items()), MAX_ROW_TEXT)
    return QuarantinedRow(line, _told(reason, value), text, column, value)


def _told(reason: str, value: str | None) -> str:
    return reason if value is None else f"{reason}, not {value!r}"
