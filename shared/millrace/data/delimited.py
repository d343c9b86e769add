"""CSV and its relatives: which delimiter, and every record in the table or set aside with its line.

Plain blocks are read by Arrow. The others are read by the standard library's parser, which is twenty times slower but
says on which *line* of the file a record stands whatever it holds, and notices a quote that is never closed. Both
read the same from a plain block.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from millrace.data import blocks
from millrace.data.blocks import Block, BlockReader, count_lines, lay_out, record_ends
from millrace.data.content import Content
from millrace.data.encoding import Encoding, Utf8Stream
from millrace.data.findings import Finding, shorten
from millrace.data.number_style import PLAIN, NumberStyle, detect_style
from millrace.data.raw import MAX_ROW_TEXT, QuarantinedRow, RowBatch, build_cells, check_header, missing_words
from millrace.errors import InvalidInputError, NoRowsError
from millrace.schema import MISSING_WORDS
from millrace.spec.data import ReadSpec

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

#: Delimiters that are not tried, but recognised so that the verdict can say so.
FOREIGN_DELIMITERS = "^~:#&"

_SAMPLE_LINES = 100
_STYLE_LINES = 500
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


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
            f"the header {shorten(header)!r} is a single column; if {foreign[0]!r} separates the columns, say so in "
            "the spec (read: delimiter), or write the file with a comma, semicolon, tab or pipe instead"
        )
    raise InvalidInputError(
        f"the header {shorten(header)!r} is a single column: separate columns by a comma, semicolon, tab or pipe; "
        "a table needs a target and at least one feature"
    )


@dataclass(slots=True)
class DelimitedReader:
    """Reads a delimited text file batch by batch.

    Parameters
    ----------
    content : Content
        The file.
    encoding : Encoding
        How it is written.
    delimiter : str or None
        None finds it out.
    read : ReadSpec
        How numbers are written, where the user says so.

    Raises
    ------
    InvalidInputError
        When it is no such table.
    """

    content: Content
    encoding: Encoding
    delimiter: str | None
    read: ReadSpec
    names: list[str] = field(init=False)
    description: dict[str, str] = field(init=False)
    findings: tuple[Finding, ...] = field(init=False)
    _numbers: NumberStyle = field(init=False, default=PLAIN)
    _missing: pa.Array | None = field(init=False, default=None)
    _header_bytes: int = field(init=False)
    _header_lines: int = field(init=False)

    def __post_init__(self) -> None:
        lines = self._first_lines()
        sample = [line for line in lines if line.strip()][:_SAMPLE_LINES]
        if not sample:
            raise NoRowsError("the file is empty: upload it again with a header and rows")
        self.delimiter = self.delimiter or detect_delimiter(sample)
        self.names = [name.strip() for name in self._read_header(lines)]
        check_header(self.names)
        self.description = {
            "format": "delimited text",
            "delimiter": DELIMITERS.get(self.delimiter, self.delimiter),
            "encoding": self.encoding.label,
        }
        fitting = [
            record for record in _sample_records(lines[:_STYLE_LINES], self.mark)[1:] if len(record) == len(self.names)
        ]
        self._numbers, found = detect_style(fitting, self.read)
        if self._numbers != PLAIN:
            self.description["numbers"] = self._numbers.example
        self.findings = (*self.encoding.findings(), *found)
        self._missing = missing_words(self.read)

    @property
    def mark(self) -> str:
        """The delimiter, found out by now."""
        return self.delimiter or ","

    def batches(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[RowBatch]:
        """Read the rows in order; see :class:`millrace.data.raw.TableReader`."""
        rows = 0
        if self._numbers != PLAIN:
            types = None  # Arrow would read 1.234 as a fraction
        for batch in self._batches({name: kind for name, kind in (types or {}).items() if name in self.names}):
            batch.numbers, batch.missing = self._numbers, self._missing
            rows += len(batch) + len(batch.malformed)
            yield batch
        if not rows:
            raise NoRowsError(
                f"the file has a header of {len(self.names):,} columns but no rows: upload it again with its rows"
            )

    def _batches(self, types: Mapping[str, pa.DataType]) -> Iterator[RowBatch]:
        with self.content.open() as stream:
            text = Utf8Stream(stream, self.encoding)
            reader = BlockReader(
                text, self.mark, self._header_lines + 1, mixed=self.encoding.mixed, size=blocks.BLOCK_BYTES
            )
            reader.skip(self._header_bytes)
            for block in reader.blocks():
                batch = self._read_plain(block, types) if block.plain else None
                yield batch or self._read_carefully(block, reader)

    def _first_lines(self) -> list[str]:
        """Return the lines of the file's beginning; a line that is cut off at the end of it is left out."""
        with self.content.open() as stream:
            text = Utf8Stream(stream, self.encoding)
            head, piece = b"", text.read(1 << 20)
            while piece and (len(head) < 1 << 20 or b"\n" not in head):
                head += piece
                piece = text.read(1 << 20)
        head = head[: head.rfind(b"\n") + 1] if piece else head
        return list(_lines(head))

    def _read_header(self, lines: list[str]) -> list[str]:
        """Return the first record that is not blank, and remember where it ends."""
        feed = iter(lines)
        taken: list[str] = []

        def remember() -> Iterator[str]:
            for line in feed:
                taken.append(line)
                yield line

        try:
            record = next((record for record in csv.reader(remember(), delimiter=self.mark, strict=True) if record), [])
        except csv.Error as fault:
            raise InvalidInputError(f"the header's quotes do not match: {fault}") from fault
        self._header_lines = len(taken)
        self._header_bytes = sum(len(line.encode("utf-8", "surrogateescape")) for line in taken)
        if any("\ud800" <= letter <= "\udfff" for letter in "".join(record)):
            raise InvalidInputError(f"the header is not valid {self.encoding.label} text")
        return record

    def _read_plain(self, block: Block, types: Mapping[str, pa.DataType]) -> RowBatch | None:
        """Read a plain block with Arrow; None when Arrow will not."""
        body = block.body
        malformed: tuple[QuarantinedRow, ...] = ()
        table = self._parse(body, types)
        if table is None or table.num_rows != count_lines(body):
            layout = lay_out(body, self.mark)
            fitting = layout.widths == len(self.names)
            lines = layout.lines[fitting] + block.first_line
            if not fitting.all():
                malformed = self._wrong_widths(block, layout.starts, layout.ends, layout.lines, layout.widths)
                pieces = zip(layout.starts[fitting].tolist(), layout.ends[fitting].tolist(), strict=True)
                body = b"".join(body[start:end] + b"\n" for start, end in pieces)
                table = self._parse(body, types) if body else None
            if not body:
                return RowBatch(lines, lambda: _no_cells(self.names), malformed, self.names)
            if table is None and types:
                table, types = self._parse(body, {}), {}
            if table is None or table.num_rows != len(lines):
                return None
        else:
            lines = np.arange(block.first_line, block.first_line + table.num_rows, dtype=np.int64)
        if not types:
            cells = build_cells(self.names, table.columns, self._missing)
            return RowBatch(lines, lambda: cells, malformed, self.names)
        typed = {name: table.column(name) for name in self.names if name in types}
        return RowBatch(lines, lambda: self._as_text(body), malformed, self.names, typed)

    def _as_text(self, body: bytes) -> pa.Table:
        table = self._parse(body, {})
        if table is None:  # the same body was read with types before
            raise InvalidInputError("the file could not be read twice")
        return build_cells(self.names, table.columns, self._missing)

    def _parse(self, body: bytes, types: Mapping[str, pa.DataType]) -> pa.Table | None:
        """Let Arrow parse whole records; None when there is something wrong with one of them."""
        spread = b'"' in body and len(record_ends(body)) != count_lines(body)
        column_types = {name: types.get(name, pa.string()) for name in self.names}
        try:
            return pa_csv.read_csv(
                pa.BufferReader(body),
                read_options=pa_csv.ReadOptions(
                    column_names=self.names, block_size=max(1 << 20, len(body) + 1) if spread else 1 << 20
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self.mark, newlines_in_values=spread, ignore_empty_lines=True
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=column_types,
                    null_values=sorted(MISSING_WORDS) if self._missing is None else self._missing.to_pylist(),
                    strings_can_be_null=True,
                    include_columns=list(types) or None,
                    check_utf8=False,
                ),
            )
        except pa.ArrowInvalid:
            return None

    def _wrong_widths(
        self,
        block: Block,
        starts: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        lines: npt.NDArray[np.int64],
        widths: npt.NDArray[np.int64],
    ) -> tuple[QuarantinedRow, ...]:
        wrong = np.flatnonzero(widths != len(self.names)).tolist()
        return tuple(
            QuarantinedRow(
                int(lines[row]) + block.first_line,
                f"{int(widths[row]):,} fields where the header has {len(self.names):,}",
                shorten(block.body[starts[row] : ends[row]].decode("utf-8", "replace"), MAX_ROW_TEXT),
            )
            for row in wrong
        )

    def _read_carefully(self, block: Block, reader: BlockReader) -> RowBatch:
        """Read a block with the standard library's parser, and on to the end of its last record."""
        records = _Records(block, reader, self.mark, self.encoding.label, len(self.names))
        cells = build_cells(self.names, records.columns(), self._missing)
        reader.line = records.next_line
        return RowBatch(np.array(records.lines, dtype=np.int64), lambda: cells, tuple(records.malformed), self.names)


