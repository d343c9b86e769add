"""Tables in memory: whole files as strings, columns inferred alone, Parquet as bytes."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from millrace.data.column_summary import ColumnSummary
from millrace.data.dataset import write_parquet
from millrace.data.dataset_documents import ValidationDocument
from millrace.data.findings import Finding
from millrace.data.infer import InferredColumn, infer_from_summary
from millrace.data.raw import QuarantinedRow, RowBatch, TableReader
from millrace.data.read import open_table
from millrace.data.typed_table import TypedTable
from millrace.data.uploads import Upload
from millrace.data.validation import ValidationResult
from millrace.entities import Source
from millrace.quantities import PLAIN, NumberStyle
from millrace.spec.data import ReadSpec


def read_all(reader: TableReader) -> "RawTable":
    """Read a whole file into memory."""
    batches = list(reader.batches())
    empty = pa.table({name: pa.array([], type=pa.string()) for name in reader.names})
    strings = pa.concat_tables([empty, *(batch.strings for batch in batches)])
    lines = np.concatenate([np.empty(0, dtype=np.int64), *(batch.lines for batch in batches)])
    malformed = tuple(row for batch in batches for row in batch.malformed)
    return RawTable(strings, lines, malformed, reader.description, reader.findings)


@dataclass(frozen=True, slots=True)
class RawTable:
    """A whole upload as strings.

    Parameters
    ----------
    strings : pyarrow.Table
        Trimmed; missing values are null.
    lines : int64 array of shape (n_rows,)
        Line of the file on which each row starts.
    malformed : tuple of QuarantinedRow
        Rows that do not parse.
    description : mapping of str to str
        Format, and where they apply encoding, delimiter and compression.
    findings : tuple of Finding, default=()
        On the file's format.
    """

    strings: pa.Table
    lines: npt.NDArray[np.int64]
    malformed: tuple[QuarantinedRow, ...]
    description: dict[str, str]
    findings: tuple[Finding, ...] = ()
    doubtful_numbers: frozenset[str] = frozenset()
    numbers: NumberStyle = PLAIN
    unnamed: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return int(self.strings.num_rows)

    @property
    def names(self) -> list[str]:
        """Column names, in the file's order."""
        return list(self.strings.column_names)

    def column(self, name: str) -> pa.Array:
        """Return one column as a single array."""
        return self.strings.column(name).combine_chunks()

    def batches(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[RowBatch]:  # text will do
        """Yield the whole table as one batch."""
        yield RowBatch(self.lines, lambda: self.strings, self.malformed, self.names)


def read_table(file: bytes | Path, file_name: str, read: ReadSpec | None = None) -> RawTable:
    """Read a whole file into memory; see :func:`open_table`."""
    return read_all(open_table(file, file_name, read))


def dump_parquet(table: TypedTable) -> bytes:
    """Return a typed table as Parquet."""
    buffer = io.BytesIO()
    write_parquet(table, buffer)
    return buffer.getvalue()


def summarise(strings: pa.Array, *, keep_values: bool = True) -> ColumnSummary:
    """Summarise a column that is in memory."""
    summary = ColumnSummary(keep_values)
    summary.add(strings)
    if summary.strings_needed(1.0):
        summary = ColumnSummary(keep_values, strings=True)
        summary.add(strings)
    return summary


def infer_column(name: str, strings: pa.Array, *, is_target: bool = False) -> InferredColumn:
    """Infer one column from its strings."""
    return infer_from_summary(name, summarise(strings), is_target=is_target)


def documented(result: ValidationResult) -> ValidationDocument:
    """Return ``validation.json`` of an upload named ``t.csv``."""
    source = Source("data", "t.csv", "1", datetime(2026, 5, 1, tzinfo=UTC))
    return result.document(source, Upload(), "run-1")
