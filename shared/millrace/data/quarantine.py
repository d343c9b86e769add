"""Quarantine rejected rows: in memory while they are few, on disk past that, as objects only when they are read."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import MAX_EXAMPLE_LENGTH
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow
from millrace.schema import MASK

#: Kinds of failures; too many of the first two reject the column rather than its rows.
Kind = Literal["type", "class", "target", "rule", "repeat", "malformed"]
#: The columns of such a table.
QUARANTINE_SCHEMA = pa.schema(
    [("line", pa.int64()), *((name, pa.string()) for name in ("kind", "column", "reason", "value", "text"))]
)


@dataclass(frozen=True, slots=True)
class RejectReason:
    """Reason for the rejection of rows: a sentence, which the value completes."""

    kind: Kind
    column: str | None
    reason: str


def quarantine_rows(
    lines: npt.NDArray[np.int64],
    faults: Sequence[RejectReason],
    found: npt.NDArray[np.int64],
    strings: pa.Table,
    masked: frozenset[str],
) -> pa.Table:
    """Build the quarantine table of rejected rows; ``found`` indexes each row's reason among the faults."""
    values = np.full(len(lines), None, dtype=object)
    columns = [fault.column for fault in faults]
    for column in dict.fromkeys(columns):
        if column is not None and column in strings.column_names:
            rows = np.flatnonzero(np.array([name == column for name in columns])[found])
            values[rows] = _masked(strings, column, masked).take(pa.array(rows)).to_numpy()
    of_rows = pa.array(found)
    return pa.table(
        [
            pa.array(lines),
            *(
                pa.array([getattr(fault, name) for fault in faults], pa.string()).take(of_rows)
                for name in ("kind", "column", "reason")
            ),
            _shortened(pa.array(values, pa.string()), MAX_EXAMPLE_LENGTH),
            _row_texts(strings, masked),
        ],
        schema=QUARANTINE_SCHEMA,
    )


def quarantine_malformed(rows: Sequence[QuarantinedRow], *, masked: bool) -> pa.Table:
    """Build the quarantine table of rows that do not parse; where a column is masked, their text is too."""
    columns: list[list[Any]] = [
        [row.line for row in rows],
        ["malformed"] * len(rows),
        [row.column for row in rows],
        [row.reason for row in rows],
        [row.value for row in rows],
        [MASK if masked else row.text for row in rows],
    ]
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, QUARANTINE_SCHEMA.types, strict=True)],
        QUARANTINE_SCHEMA,
    )


def to_quarantined_row(row: Mapping[str, Any]) -> QuarantinedRow:
    """Return a row of a quarantine table as an object; the reason of a repeat does not quote the value."""
    reason, value = row["reason"], row["value"]
    sentence = reason if value is None or row["kind"] == "repeat" else f"{reason}, not {value!r}"
    return QuarantinedRow(row["line"], sentence, row["text"], row["column"], value)


def _row_texts(strings: pa.Table, masked: frozenset[str]) -> pa.Array:
    """Write rows as ``name=value``, without missing values."""
    # Arrow, told to skip missing parts, leaves out rows that have no other.
    parts = [
        pc.fill_null(pc.binary_join_element_wise(f"{name}=", _masked(strings, name, masked), ", ", ""), "")
        for name in strings.column_names
    ]
    joined = pc.binary_join_element_wise(*parts, "")
    return _shortened(pc.utf8_slice_codeunits(joined, 0, -2), MAX_ROW_TEXT)


def _masked(strings: pa.Table, name: str, masked: frozenset[str]) -> pa.ChunkedArray:
    column = strings.column(name)
    return pc.if_else(pc.is_valid(column), MASK, pa.scalar(None, pa.string())) if name in masked else column


def _shortened(texts: pa.Array, length: int) -> pa.Array:
    """Shorten as :func:`millrace.data.findings.shorten` does."""
    too_long = pc.greater(pc.utf8_length(texts), length)
    if not pc.any(too_long).as_py():
        return texts
    return pc.if_else(
        too_long, pc.binary_join_element_wise(pc.utf8_slice_codeunits(texts, 0, length - 3), "...", ""), texts
    )


#: Rows of one upload that are kept with their reasons; an upload with more at fault is rejected.
MAX_QUARANTINED = 1_000_000


def too_many_quarantined() -> str:
    """Return the message on an upload with more invalid rows than are kept."""
    return f"more than {MAX_QUARANTINED:,} rows are invalid: fix the file, or upload it in parts"


