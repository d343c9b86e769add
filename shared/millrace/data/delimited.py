"""CSV and its relatives: which delimiter, and every record in the table or set aside with its line.

Plain blocks are read by Arrow, each on its own, and so on several threads; the others by the standard library's
parser, one after the other. Both read the same from a plain block.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from millrace.data.blocks import Block, BlockReader, RecordLayout, block_sizes, count_lines, find_records, record_ends
from millrace.data.content import TextFile
from millrace.data.findings import Finding, shorten
from millrace.data.parsers import PLAIN, NumberStyle, detect_style
from millrace.data.raw import (
    MAX_ROW_TEXT,
    QuarantinedRow,
    RowBatch,
    build_strings,
    check_header,
    identity_read,
    null_strings,
)
from millrace.data.typed_table import TIMESTAMP
from millrace.errors import InvalidInputError, NoRowsError
from millrace.schema import NULL_STRINGS
from millrace.spec.data import ReadSpec

_UNUSABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(slots=True)
class CsvFallback:
    """Reads records one after the other, remembering the line on which each starts.

    Parameters
    ----------
    block : Block
        Where they begin.
    more : callable
        Returns more lines where the block's last record is not complete; none at the end.
    delimiter : str
        Between fields.
    encoding : str
        What the file is written in, as people know it.
    width : int
        How many fields a record should have.
    """

    block: Block
    more: Callable[[], bytes]
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
        self._feed = list(text_lines(self.block.body))
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
                self._quarantine_unparsable(fault)
                continue
            if not record:
                self._forget_lines()
            elif len(record) != self.width:
                self._quarantine(f"{len(record):,} fields where the header has {self.width:,}")
            elif any(_UNUSABLE.search(line) for line in self._pending):
                self._quarantine(f"not valid {self.encoding} text")
            else:
                self.lines.append(self.next_line)
                self._forget_lines()
                yield record

    def _quarantine_unparsable(self, fault: csv.Error) -> None:
        unclosed = "unexpected end" in str(fault) or "field limit" in str(fault)
        if unclosed and '"' in "".join(self._pending):
            if "unexpected end" in str(fault) and len(self._pending) == 1:
                self._quarantine("the last line opens a quote that is never closed")
                return
            raise InvalidInputError(
                f"line {self.next_line:,} opens a quote that is never closed: close it, or double quotes inside a value"
            ) from fault
        self._quarantine(f"the quotes do not match: {fault}")

    def _quarantine(self, reason: str) -> None:
        text = "".join(self._pending).rstrip("\r\n")
        readable = _UNUSABLE.sub("\N{REPLACEMENT CHARACTER}", text)
        self.malformed.append(QuarantinedRow(self.next_line, reason, shorten(readable, MAX_ROW_TEXT)))
        self._forget_lines()

    def _remember_lines(self) -> Iterator[str]:
        while True:
            if self._position == len(self._feed):
                self._feed, self._position = list(text_lines(self.more())), 0
                if not self._feed:
                    return
            line = self._feed[self._position]
            self._position += 1
            self._pending.append(line)
            yield line

    def _forget_lines(self) -> None:
        self.next_line += len(self._pending)
        self._pending.clear()


def text_lines(body: bytes) -> Iterator[str]:
    """Yield lines with their endings; bytes that are not valid UTF-8 become lone surrogates."""
    return io.TextIOWrapper(io.BytesIO(body), encoding="utf-8", errors="surrogateescape", newline="")


_COLUMN_AT_FAULT = re.compile(r"CSV column #(\d+): (?:Row #\d+: )?CSV conversion error")


@dataclass(slots=True)
class FastParser:
    """Reads the plain blocks of one file; on any number of threads.

    Parameters
    ----------
    names : list of str
        The columns, in the file's order.
    delimiter : str
        Between fields.
    missing : pyarrow.Array or None
        The words that mean "missing"; None stands for :data:`millrace.schema.NULL_STRINGS`.
    types : mapping of str to pyarrow.DataType
        The columns that are wanted, and what they are best read as; none wants every column as text.
    """

    names: list[str]
    delimiter: str
    missing: pa.Array | None
    types: Mapping[str, pa.DataType]
    _quickest: dict[str, pa.DataType] = field(init=False)

    def __post_init__(self) -> None:
        self._quickest = {name: _quickest_type(kind) for name, kind in self.types.items()}

    def read(self, block: Block) -> RowBatch | None:
        """Read a plain block; None when Arrow will not."""
        body = block.body
        malformed: tuple[QuarantinedRow, ...] = ()
        table = self._parse_typed(body, quoted=block.quoted)
        if table is not None and table.num_rows == block.lines:
            lines = np.arange(block.first_line, block.first_line + table.num_rows, dtype=np.int64)
        else:
            layout = find_records(body, self.delimiter)
            fitting = layout.widths == len(self.names)
            lines = layout.lines[fitting] + block.first_line
            if not fitting.all():
                malformed = self._wrong_widths(block, layout)
                pieces = zip(layout.starts[fitting].tolist(), layout.ends[fitting].tolist(), strict=True)
                body = b"".join(body[start:end] + b"\n" for start, end in pieces)
                table = self._parse_typed(body, quoted=block.quoted) if body else None
            if not body:
                return RowBatch(lines, partial(_no_strings, self.names), malformed, self.names)
            if table is None or table.num_rows != len(lines):
                return None
        if not self.types:
            strings = build_strings(self.names, table.columns, self.missing)
            return RowBatch(lines, lambda: strings, malformed, self.names)
        typed = {name: table.column(name) for name in self.types}
        as_text = partial(self._as_text, body, quoted=block.quoted)
        return RowBatch(lines, as_text, malformed, self.names, typed, nulls_known=True)

    def _parse_typed(self, body: bytes, *, quoted: bool) -> pa.Table | None:
        """Parse whole records, reading as text what is not of the type that it should be; None when they are unfit."""
        spread = quoted and _spread(body)
        types = dict(self._quickest)
        while True:
            try:
                return self._parse(body, types, quoted=quoted, spread=spread)
            except pa.ArrowInvalid as fault:
                found = _COLUMN_AT_FAULT.search(str(fault))
                if found is None:
                    return None
                # Arrow counts the file's columns, whether or not they are wanted.
                name = self.names[int(found[1])]
                if types.get(name, pa.string()) == pa.string():
                    return None
                if types[name] == pa.date32():
                    # Dates with times on them: no block of this file will be otherwise.
                    self._quickest[name] = pa.string()
                types[name] = pa.string()

    def _parse(self, body: bytes, types: Mapping[str, pa.DataType], *, quoted: bool, spread: bool) -> pa.Table:
        return pa_csv.read_csv(
            pa.BufferReader(body),
            read_options=pa_csv.ReadOptions(
                # In one piece: columns then lie in one too, and it is blocks that are read at the same time.
                column_names=self.names,
                block_size=len(body) + 1,
                use_threads=False,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.delimiter,
                quote_char='"' if quoted else False,
                newlines_in_values=spread,
                ignore_empty_lines=True,
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: types.get(name, pa.string()) for name in self.names},
                null_values=sorted(NULL_STRINGS) if self.missing is None else self.missing.to_pylist(),
                strings_can_be_null=True,
                include_columns=list(types) or None,
                check_utf8=False,
            ),
        )

    def _as_text(self, body: bytes, *, quoted: bool) -> pa.Table:
        try:
            table = self._parse(body, {}, quoted=quoted, spread=quoted and _spread(body))
        except pa.ArrowInvalid as fault:  # the same body was read with types before
            raise InvalidInputError("the file could not be read twice") from fault
        return build_strings(self.names, table.columns, self.missing)

    def _wrong_widths(self, block: Block, layout: RecordLayout) -> tuple[QuarantinedRow, ...]:
        wrong = np.flatnonzero(layout.widths != len(self.names)).tolist()
        return tuple(
            QuarantinedRow(
                int(layout.lines[row]) + block.first_line,
                f"{int(layout.widths[row]):,} fields where the header has {len(self.names):,}",
                shorten(block.body[layout.starts[row] : layout.ends[row]].decode("utf-8", "replace"), MAX_ROW_TEXT),
            )
            for row in wrong
        )


def _spread(body: bytes) -> bool:
    """Tell whether a record takes several lines."""
    return len(record_ends(body)) != count_lines(body)


def _quickest_type(kind: pa.DataType) -> pa.DataType:
    """Return what Arrow's parser reads faster and without loss."""
    return pa.date32() if kind == TIMESTAMP else kind


