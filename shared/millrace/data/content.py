"""Read an uploaded file's bytes piece by piece, any number of times, unpacked on the way when it is gzipped."""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Protocol, Self

from millrace.data.findings import Finding, warning
from millrace.errors import InvalidInputError, PayloadTooLargeError

#: Bytes of one record: a line of text with what its quotes hold, or a row of Parquet.
MAX_RECORD_BYTES = 8 << 20
#: Bytes that are read to recognise a file.
SAMPLE_BYTES = 1 << 20

GZIP_MAGIC = b"\x1f\x8b"
_LINE_END_BYTES = 1 << 16


#: The memory that the limits below were measured with, in MB: the template's default.
MEASURED_MEMORY = 3_008


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Limits of an upload (unpacked, all files together), and of the matrices of all splits of a run."""

    max_bytes: int = 2_500_000_000
    max_rows: int = 15_000_000
    max_prepared_bytes: int = 400_000_000

    @classmethod
    def for_memory(cls, megabytes: int) -> Self:
        """Return the limits of a function with so much memory; more than was measured does not raise them."""
        share = min(1.0, megabytes / MEASURED_MEMORY)
        return cls(**{name: round(most * share) for name, most in asdict(cls()).items()})

    def refusal(self, what: str) -> str:
        """Return the message on an upload that is too large."""
        return (
            f"{what}; at most {self.max_bytes / 1e6:,.0f} MB, unpacked, and {self.max_rows:,} rows are read at once: "
            "upload it as several datasets, which are trained on together"
        )

    def too_large(self) -> PayloadTooLargeError:
        """Return the error for a file that unpacks to more."""
        size = f"{self.max_bytes / 1e6:,.0f} MB"
        return PayloadTooLargeError(f"the file unpacks to more than {size}: upload several datasets")


DEFAULT_LIMITS = UploadLimits()


class ByteSource(Protocol):
    """Stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return about ``size`` more bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """A file that can be opened any number of times, within limits of its unpacked size."""

    source: bytes | Path | Callable[[], IO[bytes]]
    limits: UploadLimits

    @property
    def compressed(self) -> bool:
        """True when the file is gzipped; what a function opens is not."""
        if not isinstance(self.source, bytes | Path):
            return False
        with self.open_packed() as stream:
            return stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC

    @property
    def description(self) -> dict[str, str]:
        """Compression, if there is one."""
        return {"compression": "gzip"} if self.compressed else {}

    @property
    def size(self) -> int | None:
        """Number of bytes; None of an archive, which has to be read to know."""
        if self.compressed:
            return None
        if isinstance(self.source, bytes):
            return len(self.source)
        if isinstance(self.source, Path):
            return self.source.stat().st_size
        with self.source() as file:
            return file.seek(0, io.SEEK_END)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the unpacked bytes.

        On reading, raises ``InvalidInputError`` for a damaged archive and ``PayloadTooLargeError`` above the limit.
        """
        with self.open_packed() as packed:
            if not self.compressed:
                if packed.seek(0, io.SEEK_END) > self.limits.max_bytes:
                    raise self.limits.too_large()
                packed.seek(0)
                yield packed
                return
            try:
                with BoundedGzipFile(packed, self.limits) as stream:
                    yield stream  # type: ignore[misc]  # a GzipFile reads like any other
            except (OSError, EOFError, zlib.error) as fault:
                raise InvalidInputError("the gzip file is damaged or cut off: upload it again") from fault

    @contextmanager
    def open_lines(self) -> Iterator[ByteSource]:
        """Open the unpacked bytes; what is read ends with a line where that costs nothing."""
        with self.open() as stream:
            yield stream if self.compressed else WholeLines(stream)

    def head(self) -> bytes:
        """Return the first bytes."""
        with self.open() as stream:
            return stream.read(SAMPLE_BYTES)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes, a piece at a time."""
        with self.open() as stream:
            while piece := stream.read(SAMPLE_BYTES):
                yield piece

    def open_packed(self) -> IO[bytes]:
        """Open the bytes as they are."""
        if isinstance(self.source, bytes):
            return io.BytesIO(self.source)
        return self.source.open("rb") if isinstance(self.source, Path) else self.source()


