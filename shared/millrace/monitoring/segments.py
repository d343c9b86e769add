"""Segments: ids and predictions of rows that were read together, kept until their outcomes arrive."""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from millrace.captures.joining import join_feedback
from millrace.captures.records import FeedbackRecord
from millrace.captures.window import CapturedWindow, ReadReport, WindowBuilder
from millrace.conformal import ConformalCalibration
from millrace.errors import ArtifactNotFoundError
from millrace.histograms.bins import NumberBins
from millrace.histograms.outcomes import AnyOutcomes, ErrorSums, OutcomeHistogram
from millrace.histograms.predictions import ClassPredictions
from millrace.layout import monitoring_key
from millrace.monitoring.coverage import count_covered_classes, count_covered_values
from millrace.monitoring.state import Segment
from millrace.ports import ObjectStore
from millrace.schema import TableSchema

Array = npt.NDArray[Any]
#: Segments whose hashes a run keeps: 80 MB, where segments hold 100,000 rows.
_MAX_KEPT_SEGMENTS = 100


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """Rows of a segment, in arrays of shape (rows,)."""

    prediction_ids: Array
    row_ids: Array  # empty where a row has no id of its own
    request_rows: Array
    predicted_at: Array
    decided: Array  # int64; index of the predicted class; empty for regression
    probabilities: Array  # float32 of shape (rows, n_classes); no columns for regression
    values: Array  # Predicted values; empty for classification
    groups: Mapping[str, Array]
    unpredicted_ids: Array  # Of rows without a valid prediction, so that they too count once

    def __len__(self) -> int:
        return len(self.prediction_ids)

    def predictions(self) -> ClassPredictions:
        """Return a classifier's predictions."""
        groups = {name: values.tolist() for name, values in self.groups.items()}
        return ClassPredictions(self.decided, self.probabilities.astype(np.float64), groups)

    def to_bytes(self) -> bytes:
        """Return a compressed npz file without any pickle."""
        arrays = {name: getattr(self, name) for name in (*_ARRAYS, "unpredicted_ids")}
        return _pack(arrays | {f"group:{name}": values for name, values in self.groups.items()})

    @classmethod
    def from_bytes(cls, body: bytes) -> "SegmentRows":
        """Read what :meth:`to_bytes` wrote."""
        arrays = _unpack(body)
        groups = {name.removeprefix("group:"): values for name, values in arrays.items() if name.startswith("group:")}
        unpredicted_ids = arrays.get("unpredicted_ids", np.zeros(0, dtype=np.str_))  # An early release kept none
        return cls(**{name: arrays[name] for name in _ARRAYS}, groups=groups, unpredicted_ids=unpredicted_ids)


_ARRAYS = ("prediction_ids", "row_ids", "request_rows", "predicted_at", "decided", "probabilities", "values")


def extract_rows(window: CapturedWindow, chosen: Array, schema: TableSchema, groups: Sequence[str]) -> SegmentRows:
    """Return the chosen rows that have a valid prediction, and the ids of the others."""
    rows = np.flatnonzero(chosen)
    classes = schema.classes
    probabilities, decided, values = np.zeros((len(rows), 0)), np.zeros(0, dtype=np.int64), np.zeros(0)
    if classes:
        empty = np.full(len(window), np.nan)
        probabilities = np.stack([window.probabilities.get(name, empty)[rows] for name in classes], axis=1)
        index = {name: position for position, name in enumerate(classes)}
        given = zip(window.decisions[rows].tolist(), window.labels[rows].tolist(), strict=True)
        labels = [label if decision is None else decision for decision, label in given]
        decided = np.array([index.get(label, -1) for label in labels], dtype=np.int64)
        valid = np.isfinite(probabilities).all(axis=1) & (decided >= 0)
        decided = decided[valid]
    else:
        values = window.values[rows]
        valid = np.isfinite(values)
        values = values[valid]
    unpredicted_ids = window.prediction_ids[rows[~valid]].astype(np.str_)
    rows = rows[valid]
    return SegmentRows(
        unpredicted_ids=unpredicted_ids,
        prediction_ids=window.prediction_ids[rows].astype(np.str_),
        row_ids=np.array([name or "" for name in window.row_ids[rows].tolist()], dtype=np.str_),
        request_rows=window.request_rows[rows],
        predicted_at=window.predicted_at[rows],
        decided=decided,
        probabilities=probabilities[valid].astype(np.float32),
        values=values,
        groups={name: _group_names(window.features[name][rows]) for name in groups if name in window.features},
    )


