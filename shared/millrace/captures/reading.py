"""Reading what was captured, and what was reported, in a time window, whatever else lies there.

Rows lie in the partition of the hour they were predicted in, so a window reads the hours that it touches and no
others. Objects that cannot be unpacked are skipped and named, lines that cannot be read are counted: nothing stops a
reader, and nothing is left out in silence.
"""

import hashlib
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

from millrace.captures.records import CapturedRow, FeedbackRecord
from millrace.captures.window import CapturedWindow, ReadReport, WindowBuilder
from millrace.errors import ArtifactNotFoundError
from millrace.layout import captures_prefix, feedback_prefix
from millrace.ports import ObjectStore

#: Rows that a window holds unless more are asked for: some 200 MB where rows have twenty features.
MAX_ROWS = 250_000
#: An object that unpacks to more than this was not written here.
MAX_OBJECT_BYTES = 256_000_000

_HASH_RANGE = 2**64


def read_window(
    store: ObjectStore, model: str, start: datetime, end: datetime, *, max_rows: int = MAX_ROWS
) -> CapturedWindow:
    """Read the rows predicted from ``start`` up to, and without, ``end``; each prediction id once.

    Where there are more than ``max_rows``, a sample of them is kept: those whose id has the smallest hashes, which is
    the same sample whenever and in whatever order they are read. Memory is bounded by ``max_rows`` and the largest
    object.

    Parameters
    ----------
    store : ObjectStore
        The data bucket.
    start, end : datetime
        With offsets.
    max_rows : int, default=250_000
        Rows to keep at most; between a half of it and all of it when there are more.
    """
    report = ReadReport()
    builder = WindowBuilder()
    kept: set[int] = set()
    limit = _HASH_RANGE
    for row in iterate_rows(store, model, start, end, report):
        place = hash_id(row.prediction_id)
        if place >= limit:
            continue
        if place in kept:
            report.duplicates += 1
            continue
        kept.add(place)
        builder.add(row)
        while len(kept) > max_rows:
            limit //= 2
            kept = {other for other in kept if other < limit}
            builder.keep(
                [np.array([hash_id(name) < limit for name in names], dtype=np.bool_) for names in builder.chunk_ids()]
            )
    report.kept_share = limit / _HASH_RANGE
    return builder.build(model, start, end, report)


def iterate_rows(
    store: ObjectStore, model: str, start: datetime, end: datetime, report: ReadReport
) -> Iterator[CapturedRow]:
    """Yield the rows of a window one by one, duplicates among them; counts into ``report`` what it met."""
    for hour in hours(start, end):
        for listed in store.list(captures_prefix(model, hour)):
            report.objects += 1
            for line in _lines(store, listed.key, report):
                row = _read_row(line, report)
                if row is None:
                    continue
                if start <= row.predicted_at < end:
                    yield row
                else:
                    report.outside += 1


def iterate_feedback(
    store: ObjectStore, model: str, start: datetime, end: datetime, report: ReadReport
) -> Iterator[FeedbackRecord]:
    """Yield the feedback received from ``start`` up to, and without, ``end``; counts into ``report`` what it met."""
    day = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while day < end:
        for listed in store.list(feedback_prefix(model, day)):
            report.objects += 1
            for line in _plain_lines(store, listed.key):
                report.rows += 1
                try:
                    record = FeedbackRecord.from_line(line)
                except (ValueError, RecursionError):
                    report.malformed_rows += 1
                    continue
                if start <= record.received_at < end:
                    yield record
                else:
                    report.outside += 1
        day += timedelta(days=1)


def hours(start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the hours, in UTC, that a window touches."""
    hour = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < end:
        yield hour
        hour += timedelta(hours=1)


def hash_id(identifier: str) -> int:
    """Return a number below 2**64 that is as good as random, and the same for the same id."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(errors="replace"), digest_size=8).digest())


def unpack(body: bytes) -> bytes:
    """Unpack an object; raises ``ValueError`` when it is torn, no gzip or far too large."""
    unpacked = bytearray()
    rest = body
    while rest:
        unpacker = zlib.decompressobj(wbits=31)
        try:
            unpacked += unpacker.decompress(rest, MAX_OBJECT_BYTES - len(unpacked) + 1)
        except zlib.error as error:
            raise ValueError("is no gzip") from error
        if len(unpacked) > MAX_OBJECT_BYTES:
            raise ValueError(f"unpacks to more than {MAX_OBJECT_BYTES} bytes")
        if not unpacker.eof:
            raise ValueError("ends too early")
        rest = unpacker.unused_data
    return bytes(unpacked)


def _lines(store: ObjectStore, key: str, report: ReadReport) -> list[bytes]:
    try:
        return unpack(store.get(key)).splitlines()
    except ArtifactNotFoundError:
        # Listed, and expired since: retention has taken it, as it should.
        return []
    except ValueError as error:
        report.unreadable_objects.append(f"{key}: {error}")
        return []


def _plain_lines(store: ObjectStore, key: str) -> list[bytes]:
    try:
        return store.get(key).splitlines()
    except ArtifactNotFoundError:
        return []


def _read_row(line: bytes, report: ReadReport) -> CapturedRow | None:
    report.rows += 1
    try:
        return CapturedRow.from_line(line)
    except (ValueError, RecursionError):
        report.malformed_rows += 1
        return None
