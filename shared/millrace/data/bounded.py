"""A table that may not have more rows than a function takes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import pyarrow as pa

from millrace.data.findings import Finding
from millrace.data.limits import Limits
from millrace.data.multi_file import MultiFileReader
from millrace.data.quarantine import Locate
from millrace.data.raw import RowBatch, TableReader, readings
from millrace.errors import PayloadTooLargeError


@dataclass(slots=True)
class BoundedReader:
    """Reads a table up to a number of rows; implements :class:`millrace.data.raw.TableReader`.

    Parameters
    ----------
    reader : TableReader or MultiFileReader
        The upload.
    limits : Limits
        What it may come to.
    """

    reader: TableReader | MultiFileReader
    limits: Limits
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = self.reader.names

    @property
    def description(self) -> dict[str, str]:
        """How the upload is written."""
        return self.reader.description

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was remarkable about reading it."""
        return self.reader.findings

    @property
    def locate(self) -> Locate | None:
        """What turns a line into a file and its line, when there are several files."""
        return self.reader.locate if isinstance(self.reader, MultiFileReader) else None

    def batches(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[RowBatch]:
        """Read the rows in order; see :class:`millrace.data.raw.TableReader`.

        Raises
        ------
        PayloadTooLargeError
            When there are more than the limits allow.
        """
        for read in self.readings(types):
            yield read()

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        """Cut the table into batches; see :class:`millrace.data.raw.ParallelReader`."""
        counter = _Counter(self.limits)
        for read in readings(self.reader, types):
            yield partial(counter.read, read)


@dataclass(slots=True)
class _Counter:
    """Counts the rows that were read, on whatever thread."""

    limits: Limits
    rows: int = 0
    lock: Lock = field(default_factory=Lock)

    def read(self, read: Callable[[], RowBatch]) -> RowBatch:
        batch, most = read(), self.limits.max_rows
        with self.lock:
            self.rows += len(batch) + len(batch.malformed)
            if self.rows > most:
                raise PayloadTooLargeError(self.limits.refusal(f"the upload has more than {most:,} rows"))
        return batch