def _group_names(values: Array) -> Array:
    return np.array(["missing" if value is None or value != value else str(value) for value in values.tolist()])  # noqa: PLR0124  # only NaN differs from itself


def store_segment(
    store: ObjectStore, model: str, name: str, rows: SegmentRows, span: tuple[datetime, datetime]
) -> Segment:
    """Store rows and return their record; ``span`` is that of the rows without a valid prediction too."""
    key = monitoring_key(model, f"segments/{name}.npz")
    store.put(key, rows.to_bytes())
    begin, end = span
    requests = float(np.sum(1.0 / np.maximum(rows.request_rows, 1)))
    return Segment(key=key, begin=begin, end=end, rows=len(rows), requests=requests)


def time_span(timestamps: Array) -> tuple[datetime, datetime]:
    """Return the first and the last of some timestamps, UTC."""
    first, last = np.array([timestamps.min(), timestamps.max()], dtype="datetime64[us]").tolist()
    return first.replace(tzinfo=UTC), last.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SegmentOutcomes:
    """Outcomes of a segment's rows: class index or number, NaN where not known, with the latest report's times."""

    values: Array
    observed_at: Array
    received_at: Array


def load_rows(store: ObjectStore, segment: Segment) -> SegmentRows | None:
    """Load a segment's rows; None when retention has deleted them."""
    try:
        return SegmentRows.from_bytes(store.get(segment.key))
    except ArtifactNotFoundError:
        return None


class KnownRows:
    """Finds rows that an earlier batch read from another object, by the ids that segments hold.

    Ids are compared by hash, eight bytes each, and only those of segments that overlap with the rows in time.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._hashes: dict[str, Array] = {}  # By the segments' keys

    def find(self, window: CapturedWindow, segments: Sequence[Segment]) -> npt.NDArray[np.bool_]:
        """Return the mask of a window's rows that segments hold."""
        found = np.zeros(len(window), dtype=np.bool_)
        if not len(window):
            return found
        first, last = time_span(window.predicted_at)
        hashes = _hash_ids(window.prediction_ids)
        overlapping = {one.key: one for one in segments if one.begin <= last and one.end >= first}
        self._hashes = {key: known for key, known in self._hashes.items() if key in overlapping}
        for key, segment in overlapping.items():
            known = self._hashes[key] if key in self._hashes else self._load(segment)
            found |= np.isin(hashes, known)
            if len(self._hashes) < _MAX_KEPT_SEGMENTS:
                self._hashes[key] = known
        return found

    def _load(self, segment: Segment) -> Array:
        try:
            with np.load(io.BytesIO(self._store.get(segment.key)), allow_pickle=False) as archive:
                names = [name for name in ("prediction_ids", "unpredicted_ids") if name in archive.files]
                return np.concatenate([_hash_ids(archive[name]) for name in names])
        except ArtifactNotFoundError:
            return np.zeros(0, dtype=np.int64)


def _hash_ids(ids: Array) -> Array:
    """Return hashes that hold for this process."""
    return np.fromiter(map(hash, ids.tolist()), dtype=np.int64, count=len(ids))


def _load_outcomes(store: ObjectStore, segment: Segment) -> SegmentOutcomes:
    if segment.outcomes_key:
        try:
            return SegmentOutcomes(**_unpack(store.get(segment.outcomes_key)))
        except ArtifactNotFoundError:
            pass
    never = np.full(segment.rows, np.datetime64("NaT", "us"))
    return SegmentOutcomes(np.full(segment.rows, np.nan), never, never)


