"""Setting rows aside: one entry for each row at fault, and a tally for each check that some rows fail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

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

    def entry(self, line: int, kind: Kind, column: str | None, reason: str, row: dict[str, str | None]) -> None:
        """Add a row, given as its cells by name."""
        shown = {name: MASK if name in self.masked else value for name, value in row.items() if value is not None}
        value = shown.get(column) if column else None
        told = reason if value is None else f"{reason}, not {shorten(value)!r}"
        text = shorten(", ".join(f"{name}={cell}" for name, cell in shown.items()), MAX_ROW_TEXT)
        kept = None if value is None else shorten(value)
        self.entries.append((kind, QuarantinedRow(line, told, text, column, kept)))


@dataclass(slots=True)
class BatchFaults:
    """The rows of a batch that are at fault, each for the first fault found in it."""

    batch: RowBatch
    rows: dict[int, tuple[Kind, str | None, str]] = field(default_factory=dict)

    def add(self, kind: Kind, column: Column | None, mask: BoolArray, reason: str) -> None:
        """Find rows at fault because of one column, or of several together."""
        name = column.name if column else None
        for row in np.flatnonzero(mask).tolist():
            self.rows.setdefault(row, (kind, name, reason))

    def set_aside(self, quarantine: Quarantine) -> BoolArray | None:
        """Set the rows aside; tell which rows are kept, None when all are."""
        if not self.rows:
            return None
        positions = sorted(self.rows)
        for position, row in zip(positions, self.batch.rows(positions), strict=True):
            kind, column, reason = self.rows[position]
            quarantine.entry(int(self.batch.lines[position]), kind, column, reason, row)
        kept = np.ones(len(self.batch), dtype=np.bool_)
        kept[positions] = False
        return kept
