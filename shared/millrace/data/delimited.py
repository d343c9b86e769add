"""CSV and its relatives: which encoding, which delimiter, and every record in the table or set aside.

The standard library's parser is used rather than Arrow's, because it alone says on which *line* of the file a
record stands when quoted fields hold line breaks, and notices a quote that is never closed.
"""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from millrace.data.findings import Finding, shorten, warning
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow, RawTable, build_cells, check_header
from millrace.errors import InvalidInputError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

#: Delimiters that are not read, but recognised so that the verdict can say so.
FOREIGN_DELIMITERS = "^~:#&"

_SAMPLE_LINES = 100
_SAMPLE_BYTES = 1 << 20
_CELLS_A_CHUNK = 1_000_000
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's bytes become text.

    Parameters
    ----------
    name : str
        Python's name of it.
    mixed : bool
        Some lines are not valid in it.
    """

    name: str
    mixed: bool = False

    @property
    def label(self) -> str:
        """The name that people know it by."""
        return self.name.removesuffix("-sig")

    def lines(self, body: bytes) -> Iterator[str]:
        """Yield the lines with their endings; bytes that are not valid become lone surrogates."""
        errors = "surrogateescape" if self.mixed else "strict"
        return io.TextIOWrapper(io.BytesIO(body), encoding=self.name, errors=errors, newline="")


def detect_encoding(body: bytes) -> Encoding:
    """Find the encoding of a text file: UTF-8, UTF-16, else a Windows or Latin single-byte one.

    A file in which some lines that are not ASCII are valid UTF-8 *is* UTF-8; its other lines are at fault.

    Raises
    ------
    InvalidInputError
        When the bytes are no text.
    """
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _utf16(body, "utf-16")
    head = body[:_SAMPLE_BYTES]
    if head.count(0, 1) > len(head) // 4:
        return _utf16(body, "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be")
    if 0 in head:
        raise InvalidInputError("the file is binary, not a table: upload CSV, JSON Lines or Parquet")
    if _decodes(body, "utf-8"):
        return Encoding("utf-8-sig")
    beyond_ascii = (line for line in io.BytesIO(body) if not line.isascii())
    if any(_decodes(line, "utf-8") for line in beyond_ascii):
        return Encoding("utf-8-sig", mixed=True)
    return Encoding("cp1252" if _decodes(body, "cp1252") else "latin-1")


def detect_delimiter(sample: list[str]) -> str:
    """Find the delimiter that cuts most sample lines into as many fields as the header.

    Raises
    ------
    InvalidInputError
        When none cuts the header into two columns.
    """
    scores = []
    for delimiter in DELIMITERS:
        records = _sample_records(sample, delimiter)
        width = len(records[0]) if records else 0
        if width > 1:
            fitting = sum(len(record) == width for record in records[1:])
            scores.append((fitting, width, delimiter))
    if scores:
        return max(scores)[2]
    header = sample[0].strip()
    foreign = [mark for mark in FOREIGN_DELIMITERS if mark in header]
    if foreign:
        raise InvalidInputError(
            f"the header {shorten(header)!r} is a single column; if {foreign[0]!r} separates the columns, "
            "write the file with a comma, semicolon, tab or pipe instead"
        )
    raise InvalidInputError(
        f"the header {shorten(header)!r} is a single column: separate columns by a comma, semicolon, tab or pipe; "
        "a table needs a target and at least one feature"
    )


def read_delimited(body: bytes) -> RawTable:
    """Read a delimited text file.

    Raises
    ------
    InvalidInputError
        When it is no such table, or only a header.
    """
    encoding = detect_encoding(body)
    sample = [line for line in itertools.islice(encoding.lines(body), _SAMPLE_LINES) if line.strip()]
    if not sample:
        raise InvalidInputError("the file is empty")
    delimiter = detect_delimiter(sample)
    records = _Records(encoding, body, delimiter)
    header = [name.strip() for name in records.header()]
    check_header(header)
    columns = records.columns(len(header))
    if not records.lines and not records.malformed:
        raise InvalidInputError(f"the file has a header of {len(header):,} columns but no rows")
    description = {"format": "delimited text", "delimiter": DELIMITERS[delimiter], "encoding": encoding.label}
    return RawTable(
        cells=build_cells(header, columns),
        lines=np.array(records.lines, dtype=np.int64),
        malformed=tuple(records.malformed),
        description=description,
        findings=_encoding_findings(encoding),
    )


@dataclass(slots=True)
class _Records:
    """Reads records one after the other, remembering the line on which each starts."""

    encoding: Encoding
    body: bytes
    delimiter: str
    lines: list[int] = field(default_factory=list)
    malformed: list[QuarantinedRow] = field(default_factory=list)
    _pending: list[str] = field(default_factory=list)
    _start: int = 1
    _check_text: bool = False
    _reader: Iterator[list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._check_text = self.encoding.mixed or 0 in self.body
        self._reader = csv.reader(self._remember_lines(), delimiter=self.delimiter, strict=True)

    def header(self) -> list[str]:
        """Return the first record that is not blank."""
        try:
            for record in self._reader:
                self._forget_lines()
                if record:
                    return record
        except csv.Error as fault:
            raise InvalidInputError(f"the header's quotes do not match: {fault}") from fault
        raise InvalidInputError("the file is empty")

    def columns(self, width: int) -> list[pa.ChunkedArray]:
        """Read every record; those of ``width`` fields become columns, the others are set aside."""
        chunk_rows = max(1, _CELLS_A_CHUNK // width)
        chunks: list[list[pa.Array]] = [[] for _ in range(width)]
        rows: list[list[str]] = []
        for record in self._well_formed(width):
            rows.append(record)
            if len(rows) == chunk_rows:
                _append_rows(chunks, rows)
                rows = []
        _append_rows(chunks, rows)
        return [pa.chunked_array(column, type=pa.string()) for column in chunks]

    def _well_formed(self, width: int) -> Iterator[list[str]]:
        while True:
            try:
                record = next(self._reader)
            except StopIteration:
                return
            except csv.Error as fault:
                self._set_aside_unparsable(fault)
                continue
            if len(record) == width and not (self._check_text and self._has_unusable_text()):
                self.lines.append(self._start)
                self._forget_lines()
                yield record
            elif not record:
                self._forget_lines()
            elif len(record) != width:
                self._set_aside(f"{len(record):,} fields where the header has {width:,}")
            else:
                self._set_aside(f"not valid {self.encoding.label} text")

    def _set_aside_unparsable(self, fault: csv.Error) -> None:
        unclosed = "unexpected end" in str(fault) or "field limit" in str(fault)
        if unclosed and '"' in "".join(self._pending):
            raise InvalidInputError(
                f"line {self._start:,} opens a quote that is never closed: close it, or double quotes inside a value"
            ) from fault
        self._set_aside(f"the quotes do not match: {fault}")

    def _set_aside(self, reason: str) -> None:
        text = "".join(self._pending).rstrip("\r\n")
        readable = _UNUSABLE.sub("\N{REPLACEMENT CHARACTER}", text)
        self.malformed.append(QuarantinedRow(self._start, reason, shorten(readable, MAX_ROW_TEXT)))
        self._forget_lines()

    def _has_unusable_text(self) -> bool:
        return any(_UNUSABLE.search(line) for line in self._pending)

    def _remember_lines(self) -> Iterator[str]:
        for line in self.encoding.lines(self.body):
            self._pending.append(line)
            yield line

    def _forget_lines(self) -> None:
        self._start += len(self._pending)
        self._pending.clear()


def _append_rows(chunks: list[list[pa.Array]], rows: list[list[str]]) -> None:
    for chunk, values in zip(chunks, zip(*rows, strict=True), strict=bool(rows)):
        chunk.append(pa.array(values, type=pa.string()))


def _sample_records(sample: list[str], delimiter: str) -> list[list[str]]:
    records: list[list[str]] = []
    reader = csv.reader(sample, delimiter=delimiter)
    try:
        records.extend(record for record in reader if record)
    except csv.Error:
        return records
    return records


def _utf16(body: bytes, name: str) -> Encoding:
    if not _decodes(body, name):
        raise InvalidInputError("the file is neither text nor Parquet: upload CSV, JSON Lines or Parquet")
    return Encoding(name)


def _decodes(body: bytes, encoding: str) -> bool:
    """Try to decode piece by piece, so that a large file is not held twice."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for start in range(0, len(body), _SAMPLE_BYTES):
            decoder.decode(body[start : start + _SAMPLE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _encoding_findings(encoding: Encoding) -> tuple[Finding, ...]:
    if encoding.mixed:
        message = "the file mixes encodings: lines that are not valid UTF-8 were set aside; write it as UTF-8"
        return (warning("mixed_encodings", message),)
    if encoding.name in ("cp1252", "latin-1"):
        message = f"the file is not UTF-8 and was read as {encoding.name}; write it as UTF-8 to be sure of its letters"
        return (warning("encoding", message),)
    return ()
