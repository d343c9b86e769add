"""Parquet, row group by row group, every value as the text that a CSV would hold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.data.content import Content
from millrace.data.findings import Finding
from millrace.data.json_lines import json_text
from millrace.data.raw import RowBatch, build_cells, check_header
from millrace.errors import InvalidInputError, NoRowsError, PayloadTooLargeError

_CELLS_A_BATCH = 2_000_000
_READ_BUFFER = 1 << 20
_DAMAGED = "the Parquet file is damaged or cut off: write and upload it again"


@dataclass(slots=True)
class ParquetReader:
    """Reads a Parquet file batch by batch.

    Parameters
    ----------
    content : Content
        The file.

    Raises
    ------
    InvalidInputError
        When it is damaged, or has no rows.
    """

    content: Content
    names: list[str] = field(init=False)
    description: dict[str, str] = field(init=False)
    findings: tuple[Finding, ...] = ()
    _file: pq.ParquetFile = field(init=False)

    def __post_init__(self) -> None:
        source = self.content.source
        packed = isinstance(source, bytes) or self.content.compressed
        try:
            # Neither mapped nor buffered ahead: what counts as memory is what is being looked at.
            self._file = pq.ParquetFile(
                pa.BufferReader(self.content.read_all()) if packed else _path(source),
                memory_map=False,
                pre_buffer=False,
                buffer_size=_READ_BUFFER,
            )
            self.names = [name.strip() for name in self._file.schema_arrow.names]
        except (pa.ArrowException, OSError) as fault:
            raise InvalidInputError(_DAMAGED) from fault
        check_header(self.names)
        self._check_size()
        if not self._file.metadata.num_rows:
            raise NoRowsError(f"the file has {len(self.names):,} columns but no rows: upload it again with its rows")
        self.description = {"format": "parquet"} | self.content.description

    def batches(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[RowBatch]:
        """Read the rows in order; see :class:`millrace.data.raw.TableReader`."""
        line = 1
        try:
            for part in self._file.iter_batches(max(1, _CELLS_A_BATCH // len(self.names))):
                table = pa.Table.from_batches([part]).rename_columns(self.names)
                lines = np.arange(line, line + table.num_rows, dtype=np.int64)
                line += table.num_rows
                yield self._batch(lines, table, types or {})
        except (pa.ArrowException, OSError) as fault:
            raise InvalidInputError(_DAMAGED) from fault

    def _check_size(self) -> None:
        metadata = self._file.metadata
        unpacked = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
        if unpacked > self.content.max_bytes:
            raise PayloadTooLargeError(
                f"the file unpacks to {unpacked / 1e6:,.0f} MB; at most {self.content.max_bytes / 1e6:,.0f} MB are "
                "read: upload it as several datasets"
            )

    def _batch(self, lines: npt.NDArray[np.int64], table: pa.Table, types: Mapping[str, pa.DataType]) -> RowBatch:
        def cells() -> pa.Table:
            return build_cells(self.names, [_column_as_text(column) for column in table.columns])

        types = {name: kind for name, kind in types.items() if name in self.names}
        typed = {name: table.column(name) for name, kind in types.items() if table.column(name).type == kind}
        complete = len(typed) == len(types) > 0
        return RowBatch(lines, cells, (), self.names, typed if complete else {})


def _path(source: bytes | Path) -> Path:
    return source if isinstance(source, Path) else Path()


def _column_as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _column_as_text(column.cast(kind.value_type))
    if pa.types.is_floating(kind):
        # Arrow writes 2.0 as "2"; a column of floats must not look like one of integers.
        text = pc.replace_substring_regex(column.cast(pa.float64()).cast(pa.string()), r"^(-?\d+)$", r"\1.0")
        return pc.if_else(pc.is_nan(column), pa.scalar(None, pa.string()), text)
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.chunked_array([[json_text(value) for value in column.to_pylist()]], type=pa.string())
    return column.cast(pa.string())