@dataclass(frozen=True, slots=True)
class WholeLines:
    """Reads a seekable file up to the last end of a line, so that no reader has to cut and copy."""

    file: IO[bytes]

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` more bytes; they end with a line when one ends among the last 65,536 of them."""
        start = self.file.tell()
        ahead = max(size - _LINE_END_BYTES, 0)
        self.file.seek(start + ahead)
        ending = self.file.read(size - ahead)
        cut = ending.rfind(b"\n") + 1
        self.file.seek(start)
        return self.file.read(ahead + cut if cut and len(ending) == size - ahead else size)


class BoundedGzipFile(gzip.GzipFile):
    """An archive with a limit of its unpacked size."""

    def __init__(self, packed: IO[bytes], limits: UploadLimits) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self._left, self._limits = limits.max_bytes, limits

    def read(self, size: int | None = -1) -> bytes:
        """Return about ``size`` more bytes."""
        piece = super().read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise self._limits.too_large()
        return piece


def record_too_long(line: int) -> InvalidInputError:
    """Return the error for a record beyond :data:`MAX_RECORD_BYTES`."""
    return InvalidInputError(
        f"line {line:,} is longer than {MAX_RECORD_BYTES >> 20} MB: a table has a row on each line; close its quotes, "
        "or write the objects of a JSON array one a line"
    )


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """Encoding of a text file; ``mixed`` when some lines are invalid in it, ``stated`` when the spec sets it."""

    name: str
    mixed: bool = False
    stated: bool = False

    @property
    def label(self) -> str:
        """Name for people."""
        return self.name.removesuffix("-sig")

    @property
    def is_utf8(self) -> bool:
        """True when the bytes can be used as they are."""
        return self.name == "utf-8-sig"

    def findings(self) -> tuple[Finding, ...]:
        """Return findings on the encoding."""
        if self.mixed:
            message = "the file mixes encodings: lines that are not valid UTF-8 were quarantined; write it as UTF-8"
            return (warning("mixed_encodings", message),)
        if self.name in ("cp1252", "latin-1") and not self.stated:
            message = f"the file is not UTF-8 and was read as {self.name}; write it as UTF-8 to avoid wrong characters"
            return (warning("encoding", message),)
        return ()


UTF_8 = TextEncoding("utf-8-sig")


def detect_encoding(content: Content) -> TextEncoding:
    """Detect the encoding of a text file: UTF-8, UTF-16, else a Windows or Latin single-byte one.

    A file with some valid UTF-8 lines that are not ASCII *is* UTF-8; its other lines are invalid. Raises
    ``InvalidInputError`` when the bytes are no text.
    """
    head = content.head()
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _utf16(content, "utf-16")
    if head.count(0, 1) > len(head) // 4:
        return _utf16(content, "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be")
    if 0 in head:
        raise InvalidInputError("the file is binary, not a table: upload CSV, JSON Lines or Parquet")
    if _decodes(content.pieces(), "utf-8"):
        return UTF_8
    if _has_utf8_line(content):
        return TextEncoding("utf-8-sig", mixed=True)
    return TextEncoding("cp1252" if _decodes(content.pieces(), "cp1252") else "latin-1")


def stated_encoding(content: Content, name: str) -> TextEncoding:
    """Use the encoding of the spec; only UTF-8 files may have invalid lines, others raise ``InvalidInputError``."""
    plain = codecs.lookup(name).name
    if plain in ("utf-8", "utf-8-sig"):
        return TextEncoding("utf-8-sig", mixed=not _decodes(content.pieces(), "utf-8"), stated=True)
    if not _decodes(content.pieces(), name):
        raise InvalidInputError(f"the file is not written in {name}, as the spec's read.encoding says")
    return TextEncoding(name, stated=True)


@dataclass(slots=True)
class TextFile:
    """A text file, read as UTF-8 whatever its encoding.

    All supported encodings write ASCII alike. So the encoding is detected at the first byte that is not ASCII, or when
    it is needed: most files are then read once instead of twice. Raises ``InvalidInputError`` when the bytes are no
    text, or not in the ``stated`` encoding of the spec. Nothing is detected where it is ``known``.
    """

    content: Content
    stated: str | None = None
    known: TextEncoding | None = None
    _encoding: TextEncoding | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.known is not None:
            self._encoding = self.known
        elif self.stated:
            self._encoding = stated_encoding(self.content, self.stated)
        elif not _is_plain(self.content.head()):
            self._encoding = detect_encoding(self.content)

    @property
    def encoding(self) -> TextEncoding:
        """Encoding of the file."""
        if self._encoding is None:
            self._encoding = detect_encoding(self.content)
        return self._encoding

    @property
    def mixed(self) -> bool:
        """True when the bytes read so far may be invalid UTF-8."""
        return self._encoding is not None and self._encoding.mixed

    @contextmanager
    def open(self) -> Iterator["Utf8Stream"]:
        """Open the text, without byte order mark."""
        with self.content.open_lines() as stream:
            yield Utf8Stream(stream, self)

    def encoding_of(self, piece: bytes) -> TextEncoding:
        """Return the encoding as far as it matters for a piece, which follows pieces of ASCII."""
        if self._encoding is None and piece.isascii():
            return UTF_8
        return self.encoding

    def end(self) -> None:
        """Record that every piece was read."""
        if self._encoding is None:
            self._encoding = UTF_8


@dataclass(slots=True)
class Utf8Stream:
    """Stream of a text file as UTF-8; invalid bytes of a mixed file stay as they are."""

    stream: ByteSource
    text: TextFile
    _decoder: codecs.IncrementalDecoder | None = field(init=False, default=None)
    _started: bool = field(init=False, default=False)

    @property
    def mixed(self) -> bool:
        """True when the bytes read so far may be invalid UTF-8."""
        return self.text.mixed

    def read(self, size: int, /) -> bytes:
        """Return about ``size`` more bytes; none at the end."""
        while piece := self.stream.read(size):
            encoding = self.text.encoding_of(piece)
            if self._decoder is None and not encoding.is_utf8:
                self._decoder = codecs.getincrementaldecoder(encoding.name)()
            if self._decoder is not None:
                piece = self._decoder.decode(piece).encode("utf-8")
            elif not self._started:
                piece = piece.removeprefix(codecs.BOM_UTF8)
            self._started = True
            if piece:
                return piece
        self.text.end()
        return b""


def _is_plain(head: bytes) -> bool:
    """Return whether the first bytes fit any encoding."""
    return head.isascii() and 0 not in head


def _utf16(content: Content, name: str) -> TextEncoding:
    if not _decodes(content.pieces(), name):
        raise InvalidInputError("the file is neither text nor Parquet: upload CSV, JSON Lines or Parquet")
    return TextEncoding(name)


def _decodes(pieces: Iterable[bytes], encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    clean = encoding == "utf-8"
    try:
        for piece in pieces:
            # A piece of ASCII is valid UTF-8, unless a character is still open.
            if not (clean and piece.isascii() and not decoder.getstate()[0]):
                decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _has_utf8_line(content: Content) -> bool:
    with content.open() as stream:
        while lines := stream.readlines(SAMPLE_BYTES):
            if any(not line.isascii() and _decodes([line], "utf-8") for line in lines):
                return True
    return False