def _no_strings(names: list[str]) -> pa.Table:
    return pa.table({name: pa.array([], type=pa.string()) for name in names})


DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}

#: Delimiters that are not tried, but recognised so that the verdict can say so.
FOREIGN_DELIMITERS = "^~:#&"

_SAMPLE_LINES = 100
_STYLE_LINES = 500
#: In so many lines, and bytes, the header and those samples are looked for.
_FIRST_LINES, _FIRST_BYTES = 2_000, 1 << 20
_READ_AT_ONCE = 1 << 18
_MAX_HEADER_BYTES = 8 << 20
_FILLED = re.compile(rb"[^\r\n]")


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
    text : Text
        The file.
    delimiter : str or None
        None finds it out.
    read : ReadSpec
        How numbers are written, where the user says so.

    Raises
    ------
    InvalidInputError
        When it is no such table.
    """

    text: TextFile
    delimiter: str | None
    read: ReadSpec
    names: list[str] = field(init=False)
    _numbers: NumberStyle = field(init=False, default=PLAIN)
    _style_findings: tuple[Finding, ...] = field(init=False, default=())
    _missing: pa.Array | None = field(init=False, default=None)
    _header_bytes: int = field(init=False)
    _header_lines: int = field(init=False)

    def __post_init__(self) -> None:
        lines = self._first_lines()
        sample = list(islice((line for line in lines if line.strip()), _SAMPLE_LINES))
        if not sample:
            raise NoRowsError("the file is empty: upload it again with a header and rows")
        self.delimiter = self.delimiter or detect_delimiter(sample)
        self.names = [name.strip() for name in self._read_header(lines)]
        check_header(self.names)
        fitting = [
            record for record in _sample_records(lines[:_STYLE_LINES], self.mark)[1:] if len(record) == len(self.names)
        ]
        self._numbers, self._style_findings = detect_style(fitting, self.read)
        self._missing = null_strings(self.read)

    @property
    def description(self) -> dict[str, str]:
        """How the file is written."""
        described = {
            "format": "delimited text",
            "delimiter": DELIMITERS.get(self.mark, self.mark),
            "encoding": self.text.encoding.label,
        }
        if self._numbers != PLAIN:
            described["numbers"] = self._numbers.example
        return described | self.text.content.description

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was remarkable about how it is written."""
        return (*self.text.encoding.findings(), *self._style_findings)

    @property
    def mark(self) -> str:
        """The delimiter, found out by now."""
        return self.delimiter or ","

    def batches(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[RowBatch]:
        """Read the rows in order; see :class:`millrace.data.raw.TableReader`."""
        for read in self.readings(types):
            yield read()

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        """Cut the file into blocks; see :class:`millrace.data.raw.ParallelReader`."""
        wanted = {name: self._readable(kind) for name, kind in (types or {}).items() if name in self.names}
        fast = FastParser(self.names, self.mark, self._missing, wanted)
        filled = False
        with self.text.open() as stream:
            sizes = block_sizes(len(self.names), self.text.content.size)
            reader = BlockReader(stream, self.mark, self._header_lines + 1, sizes)
            reader.skip(self._header_bytes)
            for block in reader.blocks():
                filled = filled or _FILLED.search(block.body) is not None
                if block.plain:
                    yield partial(self._read_fast, block, fast)
                else:
                    # Where the next block starts is known only once this one has been read.
                    records = self._fallback(block, reader.more)
                    batch = self._batch_of(records)
                    reader.line = records.next_line
                    yield partial(identity_read, batch)
        if not filled:
            raise NoRowsError(
                f"the file has a header of {len(self.names):,} columns but no rows: upload it again with its rows"
            )

    def _readable(self, kind: pa.DataType) -> pa.DataType:
        """Return what Arrow may read: it would read 1.234 as a fraction where it is a thousand."""
        return pa.string() if pa.types.is_floating(kind) and self._numbers != PLAIN else kind

    def _read_fast(self, block: Block, fast: FastParser) -> RowBatch:
        batch = fast.read(block)
        if batch is None:
            return self._batch_of(self._fallback(block, lambda: b""))
        batch.numbers, batch.missing = self._numbers, self._missing
        return batch

    def _fallback(self, block: Block, more: Callable[[], bytes]) -> CsvFallback:
        return CsvFallback(block, more, self.mark, self.text.encoding.label, len(self.names))

    def _batch_of(self, records: CsvFallback) -> RowBatch:
        """Read a block with the standard library's parser, and on to the end of its last record."""
        strings = build_strings(self.names, records.columns(), self._missing)
        lines = np.array(records.lines, dtype=np.int64)
        batch = RowBatch(lines, lambda: strings, tuple(records.malformed), self.names)
        batch.numbers, batch.missing = self._numbers, self._missing
        return batch

    def _first_lines(self) -> list[str]:
        """Return the lines of the file's beginning; a line that is cut off at the end of it is left out."""
        pieces: list[bytes] = []
        size = found = 0
        with self.text.open() as stream:
            while not found or (size < _FIRST_BYTES and found < _FIRST_LINES):
                piece = stream.read(_READ_AT_ONCE)
                if not piece:
                    return list(islice(text_lines(b"".join(pieces)), _FIRST_LINES))
                pieces.append(piece)
                size, found = size + len(piece), found + (count_lines(piece) or piece.count(b"\r", 0, -1))
                if not found and size > _MAX_HEADER_BYTES:
                    raise InvalidInputError(
                        f"the first line is longer than {_MAX_HEADER_BYTES >> 20} MB: a table has a header and then a "
                        "row on each line; is this a single line of JSON? Then write an object on each line"
                    )
        head = b"".join(pieces)
        # A return at the very end may be half of a line break.
        head = head[: head.rfind(b"\n") + 1 or head.rfind(b"\r", 0, -1) + 1]
        return list(islice(text_lines(head), _FIRST_LINES))

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
            raise InvalidInputError(f"the header is not valid {self.text.encoding.label} text")
        return record


def _sample_records(sample: list[str], delimiter: str) -> list[list[str]]:
    records: list[list[str]] = []
    reader = csv.reader(sample, delimiter=delimiter)
    try:
        records.extend(record for record in reader if record)
    except csv.Error:
        return records
    return records