def assign_outcomes(
    store: ObjectStore, segment: Segment, records: Sequence[FeedbackRecord], *, schema: TableSchema, token: str
) -> tuple[Segment, set[str], int]:
    """Assign reported outcomes to a segment's rows; the latest report of each row holds.

    Returns the new record of the segment, the ids of the reports about its rows, and the number of unusable outcomes.
    """
    rows = load_rows(store, segment)
    matching = _matching(rows, records) if rows is not None else []
    if rows is None or not matching:
        return segment, set(), 0
    matched = {record.feedback_id for record in matching}
    joined = join_feedback(_as_window(rows, segment), matching)
    before = _load_outcomes(store, segment)
    values, unusable = outcome_numbers(joined.outcomes, schema)
    # Observed later holds, of those what was received later; NaT compares as neither.
    newer = (joined.observed_at > before.observed_at) | (
        (joined.observed_at == before.observed_at) & (joined.received_at >= before.received_at)
    )
    taken = ~np.isnan(values) & (np.isnan(before.values) | newer)
    if not taken.any():
        return segment, matched, unusable
    after = SegmentOutcomes(
        np.where(taken, values, before.values),
        np.where(taken, joined.observed_at, before.observed_at),
        np.where(taken, joined.received_at, before.received_at),
    )
    key = f"{segment.key.removesuffix('.npz')}.outcomes-{token}.npz"
    store.put(key, _pack({name: getattr(after, name) for name in ("values", "observed_at", "received_at")}))
    labelled = int(np.count_nonzero(~np.isnan(after.values)))
    return replace(segment, outcomes_key=key, labelled=labelled), matched, unusable


def _matching(rows: SegmentRows, records: Sequence[FeedbackRecord]) -> list[FeedbackRecord]:
    ids, row_ids = set(rows.prediction_ids.tolist()), set(rows.row_ids.tolist()) - {""}
    return [
        record
        for record in records
        if (record.prediction_id in ids or f"{record.prediction_id}-0" in ids or record.row_id in row_ids)
    ]


def _as_window(rows: SegmentRows, segment: Segment) -> CapturedWindow:
    """Return rows as a captured window; columns that a join does not read are empty."""
    return dataclasses.replace(
        WindowBuilder().build("", segment.begin, segment.end, ReadReport()),
        prediction_ids=rows.prediction_ids.astype(object),
        request_rows=rows.request_rows,
        row_ids=np.array([name or None for name in rows.row_ids.tolist()], dtype=object),
        predicted_at=rows.predicted_at,
    )


def outcome_numbers(outcomes: Array, schema: TableSchema) -> tuple[Array, int]:
    """Return outcomes as class indices or numbers, and the number of unusable ones."""
    index = {name: position for position, name in enumerate(schema.classes)}
    reported = outcomes.tolist()
    if index:
        numbers = [np.nan if one is None else index.get(str(one), np.nan) for one in reported]
    else:
        numbers = [one if isinstance(one, int | float) and np.isfinite(one) else np.nan for one in reported]
    usable = np.array(numbers, dtype=np.float64)
    return usable, sum(one is not None for one in reported) - int(np.count_nonzero(~np.isnan(usable)))


def count_outcomes(
    store: ObjectStore,
    segment: Segment,
    schema: TableSchema,
    target: NumberBins | None,
    calibration: ConformalCalibration | None = None,
) -> AnyOutcomes | None:
    """Count a segment's rows with an outcome; None when retention has deleted them."""
    rows = load_rows(store, segment)
    if rows is None:
        return None
    outcomes = _load_outcomes(store, segment)
    known = ~np.isnan(outcomes.values)
    if schema.classes:
        predictions, indices = rows.predictions().take(known), outcomes.values[known].astype(np.int64)
        covered = count_covered_classes(calibration, predictions, indices)
        return replace(OutcomeHistogram.count(predictions, indices), covered=covered)
    chosen = np.flatnonzero(known).tolist()
    groups = {name: [values[row] for row in chosen] for name, values in rows.groups.items()}
    origin = target.center if target else 0.0
    values, actual = rows.values[known], outcomes.values[known]
    covered = count_covered_values(calibration, values, actual)
    return replace(ErrorSums.measure(values, actual, groups, origin, target), covered=covered)


def _pack(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def _unpack(body: bytes) -> dict[str, Array]:
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
