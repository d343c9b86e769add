"""An uploaded file's bytes, read piece by piece and as often as needed, unpacked on the way when it is gzipped."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from millrace.errors import InvalidInputError, PayloadTooLargeError

#: Bytes that are looked at to tell what a file is.
SAMPLE_BYTES = 1 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_LINE_END_BYTES = 1 << 16


class Bytes(Protocol):
    """What a file's bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Return about ``size`` more bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """A file that can be opened again and again.

    Parameters
    ----------
    source : bytes or Path
        The file itself, or where it lies.
    max_bytes : int
        How much it may unpack to.
    """

    source: bytes | Path
    max_bytes: int

    @property
    def compressed(self) -> bool:
        """Whether the file is gzipped."""
        with self._open_packed() as stream:
            return stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC

    @property
    def description(self) -> dict[str, str]:
        """How the file is packed, if it is."""
        return {"compression": "gzip"} if self.compressed else {}

    @property
    def size(self) -> int | None:
        """How many bytes there are; None of an archive, which has to be read to know."""
        if self.compressed:
            return None
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the unpacked bytes.

        Raises
        ------
        InvalidInputError
            On reading, when the file is a damaged archive.
        PayloadTooLargeError
            When there are more than ``max_bytes``; of an archive, on reading.
        """
        with self._open_packed() as packed:
            if not self.compressed:
                if packed.seek(0, io.SEEK_END) > self.max_bytes:
                    raise too_large(self.max_bytes)
                packed.seek(0)
                yield packed
                return
            try:
                with BoundedGzipFile(packed, self.max_bytes) as stream:
                    yield stream  # type: ignore[misc]  # a GzipFile reads like any other
            except (OSError, EOFError, zlib.error) as fault:
                raise InvalidInputError("the gzip file is damaged or cut off: upload it again") from fault

    @contextmanager
    def open_lines(self) -> Iterator[Bytes]:
        """Open the unpacked bytes, so that what is read ends with a line where that costs nothing."""
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

    def read_all(self) -> bytes:
        """Return every byte; the source itself where nothing has to be unpacked."""
        if isinstance(self.source, bytes) and not self.compressed:
            return self.source
        return b"".join(self.pieces())

    def _open_packed(self) -> IO[bytes]:
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")


@dataclass(frozen=True, slots=True)
class WholeLines:
    """Reads a file up to the last end of a line, so that nobody has to cut what was read, and copy it.

    Parameters
    ----------
    file : binary file
        It can be read again from any position.
    """

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
    """An archive that is unpacked up to a number of bytes."""

    def __init__(self, packed: IO[bytes], max_bytes: int) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self._left, self._max_bytes = max_bytes, max_bytes

    def read(self, size: int | None = -1) -> bytes:
        """Return about ``size`` more bytes."""
        piece = super().read(size)
        self._left -= len(piece)
        if self._left < 0:
            raise too_large(self._max_bytes)
        return piece


def too_large(max_bytes: int) -> PayloadTooLargeError:
    """Return what is raised when a file has more bytes than that."""
    return PayloadTooLargeError(f"the file unpacks to more than {max_bytes / 1e6:,.0f} MB: upload several datasets")
