"""Cut files into ranges of whole records, and read a range as the whole file would be read.

A line break ends a record of delimited text if the number of quotes before it is even; a doubled quote inside a value
counts twice, so that this is exact (RFC 4180). One pass finds the record ends next to each target and counts the
records, with the memory of one block. It is exact as long as quotes are regular, which is checked on the way: a file
with stray quotes (``5" pipe``), with other line ends or in another encoding than UTF-8 is not cut, because a range of
it could be read differently from the whole.
"""

import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from millrace.data.blocks import RecordScan, has_plain_lines, is_utf8
from millrace.data.content import DEFAULT_LIMITS, GZIP_MAGIC, MAX_RECORD_BYTES, UTF_8, Content, TextFile, UploadLimits
from millrace.data.delimited import DelimitedFormat, DelimitedReader
from millrace.data.json_lines import JsonLinesReader
from millrace.data.parquet import ParquetReader
from millrace.data.raw import TableReader, null_values_of
from millrace.data.read import FILLED, open_table, recognise
from millrace.documents import from_plain
from millrace.errors import InvalidInputError, NoRowsError
from millrace.schema import FileFormat
from millrace.spec.data import ReadSpec

#: Bytes at the beginning of a file by which it is recognised: those that its reader looks at, and a line more.
HEAD_BYTES = 3 << 19

_DAMAGED_ARCHIVE = "the gzip file is damaged or cut off: upload it again"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"(?:(?<=\n)|\A)[ \t\r\v\f]*\n")
#: Any character up to the blank, which begins no object.
_LAST_BLANK = 32


@dataclass(frozen=True, slots=True)
class FileHead:
    """The beginning of a file: enough to know how the rest is read."""

    format: FileFormat
    names: tuple[str, ...]  # columns; of JSON Lines those at the beginning, of gzipped Parquet none
    compressed: bool = False
    ratio: float = 1.0  # unpacked bytes for each packed one
    delimited: DelimitedFormat | None = None  # of delimited text
    start: int = 0  # bytes before the first record
    is_utf8: bool = True


def read_head(head: bytes, size: int, file_name: str, read: ReadSpec) -> FileHead:
    """Recognise a file by its first :data:`HEAD_BYTES`; raises ``InvalidInputError`` when it is no table."""
    name, compressed, ratio, rest = file_name.lower(), head.startswith(GZIP_MAGIC), 1.0, size > len(head)
    if compressed:
        name = name.removesuffix(".gz")
        head, ratio, rest = _unpack(head, more=rest)
    if not FILLED.search(head):
        raise NoRowsError("the file is empty: upload it again with a header and rows")
    form = recognise(head, name)
    if form == "parquet":
        return FileHead(form, (), compressed, ratio)
    # A line that is cut off looks like a record of another width, and a character that is cut off like no text.
    head = head[: head.rfind(b"\n") + 1 or len(head)] if rest else head
    content = Content(head, DEFAULT_LIMITS)
    if form == "json_lines":
        opened = open_table(head, name, read)
        encoding = TextFile(content, read.encoding).encoding
        return FileHead(form, tuple(opened.names), compressed, ratio, None, _mark_bytes(head), encoding.is_utf8)
    text = TextFile(content, read.encoding)
    reader = DelimitedReader(text, read.delimiter, read)
    start = reader.form.header_bytes + _mark_bytes(head)
    plain = text.encoding.is_utf8 and not text.encoding.mixed
    return FileHead(form, tuple(reader.names), compressed, ratio, reader.form, start, plain)


def _mark_bytes(head: bytes) -> int:
    return len(_BYTE_ORDER_MARK) if head.startswith(_BYTE_ORDER_MARK) else 0