@dataclass(slots=True)
class _Records:
    """Reads records one after the other, remembering the line on which each starts."""

    block: Block
    reader: BlockReader
    delimiter: str
    encoding: str
    width: int
    lines: list[int] = field(default_factory=list)
    malformed: list[QuarantinedRow] = field(default_factory=list)
    next_line: int = 0
    _pending: list[str] = field(default_factory=list)
    _feed: list[str] = field(default_factory=list)
    _position: int = 0

    def columns(self) -> list[pa.ChunkedArray]:
        """Read every record; those of the header's width become columns, the others are set aside."""
        self.next_line = self.block.first_line
        self._feed = list(_lines(self.block.body))
        rows = list(self._well_formed())
        values = zip(*rows, strict=True) if rows else [()] * self.width
        return [pa.chunked_array([pa.array(column, type=pa.string())]) for column in values]

    def _well_formed(self) -> Iterator[list[str]]:
        parser = csv.reader(self._remember_lines(), delimiter=self.delimiter, strict=True)
        while self._position < len(self._feed):
            try:
                record = next(parser)
            except StopIteration:
                return
            except csv.Error as fault:
                self._set_aside_unparsable(fault)
                continue
            if not record:
                self._forget_lines()
            elif len(record) != self.width:
                self._set_aside(f"{len(record):,} fields where the header has {self.width:,}")
            elif any(_UNUSABLE.search(line) for line in self._pending):
                self._set_aside(f"not valid {self.encoding} text")
            else:
                self.lines.append(self.next_line)
                self._forget_lines()
                yield record

    def _set_aside_unparsable(self, fault: csv.Error) -> None:
        unclosed = "unexpected end" in str(fault) or "field limit" in str(fault)
        if unclosed and '"' in "".join(self._pending):
            if "unexpected end" in str(fault) and len(self._pending) == 1:
                self._set_aside("the last line opens a quote that is never closed")
                return
            raise InvalidInputError(
                f"line {self.next_line:,} opens a quote that is never closed: close it, or double quotes inside a value"
            ) from fault
        self._set_aside(f"the quotes do not match: {fault}")

    def _set_aside(self, reason: str) -> None:
        text = "".join(self._pending).rstrip("\r\n")
        readable = _UNUSABLE.sub("\N{REPLACEMENT CHARACTER}", text)
        self.malformed.append(QuarantinedRow(self.next_line, reason, shorten(readable, MAX_ROW_TEXT)))
        self._forget_lines()

    def _remember_lines(self) -> Iterator[str]:
        while True:
            if self._position == len(self._feed):
                self._feed, self._position = list(_lines(self.reader.more())), 0
                if not self._feed:
                    return
            line = self._feed[self._position]
            self._position += 1
            self._pending.append(line)
            yield line

    def _forget_lines(self) -> None:
        self.next_line += len(self._pending)
        self._pending.clear()


def _lines(body: bytes) -> Iterator[str]:
    """Yield lines with their endings; bytes that are not valid UTF-8 become lone surrogates."""
    return io.TextIOWrapper(io.BytesIO(body), encoding="utf-8", errors="surrogateescape", newline="")


def _no_cells(names: list[str]) -> pa.Table:
    return pa.table({name: pa.array([], type=pa.string()) for name in names})


def _sample_records(sample: list[str], delimiter: str) -> list[list[str]]:
    records: list[list[str]] = []
    reader = csv.reader(sample, delimiter=delimiter)
    try:
        records.extend(record for record in reader if record)
    except csv.Error:
        return records
    return records
