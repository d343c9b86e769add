"""Captured predictions of a time window as arrays, and reading captured rows and feedback from the bucket."""

import hashlib
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from millrace.captures.records import COUNTED_REQUEST, CapturedRow, FeatureValue, FeedbackRecord
from millrace.errors import ArtifactNotFoundError
from millrace.features import MISSING_STRING
from millrace.layout import captures_prefix, feedback_prefix
from millrace.ports import ObjectStore
from millrace.schema import TableSchema

Array = npt.NDArray[Any]
RecordT = TypeVar("RecordT", CapturedRow, FeedbackRecord)

#: Rows that become arrays together; until then they are Python objects, which take far more memory.
_CHUNK_ROWS = 4_096
#: Rows that a window holds by default: some 200 MB where rows have twenty features.
MAX_ROWS = 250_000
#: An object that decompresses to more than this was not written here.
MAX_OBJECT_BYTES = 256_000_000
_PIECE_BYTES = 1_000_000

_HASH_RANGE = 2**64


@dataclass(slots=True)
class ReadReport:
    """Counts of what was read; ``kept_share`` is the share of the rows that were kept, if there were too many.

    ``unreadable_objects`` holds keys with reasons; ``outside`` counts rows of the partitions outside the window.
    """

    objects: int = 0
    rows: int = 0
    unreadable_objects: list[str] = field(default_factory=list)
    malformed_rows: int = 0
    duplicates: int = 0
    outside: int = 0
    kept_share: float = 1.0

    @property
    def complete(self) -> bool:
        """True if all objects and rows were read."""
        return not self.unreadable_objects and not self.malformed_rows


@dataclass(frozen=True, slots=True)
class CapturedWindow:
    """Captured rows as arrays of shape (n_rows,), in the order of their objects.

    A row represents ``1 / sampling_rate`` (and ``1 / report.kept_share``) rows. Object arrays hold str, None where
    there is none; classes are as the schema writes them, ``decisions`` those of a threshold. ``predicted_at`` is UTC;
    ``values`` are those of regression. By feature, ``features`` holds float64, or object arrays of str or None (dates
    as ISO 8601), missing in rows without the feature, and ``unknown`` is true where training had not seen the value. By
    class, ``probabilities`` are NaN where not finite. Rows that were ``omitted`` for their size have no features.
    """

    model: str
    start: datetime
    end: datetime
    prediction_ids: Array
    request_ids: Array
    request_rows: npt.NDArray[np.int64]
    row_ids: Array
    protocols: Array
    versions: npt.NDArray[np.int64]
    predicted_at: npt.NDArray[np.datetime64]
    sampling_rates: npt.NDArray[np.float64]
    features: Mapping[str, Array]
    unknown: Mapping[str, npt.NDArray[np.bool_]]
    labels: Array
    decisions: Array
    probabilities: Mapping[str, npt.NDArray[np.float64]]
    values: npt.NDArray[np.float64]
    omitted: npt.NDArray[np.bool_]
    report: ReadReport

    def __len__(self) -> int:
        return len(self.prediction_ids)

    def typed_features(self, schema: TableSchema) -> dict[str, Array]:
        """Return the captured features of a schema, typed as in :mod:`millrace.features`.

        Features that were not captured (sensitive ones) are left out; values of another type, from a version under
        another schema, count as missing.
        """
        return {
            column.name: _typed(self.features[column.name], column.type)
            for column in schema.features
            if column.name in self.features
        }


def _typed(values: Array, column_type: str) -> Array:
    if column_type in ("category", "text"):
        strings = [value if isinstance(value, str) else MISSING_STRING for value in values.tolist()]
        # A matrix of strings is as wide as the longest, which a text may be.
        return np.array(strings, dtype=np.str_ if column_type == "category" else np.object_)
    if column_type == "datetime":
        timestamps = [_timestamp(value) if isinstance(value, str) else _NO_TIMESTAMP for value in values.tolist()]
        return np.array(timestamps, dtype="datetime64[us]")
    if values.dtype.kind != "f" or column_type not in ("boolean", "integer", "number"):
        return np.full(len(values), np.nan)
    return np.where(np.isin(values, (0.0, 1.0)), values, np.nan) if column_type == "boolean" else values


