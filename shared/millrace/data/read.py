"""Open uploads as tables: one file, or several as one, in the order of their names, within limits.

While a folder is checked, a line is one number for all files, :data:`LINES_A_FILE` for each file before its own;
:attr:`UploadReader.locate` turns it into a file and its line.
"""

import ctypes
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock

import pyarrow as pa

from millrace.data.content import DEFAULT_LIMITS, Content, TextFile, UploadLimits
from millrace.data.delimited import DelimitedReader
from millrace.data.findings import Finding, listed
from millrace.data.json_lines import JsonLinesReader
from millrace.data.parquet import ParquetReader
from millrace.data.quarantine import MAX_QUARANTINED, Locate, too_many_quarantined
from millrace.data.raw import RowBatch, TableReader, check_header, null_values_of, with_every_column
from millrace.errors import InvalidInputError, NoRowsError, PayloadTooLargeError
from millrace.quantities import PLAIN, NumberStyle
from millrace.schema import FileFormat
from millrace.spec.data import ReadSpec

__all__ = ["DEFAULT_LIMITS", "TableReader", "UploadLimits", "UploadReader", "allocate_for_blocks", "open_table"]

#: Options of ``mallopt(3)``: what is kept at an arena's end, and from which size on memory is mapped on its own.
_TRIM_THRESHOLD, _MAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_MAPPED_BYTES = 32 << 20


def allocate_for_blocks() -> None:
    """Let Arrow use the C library's allocator, and let that, where it is GNU's, keep memory for the next block."""
    pa.set_memory_pool(pa.system_memory_pool())
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(_MAP_THRESHOLD, _MAPPED_BYTES)
        set_option(_TRIM_THRESHOLD, _KEPT_BYTES)


allocate_for_blocks()

_NO_ROWS = "every file of the folder is empty: upload files with a header and rows"
#: Any byte that is neither blank nor a mark of the byte order.
FILLED = re.compile(rb"[^ \t\r\n\0\xef\xbb\xbf]")
PARQUET_MAGIC = b"PAR1"
_ARRAY = re.compile(rb"(?:\xef\xbb\xbf)?\s*\[\s*(?:[{\]]|\Z)")
_OBJECT = re.compile(rb"(?:\xef\xbb\xbf)?\s*\{")
_JSON_NAMES = (".jsonl", ".ndjson", ".json")
_KNOWN_FORMATS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"%PDF": "a PDF document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"SQLite format 3": "an SQLite database",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"BZh": "a bzip2 archive",
    b"<html": "a web page",
    b"<!DOCTYPE": "a web page",
    b"<?xml": "an XML document",
}


def open_table(
    file: bytes | Path, file_name: str, read: ReadSpec | None = None, limits: UploadLimits | None = None
) -> TableReader:
    """Open CSV, TSV, JSON Lines (by the file's name) or Parquet, gzipped or not.

    Every row of the file is in one of the reader's batches, or among its malformed rows.

    Raises
    ------
    NoRowsError
        When it is a table without rows.
    InvalidInputError
        When it cannot be read; the message has a remedy.
    PayloadTooLargeError
        When it unpacks to more than the limits (by default :data:`DEFAULT_LIMITS`).
    """
    read = read or ReadSpec()
    content = Content(file, DEFAULT_LIMITS if limits is None else limits)
    name = file_name.lower()
    if content.compressed:
        name = name.removesuffix(".gz")
    head = content.head()
    if not FILLED.search(head) and not any(FILLED.search(piece) for piece in content.pieces()):
        raise NoRowsError("the file is empty: upload it again with a header and rows")
    return _choose_reader(content, name, head, read)


def recognise(head: bytes, file_name: str) -> FileFormat:
    """Return the format of a file by its first bytes, unpacked, and its name.

    Raises ``InvalidInputError`` for one that is no table.
    """
    for magic, what in _KNOWN_FORMATS.items():
        if head[: len(magic)].lower() == magic.lower():
            raise InvalidInputError(f"the file is {what}, not a table: upload CSV, JSON Lines or Parquet")
    if head.startswith(PARQUET_MAGIC) or file_name.endswith(".parquet"):
        return "parquet"
    if _ARRAY.match(head):
        raise InvalidInputError("the file is one JSON array: write one object a line, such as by `jq -c '.[]' FILE`")
    if file_name.endswith(_JSON_NAMES) or _OBJECT.match(head):
        return "json_lines"
    return "delimited"


def _choose_reader(content: Content, name: str, head: bytes, read: ReadSpec) -> TableReader:
    form = recognise(head, name)
    if form == "parquet":
        return ParquetReader(content, null_values_of(read) or pa.array([""]))
    text = TextFile(content, read.encoding)
    if form == "json_lines":
        return JsonLinesReader(text, null_values_of(read))
    return DelimitedReader(text, read.delimiter, read)


#: More lines than any file has.
LINES_A_FILE = 1 << 40