#: Arrow's bytes of these that are held in memory.
SPILL_BYTES = 8 << 20
#: Rows that are read at once.
_ROWS_AT_ONCE = 10_000
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")

#: Kind of a failure, and its column.
ReasonKey = tuple[Kind, str | None]
#: Turns a line, counted through all files of an upload, into a file and its line.
Locate = Callable[[int], tuple[str, int]]


@dataclass(slots=True)
class Quarantine:
    """Rejected rows of an upload; many of them go to the folder."""

    folder: Path | None = None
    locate: Locate | None = None
    too_many: bool = False
    _runs: list["_SortedRows"] = field(init=False)

    def __post_init__(self) -> None:
        self._runs = [self._new_rows(0)]

    def rows(self, without: set[ReasonKey]) -> Sequence[QuarantinedRow]:
        """Return them by line, without those whose reason rejects a whole column."""
        return KeptRows(tuple(self._runs), frozenset(without), self.locate)

    def add_batch(self, quarantined: Sequence[pa.Table]) -> None:
        """Add the rows of a batch."""
        if quarantined:
            self._add(self._runs[0], _by_line(pa.concat_tables(quarantined)))

    def add_sorted(self, quarantined: Iterable[pa.Table]) -> None:
        """Add rows of the whole upload, by line, that were rejected after all batches."""
        run = self._new_rows(len(self._runs))
        self._runs.append(run)
        for rows in quarantined:
            self._add(run, rows)

    def place(self, line: int) -> str:
        """Return the file and line of a line, for a sentence."""
        file, line = self.locate(line) if self.locate else (None, line)
        return QuarantinedRow(line, "", "", file=file).place

    def _add(self, run: "_SortedRows", rows: pa.Table) -> None:
        room = MAX_QUARANTINED - sum(len(other) for other in self._runs)
        self.too_many = self.too_many or rows.num_rows > room
        run.extend(rows.slice(0, room))

    def _new_rows(self, number: int) -> "_SortedRows":
        return _SortedRows(self.folder / f"quarantine-{number}.arrows" if self.folder else None)


@dataclass(slots=True)
class _SortedRows:
    """Rows by line: in memory while they are few, in a file of Arrow streams past that."""

    path: Path | None
    counts: Counter[ReasonKey] = field(default_factory=Counter)
    _memory: list[pa.Table] = field(default_factory=list)
    _bytes: int = 0
    _spilled: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.counts.total()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for table in self._tables():
            yield from table.to_pylist()

    def extend(self, rows: pa.Table) -> None:
        groups = rows.group_by(["kind", "column"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
        self.counts.update({(group["kind"], group["column"]): group["count_all"] for group in groups})
        self._memory.append(rows)
        self._bytes += rows.nbytes
        if self.path is not None and self._bytes > SPILL_BYTES:
            self._spill(self.path)

    def _spill(self, path: Path) -> None:
        with path.open("ab") as file:
            start = file.tell()
            with pa.ipc.new_stream(file, QUARANTINE_SCHEMA, options=_COMPRESSED) as writer:
                for table in self._memory:
                    writer.write_table(table, _ROWS_AT_ONCE)
            self._spilled.append(file.tell() - start)
        self._memory.clear()
        self._bytes = 0

    def _tables(self) -> Iterator[pa.Table]:
        if self.path is not None and self._spilled:
            with self.path.open("rb") as file:
                for size in self._spilled:
                    with pa.ipc.open_stream(file.read(size)) as reader:
                        for batch in reader:
                            yield pa.Table.from_batches([batch])
        for table in self._memory:
            for start in range(0, table.num_rows, _ROWS_AT_ONCE):
                yield table.slice(start, _ROWS_AT_ONCE)


@dataclass(frozen=True, slots=True)
class KeptRows(Sequence[QuarantinedRow]):
    """Quarantined rows by line, made into objects each time they are read."""

    runs: tuple[_SortedRows, ...]
    without: frozenset[ReasonKey]
    locate: Locate | None

    def __len__(self) -> int:
        return sum(count for run in self.runs for reason, count in run.counts.items() if reason not in self.without)

    def __iter__(self) -> Iterator[QuarantinedRow]:
        for row in heapq.merge(*self.runs, key=itemgetter("line")):
            if (row["kind"], row["column"]) not in self.without:
                yield self._located(to_quarantined_row(row))

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


def _by_line(rows: pa.Table) -> pa.Table:
    lines = rows.column("line").to_numpy()
    return rows if np.all(lines[1:] > lines[:-1]) else rows.take(pa.array(np.argsort(lines, kind="stable")))