_NO_TIMESTAMP = np.datetime64("NaT", "us")


def _timestamp(text: str) -> np.datetime64:
    try:
        return np.datetime64(text.removesuffix("Z"), "us")
    except ValueError:
        return _NO_TIMESTAMP


class WindowBuilder:
    """Collects rows into arrays, a chunk at a time."""

    def __init__(self) -> None:
        self._rows: list[CapturedRow] = []
        self._chunks: list[dict[str, Any]] = []
        self._strings: dict[str, str] = {}

    def add(self, row: CapturedRow) -> None:
        """Add one row."""
        self._rows.append(row)
        if len(self._rows) == _CHUNK_ROWS:
            self._close_chunk()

    def keep(self, wanted: Iterable[npt.NDArray[np.bool_]]) -> None:
        """Drop rows; ``wanted`` holds one mask per chunk of :meth:`chunk_ids`."""
        self._chunks = [_take(chunk, mask) for chunk, mask in zip(self._chunks, wanted, strict=True) if mask.any()]

    def chunk_ids(self) -> list[Array]:
        """Return the prediction ids, an array per chunk."""
        if self._rows:
            self._close_chunk()
        return [chunk["prediction_ids"] for chunk in self._chunks]

    def build(self, model: str, start: datetime, end: datetime, report: ReadReport) -> CapturedWindow:
        """Return the window of the rows added."""
        if self._rows or not self._chunks:
            self._close_chunk()
        parts: dict[str, Any] = {
            name: self._join_by_name(name)
            if isinstance(values, dict)
            else np.concatenate([chunk[name] for chunk in self._chunks])
            for name, values in self._chunks[0].items()
        }
        return CapturedWindow(model=model, start=start, end=end, report=report, **parts)

    def _join_by_name(self, part: str) -> dict[str, Array]:
        sizes = [len(chunk["prediction_ids"]) for chunk in self._chunks]
        names = dict.fromkeys(name for chunk in self._chunks for name in chunk[part])
        return {name: _concatenate([chunk[part].get(name) for chunk in self._chunks], sizes) for name in names}

    def _close_chunk(self) -> None:
        rows, self._rows = self._rows, []
        names = dict.fromkeys(name for row in rows for name in row.features)
        unknown = dict.fromkeys(name for row in rows for name in row.unknown)
        classes = dict.fromkeys(name for row in rows for name in row.prediction.get("probabilities") or ())
        predicted_at = [row.predicted_at.astimezone(UTC).replace(tzinfo=None) for row in rows]
        self._chunks.append(
            {
                "prediction_ids": _objects([row.prediction_id for row in rows]),
                "request_ids": _objects([self._shared(row.request_id) for row in rows]),
                "request_rows": np.array([row.request_rows for row in rows], dtype=np.int64),
                "row_ids": _objects([row.row_id for row in rows]),
                "protocols": _objects([self._shared(row.protocol) for row in rows]),
                "versions": np.array([row.version for row in rows], dtype=np.int64),
                "predicted_at": np.array(predicted_at, dtype="datetime64[us]"),
                "sampling_rates": _floats([row.sampling_rate for row in rows]),
                "features": {name: self._feature([row.features.get(name) for row in rows]) for name in names},
                "unknown": {name: np.array([name in row.unknown for row in rows]) for name in unknown},
                "labels": _objects([row.prediction.get("label") for row in rows]),
                "decisions": _objects([row.prediction.get("decision") for row in rows]),
                "probabilities": {
                    name: _floats([(row.prediction.get("probabilities") or {}).get(name) for row in rows])
                    for name in classes
                },
                "values": _floats([row.prediction.get("value") for row in rows]),
                "omitted": np.array([row.omitted > 0 for row in rows], dtype=np.bool_),
            }
        )

    def _feature(self, values: list[FeatureValue]) -> Array:
        if any(isinstance(value, str) for value in values):
            return _objects([self._shared(value) if isinstance(value, str) else None for value in values])
        return _floats(values)

    def _shared(self, text: str) -> str:
        """Return one object for equal strings: columns repeat theirs over and over."""
        return self._strings.setdefault(text, text) if len(self._strings) < _CHUNK_ROWS * 4 else text