@dataclass(slots=True)
class UploadReader(TableReader):
    """Reader of an upload within limits: one file, or the named files of a folder as one.

    A file of a folder that has other columns than the first is an error; empty ones are
    left out.
    """

    files: Sequence[tuple[str, bytes | Path]]
    read: ReadSpec
    limits: UploadLimits
    folder: bool = True
    names: list[str] = field(init=False)
    _readers: list[tuple[str, TableReader]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        for name, path in self.files:
            with self._naming(name):
                self._readers.append((name, open_table(path, name, self.read, self.limits)))
        if not self._readers:
            raise NoRowsError(_NO_ROWS)
        self.names = self._agreed_names()
        check_header(self.names)

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:
        """Cut the files into batches; reading raises ``PayloadTooLargeError`` beyond the limit of rows."""
        any_rows, counter = False, _Counter(self.limits)
        for position, (name, reader) in enumerate(self._readers):
            wanted = {key: kind for key, kind in (types or {}).items() if key in reader.names}
            with self._naming(name):
                for read in reader.readings(wanted):
                    any_rows = True
                    yield partial(self._read, position, read, counter)
        if not any_rows:
            raise NoRowsError(_NO_ROWS)

    @property
    def locate(self) -> Locate | None:
        """Function that turns a line into a file and its line, of a folder."""
        return self._locate if self.folder else None

    def _locate(self, line: int) -> tuple[str, int]:
        return self._readers[line // LINES_A_FILE][0], line % LINES_A_FILE

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        """Name the file of a folder in its errors, and ignore one without rows: Spark writes such files."""
        try:
            yield
        except InvalidInputError as fault:
            if not self.folder:
                raise
            if not isinstance(fault, NoRowsError):
                raise InvalidInputError(f"{name}: {fault.message}") from fault

    def _read(self, position: int, read: Callable[[], RowBatch], counter: "_Counter") -> RowBatch:
        with self._naming(self._readers[position][0]):
            batch = read()
        counter.add(len(batch) + len(batch.malformed), len(batch.malformed))
        return self._moved(batch, position * LINES_A_FILE) if self.folder else batch

    def _moved(self, batch: RowBatch, lines: int) -> RowBatch:
        """Shift a batch's lines, and give it every column."""
        moved = with_every_column(batch, self.names)
        moved.lines = batch.lines + lines
        moved.malformed = tuple(replace(row, line=row.line + lines) for row in batch.malformed)
        return moved

    def _agreed_names(self) -> list[str]:
        """Return the columns; a file of JSON Lines may lack some, as a line may."""
        first_name, first = self._readers[0]
        names = dict.fromkeys(first.names)
        for name, reader in self._readers[1:]:
            more = [column for column in reader.names if column not in names]
            less = [column for column in names if column not in reader.names]
            if isinstance(reader, JsonLinesReader) and isinstance(first, JsonLinesReader):
                names |= dict.fromkeys(more)
            elif more or less:
                parts = [f"{name!r} also has {listed(more, 5)}"] if more else []
                parts += [f"{name!r} lacks {listed(less, 5)}"] if less else []
                raise InvalidInputError(
                    f"the files have different columns: compared with {first_name!r}, {'; '.join(parts)}; write every "
                    "file with the same header"
                )
        return list(names)

    @property
    def numbers(self) -> NumberStyle:
        """Notation of numbers, by the first file that has another than the plain one."""
        return next((reader.numbers for _, reader in self._readers if reader.numbers != PLAIN), PLAIN)

    @property
    def unnamed(self) -> frozenset[str]:
        """Columns that have neither a name nor a value at the beginning of any file."""
        return frozenset[str]().union(*(reader.unnamed for _, reader in self._readers))

    @property
    def doubtful_numbers(self) -> frozenset[str]:
        """Columns in doubt in any of the files."""
        return frozenset[str]().union(*(reader.doubtful_numbers for _, reader in self._readers))

    @property
    def description(self) -> dict[str, str]:
        """Formats of the files, each once."""
        described: dict[str, dict[str, None]] = {}
        for _, reader in self._readers:
            for key, value in reader.description.items():
                described.setdefault(key, {})[value] = None
        count = {"files": str(len(self.files))} if self.folder else {}
        return {key: ", ".join(values) for key, values in described.items()} | count

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of all files; those that only some have name the file."""
        common = set.intersection(*(set(reader.findings) for _, reader in self._readers))
        reported = dict.fromkeys(finding for finding in self._readers[0][1].findings if finding in common)
        for name, reader in self._readers:
            own = (found for found in reader.findings if found not in common)
            reported |= dict.fromkeys(replace(found, message=f"{name}: {found.message}") for found in own)
        return tuple(reported)


@dataclass(slots=True)
class _Counter:
    """Counts the rows that were read, on any thread."""

    limits: UploadLimits
    rows: int = 0
    malformed: int = 0
    lock: Lock = field(default_factory=Lock)

    def add(self, rows: int, malformed: int) -> None:
        with self.lock:
            self.rows += rows
            self.malformed += malformed
            if self.malformed > MAX_QUARANTINED:
                raise InvalidInputError(too_many_quarantined())
            if self.rows > self.limits.max_rows:
                raise PayloadTooLargeError(
                    self.limits.refusal(f"the upload has more than {self.limits.max_rows:,} rows")
                )
