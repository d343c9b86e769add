"""Setting a batch's rows aside, each for the first fault found in it; a tally for each check that some rows fail."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.data.aside import MASK, Fault, Kind, aside_rows, malformed_rows
from millrace.data.findings import MAX_EXAMPLES, Finding, Severity, shorten
from millrace.data.positions import Positions
from millrace.data.raw import RowBatch
from millrace.schema import Column

BoolArray = npt.NDArray[np.bool_]


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
class BatchFaults:
    """The rows of a batch that are at fault, each for the first fault found in it."""

    batch: RowBatch
    _faults: list[Fault] = field(default_factory=list)
    _first: npt.NDArray[np.int64] | None = None

    def add(self, kind: Kind, column: Column | None, positions: Positions, reason: str) -> None:
        """Find rows at fault because of one column, or of several together."""
        if self._first is None:
            self._first = np.full(len(self.batch), -1, dtype=np.int64)
        self._first[positions[self._first[positions] < 0]] = len(self._faults)
        self._faults.append(Fault(kind, column.name if column else None, reason))

    def set_aside(self, masked: frozenset[str]) -> tuple[BoolArray | None, list[pa.Table]]:
        """Tell which rows are kept, None when all are, and describe the others, malformed ones among them."""
        aside = []
        if self.batch.malformed:
            aside.append(malformed_rows(self.batch.malformed, masked=bool(masked)))
        if self._first is None or not (self._first >= 0).any():
            return None, aside
        positions = np.flatnonzero(self._first >= 0)
        cells = self.batch.cells.take(pa.array(positions))
        aside.append(aside_rows(self.batch.lines[positions], self._faults, self._first[positions], cells, masked))
        return self._first < 0, aside
