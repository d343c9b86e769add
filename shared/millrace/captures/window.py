"""Captured predictions of a time window as columns: what monitoring computes on."""

import hashlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.captures.records import CapturedRow, FeedbackRecord, Value
from millrace.errors import ArtifactNotFoundError
from millrace.features import MISSING_STRING
from millrace.layout import captures_prefix, feedback_prefix
from millrace.ports import ObjectStore
from millrace.schema import TableSchema

Array = npt.NDArray[Any]

#: Rows that become arrays together; what lies between is Python objects, which take far more memory.
_CHUNK_ROWS = 4_096


@dataclass(slots=True)
class ReadReport:
    """What was read, and what was not.

    Parameters
    ----------
    objects, rows : int
        That were looked at, whether or not they were kept.
    unreadable_objects : list of str
        Keys, each with the reason; their rows are missing from the window.
    malformed_rows : int
        Lines that are no captured row of a known form.
    duplicates : int
        Rows whose prediction id came before.
    outside : int
        Rows of the partitions that lie outside the window.
    kept_share : float
        Share of the rows that were kept, when there were more than asked for; each has the same chance.
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
        """Whether everything that lies there was read."""
        return not self.unreadable_objects and not self.malformed_rows


@dataclass(frozen=True, slots=True)
class CapturedWindow:
    """Captured rows as arrays of shape (n_rows,), in the order of their objects.

    Parameters
    ----------
    prediction_ids, request_ids, row_ids, dialects : object array of str
        ``row_ids`` holds None where there is none.
    request_rows, versions : int64 array
        Rows that the request held; the version that answered.
    predicted_at : datetime64[us] array
        UTC.
    sampling_rates : float64 array
        A row stands for ``1 / sampling_rate`` (and ``1 / report.kept_share``) rows.
    features : mapping of str to array
        float64 for numbers and booleans, NaN where missing; object arrays of str or None otherwise, dates as ISO
        8601. A feature that some rows do not have (another version, a sensitive column) is missing there.
    unknown : mapping of str to bool array
        By feature, where its value was new to the model; features without such rows are not in it.
    labels, decisions : object array
        Of str, the class as the schema writes it, or None; None for regression. A decision is there where the model has
        a threshold.
    probabilities : mapping of str to float64 array
        By class; NaN where it was not finite.
    values : float64 array
        Of regression; NaN otherwise.
    report : ReadReport
        What was read.
    """

    model: str
    start: datetime
    end: datetime
    prediction_ids: Array
    request_ids: Array
    request_rows: npt.NDArray[np.int64]
    row_ids: Array
    dialects: Array
    versions: npt.NDArray[np.int64]
    predicted_at: npt.NDArray[np.datetime64]
    sampling_rates: npt.NDArray[np.float64]
    features: Mapping[str, Array]
    unknown: Mapping[str, npt.NDArray[np.bool_]]
    labels: Array
    decisions: Array
    probabilities: Mapping[str, npt.NDArray[np.float64]]
    values: npt.NDArray[np.float64]
    report: ReadReport

    def __len__(self) -> int:
        return len(self.prediction_ids)

    def typed_features(self, schema: TableSchema) -> dict[str, Array]:
        """Return the captured features of a schema, typed as :mod:`millrace.features` says.

        Features that were not captured (sensitive ones) are not among them; values that are not of the schema's type,
        from a version under another schema, count as missing.
        """
        return {
            column.name: _typed(self.features[column.name], column.type)
            for column in schema.features
            if column.name in self.features
        }


def _typed(values: Array, column_type: str) -> Array:
    if column_type in ("category", "text"):
        words = [value if isinstance(value, str) else MISSING_STRING for value in values.tolist()]
        # A matrix of strings is as wide as the longest, which a text may be.
        return np.array(words, dtype=np.str_ if column_type == "category" else np.object_)
    if column_type == "datetime":
        moments = np.full(len(values), np.datetime64("NaT", "us"))
        for row, value in enumerate(values.tolist()):
            if isinstance(value, str):
                moments[row] = _moment(value)
        return moments
    return values if values.dtype.kind == "f" else np.full(len(values), np.nan)


def _moment(text: str) -> np.datetime64:
    try:
        return np.datetime64(text.removesuffix("Z"), "us")
    except ValueError:
        return np.datetime64("NaT", "us")


class WindowBuilder:
    """Collects rows into arrays, a chunk at a time."""

    def __init__(self) -> None:
        self._rows: list[CapturedRow] = []
        self._chunks: list[dict[str, Any]] = []
        self._words: dict[str, str] = {}

    def add(self, row: CapturedRow) -> None:
        """Take one row."""
        self._rows.append(row)
        if len(self._rows) == _CHUNK_ROWS:
            self._close_chunk()

    def keep(self, wanted: Iterable[npt.NDArray[np.bool_]]) -> None:
        """Drop rows; ``wanted`` holds one mask a chunk, as :meth:`chunk_ids` yields them."""
        self._chunks = [_take(chunk, mask) for chunk, mask in zip(self._chunks, wanted, strict=True) if mask.any()]

    def chunk_ids(self) -> list[Array]:
        """Return the prediction ids collected, an array a chunk."""
        self._close_chunk()
        return [chunk["prediction_ids"] for chunk in self._chunks]

    def build(self, model: str, start: datetime, end: datetime, report: ReadReport) -> CapturedWindow:
        """Return everything collected."""
        self._close_chunk()
        sizes = [len(chunk["prediction_ids"]) for chunk in self._chunks]
        plain = {name: self._join(name) for name in _EMPTY}
        return CapturedWindow(
            model=model,
            start=start,
            end=end,
            features=self._join_by_name("features", sizes, None),
            unknown=self._join_by_name("unknown", sizes, False),
            probabilities=self._join_by_name("probabilities", sizes, np.nan),
            report=report,
            **plain,
        )

    def _join(self, name: str) -> Array:
        return np.concatenate([chunk[name] for chunk in self._chunks]) if self._chunks else _EMPTY[name]

    def _join_by_name(self, part: str, sizes: list[int], filler: Any) -> dict[str, Array]:
        names = dict.fromkeys(name for chunk in self._chunks for name in chunk[part])
        joined: dict[str, Array] = {}
        for name in names:
            parts = [chunk[part].get(name) for chunk in self._chunks]
            kinds = {values.dtype for values in parts if values is not None}
            # Nothing but missing values says nothing of a type; words say more than numbers that once stood there.
            known = {values.dtype for values in parts if values is not None and not _all_missing(values)} or kinds
            dtype = next(iter(known)) if len(known) == 1 else np.dtype(object)
            joined[name] = np.concatenate(
                [
                    _filled(size, filler, dtype) if values is None else _as_type(values, dtype)
                    for size, values in zip(sizes, parts, strict=True)
                ]
            )
        return joined

    def _close_chunk(self) -> None:
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        names = dict.fromkeys(name for row in rows for name in row.features)
        unknown = dict.fromkeys(name for row in rows for name in row.unknown)
        classes = dict.fromkeys(name for row in rows for name in row.prediction.get("probabilities") or ())
        self._chunks.append(
            {
                "prediction_ids": _objects([row.prediction_id for row in rows]),
                "request_ids": _objects([self._shared(row.request_id) for row in rows]),
                "request_rows": np.array([row.request_rows for row in rows], dtype=np.int64),
                "row_ids": _objects([row.row_id for row in rows]),
                "dialects": _objects([self._shared(row.dialect) for row in rows]),
                "versions": np.array([row.version for row in rows], dtype=np.int64),
                "predicted_at": np.array([row.predicted_at.replace(tzinfo=None) for row in rows], "datetime64[us]"),
                "sampling_rates": np.array([row.sampling_rate for row in rows], dtype=np.float64),
                "features": {name: self._feature([row.features.get(name) for row in rows]) for name in names},
                "unknown": {name: np.array([name in row.unknown for row in rows]) for name in unknown},
                "labels": _objects([row.prediction.get("label") for row in rows]),
                "decisions": _objects([row.prediction.get("decision") for row in rows]),
                "probabilities": {
                    name: _floats([(row.prediction.get("probabilities") or {}).get(name) for row in rows])
                    for name in classes
                },
                "values": _floats([row.prediction.get("value") for row in rows]),
            }
        )

    def _feature(self, values: list[Value]) -> Array:
        if any(isinstance(value, str) for value in values):
            return _objects([self._shared(value) if isinstance(value, str) else None for value in values])
        return _floats(values)

    def _shared(self, word: str) -> str:
        """Return one object for equal words: columns repeat theirs over and over."""
        return self._words.setdefault(word, word) if len(self._words) < _CHUNK_ROWS * 4 else word


_EMPTY: dict[str, Array] = {
    "prediction_ids": np.empty(0, dtype=object),
    "request_ids": np.empty(0, dtype=object),
    "request_rows": np.empty(0, dtype=np.int64),
    "row_ids": np.empty(0, dtype=object),
    "dialects": np.empty(0, dtype=object),
    "versions": np.empty(0, dtype=np.int64),
    "predicted_at": np.empty(0, dtype="datetime64[us]"),
    "sampling_rates": np.empty(0, dtype=np.float64),
    "labels": np.empty(0, dtype=object),
    "decisions": np.empty(0, dtype=object),
    "values": np.empty(0, dtype=np.float64),
}


def _objects(values: list[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _floats(values: Iterable[Any]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _filled(size: int, filler: Any, dtype: np.dtype[Any]) -> Array:
    return np.full(size, np.nan if filler is None and dtype.kind == "f" else filler, dtype=dtype)


def _all_missing(values: Array) -> bool:
    return bool(np.isnan(values).all()) if values.dtype.kind == "f" else False


def _as_type(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return a chunk's column in the type of the whole: a number among words is no word, and so missing."""
    return values if values.dtype == dtype else np.full(len(values), None, dtype=dtype)


def _take(chunk: Mapping[str, Any], mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        name: {key: array[mask] for key, array in part.items()} if isinstance(part, dict) else part[mask]
        for name, part in chunk.items()
    }


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
