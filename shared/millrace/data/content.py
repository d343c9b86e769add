"""An uploaded file's bytes, read piece by piece and as often as needed, unpacked on the way when it is gzipped."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from millrace.errors import InvalidInputError, PayloadTooLargeError

#: Bytes that are looked at to tell what a file is.
SAMPLE_BYTES = 1 << 20

_GZIP_MAGIC = b"\x1f\x8b"


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

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open the unpacked bytes.

        Raises
        ------
        InvalidInputError
            On reading, when the file is a damaged archive.
        """
        with self._open_packed() as packed:
            if not self.compressed:
                yield packed
                return
            try:
                with gzip.open(packed) as stream:
                    yield stream  # type: ignore[misc]  # a GzipFile reads like any other
            except (OSError, EOFError, zlib.error) as fault:
                raise InvalidInputError("the gzip file is damaged or cut off: upload it again") from fault

    def head(self) -> bytes:
        """Return the first bytes."""
        with self.open() as stream:
            return stream.read(SAMPLE_BYTES)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes, a piece at a time.

        Raises
        ------
        PayloadTooLargeError
            When there are more than ``max_bytes``.
        """
        total = 0
        with self.open() as stream:
            while piece := stream.read(SAMPLE_BYTES):
                total += len(piece)
                if total > self.max_bytes:
                    raise PayloadTooLargeError(
                        f"the file unpacks to more than {self.max_bytes / 1e6:,.0f} MB: upload several datasets"
                    )
                yield piece

    def read_all(self) -> bytes:
        """Return every byte; the source itself where nothing has to be unpacked."""
        if isinstance(self.source, bytes) and not self.compressed:
            return self.source
        return b"".join(self.pieces())

    def _open_packed(self) -> IO[bytes]:
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else self.source.open("rb")
