"""Read JSON Lines."""

import io
import json
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from millrace.data.content import MAX_RECORD_BYTES, TextFile, record_too_long
from millrace.data.findings import Finding, shorten
from millrace.data.raw import (
    MAX_ROW_TEXT,
    NullCounts,
    QuarantinedRow,
    RowBatch,
    TableReader,
    build_strings,
    check_header,
    with_every_column,
)
from millrace.errors import InvalidInputError, PayloadTooLargeError
from millrace.schema import MAX_COLUMNS

_VALUES_PER_BATCH = 1_000_000
_MALFORMED_A_BATCH = 10_000
#: Bytes of lines that are read at once, and of the lines of a batch.
_LINES_BYTES, _BATCH_BYTES = 4 << 20, 32 << 20


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
    _plain_names: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self._spool = _Spool()
        names: dict[str, None] = {}
        rows = 0
        for batch in self._parse():
            names.update(dict.fromkeys(batch.strings.column_names))
            if len(names) > MAX_COLUMNS:
                check_header(list(names))
            rows += len(batch)
            if (limits := self.text.content.limits).max_rows < rows:
                raise PayloadTooLargeError(limits.refusal(f"the file has more than {limits.max_rows:,} rows"))
            self._spool.add(batch)
        wrapped = self._wrapped() if rows == 1 else None
        commas = rows == 1 and next(self._lines())[1].rstrip().endswith("},")
        if not rows or commas:
            raise InvalidInputError(f"no line of the file is a JSON object: {self._explain()}")
        self.names = list(names)
        if wrapped:
            raise InvalidInputError(
                f"the file is one JSON object, whose {wrapped!r} is a list: write one object a line, such as by "
                f"`jq -c '.{wrapped}[]' FILE`"
            )
        check_header(self.names)
        encoding = self.text.encoding
        self.description = {"format": "JSON Lines", "encoding": encoding.label} | self.text.content.description
        self.findings = encoding.findings()

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:  # noqa: ARG002  # text will do
        """Read the rows in order."""
        for stored in self._spool:
            batch = with_every_column(stored, self.names)
            batch.plain_names = frozenset(self._plain_names)
            yield lambda batch=batch: batch  # type: ignore[misc]  # binds this round's

    def _parse(self) -> Iterator[RowBatch]:
        collected = _Records(self.null_values, self._plain_names)
        for number, text in self._lines():
            collected.add(number, text)
            if collected.full:
                yield collected.batch()
                collected = _Records(self.null_values, self._plain_names)
        if collected.lines or collected.malformed:
            yield collected.batch()

    def _explain(self) -> str:
        """Return what to do about a file without an object on a line, by its first line."""
        number, line = next(self._lines(), (1, ""))
        line = line.strip()
        if line.endswith("},"):
            return f"line {number} ends with a comma: write one object a line, without commas between them"
        if line.startswith("[") and line != "[":
            return f"line {number} is a list: write an object with the columns' names on each line"
        if line.startswith("{"):
            return "objects take several lines: write one object a line, such as by `jq -c . FILE`"
        return "write one object a line"

    def _wrapped(self) -> str | None:
        """Return the key whose value is a list of rows, when that is the whole file."""
        with suppress(ValueError, AttributeError):
            record = json.loads(next(self._lines())[1])
            return next((name for name, value in record.items() if isinstance(value, list) and len(value) > 1), None)
        return None

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that are not blank, with their numbers."""
        rest, number = b"", 0
        with self.text.open() as stream:
            while piece := stream.read(_LINES_BYTES):
                if not rest and not piece.strip(b"\n"):
                    number += len(piece)
                    continue
                *whole, rest = (rest + piece).split(b"\n")
                if len(rest) > MAX_RECORD_BYTES:
                    raise record_too_long(number + len(whole) + 1)
                for line in whole:
                    number += 1
                    if line and not line.isspace():
                        yield number, line.decode("utf-8", "surrogateescape")
            if rest and not rest.isspace():
                yield number + 1, rest.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class _Records:
    """Objects of some lines, by key."""

    null_values: pa.Array | None
    plain_names: set[str]  # columns with numbers as such, which have no other notation
    columns: dict[str, list[str | None]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    malformed: list[QuarantinedRow] = field(default_factory=list)
    size: int = 0

    @property
    def full(self) -> bool:
        many = len(self.lines) * len(self.columns) >= _VALUES_PER_BATCH or len(self.malformed) >= _MALFORMED_A_BATCH
        return many or self.size >= _BATCH_BYTES

    def add(self, number: int, text: str) -> None:
        self.size += len(text)
        try:
            record = _json_record(text, self.plain_names)
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
        counts: NullCounts = {}
        strings = build_strings(list(self.columns), columns, self.null_values, counts)
        lines, malformed = np.array(self.lines, dtype=np.int64), tuple(self.malformed)
        return RowBatch(lines, lambda: strings, malformed, list(self.columns), null_counts=counts)


@dataclass(slots=True, weakref_slot=True)
class _Spool:
    """Compressed batches, each with its own columns, in a temporary file."""

    file: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    parts: list[tuple[int, int, npt.NDArray[np.int64], NullCounts]] = field(default_factory=list)

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
        self.parts.append((start, len(malformed), batch.lines, batch.null_counts))

    def __iter__(self) -> Iterator[RowBatch]:
        ends = [start for start, *_ in self.parts[1:]] + [self.file.seek(0, io.SEEK_END)]
        for (start, tail, lines, counts), end in zip(self.parts, ends, strict=True):
            self.file.seek(start)
            body = self.file.read(end - start)
            rows = json.loads(body[len(body) - tail :])
            strings = pa.ipc.open_stream(pa.py_buffer(body).slice(0, len(body) - tail)).read_all()
            malformed = tuple(QuarantinedRow(**row) for row in rows)
            yield RowBatch(lines, partial(_same, strings), malformed, strings.column_names, null_counts=counts)


def _same(strings: pa.Table) -> pa.Table:
    return strings


def _json_record(text: str, plain_names: set[str]) -> dict[str, str | None]:
    text.encode("utf-8")  # a lone surrogate stands for bytes that were not valid
    record = json.loads(text, object_pairs_hook=_unique_pairs)
    if not isinstance(record, dict):
        raise ValueError(f"found {type(record).__name__}")  # noqa: TRY004  # like every other fault of the text
    for name, value in record.items():
        name.encode("utf-8")
        if type(value) is float:
            plain_names.add(name)
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
