"""Cut delimited text into blocks of whole records, so that a file of any size is read with little memory.

A block is *plain* when its quotes are regular: opening ones after a delimiter or a line break, closing ones before,
doubled ones inside. Arrow's parser and the csv module then read the same from it, and the positions of quotes and line
breaks alone determine where each record starts. Other blocks are for the csv module, which explains its errors.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from threading import Semaphore
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from millrace.data.content import MAX_RECORD_BYTES, Utf8Stream, record_too_long

#: Bytes of a block: many beside what a block costs whatever is in it, few beside a function's memory.
BLOCK_BYTES = 8 << 20
#: The first block is so many times smaller, and each one after it twice as large as the one before: every thread has
#: work at once, and short files have some for each.
_GROWTH = 8
#: The last blocks are up to so many times smaller, and each at most this part of what is left: all threads have done
#: with theirs at about the same time.
_SHRINKAGE, _PART = 2, 4
#: A table of more columns is cut into blocks twice as large throughout: most of that cost is per column.
MANY_COLUMNS = 256
#: A record longer than this many blocks is taken for one whose quote is never closed.
MAX_RECORD_BLOCKS = 2
#: Lines of a block: past that, what is kept of each line costs more than its bytes.
MAX_BLOCK_LINES = 1 << 18

_COMPARED_AT_ONCE = 1 << 18
_NEWLINE, _RETURN, _QUOTE = 10, 13, 34


def block_sizes(columns: int, expected: int | None) -> Iterator[int]:
    """Yield the bytes to read for each block of a table, without end; ``expected`` are the file's, where known."""
    if columns >= MANY_COLUMNS:
        yield from repeat(2 * BLOCK_BYTES)
    size = max(BLOCK_BYTES // _GROWTH, 1)
    least = max(BLOCK_BYTES // _SHRINKAGE, 1)
    left = math.inf if expected is None else expected
    while True:
        yield size
        left -= size
        size = int(min(2 * size, BLOCK_BYTES, max(left / _PART, least)))


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole records, or the bytes left where records cannot be separated.

    The body ends in a line break and starts on ``first_line`` of the file, from 1. Quotes of a ``plain`` block are
    regular; only then are ``lines`` counted. A record of a ``multiline`` block has more than one.
    """

    body: bytes
    first_line: int
    plain: bool
    lines: int = 0
    quoted: bool = True
    multiline: bool = False


@dataclass(slots=True)
class BlockReader:
    """Cuts a UTF-8 stream, which begins on ``line`` of the file, into blocks of ``sizes`` bytes.

    Of a ``regular`` stream it is known that each line is a record, and every quote regular: nothing is checked again.
    """

    stream: Utf8Stream
    delimiter: str
    line: int
    sizes: Iterator[int]
    regular: bool = False
    _rest: bytes = field(init=False, default=b"")

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks in order; after one that is not plain, :meth:`more` completes its last record."""
        while True:
            piece = self.stream.read(next(self.sizes))
            cut = piece.rfind(b"\n") + 1
            quoted = b'"' in piece or b'"' in self._rest
            if cut and (self.regular or not quoted):
                # What most files are made of: no byte is copied that needs not be.
                whole = not self._rest and cut == len(piece)
                body = piece if whole else b"".join((self._rest, memoryview(piece)[:cut]))
                self._rest = piece[cut:]
                yield from self._few_lines(body, quoted=quoted)
                continue
            body, final = self._joined(piece)
            if not body:
                return
            scan = RecordScan.of(body)
            cut = scan.end
            if not final and not cut and (b"\n" not in body or len(body) < MAX_RECORD_BLOCKS * BLOCK_BYTES):
                self._keep(body)
                continue
            cut = cut or body.rfind(b"\n") + 1 or len(body)
            self._rest = body[cut:]
            yield from self._few_lines(body[:cut], quoted=True, scan=scan)

    def _few_lines(self, body: bytes, *, quoted: bool, scan: "RecordScan | None" = None) -> Iterator[Block]:
        """Yield whole records as blocks of a bounded number of lines, without those that are blank throughout.

        ``scan`` is of bytes that begin with this body.
        """
        while body:
            lines, end = count_lines(body) if scan is None else scan.lines(len(body)), len(body)
            # Stripped only where it may be blank: what is stripped is copied.
            if body[0] in b"\r\n" and not body.strip(b"\r\n"):
                self.line += lines + body.count(b"\r") - body.count(b"\r\n")  # a return alone ends a line as well
                return
            if lines > MAX_BLOCK_LINES:
                found = RecordScan.of(body, quoted=not self.regular)
                ends = found.ends if len(found.ends) else found.newlines
                end = int(ends[min(MAX_BLOCK_LINES, len(ends)) - 1]) + 1
                lines = count_lines(body[:end])
            part, body = body[:end], body[end:]
            seen = scan or (RecordScan.of(part) if quoted and not self.regular else None)
            scan = None
            if self.regular or self._is_plain(part, seen):
                multiline = seen is not None and seen.records(len(part)) != lines
                yield self._take(part, lines, quoted=quoted, multiline=multiline)
                continue
            # Its last record may go on in what follows.
            self._rest = body + self._rest
            yield self._take(part)
            cut = self._rest.rfind(b"\n") + 1 if b'"' not in self._rest else RecordScan.of(self._rest).end
            if not cut and len(self._rest) >= MAX_RECORD_BLOCKS * BLOCK_BYTES:
                cut = self._rest.rfind(b"\n") + 1
            body, self._rest = self._rest[:cut], self._rest[cut:]
            quoted = True

    def skip(self, count: int) -> None:
        """Skip the header's bytes, before anything else is read."""
        skipped = b""
        while len(skipped) < count and (piece := self.stream.read(count - len(skipped))):
            skipped += piece
        self._rest = skipped[count:]

    def more(self) -> bytes:
        """Return more lines, for a record that was not complete; none at the end."""
        body, final = self._joined(self.stream.read(BLOCK_BYTES))
        while not final and b"\n" not in body:
            self._keep(body)
            body, final = self._joined(self.stream.read(BLOCK_BYTES))
        cut = body.rfind(b"\n") + 1 or len(body)
        self._rest = body[cut:]
        return body[:cut]

    def _keep(self, body: bytes) -> None:
        """Keep the beginning of a record, unless it is longer than one may be."""
        if len(body) > MAX_RECORD_BYTES and b"\n" not in body:
            raise record_too_long(self.line)
        self._rest = body

    def _joined(self, piece: bytes) -> tuple[bytes, bool]:
        body = self._rest + piece
        self._rest = b""
        if not piece and body and not body.endswith((b"\n", b"\r")):
            body += b"\n"
        return body, not piece

    def _take(self, body: bytes, lines: int | None = None, *, quoted: bool = True, multiline: bool = True) -> Block:
        """Return a block; one without a number of lines is not plain."""
        block = Block(body, self.line, lines is not None, lines or 0, quoted, multiline)
        self.line += block.lines
        return block

    def _is_plain(self, body: bytes, scan: "RecordScan | None") -> bool:
        if self.stream.mixed and not is_utf8(body):
            return False
        return has_plain_lines(body) and (scan is None or scan.is_plain(len(body), self.delimiter))


def has_plain_lines(body: bytes) -> bool:
    """Return whether lines end in a line feed alone, and no character is NUL."""
    return b"\0" not in body and (b"\r" not in body or body.count(b"\r") == body.count(b"\r\n"))


def count_lines(body: bytes) -> int:
    """Count line breaks, four times as fast as ``bytes.count`` where there are many."""
    view = np.frombuffer(body, dtype=np.uint8)
    # A little at a time, and in one place: what is compared then stays in the processor's cache.
    found = np.empty(min(len(view), _COMPARED_AT_ONCE), dtype=np.bool_)
    count = 0
    for start in range(0, len(view), _COMPARED_AT_ONCE):
        piece = view[start : start + _COMPARED_AT_ONCE]
        count += int(np.count_nonzero(np.equal(piece, _NEWLINE, out=found[: len(piece)])))
    return count


@dataclass(frozen=True, slots=True)
class RecordScan:
    """Positions of the quotes and line breaks of bytes that begin with a record; int64 arrays.

    ``ends`` are the line breaks that end a record. What is asked about the first bytes alone is not looked for again.
    """

    view: npt.NDArray[np.uint8]
    quotes: npt.NDArray[np.int64]
    newlines: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    @classmethod
    def of(cls, body: bytes, *, quoted: bool = True) -> Self:
        """Find them, once; where nothing is ``quoted``, quotes are characters like any other."""
        view = np.frombuffer(body, dtype=np.uint8)
        newlines = np.flatnonzero(view == _NEWLINE)
        if not quoted or b'"' not in body:
            return cls(view, newlines[:0], newlines, newlines)
        quotes = np.flatnonzero(view == _QUOTE)
        return cls(view, quotes, newlines, newlines[np.searchsorted(quotes, newlines) % 2 == 0])

    @property
    def end(self) -> int:
        """The end of the last whole record; 0 when there is none."""
        return int(self.ends[-1]) + 1 if len(self.ends) else 0

    def lines(self, size: int) -> int:
        """Return the number of line breaks of the first bytes."""
        return int(np.searchsorted(self.newlines, size))

    def records(self, size: int) -> int:
        """Return the number of records, blank lines counted, that end within the first bytes."""
        return int(np.searchsorted(self.ends, size))

    def is_plain(self, size: int, delimiter: str) -> bool:
        """Return whether every quote of the first bytes, which are whole records, opens, closes or doubles."""
        quotes = self.quotes[: np.searchsorted(self.quotes, size)]
        if len(quotes) % 2:
            return False
        around = np.zeros(256, dtype=np.bool_)
        around[[ord(delimiter), _NEWLINE, _QUOTE]] = True
        opening, closing = quotes[::2], quotes[1::2]
        # A quote at the very beginning follows nothing.
        before = around.take(self.view.take(opening[opening > 0] - 1))
        around[_RETURN] = True
        return bool(before.all() and around.take(self.view.take(np.minimum(closing + 1, size - 1))).all())

    def bounds(self, size: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where the records of the first bytes start and end, line breaks and blank lines left out."""
        breaks = self.ends[: self.records(size)]
        starts = np.empty_like(breaks)
        starts[:1], starts[1:] = 0, breaks[:-1] + 1
        ends = breaks - ((breaks > starts) & (self.view.take(breaks - 1, mode="clip") == _RETURN))
        filled = ends > starts
        return (starts, ends) if filled.all() else (starts[filled], ends[filled])


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """Positions of the records of a plain block, blank lines left out.

    ``starts`` and ``ends`` are in bytes, without the line break; ``lines`` counts those of the block before each
    record, ``widths`` its fields. Each is an int64 array of shape (n_records,).
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    lines: npt.NDArray[np.int64]
    widths: npt.NDArray[np.int64]


def find_records(body: bytes, delimiter: str) -> RecordLayout:
    """Find the records of a plain block."""
    scan = RecordScan.of(body)
    starts, ends = scan.bounds(len(body))
    marks = np.flatnonzero(scan.view == ord(delimiter))
    if len(scan.quotes):
        marks = marks[np.searchsorted(scan.quotes, marks) % 2 == 0]
    widths = np.searchsorted(marks, ends) - np.searchsorted(marks, starts) + 1
    return RecordLayout(starts, ends, np.searchsorted(scan.newlines, starts), widths)


def is_utf8(body: bytes) -> bool:
    """Return whether bytes are text in UTF-8."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


Result = TypeVar("Result")

#: Results that may wait for an earlier one, for each thread.
_MAX_EARLY = 2


def in_order(calls: Iterable[Callable[[], Result]]) -> Iterator[Result]:
    """Make calls on as many threads as there are processors, and yield their results in order.

    A call is taken from ``calls`` as soon as any other has ended, so that every thread finds its next one waiting: only
    one call more than there are threads holds its data in memory. A call's error is raised when its turn comes; calls
    that have not begun are then cancelled.
    """
    threads = os.cpu_count() or 1
    room = Semaphore(threads)
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for call in calls:
                waiting.append(pool.submit(call))
                waiting[-1].add_done_callback(lambda _: room.release())
                room.acquire()
                while waiting and (waiting[0].done() or len(waiting) > _MAX_EARLY * threads):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
