"""Read Parquet within bounds of memory, whatever its footer says.

A file of 565 bytes may decode to gigabytes: by a dictionary, by compression, by runs of one value. So the headers of
all pages are read first, dictionaries are kept until the bytes of the rows that use them are counted, and only as many
rows are decoded at once as their largest value allows.
"""

import re
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from millrace.data.content import MAX_RECORD_BYTES, Content
from millrace.data.findings import Finding
from millrace.data.json_lines import json_text
from millrace.data.raw import NullCounts, RowBatch, TableReader, build_strings, check_header
from millrace.data.typed_table import CATEGORY, TIMESTAMP
from millrace.errors import InvalidInputError, NoRowsError, PayloadTooLargeError

_VALUES_PER_BATCH = 2_000_000
_BATCH_BYTES = 32 << 20
_READ_BUFFER = 1 << 20
#: Bytes that one value may be decoded to at once, for encodings that repeat parts of the value before.
_DECODED_BYTES = 256 << 20
#: Values of nested columns in a row group; they are decoded together when one row has them all.
_NESTED_VALUES = 50_000_000
#: Part of the limit of bytes that the pages of a row group, one of each column, may take at once.
_PAGES_SHARE = 0.4
#: Names that pandas gives to the index of a table.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_DAMAGED = "the Parquet file is damaged or cut off: write and upload it again"


