"""Bytes of the objects of a batch job, as they were when it was requested.

Every request names the content that was listed: an object that was replaced meanwhile is an error, and its bytes never
mix with those before.
"""

import io
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from millrace.batch.job import Piece, SourceObject
from millrace.data.file_ranges import read_footer
from millrace.errors import InvalidInputError
from millrace.ports import ObjectStore

#: Bytes of a request for a stream, and the requests whose bytes are kept: a reader looks a little ahead of itself.
STREAMED_BYTES, _KEPT_REQUESTS = 4 << 20, 4
#: Bytes of a request for a file, and requests at the same time.
_FETCHED_BYTES, _FETCH_THREADS = 8 << 20, 4


def get_bytes(store: ObjectStore, source: SourceObject, start: int, end: int) -> bytes:
    """Return some bytes of an object; raises ``ConflictError`` when it was replaced."""
    if end <= start:
        return b""
    body = store.get_range(source.key, start, end, etag=source.etag, version_id=source.version_id)
    if len(body) != end - start:
        raise InvalidInputError("the file has fewer bytes than when it was listed: upload it again")
    return body


class ObjectRange(io.RawIOBase):
    """A range of an object as a file, from its first byte; the next bytes are requested before they are read."""

    def __init__(self, store: ObjectStore, source: SourceObject, start: int, end: int) -> None:
        super().__init__()
        self._store, self._source, self._start, self._size = store, source, start, end - start
        self._position = 0
        self._requests: dict[int, Future[bytes]] = {}
        self._pool = ThreadPoolExecutor(1)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; bytes long before it may have to be requested again."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int = -1, /) -> bytes:
        """Return so many bytes, fewer only at the end."""
        end = self._size if size < 0 else min(self._position + size, self._size)
        pieces = []
        while self._position < end:
            number, offset = divmod(self._position, STREAMED_BYTES)
            body = self._request(number).result()
            piece = body[offset : offset + end - self._position] if offset or len(body) > end - self._position else body
            pieces.append(piece)
            self._position += len(piece)
            self._request(number + 1)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Forget the bytes."""
        self._requests.clear()
        self._pool.shutdown(cancel_futures=True)
        super().close()

    def _request(self, number: int) -> "Future[bytes]":
        future = self._requests.pop(number, None)
        if future is None:
            begin = number * STREAMED_BYTES
            end = max(begin, min(begin + STREAMED_BYTES, self._size))
            call = (self._store, self._source, self._start + begin, self._start + end)
            future = self._pool.submit(get_bytes, *call)
        # The last one comes last, and those that were not needed for longest go: also after a step far back.
        self._requests[number] = future
        while len(self._requests) > _KEPT_REQUESTS:
            del self._requests[next(iter(self._requests))]
        return future


def stream_bytes(store: ObjectStore, source: SourceObject, start: int) -> Iterator[bytes]:
    """Yield an object's bytes from a position on; the next ones are requested while the caller works on some."""
    with ObjectRange(store, source, start, source.size) as stream:
        while piece := stream.read(STREAMED_BYTES):
            yield piece


def fetch(store: ObjectStore, piece: Piece, path: Path) -> None:
    """Write the bytes of a piece to a file; of row groups where they are in the whole file, with its footer."""
    source = piece.source
    start, end = piece.start, source.size if piece.end is None else piece.end
    with path.open("wb") as file:
        if piece.groups is not None:
            footer = read_footer(lambda count: get_bytes(store, source, max(0, source.size - count), source.size))
            file.seek(source.size - len(footer))
            file.write(footer)
        calls = list(pairwise([*range(start, end, _FETCHED_BYTES), end]))
        with ThreadPoolExecutor(_FETCH_THREADS) as pool:
            for begin in range(0, len(calls), _FETCH_THREADS):
                some = calls[begin : begin + _FETCH_THREADS]
                for (first, _), body in zip(
                    some, pool.map(lambda call: get_bytes(store, source, *call), some), strict=True
                ):
                    file.seek(first)
                    file.write(body)
