"""Read JSON Lines and Parquet."""

import io
import json
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.data.content import Content, TextFile
from millrace.data.findings import Finding, shorten
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow, RowBatch, TableReader, build_strings, check_header
from millrace.errors import InvalidInputError, NoRowsError, PayloadTooLargeError
from millrace.schema import MAX_COLUMNS

_VALUES_PER_BATCH = 1_000_000
_MALFORMED_A_BATCH = 10_000
_LINES_BYTES = 4 << 20


@dataclass(slots=True)
class JsonLinesReader(TableReader):
    """Reader of JSON Lines, parsed once and spooled as compressed batches, a fifth of the file's size.

    The columns are the keys of all objects. A file without an object is invalid input.
    """

    text: TextFile
    null_values: pa.Array | None = None
    names: list[str] = field(init=False, default_factory=list)
    description: dict[str, str] = field(init=False)
    findings: tuple[Finding, ...] = field(init=False)
    _spool: "_Spool" = field(init=False)

    def __post_init__(self) -> None:
        self._spool = _Spool()
        names: dict[str, None] = {}
        rows = 0
        for batch in self._parse():
            names.update(dict.fromkeys(batch.strings.column_names))
            if len(names) > MAX_COLUMNS:
                check_header(list(names))
            rows += len(batch)
            self._spool.add(batch)
        if not rows:
            raise InvalidInputError("no line of the file is a JSON object: write one object a line")
        self.names = list(names)
        check_header(self.names)
        encoding = self.text.encoding
        self.description = {"format": "JSON Lines", "encoding": encoding.label} | self.text.content.description
        self.findings = encoding.findings()

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:  # noqa: ARG002  # text will do
        """Read the rows in order."""
        for lines, strings, malformed in self._spool:
            gaps = pa.nulls(len(lines), pa.string())
            columns = [strings.column(name) if name in strings.column_names else gaps for name in self.names]
            table = pa.table(columns, names=self.names)
            batch = RowBatch(lines, lambda table=table: table, malformed, self.names)  # type: ignore[misc]  # binds this round's
            yield lambda batch=batch: batch  # type: ignore[misc]

    def _parse(self) -> Iterator[RowBatch]:
        collected = _Records(self.null_values)
        for number, text in enumerate(self._lines(), start=1):
            if text.strip():
                collected.add(number, text)
            if collected.full:
                yield collected.batch()
                collected = _Records(self.null_values)
        if collected.lines or collected.malformed:
            yield collected.batch()

    def _lines(self) -> Iterator[str]:
        with self.text.open() as stream:
            rest = b""
            while piece := stream.read(_LINES_BYTES):
                *whole, rest = (rest + piece).split(b"\n")
                for line in whole:
                    yield line.decode("utf-8", "surrogateescape")
            if rest:
                yield rest.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class _Records:
    """Objects of some lines, by key."""

    null_values: pa.Array | None
    columns: dict[str, list[str | None]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    malformed: list[QuarantinedRow] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.lines) * len(self.columns) >= _VALUES_PER_BATCH or len(self.malformed) >= _MALFORMED_A_BATCH

    def add(self, number: int, text: str) -> None:
        try:
            record = _json_record(text)
        except (ValueError, RecursionError) as fault:
            readable = text.encode("utf-8", "replace").decode().rstrip("\r\n")
            reason = f"not a JSON object: {fault}"
            self.malformed.append(QuarantinedRow(number, reason, shorten(readable, MAX_ROW_TEXT)))
            return
        for name in record:
            self.columns.setdefault(name, [None] * len(self.lines))
        if len(self.columns) > MAX_COLUMNS:
            check_header(list(self.columns))
        for name, values in self.columns.items():
            values.append(record.get(name))
        self.lines.append(number)

    def batch(self) -> RowBatch:
        columns = [pa.chunked_array([values], type=pa.string()) for values in self.columns.values()]
        strings = build_strings(list(self.columns), columns, self.null_values)
        return RowBatch(
            np.array(self.lines, dtype=np.int64), lambda: strings, tuple(self.malformed), list(self.columns)
        )


@dataclass(slots=True, weakref_slot=True)
class _Spool:
    """Compressed batches, each with its own columns, in a temporary file."""

    file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    parts: list[tuple[int, int, npt.NDArray[np.int64]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)

    def add(self, batch: RowBatch) -> None:
        start = self.file.seek(0, io.SEEK_END)
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        buffer = io.BytesIO()
        with pa.ipc.new_stream(buffer, batch.strings.schema, options=options) as writer:
            writer.write_table(batch.strings)
        self.file.write(buffer.getvalue())
        malformed = json.dumps([row.to_dict() for row in batch.malformed]).encode()
        self.file.write(malformed)
        self.parts.append((start, len(malformed), batch.lines))

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table, tuple[QuarantinedRow, ...]]]:
        ends = [start for start, _, _ in self.parts[1:]] + [self.file.seek(0, io.SEEK_END)]
        for (start, tail, lines), end in zip(self.parts, ends, strict=True):
            self.file.seek(start)
            body = self.file.read(end - start)
            rows = json.loads(body[len(body) - tail :])
            strings = pa.ipc.open_stream(pa.py_buffer(body).slice(0, len(body) - tail)).read_all()
            yield lines, strings, tuple(QuarantinedRow(**row) for row in rows)


def _json_record(text: str) -> dict[str, str | None]:
    text.encode("utf-8")  # a lone surrogate stands for bytes that were not valid
    record = json.loads(text, object_pairs_hook=_unique_pairs)
    if not isinstance(record, dict):
        raise ValueError(f"found {type(record).__name__}")  # noqa: TRY004  # like every other fault of the text
    for name in record:
        name.encode("utf-8")
    return {name: json_text(value) for name, value in record.items()}


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key is repeated")
    return record


def json_text(value: Any) -> str | None:
    """Return a JSON value as a string; None for null."""
    if value is None:
        return None
    if isinstance(value, str):
        value.encode("utf-8")
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=str)


_PARQUET_VALUES_PER_BATCH = 2_000_000
_READ_BUFFER = 1 << 20
_DAMAGED = "the Parquet file is damaged or cut off: write and upload it again"


@dataclass(slots=True)
class ParquetReader(TableReader):
    """Reader of a Parquet file; a damaged one is invalid input."""

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

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        """Read the rows in order."""
        line = 1
        try:
            for part in self._file.iter_batches(max(1, _PARQUET_VALUES_PER_BATCH // len(self.names))):
                table = pa.Table.from_batches([part]).rename_columns(self.names)
                lines = np.arange(line, line + table.num_rows, dtype=np.int64)
                line += table.num_rows
                batch = self._batch(lines, table, types or {})
                yield lambda batch=batch: batch  # type: ignore[misc]  # binds this round's
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
        def strings() -> pa.Table:
            return build_strings(self.names, [_column_as_text(column) for column in table.columns])

        types = {name: kind for name, kind in types.items() if name in self.names}
        typed = {name: table.column(name) for name, kind in types.items() if table.column(name).type == kind}
        complete = len(typed) == len(types) > 0
        return RowBatch(lines, strings, (), self.names, typed if complete else {})


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
