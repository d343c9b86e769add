"""Read CSV and its relatives: detect the delimiter, and return every record with its line, or reject it.

Two parsers read the same records. The fast path is Arrow's, one block at a time on several threads, for blocks whose
quotes are regular; the fallback is the csv module, one record after the other.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from millrace.data.blocks import Block, BlockReader, RecordLayout, block_sizes, count_lines, find_records
from millrace.data.content import MAX_RECORD_BYTES, TextFile
from millrace.data.findings import Finding, shorten
from millrace.data.notation import detect_style, doubtful_columns, plain_columns
from millrace.data.raw import (
    MAX_ROW_TEXT,
    NullCounts,
    QuarantinedRow,
    RowBatch,
    TableReader,
    build_strings,
    check_header,
    null_values_of,
)
from millrace.data.typed_table import CATEGORY, TIMESTAMP
from millrace.errors import InvalidInputError, NoRowsError
from millrace.quantities import PLAIN, NumberStyle
from millrace.schema import DELIMITERS, NULL_STRINGS
from millrace.spec.data import ReadSpec

#: Delimiters that are recognised for the message, and not tried.
FOREIGN_DELIMITERS = "^~:#&"

_SAMPLE_LINES = 100
_STYLE_LINES = 500
#: Lines, and bytes, in which the header and those samples are searched.
_FIRST_LINES, _FIRST_BYTES = 2_000, 1 << 20
_READ_AT_ONCE = 1 << 18
#: Bytes of blocks that only the csv module can read, a hundredth as fast.
_IRREGULAR_BYTES = 64 << 20
_FILLED = re.compile(rb"[^\r\n]")
#: Excel's line, also as other tools write it again: in quotes, with blanks, or with delimiters up to the table's width.
_SEPARATOR_LINE = re.compile(r'"?sep= ?(\\t|.) ?"?\1*[,;\t|]*\s*', re.IGNORECASE)
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(slots=True)
class _CsvFallback:
    """Parser of records by the csv module, which keeps the line of each; ``more`` completes the last record."""

    block: Block
    more: Callable[[], bytes]
    delimiter: str
    encoding: str
    width: int
    lines: list[int] = field(default_factory=list)
    malformed: list[QuarantinedRow] = field(default_factory=list)
    next_line: int = 0
    _pending: list[str] = field(default_factory=list)
    _feed: Iterator[str] = field(default_factory=lambda: iter(()))
    _next: str | None = None
    _ended: bool = False
    _suspect: bool = False

    def columns(self) -> list[pa.ChunkedArray]:
        """Parse every record; those of another width than the header are rejected."""
        self.next_line = self.block.first_line
        self._feed_with(self.block.body)
        rows = list(self._well_formed())
        values = zip(*rows, strict=True) if rows else [()] * self.width
        return [pa.chunked_array([pa.array(column, type=pa.string())]) for column in values]

    def _well_formed(self) -> Iterator[list[str]]:
        parser = csv.reader(self._remember_lines(), delimiter=self.delimiter, strict=True)
        while self._next is not None:
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
            elif self._suspect and any(_UNUSABLE.search(line) for line in self._pending):
                self._quarantine(f"not valid {self.encoding} text")
            else:
                self.lines.append(self.next_line)
                self._forget_lines()
                yield record

    def _quarantine_unparsable(self, fault: csv.Error) -> None:
        text = "".join(self._pending)
        # The csv module stops at the end of the file, or at its limit of a field, when a quote is still open.
        if '"' in text and (self._ended or len(text) > csv.field_size_limit()):
            if self._ended and len(self._pending) == 1:
                self._quarantine("the last line opens a quote that is never closed")
                return
            raise InvalidInputError(
                f"line {self.next_line:,} opens a quote that is never closed: close it, or double quotes inside a value"
            ) from fault
        self._quarantine(f"the quotes do not match: {fault}")

    def _quarantine(self, reason: str) -> None:
        readable = _UNUSABLE.sub("\N{REPLACEMENT CHARACTER}", "".join(self._pending).rstrip("\r\n"))
        self.malformed.append(QuarantinedRow(self.next_line, reason, shorten(readable, MAX_ROW_TEXT)))
        self._forget_lines()

    def _remember_lines(self) -> Iterator[str]:
        while True:
            if self._next is None:
                self._feed_with(self.more())
            if self._next is None:
                self._ended = True
                return
            line, self._next = self._next, next(self._feed, None)
            self._pending.append(line)
            yield line

    def _feed_with(self, body: bytes) -> None:
        self._suspect = self._suspect or not body.isascii() or b"\0" in body
        self._feed = _text_lines(body)
        self._next = next(self._feed, None)

    def _forget_lines(self) -> None:
        self.next_line += len(self._pending)
        self._pending.clear()


def _text_lines(body: bytes) -> Iterator[str]:
    """Yield lines with their endings; bytes that are not valid UTF-8 become lone surrogates."""
    return io.TextIOWrapper(io.BytesIO(body), encoding="utf-8", errors="surrogateescape", newline="")


@dataclass(slots=True)
class _FastParser:
    """Parser of regular blocks by Arrow, on any number of threads.

    Without ``null_values`` those of :data:`millrace.schema.NULL_STRINGS` are missing. ``types`` are the columns to
    read; when empty, every column is read as strings.
    """

    names: list[str]
    delimiter: str
    null_values: pa.Array | None
    types: Mapping[str, pa.DataType]
    _quickest: dict[str, pa.DataType] = field(init=False)
    _null_strings: list[str] = field(init=False)

    def __post_init__(self) -> None:
        # Arrow's parser reads dates faster than timestamps, and without loss.
        self._null_strings = sorted(NULL_STRINGS) if self.null_values is None else self.null_values.to_pylist()
        self._quickest = {name: pa.date32() if kind == TIMESTAMP else kind for name, kind in self.types.items()}

    def read(self, block: Block) -> RowBatch | None:
        """Parse a regular block; None when Arrow refuses it."""
        body = block.body
        malformed: tuple[QuarantinedRow, ...] = ()
        table = self._parse_typed(body, block)
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
                table = self._parse_typed(body, block) if body else None
            if not body:
                empty = pa.table({name: pa.array([], type=pa.string()) for name in self.names})
                return RowBatch(lines, lambda: empty, malformed, self.names)
            if table is None or table.num_rows != len(lines):
                return None
        if not self.types:
            counts: NullCounts = {}
            strings = build_strings(self.names, table.columns, self.null_values, counts)
            return RowBatch(lines, lambda: strings, malformed, self.names, null_counts=counts)
        typed = {name: table.column(name) for name in self.types}
        load = partial(self._load_strings, body, block)
        return RowBatch(lines, load, malformed, self.names, typed, nulls_known=True)

    def _parse_typed(self, body: bytes, block: Block) -> pa.Table | None:
        """Parse whole records; a column with values of another type stays strings. None when they do not parse."""
        try:
            return self._parse(body, self._quickest, list(self.types), block)
        except pa.ArrowInvalid:
            if not self.types:
                return None
        try:
            table = self._parse(body, {}, list(self.types), block)
        except pa.ArrowInvalid:
            return None
        return pa.table([self._convert(name, table.column(name)) for name in self.types], names=list(self.types))

    def _convert(self, name: str, strings: pa.ChunkedArray) -> pa.ChunkedArray:
        kind = self._quickest[name]
        if kind == CATEGORY:
            return strings.dictionary_encode()
        try:
            return strings.cast(kind)
        except pa.ArrowInvalid:
            if kind == pa.date32():
                # Dates with a time of day: the file's other blocks will have them too.
                self._quickest[name] = pa.string()
            return strings

    def _parse(self, body: bytes, types: Mapping[str, pa.DataType], columns: list[str], block: Block) -> pa.Table:
        """Parse the body of a block, or some of its records."""
        return pa_csv.read_csv(
            pa.BufferReader(body),
            # In one piece: columns are then contiguous too, and it is blocks that are parsed concurrently.
            read_options=pa_csv.ReadOptions(column_names=self.names, block_size=len(body) + 1, use_threads=False),
            parse_options=pa_csv.ParseOptions(
                delimiter=self.delimiter, quote_char='"' if block.quoted else False, newlines_in_values=block.multiline
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: types.get(name, pa.string()) for name in self.names},
                # Read as strings, missing values other than the empty one are counted, and made null, afterwards.
                null_values=self._null_strings if self.types else [""],
                strings_can_be_null=True,
                include_columns=columns or None,
                check_utf8=False,
            ),
        )

    def _load_strings(self, body: bytes, block: Block) -> pa.Table:
        try:
            table = self._parse(body, {}, [], block)
        except pa.ArrowInvalid as fault:  # the same body was parsed with types before
            raise InvalidInputError("the file could not be read twice") from fault
        return build_strings(self.names, table.columns, self.null_values)

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


def detect_delimiter(sample: list[str]) -> str:
    """Return the delimiter that cuts most sample lines into as many fields as the header.

    Raises ``InvalidInputError`` when none cuts the header into two columns.
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
    if start := _later_header(sample):
        raise InvalidInputError(
            f"the first line, {shorten(header)!r}, is not the header, which seems to be {shorten(start)!r}: remove the "
            "lines before it"
        )
    foreign = [mark for mark in FOREIGN_DELIMITERS if mark in header]
    remedy = (
        f"; if {foreign[0]!r} separates the columns, say so in the spec (read: delimiter), or write the file with a "
        "comma, semicolon, tab or pipe instead"
        if foreign
        else ": separate columns by a comma, semicolon, tab or pipe; a table needs a target and at least one feature"
    )
    raise InvalidInputError(f"the header {shorten(header)!r} is a single column{remedy}")


