"""Setting rows aside: one entry for each row at fault, and a tally for each check that some rows fail."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt

from millrace.data.findings import MAX_EXAMPLES, Finding, Severity, shorten
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow, RowBatch
from millrace.schema import Column

MASK = "***"

#: Rows of one upload that are kept with their reasons; an upload with more at fault is rejected.
MAX_QUARANTINED = 1_000_000
#: Of these, how many are held in memory.
SPILL_ROWS = 20_000

BoolArray = npt.NDArray[np.bool_]
#: What a row is set aside for; of the first two, too many speak against the column rather than its rows.
Kind = Literal["type", "class", "target", "rule"]
#: Turns a line, counted through all files of an upload, into a file and its line.
Locate = Callable[[int], tuple[str, int]]


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
    """The rows that were set aside so far, in the file's order.

    Parameters
    ----------
    masked : frozenset of str
        Columns whose values must not be shown.
    folder : Path or None, default=None
        Where many of them may be written.
    locate : callable or None, default=None
        Turns a line of an upload of several files into a file and its line.
    """

    masked: frozenset[str]
    folder: Path | None = None
    locate: Locate | None = None
    too_many: bool = False
    _batch: list[tuple[Kind | None, QuarantinedRow]] = field(default_factory=list)
    _kept: "_KeptRows" = field(init=False)

    def __post_init__(self) -> None:
        self._kept = _KeptRows(self.folder / "quarantine.jsonl" if self.folder else None)

    def rows(self, without: set[tuple[Kind, str]]) -> Sequence[QuarantinedRow]:
        """Return them by line, leaving out those for which a whole column is to blame."""
        return self._kept.rows(without)

    def add_malformed(self, rows: Sequence[QuarantinedRow]) -> None:
        """Add rows that could not be read; their text cannot be masked in parts."""
        if self.masked:
            rows = [QuarantinedRow(row.line, row.reason, MASK) for row in rows]
        self._batch.extend((None, row) for row in rows)

    def entry(self, line: int, kind: Kind, column: str | None, reason: str, row: dict[str, str | None]) -> None:
        """Add a row, given as its cells by name."""
        shown = {name: MASK if name in self.masked else value for name, value in row.items() if value is not None}
        value = shown.get(column) if column else None
        told = reason if value is None else f"{reason}, not {shorten(value)!r}"
        text = shorten(", ".join(f"{name}={cell}" for name, cell in shown.items()), MAX_ROW_TEXT)
        kept = None if value is None else shorten(value)
        self._batch.append((kind, QuarantinedRow(line, told, text, column, kept)))

    def end_batch(self) -> None:
        """Keep the batch's rows, as far as there is room."""
        room = MAX_QUARANTINED - len(self._kept)
        self.too_many = self.too_many or len(self._batch) > room
        entries = sorted(self._batch, key=lambda entry: entry[1].line)[:room]
        self._kept.extend([(kind, self._located(row)) for kind, row in entries])
        self._batch.clear()

    def _located(self, row: QuarantinedRow) -> QuarantinedRow:
        if self.locate is None:
            return row
        file, line = self.locate(row.line)
        return replace(row, file=file, line=line)


@dataclass(slots=True)
class _KeptRows:
    """Rows that were set aside: in memory while they are few, in a file of JSON lines past that."""

    path: Path | None
    memory: list[tuple[Kind | None, QuarantinedRow]] = field(default_factory=list)
    counts: Counter[tuple[Kind | None, str | None]] = field(default_factory=Counter)

    def __len__(self) -> int:
        return self.counts.total()

    def extend(self, entries: Sequence[tuple[Kind | None, QuarantinedRow]]) -> None:
        self.memory.extend(entries)
        self.counts.update((kind, row.column) for kind, row in entries)
        if self.path is not None and len(self.memory) > SPILL_ROWS:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps([kind, row.to_dict()]) + "\n" for kind, row in self.memory)
            self.memory.clear()

    def rows(self, without: set[tuple[Kind, str]]) -> Sequence[QuarantinedRow]:
        kept = tuple(row for kind, row in self.memory if (kind, row.column) not in without)
        if self.path is None or not self.path.exists():
            return kept
        length = sum(count for blame, count in self.counts.items() if blame not in without)
        return _SpilledRows(self.path, length, without, kept)


@dataclass(frozen=True, slots=True)
class _SpilledRows(Sequence[QuarantinedRow]):
    """Rows that are read from a file each time they are looked at."""

    path: Path
    length: int
    without: set[tuple[Kind, str]]
    rest: tuple[QuarantinedRow, ...]

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[QuarantinedRow]:
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                kind, row = json.loads(line)
                if (kind, row["column"]) not in self.without:
                    yield QuarantinedRow(**row)
        yield from self.rest

    @overload
    def __getitem__(self, index: int) -> QuarantinedRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[QuarantinedRow, ...]: ...

    def __getitem__(self, index: int | slice) -> QuarantinedRow | tuple[QuarantinedRow, ...]:
        """Return a row, or some; those at the beginning are quickest."""
        if isinstance(index, slice):
            return tuple(islice(self, *index.indices(self.length)))
        position = range(self.length)[index]
        return next(islice(self, position, None))


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
        positions = sorted(self.rows)
        if positions and not quarantine.too_many:
            for position, row in zip(positions, self.batch.rows(positions), strict=True):
                kind, column, reason = self.rows[position]
                quarantine.entry(int(self.batch.lines[position]), kind, column, reason, row)
        quarantine.end_batch()
        if not positions:
            return None
        kept = np.ones(len(self.batch), dtype=np.bool_)
        kept[positions] = False
        return kept
