"""Setting rows aside: one entry for each row at fault, and a tally for each check that some rows fail."""

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
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
_Entry = tuple[Kind | None, QuarantinedRow]
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
    folder : Path or None, default=None
        Where many of them may be written.
    locate : callable or None, default=None
        Turns a line of an upload of several files into a file and its line.
    """

    masked: frozenset[str]
    folder: Path | None = None
    locate: Locate | None = None
    too_many: bool = False
    _runs: list["_Run"] = field(init=False)

    def __post_init__(self) -> None:
        self._runs = [self._new_run(0)]

    def rows(self, without: set[tuple[Kind, str]]) -> Sequence[QuarantinedRow]:
        """Return them by line, leaving out those for which a whole column is to blame."""
        kept = KeptRows(tuple(self._runs), without, self.locate)
        return kept if any(run.spilled for run in self._runs) else tuple(kept)

    def add_batch(self, malformed: Sequence[QuarantinedRow], aside: Sequence[tuple[Kind, QuarantinedRow]]) -> None:
        """Add a batch's rows: those that could not be read, whose text cannot be masked in parts, and the others."""
        if self.masked:
            malformed = [QuarantinedRow(row.line, row.reason, MASK) for row in malformed]
        entries: list[_Entry] = [*((None, row) for row in malformed), *aside]
        self._add(self._runs[0], sorted(entries, key=_line))

    def add_run(self, aside: Iterable[tuple[Kind, QuarantinedRow]]) -> None:
        """Add rows of the whole upload, by line, that are at fault for something else than those before."""
        run = self._new_run(len(self._runs))
        self._runs.append(run)
        for entry in aside:
            self._add(run, [entry])

    def place(self, line: int) -> str:
        """Return where a line is, in words."""
        file, line = self.locate(line) if self.locate else (None, line)
        return QuarantinedRow(line, "", "", file=file).place

    def _add(self, run: "_Run", entries: Sequence[_Entry]) -> None:
        room = MAX_QUARANTINED - sum(len(other) for other in self._runs)
        self.too_many = self.too_many or len(entries) > room
        run.extend(entries[:room])

    def _new_run(self, number: int) -> "_Run":
        return _Run(self.folder / f"quarantine-{number}.jsonl" if self.folder else None)


@dataclass(slots=True)
class _Run:
    """Rows by line: in memory while they are few, in a file of JSON lines past that."""

    path: Path | None
    memory: list[_Entry] = field(default_factory=list)
    counts: Counter[tuple[Kind | None, str | None]] = field(default_factory=Counter)
    spilled: bool = False

    def __len__(self) -> int:
        return self.counts.total()

    def __iter__(self) -> Iterator[_Entry]:
        return chain(self._read(), iter(self.memory))

    def extend(self, entries: Sequence[_Entry]) -> None:
        self.memory.extend(entries)
        self.counts.update((kind, row.column) for kind, row in entries)
        if self.path is not None and len(self.memory) > SPILL_ROWS:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps([kind, row.to_dict()]) + "\n" for kind, row in self.memory)
            self.memory.clear()
            self.spilled = True

    def _read(self) -> Iterator[_Entry]:
        if self.path is None or not self.spilled:
            return
        with self.path.open(encoding="utf-8") as file:
            for line in file:
                kind, row = json.loads(line)
                yield kind, QuarantinedRow(**row)


@dataclass(frozen=True, slots=True)
class KeptRows(Sequence[QuarantinedRow]):
    """Rows that were set aside, by line; those on disk are read each time they are looked at."""

    runs: tuple[_Run, ...]
    without: set[tuple[Kind, str]]
    locate: Locate | None

    def __len__(self) -> int:
        return sum(count for run in self.runs for blame, count in run.counts.items() if blame not in self.without)

    def __iter__(self) -> Iterator[QuarantinedRow]:
        for kind, row in heapq.merge(*self.runs, key=_line):
            if (kind, row.column) not in self.without:
                yield self._located(row)

    @overload
    def __getitem__(self, index: int) -> QuarantinedRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[QuarantinedRow, ...]: ...

    def __getitem__(self, index: int | slice) -> QuarantinedRow | tuple[QuarantinedRow, ...]:
        """Return a row, or some; those at the beginning are quickest."""
        if isinstance(index, slice):
            return tuple(islice(self, *index.indices(len(self))))
        return next(islice(self, range(len(self))[index], None))

    def _located(self, row: QuarantinedRow) -> QuarantinedRow:
        if self.locate is None:
            return row
        file, line = self.locate(row.line)
        return replace(row, file=file, line=line)


def _line(entry: _Entry) -> int:
    return entry[1].line


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
        aside = []
        for position, row in zip(positions.tolist(), self.batch.rows(positions.tolist()), strict=True):
            kind, column, reason = self._found[self._first[position]]
            aside.append((kind, describe(int(self.batch.lines[position]), column, reason, row, masked)))
        return self._first < 0, aside


def describe(
    line: int, column: str | None, reason: str, row: Mapping[str, str | None], masked: frozenset[str]
) -> QuarantinedRow:
    """Describe a row, given as its cells by name; the values of the columns ``masked`` are not shown."""
    shown = {name: MASK if name in masked else value for name, value in row.items() if value is not None}
    value = shown.get(column) if column else None
    told = reason if value is None else f"{reason}, not {shorten(value)!r}"
    text = shorten(", ".join(f"{name}={cell}" for name, cell in shown.items()), MAX_ROW_TEXT)
    return QuarantinedRow(line, told, text, column, None if value is None else shorten(value))
