"""Setting a batch's rows aside, each for the first fault found in it; a tally for each check that some rows fail."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.data.aside import MASK, Fault, Kind, aside_rows, malformed_rows
from millrace.data.findings import MAX_EXAMPLES, Finding, Severity, shorten
from millrace.data.positions import Positions
from millrace.data.raw import RowBatch
from millrace.schema import Column

BoolArray = npt.NDArray[np.bool_]

#: A row that fails: its line, and what is shown of it.
Example = tuple[int, str]
#: Returns the first rows that fail, at most so many.
LookUp = Callable[[int], list[Example]]


@dataclass(slots=True)
class Tally:
    """How often one check failed, and where first.

    A batch's failures are looked at only if those of the batches before it are too few to show.
    """

    count: int = 0
    _rows: list[Example] = field(default_factory=list)
    _look_ups: list[LookUp] = field(default_factory=list)

    def add(self, count: int, look_up: LookUp) -> None:
        """Count failures."""
        self.count += count
        self._look_ups.append(look_up)

    def merge(self, later: "Tally") -> None:
        """Add what was counted later in the file."""
        self.count += later.count
        self._rows.extend(later.rows(MAX_EXAMPLES - len(self._rows)))

    def rows(self, wanted: int = MAX_EXAMPLES) -> list[Example]:
        """Return the first few failures."""
        found = self._rows[:wanted]
        for look_up in self._look_ups:
            found.extend(look_up(wanted - len(found)) if len(found) < wanted else ())
        return found

    def finding(self, severity: Severity, check: str, message: str, column: str | None, total: int) -> Finding:
        """Return what it comes to."""
        rows = tuple(self.rows())
        examples = tuple(dict.fromkeys(value for _, value in rows))
        share = self.count / total if total else None
        return Finding(severity, check, column, message, self.count, examples, share, rows)


def look_up_rows(
    lines: npt.NDArray[np.int64], positions: Positions, show: Callable[[int], object], *, masked: bool
) -> LookUp:
    """Return what looks up the first of some rows: their lines, and what is shown of each, or a mask."""

    def look_up(wanted: int) -> list[Example]:
        first = positions[:wanted].tolist()
        return [(int(lines[row]), MASK if masked else shorten(str(show(row)))) for row in first]

    return look_up


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
