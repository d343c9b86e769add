"""Packed values of one metric: chunks of a run, with headers that say what they hold.

The latest values of a metric are in the record of its run, as its tail. A tail that has grown long becomes a chunk, in
the transaction that writes the run. A chunk holds columns of times, steps and values, compressed; its header has their
number, and the first and last of them by step, so that a sample needs few chunks.
"""

import math
import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from millrace.ports import Item, Key, Put
from millrace.tracking.tracking_keys import chunk_prefix, run_partition, short_hash
from millrace.tracking.tracking_records import Point, RunRecord

#: Values of a tail that make a chunk, and of all tails of a run.
MAX_TAIL, MAX_TAILS = 64, 256
#: Chunks of one transaction, which has at most a hundred items.
_MAX_CHUNKS = 45
#: A chunk of fewer values is one item: its header has them.
_SMALL = 256

_LARGEST = 1.7976931348623157e308


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """The header of a chunk."""

    sort: str
    begin: int  # the earliest time
    count: int
    first: Point  # by step
    last: Point
    data: bytes | None  # of a small chunk

    @classmethod
    def read(cls, item: Item) -> "ChunkHeader":
        """Read an item."""
        first, last = msgspec.msgpack.decode(item["ends"], type=tuple[Point, Point])
        return cls(item["sk"], int(item["sk"].split("#")[2]), item["count"], first, last, item.get("data"))


def time_order(point: Point) -> tuple[int, int, float, bool]:
    """Return the order of a metric's history: NaN is 0, after other zeros."""
    is_nan = math.isnan(point.value)
    return point.timestamp, point.step, 0.0 if is_nan else point.value, is_nan


def step_order(point: Point) -> tuple[int, int, float, bool]:
    """Return the order of a metric's samples."""
    is_nan = math.isnan(point.value)
    return point.step, point.timestamp, 0.0 if is_nan else point.value, is_nan


def rank_of_latest(point: Point) -> tuple[int, int, float]:
    """Return the order in which the latest value of a metric is the largest."""
    return point.step, point.timestamp, 0.0 if math.isnan(point.value) else point.value


def bound_value(value: float) -> float:
    """Return a value without infinities, which MLflow's stores have no form for."""
    return max(-_LARGEST, min(value, _LARGEST)) if value == value else value  # noqa: PLR0124 - true of all but NaN


def add_points(run: RunRecord, points: Iterable[tuple[str, Point]]) -> list[Put]:
    """Add values to a run's record; returns the chunks that its tails have become.

    A value that comes again changes nothing: where it is in a chunk already, reading leaves it out.
    """
    known: dict[str, set[tuple[int, int, float, bool]]] = {}
    for key, point in points:
        if key not in known:
            known[key] = {time_order(one) for one in run.tails.setdefault(key, [])}
        order = time_order(point)
        if order not in known[key]:
            known[key].add(order)
            run.tails[key].append(point)
        latest = run.latest.get(key)
        if latest is None or rank_of_latest(point) > rank_of_latest(latest):
            run.latest[key] = point
    return _make_chunks(run)


def _make_chunks(run: RunRecord) -> list[Put]:
    by_length = sorted(run.tails, key=lambda key: len(run.tails[key]), reverse=True)
    left = sum(map(len, run.tails.values()))
    changes: list[Put] = []
    for key in by_length[:_MAX_CHUNKS]:
        length = len(run.tails[key])
        if length < MAX_TAIL and left <= MAX_TAILS:
            break
        changes += _make_chunk(run.run_id, key, run.tails.pop(key))
        run.chunked[key] = run.chunked.get(key, 0) + length
        left -= length
    return changes


def _make_chunk(run_id: str, metric: str, points: list[Point]) -> list[Put]:
    points.sort(key=time_order)
    data = pack(points)
    name = f"{points[0].timestamp:020d}#{short_hash(data.hex())}"
    first, last = min(points, key=step_order), max(points, key=step_order)
    header: dict[str, object] = {"count": len(points), "ends": msgspec.msgpack.encode((first, last))}
    sort = chunk_prefix("H", metric) + name
    partition = run_partition(run_id)
    if len(points) < _SMALL:
        return [Put(Key(partition, sort, "tracking"), {**header, "data": data}, replace=True)]
    return [
        Put(Key(partition, sort, "tracking"), header, replace=True),
        Put(Key(partition, chunk_prefix("C", metric) + name, "tracking"), {"data": data}, replace=True),
    ]


def content_key(run_id: str, header: ChunkHeader) -> Key:
    """Return the key of a large chunk's content."""
    return Key(run_partition(run_id), "C" + header.sort[1:], "tracking")


def pack(points: Sequence[Point]) -> bytes:
    """Return values as compressed columns."""
    columns: list[array[Any]] = [
        _differences([point.timestamp for point in points]),
        _differences([point.step for point in points]),
        array("d", [point.value for point in points]),
    ]
    if sys.byteorder == "big":
        for column in columns:
            column.byteswap()
    return struct.pack("<I", len(points)) + zlib.compress(b"".join(column.tobytes() for column in columns), 6)


def unpack(data: bytes) -> list[Point]:
    """Return what :func:`pack` packed."""
    (count,) = struct.unpack_from("<I", data)
    content = zlib.decompress(data[4:])
    times, steps, values = array("q"), array("q"), array("d")
    columns: tuple[array[Any], ...] = (times, steps, values)
    width = 8 * count
    for position, column in enumerate(columns):
        column.frombytes(content[position * width : (position + 1) * width])
        if sys.byteorder == "big":
            column.byteswap()
    return list(map(Point, _sums(times), _sums(steps), values))


_WRAP = 1 << 64


def _differences(numbers: Sequence[int]) -> "array[int]":
    """Return each number less the one before, modulo 2**64."""
    found, before = array("q"), 0
    for number in numbers:
        difference = (number - before) % _WRAP
        found.append(difference - _WRAP if difference >= _WRAP // 2 else difference)
        before = number
    return found


def _sums(differences: "array[int]") -> list[int]:
    found, total = [], 0
    for difference in differences:
        total = (total + difference) % _WRAP
        found.append(total - _WRAP if total >= _WRAP // 2 else total)
    return found
