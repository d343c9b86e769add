"""Tables of strings as they were read, batch by batch, with the line of every row."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import Finding, listed, shorten
from millrace.errors import FieldError, InvalidInputError
from millrace.quantities import PLAIN, NumberStyle
from millrace.schema import MAX_COLUMNS, NULL_STRINGS
from millrace.spec.data import ReadSpec

#: Characters of a malformed row that are kept.
MAX_ROW_TEXT = 1_000

_FIRST_MARK, _LAST_MARK = ord("!"), ord("~")
_NULL_VALUES = pa.array(sorted(NULL_STRINGS))


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A rejected row: the line on which it starts, from 1 (for Parquet the row), and its text, shortened."""

    line: int
    reason: str
    text: str
    column: str | None = None
    value: str | None = None
    file: str | None = None

    @property
    def place(self) -> str:
        """Line and file, for a sentence."""
        return f"line {self.line:,}" + (f" of {self.file}" if self.file else "")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        document = asdict(self)
        file = document.pop("file")
        return {"file": file, **document} if file else document


#: Counts of strings, by column.
NullCounts = dict[str, Counter[str]]


@dataclass(slots=True)
class RowBatch:
    """Some rows of an upload, with the line on which each starts.

    ``load_strings`` returns the rows as strings, trimmed, missing ones null; it is called only when they are needed.
    ``typed`` has the columns that were read as the type requested. ``null_values`` None stands for
    :data:`millrace.schema.NULL_STRINGS`; with ``nulls_known`` these are null in the typed columns already, except where
    blanks surround them. ``numbers`` is the file's notation, ``plain_names`` the columns with surely plain ones.
    """

    lines: npt.NDArray[np.int64]
    load_strings: Callable[[], pa.Table]
    malformed: tuple[QuarantinedRow, ...]
    names: Sequence[str]
    typed: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)
    numbers: NumberStyle = PLAIN
    plain_names: frozenset[str] = frozenset()
    null_values: pa.Array | None = None
    nulls_known: bool = False
    #: Counts of the strings, by column, that were taken for missing values; known once the strings were loaded.
    null_counts: NullCounts = field(default_factory=dict)
    #: The rows as the file has them, where it has types.
    stored: pa.Table | None = None
    _strings: pa.Table | None = None
    _lock: Lock = field(default_factory=Lock)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def strings(self) -> pa.Table:
        """The rows as strings."""
        with self._lock:
            if self._strings is None:
                self._strings = self.load_strings()
            return self._strings

    def column(self, name: str) -> pa.Array:
        """Return one column as a single array of strings."""
        return one_array(self.strings.column(name))

    def rows(self, positions: Sequence[int]) -> list[dict[str, str | None]]:
        """Return a few rows by column name."""
        rows: list[dict[str, str | None]] = self.strings.take(pa.array(positions, type=pa.int64())).to_pylist()
        return rows


