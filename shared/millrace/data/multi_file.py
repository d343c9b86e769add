"""Several files as one table: their rows in the order of the files' names.

While a table is checked, a line is one number for all files, :data:`LINES_A_FILE` for each file before its own; whoever
shows one asks :meth:`MultiFileReader.locate` which file it is in.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from millrace.data.findings import Finding, listed
from millrace.data.json_lines import JsonLinesReader
from millrace.data.raw import RowBatch, TableReader, check_header, readings
from millrace.data.reading import open_table
from millrace.errors import InvalidInputError, NoRowsError
from millrace.spec.data import ReadSpec

#: More lines than any file has.
LINES_A_FILE = 1 << 40


@dataclass(slots=True)
class MultiFileReader:
    """Reads several files as one; implements :class:`millrace.data.raw.TableReader`.

    Parameters
    ----------
    files : sequence of (str, Path)
        Names, in order, and where the files lie.
    read : ReadSpec
        How they are written, where it should not be found out.
    max_bytes : int
        That each may unpack to.

    Raises
    ------
    InvalidInputError
        When one of them is no table, or has other columns than the first; names the file.
    """

    files: Sequence[tuple[str, Path]]
    read: ReadSpec
    max_bytes: int
    names: list[str] = field(init=False)
    _readers: list[tuple[str, TableReader]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        for name, path in self.files:
            try:
                self._readers.append((name, open_table(path, name, self.read, self.max_bytes)))
            except NoRowsError:
                continue  # Spark writes an empty file for a partition without rows.
            except InvalidInputError as fault:
                raise InvalidInputError(f"{name}: {fault.message}") from fault
        if not self._readers:
            raise NoRowsError("every file of the folder is empty: upload files with a header and rows")
        self.names = self._agreed_names()
        check_header(self.names)

    def batches(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[RowBatch]:
        """Read the rows in order; see :class:`millrace.data.raw.TableReader`."""
        for read in self.readings(types):
            yield read()

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        """Cut the files into batches; see :class:`millrace.data.raw.ParallelReader`."""
        any_rows = False
        for position, (name, reader) in enumerate(self._readers):
            wanted = {key: kind for key, kind in (types or {}).items() if key in reader.names}
            try:
                for read in readings(reader, wanted):
                    any_rows = True
                    yield partial(self._read, position, name, read)
            except NoRowsError:
                continue
            except InvalidInputError as fault:
                raise InvalidInputError(f"{name}: {fault.message}") from fault
        if not any_rows:
            raise NoRowsError("every file of the folder is empty: upload files with a header and rows")

    def locate(self, line: int) -> tuple[str, int]:
        """Return the file that a line is in, and which of its lines it is."""
        return self._readers[line // LINES_A_FILE][0], line % LINES_A_FILE

    def _read(self, position: int, name: str, read: Callable[[], RowBatch]) -> RowBatch:
        try:
            return self._moved(read(), position * LINES_A_FILE)
        except InvalidInputError as fault:
            raise InvalidInputError(f"{name}: {fault.message}") from fault

    def _moved(self, batch: RowBatch, lines: int) -> RowBatch:
        """Count a batch's lines through all files, and give it every column."""
        return RowBatch(
            batch.lines + lines,
            lambda: self._aligned(batch.cells),
            tuple(replace(row, line=row.line + lines) for row in batch.malformed),
            self.names,
            batch.typed,
            batch.numbers,
            batch.missing,
            batch.nulls_known,
        )

    def _aligned(self, cells: pa.Table) -> pa.Table:
        gaps = pa.nulls(cells.num_rows, pa.string())
        return pa.table(
            [cells.column(name) if name in cells.column_names else gaps for name in self.names], names=self.names
        )

    def _agreed_names(self) -> list[str]:
        """Return the columns; JSON Lines may lack some in one file, as they may in one line."""
        first_name, first = self._readers[0]
        names = dict.fromkeys(first.names)
        for name, reader in self._readers[1:]:
            free = isinstance(reader, JsonLinesReader) and isinstance(first, JsonLinesReader)
            more = [column for column in reader.names if column not in names]
            less = [column for column in names if column not in reader.names]
            if free:
                names |= dict.fromkeys(more)
            elif more or less:
                told = "; ".join(
                    part
                    for part in (
                        f"{name!r} has {listed(more, 5)} beside" if more else "",
                        f"{name!r} lacks {listed(less, 5)}" if less else "",
                    )
                    if part
                )
                raise InvalidInputError(
                    f"the files have different columns: compared with {first_name!r}, {told}; write every file with "
                    "the same header"
                )
        return list(names)

    @property
    def description(self) -> dict[str, str]:
        """How the files are written, each way once."""
        described: dict[str, dict[str, None]] = {}
        for _, reader in self._readers:
            for key, value in reader.description.items():
                described.setdefault(key, {})[value] = None
        return {key: ", ".join(values) for key, values in described.items()} | {"files": str(len(self.files))}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was remarkable, naming the file where it is not so of all."""
        every = [set(reader.findings) for _, reader in self._readers]
        common = set.intersection(*every)
        told: dict[Finding, None] = dict.fromkeys(
            finding for finding in self._readers[0][1].findings if finding in common
        )
        for name, reader in self._readers:
            told |= dict.fromkeys(
                Finding(
                    found.severity, found.check, found.column, f"{name}: {found.message}", found.count, found.examples
                )
                for found in reader.findings
                if found not in common
            )
        return tuple(told)