@dataclass(frozen=True, slots=True)
class DelimitedFormat:
    """Format of the records of a file, as detected at its beginning."""

    names: tuple[str, ...]
    delimiter: str
    header_bytes: int  # in UTF-8, without a mark of the byte order
    numbers: NumberStyle = PLAIN
    plain_names: tuple[str, ...] = ()
    regular: bool = False  # each line is a record, and every quote opens, closes or doubles


@dataclass(slots=True)
class DelimitedReader(TableReader):
    """Reader of delimited text.

    Without ``delimiter`` it is detected. ``within`` a file, the text is a range of records without a header. Raises
    ``InvalidInputError`` when the file is no such table.
    """

    text: TextFile
    delimiter: str | None
    read: ReadSpec
    within: DelimitedFormat | None = None
    names: list[str] = field(init=False)
    doubtful_numbers: frozenset[str] = field(init=False, default=frozenset())
    numbers: NumberStyle = field(init=False, default=PLAIN)
    plain_names: frozenset[str] = field(init=False, default=frozenset())
    unnamed: frozenset[str] = field(init=False, default=frozenset())
    _style_findings: tuple[Finding, ...] = field(init=False, default=())
    _null_values: pa.Array | None = field(init=False, default=None)
    _header_bytes: int = field(init=False)
    _header_lines: int = field(init=False)

    def __post_init__(self) -> None:
        self._header_lines = self._header_bytes = 0
        self._null_values = null_values_of(self.read)
        if self.within is not None:
            self.names, self.delimiter = list(self.within.names), self.within.delimiter
            self.numbers, self.plain_names = self.within.numbers, frozenset(self.within.plain_names)
            return
        lines = self._first_lines()
        if lines and (separator := _SEPARATOR_LINE.fullmatch(lines[0])):
            # Excel's own line, which says how the file is delimited.
            self.delimiter = self.delimiter or separator[1].replace("\\t", "\t")
            self._header_lines, self._header_bytes = 1, len(lines.pop(0).encode())
        sample = list(islice((line for line in lines if line.strip()), _SAMPLE_LINES))
        if not sample:
            raise NoRowsError("the file is empty: upload it again with a header and rows")
        self.delimiter = self.delimiter or detect_delimiter(sample)
        # A second mark of the byte order is no letter of a name.
        self.names = [name.strip().strip("\ufeff").strip() for name in self._read_header(lines)]
        fitting = [
            record for record in _sample_records(lines[:_STYLE_LINES], self.mark)[1:] if len(record) == len(self.names)
        ]
        named = frozenset(self.names)
        self.names = _name_empty_columns(self.names, fitting)
        self.unnamed = frozenset(self.names) - named
        check_header(self.names)
        self.numbers, self._style_findings = detect_style(fitting, self.read)
        self.doubtful_numbers = doubtful_columns(self.names, fitting, self.numbers, self.read)
        self.plain_names = plain_columns(self.names, fitting, self.numbers)

    @property
    def form(self) -> DelimitedFormat:
        """Format of the records that follow the header."""
        return DelimitedFormat(
            tuple(self.names), self.mark, self._header_bytes, self.numbers, tuple(sorted(self.plain_names))
        )

    @property
    def description(self) -> dict[str, str]:
        """Format, delimiter, encoding, notation of numbers, compression."""
        delimiter, encoding = DELIMITERS.get(self.mark, self.mark), self.text.encoding.label
        numbers = {} if self.numbers == PLAIN else {"numbers": self.numbers.example}
        described = {"format": "delimited text", "delimiter": delimiter, "encoding": encoding}
        return described | numbers | self.text.content.description

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings on encoding and notation."""
        return (*self.text.encoding.findings(), *self._style_findings)

    @property
    def mark(self) -> str:
        """The delimiter in use."""
        return self.delimiter or ","

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        """Cut the file into blocks, to read concurrently."""
        wanted = {name: self._readable(kind) for name, kind in (types or {}).items() if name in self.names}
        fast = _FastParser(self.names, self.mark, self._null_values, wanted)
        filled, irregular = False, 0
        with self.text.open() as stream:
            sizes = block_sizes(len(self.names), self.text.content.size)
            regular = self.within is not None and self.within.regular
            reader = BlockReader(stream, self.mark, self._header_lines + 1, sizes, regular)
            reader.skip(self._header_bytes)
            for block in reader.blocks():
                filled = filled or _FILLED.search(block.body) is not None
                if block.plain:
                    yield partial(self._read_fast, block, fast)
                else:
                    irregular += len(block.body)
                    if irregular > _IRREGULAR_BYTES:
                        raise InvalidInputError(
                            f"more than {_IRREGULAR_BYTES >> 20} MB have irregular quotes, at last on line "
                            f"{block.first_line:,}: quote whole values, and double quotes inside them"
                        )
                    # The start of the next block is known only once this one was parsed.
                    records = self._fallback(block, reader.more)
                    batch = self._batch_of(records)
                    reader.line = records.next_line
                    yield lambda batch=batch: batch  # type: ignore[misc]  # binds this round's
        if not filled:
            header = f"a header of {len(self.names):,} columns"
            raise NoRowsError(f"the file has {header} but no rows: upload it again with its rows")

    def _readable(self, kind: pa.DataType) -> pa.DataType:
        """Return the type to request of Arrow, which would read 1.234 as a fraction where it is a thousand."""
        return pa.string() if pa.types.is_floating(kind) and self.numbers != PLAIN else kind

    def _read_fast(self, block: Block, fast: _FastParser) -> RowBatch:
        batch = fast.read(block)
        return self._batch_of(self._fallback(block, bytes)) if batch is None else self._with_notation(batch)

    def _fallback(self, block: Block, more: Callable[[], bytes]) -> _CsvFallback:
        return _CsvFallback(block, more, self.mark, self.text.encoding.label, len(self.names))

    def _batch_of(self, records: _CsvFallback) -> RowBatch:
        counts: NullCounts = {}
        strings = build_strings(self.names, records.columns(), self._null_values, counts)
        lines, malformed = np.array(records.lines, dtype=np.int64), tuple(records.malformed)
        return self._with_notation(RowBatch(lines, lambda: strings, malformed, self.names, null_counts=counts))

    def _with_notation(self, batch: RowBatch) -> RowBatch:
        batch.numbers, batch.plain_names, batch.null_values = self.numbers, self.plain_names, self._null_values
        return batch

    def _first_lines(self) -> list[str]:
        """Return the first lines of the file, without one that is cut off at the end."""
        pieces: list[bytes] = []
        size = found = 0
        with self.text.open() as stream:
            while not found or (size < _FIRST_BYTES and found < _FIRST_LINES):
                piece = stream.read(_READ_AT_ONCE)
                if not piece:
                    return list(islice(_text_lines(b"".join(pieces)), _FIRST_LINES))
                pieces.append(piece)
                size, found = size + len(piece), found + (count_lines(piece) or piece.count(b"\r", 0, -1))
                if not found and size > MAX_RECORD_BYTES:
                    raise InvalidInputError(
                        f"the first line is longer than {MAX_RECORD_BYTES >> 20} MB: a table has a header and then a "
                        "row on each line; is this a single line of JSON? Then write an object on each line"
                    )
        head = b"".join(pieces)
        # A return at the very end may be half of a line break.
        head = head[: head.rfind(b"\n") + 1 or head.rfind(b"\r", 0, -1) + 1]
        return list(islice(_text_lines(head), _FIRST_LINES))

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
        self._header_lines += len(taken)
        self._header_bytes += sum(len(line.encode("utf-8", "surrogateescape")) for line in taken)
        if any("\ud800" <= letter <= "\udfff" for letter in "".join(record)):
            raise InvalidInputError(f"the header is not valid {self.text.encoding.label} text")
        return record


def _later_header(sample: list[str]) -> str | None:
    """Return the line at which a table begins after titles or comments; None when it does not."""
    for delimiter in DELIMITERS:
        widths = [len(record) for line in sample for record in _sample_records([line], delimiter)[:1]]
        start = next((place for place, width in enumerate(widths) if width > 1), 0)
        if start and len(widths) == len(sample) and set(widths[start:]) == {widths[start]} and len(widths) > start + 1:
            return sample[start].strip()
    return None


def _name_empty_columns(names: list[str], records: list[list[str]]) -> list[str]:
    """Name columns that have neither a name nor a value, as a delimiter at the end of each line makes them."""
    return [
        name or ("" if any(record[place].strip() for record in records) or not records else f"unnamed_{place + 1}")
        for place, name in enumerate(names)
    ]


def _sample_records(sample: list[str], delimiter: str) -> list[list[str]]:
    records: list[list[str]] = []
    with suppress(csv.Error):
        records.extend(record for record in csv.reader(sample, delimiter=delimiter) if record)
    return records
