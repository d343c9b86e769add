"""CSV and its relatives: which delimiter, and every record in the table or set aside with its line.

Plain blocks are read by Arrow, each on its own, and so on several threads; the others by the standard library's
parser, one after the other. Both read the same from a plain block.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import pyarrow as pa

from millrace.data.blocks import Block, BlockReader, block_sizes, count_lines
from millrace.data.careful_blocks import CarefulRecords, text_lines
from millrace.data.encoding import Text
from millrace.data.findings import Finding, shorten
from millrace.data.number_style import PLAIN, NumberStyle, detect_style
from millrace.data.plain_blocks import PlainBlocks
from millrace.data.raw import RowBatch, build_cells, check_header, itself, missing_words
from millrace.errors import InvalidInputError, NoRowsError
from millrace.spec.data import ReadSpec

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

    text: Text
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
        self._missing = missing_words(self.read)

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
        plain_blocks = PlainBlocks(self.names, self.mark, self._missing, wanted)
        filled = False
        with self.text.open() as stream:
            sizes = block_sizes(len(self.names), self.text.content.size)
            reader = BlockReader(stream, self.mark, self._header_lines + 1, sizes)
            reader.skip(self._header_bytes)
            for block in reader.blocks():
                filled = filled or _FILLED.search(block.body) is not None
                if block.plain:
                    yield partial(self._read_plain, block, plain_blocks)
                else:
                    # Where the next block starts is known only once this one has been read.
                    records = self._careful_records(block, reader.more)
                    batch = self._batch_of(records)
                    reader.line = records.next_line
                    yield partial(itself, batch)
        if not filled:
            raise NoRowsError(
                f"the file has a header of {len(self.names):,} columns but no rows: upload it again with its rows"
            )

    def _readable(self, kind: pa.DataType) -> pa.DataType:
        """Return what Arrow may read: it would read 1.234 as a fraction where it is a thousand."""
        return pa.string() if pa.types.is_floating(kind) and self._numbers != PLAIN else kind

    def _read_plain(self, block: Block, plain_blocks: PlainBlocks) -> RowBatch:
        batch = plain_blocks.read(block)
        if batch is None:
            return self._batch_of(self._careful_records(block, lambda: b""))
        batch.numbers, batch.missing = self._numbers, self._missing
        return batch

    def _careful_records(self, block: Block, more: Callable[[], bytes]) -> CarefulRecords:
        return CarefulRecords(block, more, self.mark, self.text.encoding.label, len(self.names))

    def _batch_of(self, records: CarefulRecords) -> RowBatch:
        """Read a block with the standard library's parser, and on to the end of its last record."""
        cells = build_cells(self.names, records.columns(), self._missing)
        lines = np.array(records.lines, dtype=np.int64)
        batch = RowBatch(lines, lambda: cells, tuple(records.malformed), self.names)
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
