"""Rows that were set aside: by column and, where they are many, on disk; objects only while somebody looks at them.

A million such rows as objects would need a gigabyte.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import MAX_EXAMPLE_LENGTH
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow

MASK = "***"

#: Arrow's bytes that are held before they go to disk.
SPILL_BYTES = 16 << 20
#: Rows that become objects at a time.
_ROWS_AT_ONCE = 10_000

#: What a row is set aside for; of the first two, too many speak against the column rather than its rows.
Kind = Literal["type", "class", "target", "rule", "repeat", "malformed"]
#: A kind of fault, and the column that has it.
Blame = tuple[Kind, str | None]

_SCHEMA = pa.schema([(name, pa.string()) for name in ("kind", "column", "reason", "value", "text")]).insert(
    0, pa.field("line", pa.int64())
)
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


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
        schema=_SCHEMA,
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
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, _SCHEMA.types, strict=True)], _SCHEMA)


@dataclass(slots=True)
class AsideStore:
    """Takes in rows that were set aside.

    Parameters
    ----------
    path : Path or None, default=None
        Where they may be written; None keeps all of them in memory.
    """

    path: Path | None = None
    counts: Counter[Blame] = field(default_factory=Counter)
    _memory: list[pa.Table] = field(default_factory=list)
    _spilled: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return self.counts.total()

    def append(self, rows: pa.Table) -> None:
        """Take in some more rows."""
        groups = rows.group_by(["kind", "column"], use_threads=False).aggregate([([], "count_all")]).to_pylist()
        self.counts.update({(group["kind"], group["column"]): group["count_all"] for group in groups})
        self._memory.append(rows)
        if self.path is not None and sum(table.nbytes for table in self._memory) > SPILL_BYTES:
            self._spill(self.path)

    def rows(self, without: set[Blame]) -> "AsideRows":
        """Return the rows by line, leaving out those for which a whole column is to blame."""
        length = sum(count for blame, count in self.counts.items() if blame not in without)
        return AsideRows(length, frozenset(without), self.path, tuple(self._spilled), tuple(self._memory))

    def _spill(self, path: Path) -> None:
        with path.open("ab") as file:
            start = file.tell()
            with pa.ipc.new_stream(file, _SCHEMA, options=_COMPRESSED) as writer:
                writer.write_table(_by_line(self._memory), _ROWS_AT_ONCE)
            self._spilled.append((start, file.tell() - start))
        self._memory.clear()


@dataclass(frozen=True, slots=True)
class AsideRows(Sequence[QuarantinedRow]):
    """Rows that were set aside, read each time they are looked at; those at the beginning are quickest."""

    length: int
    without: frozenset[Blame] = frozenset()
    path: Path | None = None
    spilled: tuple[tuple[int, int], ...] = ()
    memory: tuple[pa.Table, ...] = ()

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[QuarantinedRow]:
        for start, size in self.spilled if self.path else ():
            yield from self._of_part(start, size)
        table = _by_line(self.memory)
        for start in range(0, table.num_rows, _ROWS_AT_ONCE):
            yield from self._objects(table.slice(start, _ROWS_AT_ONCE))

    @overload
    def __getitem__(self, index: int) -> QuarantinedRow: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[QuarantinedRow, ...]: ...

    def __getitem__(self, index: int | slice) -> QuarantinedRow | tuple[QuarantinedRow, ...]:
        """Return a row, or some."""
        if isinstance(index, slice):
            start, stop, step = index.indices(self.length)
            return tuple(islice(self, start, stop, step)) if step > 0 else tuple(self)[index]
        return next(islice(self, range(self.length)[index], None))

    def _of_part(self, start: int, size: int) -> Iterator[QuarantinedRow]:
        assert self.path is not None  # noqa: S101  # there are no parts without it
        with self.path.open("rb") as file:
            file.seek(start)
            body = file.read(size)
        with pa.ipc.open_stream(body) as reader:
            for batch in reader:
                yield from self._objects(pa.Table.from_batches([batch]))

    def _objects(self, table: pa.Table) -> Iterator[QuarantinedRow]:
        columns = (table.column(name).to_pylist() for name in _SCHEMA.names)
        for line, kind, column, reason, value, text in zip(*columns, strict=True):
            if (kind, column) not in self.without:
                told = reason if value is None or kind == "repeat" else f"{reason}, not {value!r}"
                yield QuarantinedRow(line, told, text, column, value)


def _by_line(tables: Sequence[pa.Table]) -> pa.Table:
    whole = pa.concat_tables([_SCHEMA.empty_table(), *tables])
    lines = whole.column("line").to_numpy()
    return whole if np.all(lines[1:] > lines[:-1]) else whole.take(pa.array(np.argsort(lines, kind="stable")))


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