class TableReader(ABC):
    """A file that is read batch by batch, any number of times."""

    __slots__ = ()
    names: list[str]

    @property
    def description(self) -> dict[str, str]:
        """Format, and where they apply encoding, delimiter and compression; complete once the rows were read."""
        return {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings on the file's format; complete once the rows were read."""
        return ()

    @property
    def numbers(self) -> NumberStyle:
        """Notation of numbers."""
        return PLAIN

    @property
    def plain_names(self) -> frozenset[str]:
        """Columns whose numbers are surely plain."""
        return frozenset()

    @property
    def unnamed(self) -> frozenset[str]:
        """Columns that have neither a name nor a value in the file."""
        return frozenset()

    @property
    def doubtful_numbers(self) -> frozenset[str]:
        """Columns whose numbers are fractions, or a thousand times as much."""
        return frozenset()

    @abstractmethod
    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        """Yield, in the rows' order, calls that read one batch each; they may run concurrently.

        Columns come as the types requested, or as strings where a value has another type.
        """

    def batches(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[RowBatch]:
        """Read the rows in order."""
        for read in self.readings(types):
            yield read()


def with_every_column(batch: RowBatch, names: Sequence[str]) -> RowBatch:
    """Return a batch with every column; those that it lacks are missing throughout."""

    def strings() -> pa.Table:
        gaps = pa.nulls(len(batch), pa.string())
        present = batch.strings.column_names
        return pa.table([batch.strings.column(name) if name in present else gaps for name in names], names=list(names))

    return replace(batch, load_strings=strings, names=names, _strings=None, _lock=Lock())


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as a single array, without copying one that is."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def build_strings(
    names: Sequence[str],
    columns: Sequence[pa.ChunkedArray],
    null_values: pa.Array | None = None,
    counts: NullCounts | None = None,
) -> pa.Table:
    """Return a table of trimmed strings, with nulls for missing values, which are counted."""
    found: list[Counter[str]] = [Counter() for _ in names]
    strings = [normalise(column, null_values, found[place]) for place, column in enumerate(columns)]
    if counts is not None:
        counts.update(zip(names, found, strict=True))
    return pa.table(strings, names=list(names))


def check_header(names: Sequence[str]) -> None:
    """Reject a header that cannot name a table's columns; the error names every empty and repeated name."""
    if len(names) > MAX_COLUMNS:
        raise InvalidInputError(
            f"the table has {len(names):,} columns; at most {MAX_COLUMNS:,} are allowed: leave out what cannot help"
        )
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


def null_values_of(read: ReadSpec) -> pa.Array | None:
    """Return the spec's strings for a missing value, and the empty string; None without any."""
    if read.null_values is None:
        return None
    return pa.array(sorted({"", *read.null_values}), type=pa.string())


def normalise(
    column: pa.ChunkedArray,
    null_values: pa.Array | None = None,
    counts: Counter[str] | None = None,
    *,
    nulls_known: bool = False,
) -> pa.ChunkedArray:
    """Trim strings and make missing values null, counting those; ``nulls_known``: those without blanks are null."""
    text = column if pa.types.is_string(column.type) else column.cast(pa.string())
    trimmed = pc.utf8_trim_whitespace(text) if any(_may_have_blanks(chunk) for chunk in text.chunks) else text
    if nulls_known and trimmed is text:
        return text
    gaps = pc.is_in(trimmed, value_set=_NULL_VALUES if null_values is None else null_values)
    if not pc.any(gaps).as_py():
        return trimmed
    if counts is not None:
        taken = pc.value_counts(trimmed.filter(gaps)).to_pylist()
        counts.update({pair["values"]: pair["counts"] for pair in taken if pair["values"]})
    return pc.if_else(gaps, pa.scalar(None, pa.string()), trimmed)


def _may_have_blanks(strings: pa.StringArray) -> bool:
    """Return whether a string may begin or end with a blank: no character between ``!`` and ``~`` is one."""
    _, offsets, letters = strings.buffers()
    if letters is None or not len(strings):
        return False
    ends = np.frombuffer(offsets, dtype=np.int32)[strings.offset : strings.offset + len(strings) + 1]
    edges = np.frombuffer(letters, dtype=np.uint8)
    every = edges[ends[0] : ends[-1]]
    # Most columns have no blank at all, which is told fifty letters at a time.
    if not len(every) or (every.min() >= _FIRST_MARK and every.max() <= _LAST_MARK):
        return False
    first, last = ends[:-1], ends[1:]
    filled = last > first
    if not filled.all():
        first, last = first[filled], last[filled]
    return bool(_is_blank(edges.take(first)).any() or _is_blank(edges.take(last - 1)).any())


def _is_blank(edges: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    # A byte less than "!" wraps round to a large one.
    return edges - np.uint8(_FIRST_MARK) > np.uint8(_LAST_MARK - _FIRST_MARK)