def _unpack(head: bytes, *, more: bool) -> tuple[bytes, float, bool]:
    """Return the first bytes of an archive, unpacked; the ratio of sizes; and whether there are more."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(head, HEAD_BYTES)
    except zlib.error as fault:
        raise InvalidInputError(_DAMAGED_ARCHIVE) from fault
    left = len(unpacker.unconsumed_tail) + len(unpacker.unused_data)
    if not more and not left and not unpacker.eof:
        raise InvalidInputError(_DAMAGED_ARCHIVE)
    return unpacked, len(unpacked) / max(1, len(head) - left), bool(left) or more


@dataclass(frozen=True, slots=True)
class FileRange:
    """Whole records of a file: bytes, and their number; of Parquet also its row groups, the last not included."""

    start: int
    end: int
    rows: int
    groups: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class CutFile:
    """Ranges of a file in order, or the reason why it cannot be cut; ``regular`` when each line is a record.

    One that is not complete has ranges up to a position from which it can be cut on.
    """

    ranges: tuple[FileRange, ...] = ()
    reason: str = ""
    regular: bool = False
    is_complete: bool = True


def cut_text(
    pieces: Iterable[bytes],
    head: FileHead,
    target: int,
    *,
    before: CutFile | None = None,
    is_late: Callable[[], bool] = lambda: False,
) -> CutFile:
    """Cut text, given piece by piece from ``head.start`` on, into ranges of at least ``target`` bytes.

    Records are cut where pieces end, so a range is up to a piece longer. When it ``is_late`` after a range, the result
    is not complete; with it as ``before``, and pieces from its last range on, the file is cut on.
    """
    delimiter = head.delimited.delimiter if head.delimited is not None else None
    ranges = list(before.ranges) if before else []
    begin = position = ranges[-1].end if ranges else head.start
    rows, regular = 0, before.regular if before else True
    for size, found, lines in _count_whole(pieces, delimiter):
        if isinstance(found, str):
            return CutFile(reason=found)
        rows += found
        regular = regular and found == lines
        position += size
        if position - begin >= target:
            ranges.append(FileRange(begin, position, rows))
            begin, rows = position, 0
            if is_late():
                return CutFile(tuple(ranges), regular=regular, is_complete=False)
    if position > begin:
        ranges.append(FileRange(begin, position, rows))
    return CutFile(tuple(ranges), regular=regular)


def _count_whole(pieces: Iterable[bytes], delimiter: str | None) -> Iterator[tuple[int, int | str, int]]:
    """Yield bytes of whole records, the number of records or the reason why they cannot be cut off, and of lines."""
    rest = b""
    for piece in chain(pieces, [None]):
        if piece is None:
            if rest:
                last = rest + b"\n"
                yield (
                    len(rest),
                    _count(RecordScan.of(last, quoted=delimiter is not None), last, delimiter),
                    last.count(b"\n"),
                )
            return
        body = rest + piece if rest else piece
        scan = RecordScan.of(body, quoted=delimiter is not None)
        cut = scan.end
        whole, rest = body[:cut], body[cut:]
        if cut:
            yield cut, _count(scan, whole, delimiter), scan.lines(cut)
        elif len(body) > MAX_RECORD_BYTES:
            yield 0, f"a record is longer than {MAX_RECORD_BYTES >> 20} MB, or a quote is never closed", 0


def _count(scan: RecordScan, body: bytes, delimiter: str | None) -> int | str:
    """Count the records of a body, which the scan begins with; or say why a range could be read otherwise than all."""
    if not body.isascii() and not is_utf8(body):
        return "it is not written in UTF-8"
    if delimiter is None:
        return "it has NUL characters" if b"\0" in body else _count_lines(scan, body)
    if not has_plain_lines(body):
        return "its lines do not end in line feeds"
    if not scan.is_plain(len(body), delimiter):
        return "it has quotes inside values that are not quoted"
    return len(scan.bounds(len(body))[0])


def _count_lines(scan: RecordScan, body: bytes) -> int:
    """Count the lines that are not blank."""
    lines = scan.newlines[: scan.lines(len(body))]
    first = np.concatenate([scan.view[:1], scan.view[lines[:-1] + 1]])
    return len(lines) - (len(_BLANK_LINE.findall(body)) if (first <= _LAST_BLANK).any() else 0)


def cut_parquet(file: IO[bytes], size: int, target: int) -> tuple[tuple[str, ...], CutFile]:
    """Return a file's columns, and its row groups in ranges of at least ``target`` bytes; only the footer is read.

    A footer may say anything: whoever reads a range checks what it finds there.
    """
    try:
        metadata = pq.read_metadata(file)
        names = tuple(name.strip() for name in metadata.schema.to_arrow_schema().names)
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        extents = [_extent(group) for group in groups]
        rows = [group.num_rows for group in groups]
    except (pa.ArrowException, OSError, EOFError, RecursionError) as fault:
        raise InvalidInputError("the Parquet file is damaged or cut off: write and upload it again") from fault
    in_order = all(0 < start < end <= size for start, end in extents)
    if not in_order or any(one[1] > other[0] for one, other in pairwise(extents)):
        return names, CutFile(reason="its row groups do not lie one after the other")
    ranges: list[FileRange] = []
    first = 0
    for place, (_, end) in enumerate(extents):
        if end - extents[first][0] >= target or place == len(extents) - 1:
            span = (first, place + 1)
            ranges.append(FileRange(extents[first][0], end, sum(rows[first : place + 1]), span))
            first = place + 1
    return names, CutFile(tuple(ranges))


def _extent(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Return the bytes of a row group, from its first page to the end of its last column."""
    starts, ends = [], []
    for place in range(group.num_columns):
        chunk = group.column(place)
        start = chunk.data_page_offset
        if chunk.has_dictionary_page and 0 < (chunk.dictionary_page_offset or 0) < start:
            start = chunk.dictionary_page_offset
        starts.append(start)
        ends.append(start + chunk.total_compressed_size)
    return min(starts, default=0), max(ends, default=0)


def open_range(
    source: Path | Callable[[], Any],
    form: FileFormat,
    read: ReadSpec,
    limits: UploadLimits,
    *,
    delimited: Mapping[str, Any] | None = None,
    groups: tuple[int, int] | None = None,
) -> TableReader:
    """Open a range of a file: the bytes of text alone, and of Parquet where they are in the whole, with its footer."""
    content = Content(source, limits)
    if form == "parquet":
        return ParquetReader(content, null_values_of(read) or pa.array([""]), groups)
    if form == "json_lines":
        return JsonLinesReader(TextFile(content, known=UTF_8), null_values_of(read))
    within = None if delimited is None else from_plain(DelimitedFormat, delimited)
    return DelimitedReader(TextFile(content, known=UTF_8), None, read, within)


def read_footer(tail: Callable[[int], bytes]) -> bytes:
    """Return the footer of a Parquet file, given a function that returns so many of its last bytes."""
    ending = tail(8)
    if len(ending) < 8 or ending[4:] != b"PAR1":  # noqa: PLR2004  # a length, and the magic bytes
        raise InvalidInputError("the Parquet file is damaged or cut off: write and upload it again")
    return tail(int.from_bytes(ending[:4], "little") + 8)