def _objects(values: list[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _floats(values: list[Any]) -> npt.NDArray[np.float64]:
    return np.array(values, dtype=np.float64)  # None becomes NaN


def _concatenate(parts: list[Array | None], sizes: list[int]) -> Array:
    """Join a column's chunks; it is missing, or false, in a chunk without it, and a number is among strings."""
    present = [values for values in parts if values is not None]
    # Missing values alone have no type; strings take precedence over numbers of another version.
    known = [values for values in present if values.dtype.kind != "f" or not np.isnan(values).all()] or present
    dtypes = {values.dtype for values in known}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(object)
    filler = {"f": np.nan, "b": False}.get(dtype.kind)
    return np.concatenate(
        [
            values if values is not None and values.dtype == dtype else np.full(size, filler, dtype=dtype)
            for values, size in zip(parts, sizes, strict=True)
        ]
    )


def _take(chunk: Mapping[str, Any], mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        name: {key: array[mask] for key, array in part.items()} if isinstance(part, dict) else part[mask]
        for name, part in chunk.items()
    }


def read_window(
    store: ObjectStore, model: str, start: datetime, end: datetime, *, max_rows: int = MAX_ROWS
) -> CapturedWindow:
    """Read the rows predicted from ``start`` up to, and without, ``end``; each prediction id once.

    Of more than ``max_rows`` rows a sample of at least half as many is kept: those whose ids have the smallest hashes,
    so the sample does not depend on the order of reading. Memory is bounded by ``max_rows`` and the largest object.
    """
    report = ReadReport()
    builders = _sample_rows(store, model, start, end, report, max_rows=max_rows, by_version=False)
    return (builders.get(0) or WindowBuilder()).build(model, start, end, report)


def read_windows(
    store: ObjectStore, model: str, start: datetime, end: datetime, *, max_rows: int = MAX_ROWS, share: float = 1.0
) -> tuple[dict[int, CapturedWindow], ReadReport]:
    """Read rows as :func:`read_window` does, a window by each version that scored them, and the report of them all.

    Versions may have columns of the same name and another type, which one window could not hold. ``share`` keeps a
    sample of the rows, by the hashes of their ids, so that of all hours together it is one sample.
    """
    report = ReadReport()
    builders = _sample_rows(store, model, start, end, report, max_rows=max_rows, by_version=True, share=share)
    return {version: one.build(model, start, end, report) for version, one in sorted(builders.items())}, report


def _sample_rows(
    store: ObjectStore,
    model: str,
    start: datetime,
    end: datetime,
    report: ReadReport,
    *,
    max_rows: int,
    by_version: bool,
    share: float = 1.0,
) -> dict[int, WindowBuilder]:
    """Return the rows of a window, each once: by version, or all under 0."""
    builders: dict[int, WindowBuilder] = {}
    kept: set[int] = set()
    limit = int(share * _HASH_RANGE)
    for row in iterate_rows(store, model, start, end, report):
        id_hash = hash_id(row.prediction_id)
        if id_hash >= limit:
            continue
        if id_hash in kept:
            report.duplicates += 1
            continue
        kept.add(id_hash)
        builders.setdefault(row.version if by_version else 0, WindowBuilder()).add(row)
        while len(kept) > max_rows:
            limit //= 2
            kept = {other for other in kept if other < limit}
            for builder in builders.values():
                builder.keep(
                    [
                        np.array([hash_id(name) < limit for name in names], dtype=np.bool_)
                        for names in builder.chunk_ids()
                    ]
                )
    report.kept_share = limit / _HASH_RANGE
    return builders


def iterate_rows(
    store: ObjectStore, model: str, start: datetime, end: datetime, report: ReadReport
) -> Iterator[CapturedRow]:
    """Yield the rows of a window, with duplicates, and count them in ``report``."""
    prefixes = (captures_prefix(model, hour) for hour in hours(start, end))
    return _iterate(store, prefixes, CapturedRow, lambda row: start <= row.predicted_at < end, report)


def iterate_feedback(
    store: ObjectStore, model: str, start: datetime, end: datetime, report: ReadReport
) -> Iterator[FeedbackRecord]:
    """Yield the feedback received from ``start`` up to, and without, ``end``, and count it in ``report``."""
    midnight = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    prefixes = (feedback_prefix(model, day) for day in _steps(midnight, end, timedelta(days=1)))
    return _iterate(store, prefixes, FeedbackRecord, lambda record: start <= record.received_at < end, report)


def hours(start: datetime, end: datetime) -> Iterator[datetime]:
    """Return the hours, in UTC, that a window touches."""
    return _steps(start.astimezone(UTC).replace(minute=0, second=0, microsecond=0), end, timedelta(hours=1))


def _steps(timestamp: datetime, end: datetime, step: timedelta) -> Iterator[datetime]:
    while timestamp < end:
        yield timestamp
        timestamp += step


def _iterate(
    store: ObjectStore,
    prefixes: Iterable[str],
    record_class: type[RecordT],
    is_inside: Callable[[RecordT], bool],
    report: ReadReport,
) -> Iterator[RecordT]:
    for prefix in prefixes:
        for listed in store.list(prefix):
            report.objects += 1
            for record in read_records(store, listed.key, record_class, report):
                if is_inside(record):
                    yield record
                else:
                    report.outside += 1


def hash_id(identifier: str) -> int:
    """Return a hash of an id below 2**64."""
    return int.from_bytes(hashlib.blake2b(identifier.encode(errors="replace"), digest_size=8).digest())


def decompress(body: bytes) -> bytes:
    """Decompress an object; raises ``ValueError`` when it is torn, no gzip or far too large."""
    return b"".join(_decompress(body))


def _decompress(body: bytes) -> Iterator[bytes]:
    """Yield an object's content in pieces; raises ``ValueError`` once it turns out to be torn, no gzip or too large."""
    size, decompressor = 0, zlib.decompressobj(wbits=31)
    for start in range(0, len(body), _PIECE_BYTES):
        rest, piece = body[start : start + _PIECE_BYTES], b""
        while rest or len(piece) == _PIECE_BYTES:
            if decompressor.eof:
                decompressor = zlib.decompressobj(wbits=31)
            try:
                piece = decompressor.decompress(rest, _PIECE_BYTES)
            except zlib.error as error:
                raise ValueError("is no gzip") from error
            size += len(piece)
            if size > MAX_OBJECT_BYTES:
                raise ValueError(f"decompresses to more than {MAX_OBJECT_BYTES} bytes")
            yield piece
            rest = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
    if body and not decompressor.eof:
        raise ValueError("ends too early")


def read_lines(store: ObjectStore, key: str, *, is_compressed: bool, report: ReadReport) -> Iterator[bytes]:
    """Yield the lines of an object, of which memory holds a piece; none if it is unreadable or was deleted.

    An object that is torn is unreadable as a whole, so it is decompressed once before its first line.
    """
    try:
        body = store.get(key)
        if is_compressed:
            deque(_decompress(body), maxlen=0)
    except ArtifactNotFoundError:
        return
    except ValueError as error:
        report.unreadable_objects.append(f"{key}: {error}")
        return
    rest = b""
    for piece in _decompress(body) if is_compressed else [body]:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
    if rest:
        yield rest


def read_records(store: ObjectStore, key: str, record_class: type[RecordT], report: ReadReport) -> Iterator[RecordT]:
    """Yield the records of an object, and count them in ``report``; none if retention has deleted it."""
    yield from parse_lines(
        read_lines(store, key, is_compressed=record_class is CapturedRow, report=report), record_class, report
    )


def parse_lines(lines: Iterable[bytes], record_class: type[RecordT], report: ReadReport) -> Iterator[RecordT]:
    """Yield the records of lines, and count both in ``report``."""
    for line in lines:
        if line.startswith(COUNTED_REQUEST):
            continue
        report.rows += 1
        try:
            record = record_class.from_line(line)
        except ValueError:
            report.malformed_rows += 1
        else:
            yield record