@dataclass(slots=True, weakref_slot=True)
class ParquetReader(TableReader):
    """Reader of a Parquet file; a damaged one is invalid input."""

    content: Content
    #: Strings that mean a missing value; a file of types has nulls, so by default only the empty one does.
    null_values: pa.Array
    #: Row groups to read, the last not included; None reads all. Of the others, not even the pages are looked at.
    groups: tuple[int, int] | None = None
    names: list[str] = field(init=False)
    description: dict[str, str] = field(init=False)
    findings: tuple[Finding, ...] = ()
    _file: pq.ParquetFile = field(init=False)
    _stored: list[str] = field(init=False)
    _rows_at_once: int = field(init=False)
    _chosen: range = field(init=False)
    _plain_names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        file = self._unpacked()
        weakref.finalize(self, file.close)
        try:
            path = self.content.source if isinstance(self.content.source, Path) else None
            source = file if path is None or self.content.compressed else path
            plain = pq.ParquetFile(source)
            self._stored = [name for name in plain.schema_arrow.names if not _PANDAS_INDEX.fullmatch(name)]
            self.names = [name.strip() for name in self._stored]
            kinds = [plain.schema_arrow.field(name).type for name in self._stored]
            self._plain_names = frozenset(
                name
                for name, kind in zip(self.names, kinds, strict=True)
                if pa.types.is_primitive(kind) or pa.types.is_decimal(kind)
            )
            check_header(self.names)
            self._chosen = range(*(self.groups or (0, plain.metadata.num_row_groups)))
            dictionaries = self._check_pages(file, plain)
            # Neither mapped nor buffered ahead: what counts as memory is what is being looked at.
            self._file = pq.ParquetFile(
                source, read_dictionary=dictionaries, memory_map=False, pre_buffer=False, buffer_size=_READ_BUFFER
            )
        except (pa.ArrowException, OSError, EOFError, RecursionError) as fault:
            raise InvalidInputError(_DAMAGED) from fault
        if not plain.metadata.num_rows:
            raise NoRowsError(f"the file has {len(self.names):,} columns but no rows: upload it again with its rows")
        self.description = {"format": "parquet"} | self.content.description

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        """Read the rows in order."""
        row, limits, unpacked = 0, self.content.limits, 0
        try:
            for part in self._file.iter_batches(self._rows_at_once, row_groups=list(self._chosen)):
                table = pa.Table.from_batches([part]).select(self._stored).rename_columns(self.names)
                sizes = sum((_value_sizes(column) for column in part.columns), np.zeros(len(part), dtype=np.int64))
                unpacked += int(sizes.sum())
                if unpacked > limits.max_bytes:
                    raise limits.too_large()
                if len(sizes) and sizes.max() > MAX_RECORD_BYTES:
                    place = row + int(sizes.argmax()) + 1
                    raise InvalidInputError(
                        f"row {place:,} holds more than {MAX_RECORD_BYTES >> 20} MB: shorten its values"
                    )
                for start, end in _cuts(sizes):
                    lines = np.arange(row + start + 1, row + end + 1, dtype=np.int64)
                    batch = self._batch(lines, table.slice(start, end - start), types or {})
                    yield lambda batch=batch: batch  # type: ignore[misc]  # binds this round's
                row += len(part)
        except (pa.ArrowException, OSError) as fault:
            raise InvalidInputError(_DAMAGED) from fault

    def _unpacked(self) -> IO[bytes]:
        if not self.content.compressed:
            return self.content.open_packed()
        # On disk: an archive may unpack to more than there is memory.
        file = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the reader
        for piece in self.content.pieces():
            file.write(piece)
        return file

    def _check_pages(self, opened: IO[bytes], file: pq.ParquetFile) -> list[str]:
        """Check sizes by the pages' headers, and set the rows to read at once; return the columns with dictionaries."""
        limits, metadata = self.content.limits, file.metadata
        if metadata.num_rows > limits.max_rows:
            raise PayloadTooLargeError(limits.refusal(f"the file has {metadata.num_rows:,} rows"))
        rows, unpacked = max(1, _VALUES_PER_BATCH // len(self.names)), 0
        dictionaries: dict[str, None] = {}
        for group in self._chosen:
            at_once = nested = 0
            for place in range(metadata.num_columns):
                column, chunk = file.schema.column(place), metadata.row_group(group).column(place)
                pages = _ChunkPages.read(opened, chunk)
                unpacked += pages.unpacked
                at_once += pages.largest + pages.dictionary
                nested += pages.values if column.max_repetition_level else 0
                if pages.dictionary and chunk.physical_type == "BYTE_ARRAY":
                    dictionaries[column.path] = None
                longest = column.length if column.length > 0 else pages.unpacked if pages.delta else 1
                rows = max(1, min(rows, _DECODED_BYTES // max(1, longest)))
                if column.max_repetition_level and pages.delta and pages.values * pages.unpacked > limits.max_bytes:
                    raise PayloadTooLargeError(
                        f"the nested column {column.path!r} is written as differences of values, which may unpack to "
                        "any size: leave it out, or write it with plain encoding"
                    )
            if unpacked > limits.max_bytes:
                raise limits.too_large()
            if at_once > _PAGES_SHARE * limits.max_bytes:
                message = (
                    f"the file has to be read {at_once / 1e6:,.0f} MB at a time: write smaller pages and row groups"
                )
                raise PayloadTooLargeError(message)
            if nested > _NESTED_VALUES:
                message = f"lists of the file hold {nested:,} values in a row group: leave these columns out"
                raise PayloadTooLargeError(message)
        self._rows_at_once = rows
        return list(dictionaries)

    def _batch(self, lines: npt.NDArray[np.int64], table: pa.Table, types: Mapping[str, pa.DataType]) -> RowBatch:
        def strings() -> pa.Table:
            columns = [_column_as_text(column) for column in table.columns]
            return build_strings(self.names, columns, self.null_values, counts)

        typed, counts = {}, NullCounts()
        types = {name: kind for name, kind in types.items() if name in self.names}
        for name, kind in types.items():
            column = _as_kind(table.column(name), kind)
            if column.type == kind:
                typed[name] = column
        complete = len(typed) == len(types) > 0
        return RowBatch(
            lines,
            strings,
            (),
            self.names,
            typed if complete else {},
            null_values=self.null_values,
            null_counts=counts,
            plain_names=self._plain_names,
            stored=table,
        )


def _as_kind(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as a type where that gives what its text would; else as it is."""
    stored = column.type
    if pa.types.is_dictionary(stored) and kind == pa.string():
        return column.cast(stored.value_type)
    if kind == pa.float64() and (pa.types.is_integer(stored) or stored == pa.float32()):
        # As the text of the number is read: an integer past 53 bits becomes the nearest float.
        return column.cast(kind, safe=False)
    if kind == CATEGORY and (pa.types.is_string(stored) or pa.types.is_boolean(stored)):
        return column.cast(pa.string()).dictionary_encode()
    if kind == TIMESTAMP and pa.types.is_timestamp(stored) and stored.unit in ("s", "ms", "us"):
        # Without a zone a time is one in UTC.
        return column.cast(pa.timestamp("us", stored.tz)).cast(kind)
    return column


def _cuts(sizes: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield where to cut rows into batches of bounded size."""
    parts = np.cumsum(sizes) // _BATCH_BYTES
    starts = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(sizes)]
    yield from pairwise(starts)


def _value_sizes(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return the bytes of each value of a column once dictionaries are resolved, and nested values written as text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        sizes = _value_sizes(column.dictionary)
        indices = column.indices
        missing = len(sizes)
        codes = pc.fill_null(indices, missing).to_numpy(zero_copy_only=False)
        return np.asarray(np.append(sizes, 0)[codes], dtype=np.int64)
    if pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        # Offsets go on where a list is null, and lists of a slice need not begin at zero.
        offsets = column.offsets.to_numpy(zero_copy_only=False)
        inner = [column.keys, column.items] if pa.types.is_map(kind) else [column.values]
        sizes = sum((_value_sizes(part) for part in inner), np.full(len(inner[0]), 1, dtype=np.int64))
        return np.asarray(np.diff(np.append(0, np.cumsum(sizes))[offsets]), dtype=np.int64)
    if pa.types.is_struct(kind):
        return sum((_value_sizes(part) for part in column.flatten()), np.full(len(column), 8, dtype=np.int64))
    if pa.types.is_fixed_size_binary(kind):
        return np.full(len(column), kind.byte_width, dtype=np.int64)
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        return np.asarray(pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    return np.full(len(column), 8, dtype=np.int64)


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


#: Encodings that repeat parts of the value before.
_DELTA_STRINGS = 7
_DICTIONARY_PAGE = 2


@dataclass(slots=True)
class _ChunkPages:
    """Sizes of the pages of a column chunk, by their own headers: the footer's may be wrong."""

    unpacked: int = 0  # bytes of all pages
    largest: int = 0  # bytes of the largest page of data
    dictionary: int = 0  # bytes of the dictionary
    values: int = 0
    delta: bool = False  # a page repeats parts of the value before

    @classmethod
    def read(cls, file: IO[bytes], chunk: pq.ColumnChunkMetaData) -> "_ChunkPages":
        pages = cls()
        start = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
            start = chunk.dictionary_page_offset
        file.seek(start)
        while pages.values < chunk.num_values and file.tell() < start + chunk.total_compressed_size:
            header = _read_struct(file)
            # Fields of PageHeader in parquet.thrift: type, sizes unpacked and packed, and one header of each kind.
            kind, unpacked, packed = (int(header.get(key, 0)) for key in (1, 2, 3))
            if kind == _DICTIONARY_PAGE:
                pages.dictionary += unpacked
            else:
                first, second = header.get(5, {}), header.get(8, {})  # of either version: values and encoding
                pages.values += max(0, int(first.get(1, 0)), int(second.get(1, 0)))
                pages.delta = pages.delta or _DELTA_STRINGS in (first.get(2), second.get(4))
                pages.largest = max(pages.largest, unpacked)
            pages.unpacked += unpacked
            if unpacked < 0 or packed < 0:
                raise InvalidInputError(_DAMAGED)
            file.seek(packed, 1)
        return pages


def _read_struct(file: IO[bytes]) -> dict[int, Any]:
    """Read a struct of Thrift's compact protocol: numbers and structs by field, anything else skipped."""
    fields: dict[int, Any] = {}
    number = 0
    while head := _read_byte(file):
        step = head >> 4
        number = number + step if step else _read_integer(file)
        fields[number] = _read_value(file, head & 0x0F)
    return fields


def _read_value(file: IO[bytes], kind: int) -> Any:
    if kind in (1, 2):  # a boolean, which is its own type
        return kind == 1
    if kind in (4, 5, 6):
        return _read_integer(file)
    if kind == 12:  # noqa: PLR2004  # struct
        return _read_struct(file)
    if kind in (9, 10):  # a list or a set
        head = _read_byte(file)
        size = head >> 4 if head >> 4 < 15 else _read_varint(file)  # noqa: PLR2004  # more follow as a number
        for _ in range(size):
            _read_value(file, head & 0x0F if head & 0x0F > 2 else 3)  # noqa: PLR2004  # a boolean takes a byte here
    elif kind in (3, 7, 8):  # a byte, a double, a string
        file.seek({3: 1, 7: 8}.get(kind) or _read_varint(file), 1)
    else:
        raise InvalidInputError(_DAMAGED)
    return None


def _read_integer(file: IO[bytes]) -> int:
    value = _read_varint(file)
    return (value >> 1) ^ -(value & 1)


def _read_varint(file: IO[bytes]) -> int:
    value = shift = 0
    while shift < 70:  # noqa: PLR2004  # ten bytes of seven bits
        byte = _read_byte(file)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004  # the last one
            return value
    raise InvalidInputError(_DAMAGED)


def _read_byte(file: IO[bytes]) -> int:
    byte = file.read(1)
    if not byte:
        raise EOFError
    return byte[0]
