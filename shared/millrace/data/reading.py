"""From an uploaded file to rows of text cells.

What a file is follows from its content; its name only tells JSON Lines from other text. Every format ends in the
same batches of strings, so that the same table has the same types however it was written.
"""

import re
from pathlib import Path

from millrace.data.allocation import allocate_for_blocks
from millrace.data.content import Content
from millrace.data.delimited import DelimitedReader
from millrace.data.encoding import Text
from millrace.data.json_lines import JsonLinesReader
from millrace.data.limits import DEFAULT_LIMITS
from millrace.data.parquet import ParquetReader
from millrace.data.raw import RawTable, TableReader, collect, missing_words
from millrace.errors import InvalidInputError, NoRowsError
from millrace.spec.data import ReadSpec

#: Bytes that one file may hold, unpacked.
MAX_FILE_BYTES = DEFAULT_LIMITS.max_bytes

allocate_for_blocks()

_FILLED = re.compile(rb"[^ \t\r\n\0\xef\xbb\xbf]")
_PARQUET_MAGIC = b"PAR1"
_OBJECT = re.compile(rb"\s*\{")
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
    file: bytes | Path, file_name: str, read: ReadSpec | None = None, max_bytes: int | None = None
) -> TableReader:
    """Open CSV, TSV, JSON Lines or Parquet, gzipped or not.

    Every row of the file is in one of the reader's batches, or among its malformed rows.

    Parameters
    ----------
    file : bytes or Path
        The file itself, or where it lies.
    file_name : str
        Tells JSON Lines (``.jsonl``, ``.ndjson``, ``.json``) from delimited text.
    read : ReadSpec or None, default=None
        How it is written, where it should not be found out.
    max_bytes : int or None, default=None
        What it may unpack to; None stands for :data:`MAX_FILE_BYTES`.

    Raises
    ------
    NoRowsError
        When it is a table without rows.
    InvalidInputError
        When it is no table that can be read, with what to do about it.
    PayloadTooLargeError
        When it unpacks to more than ``max_bytes``.
    """
    read = read or ReadSpec()
    content = Content(file, MAX_FILE_BYTES if max_bytes is None else max_bytes)
    name = file_name.lower()
    if content.compressed:
        name = name.removesuffix(".gz")
    head = content.head()
    if not _FILLED.search(head) and not any(_FILLED.search(piece) for piece in content.pieces()):
        raise NoRowsError("the file is empty: upload it again with a header and rows")
    for magic, what in _KNOWN_FORMATS.items():
        if head[: len(magic)].lower() == magic.lower():
            raise InvalidInputError(f"the file is {what}, not a table: upload CSV, JSON Lines or Parquet")
    return _choose_reader(content, name, head, read)


def read_table(file: bytes | Path, file_name: str, read: ReadSpec | None = None) -> RawTable:
    """Read a whole file into memory; :func:`open_table` says what is read and what is refused."""
    return collect(open_table(file, file_name, read))


def _choose_reader(content: Content, name: str, head: bytes, read: ReadSpec) -> TableReader:
    if head.startswith(_PARQUET_MAGIC) or name.endswith(".parquet"):
        return ParquetReader(content)
    text = Text(content, read.encoding)
    if name.endswith(_JSON_NAMES) or _OBJECT.match(head):
        return JsonLinesReader(text, missing_words(read))
    return DelimitedReader(text, read.delimiter, read)
