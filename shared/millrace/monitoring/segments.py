"""Segments: the ids and answers of rows that were read together, kept until their outcomes have come."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.captures.joining import join_feedback
from millrace.captures.records import FeedbackRecord
from millrace.captures.window import CapturedWindow, ReadReport
from millrace.errors import ArtifactNotFoundError
from millrace.histograms.outcomes import ErrorSketch, OutcomeSketch
from millrace.histograms.predictions import Answers
from millrace.layout import monitoring_key
from millrace.monitoring.intake import IntakeNotes
from millrace.monitoring.state import Segment
from millrace.ports import ObjectStore
from millrace.schema import TableSchema

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """The rows of a segment, in arrays of shape (rows,).

    Parameters
    ----------
    prediction_ids, row_ids : str array
        A row without an id of its own has an empty one.
    request_rows : int64 array
        Rows of the request that each was in.
    predicted_at : datetime64[us] array
        UTC.
    decided : int64 array
        Class index; empty for regression.
    probabilities : float32 array of shape (rows, n_classes)
        No columns for regression.
    values : float64 array
        Predicted; empty for classification.
    groups : mapping of str to str array
        By column of groups.
    """

    prediction_ids: Array
    row_ids: Array
    request_rows: Array
    predicted_at: Array
    decided: Array
    probabilities: Array
    values: Array
    groups: Mapping[str, Array]

    def __len__(self) -> int:
        return len(self.prediction_ids)

    def answers(self) -> Answers:
        """Return a classifier's answers."""
        groups = {name: values.tolist() for name, values in self.groups.items()}
        return Answers(self.decided, self.probabilities.astype(np.float64), groups)

    def to_bytes(self) -> bytes:
        """Return them as a compressed npz file without any pickle."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"group:{name}": values for name, values in self.groups.items()}
        return _pack(arrays)

    @classmethod
    def from_bytes(cls, body: bytes) -> "SegmentRows":
        """Read what :meth:`to_bytes` wrote."""
        arrays = _unpack(body)
        groups = {name.removeprefix("group:"): values for name, values in arrays.items() if name.startswith("group:")}
        return cls(**{name: arrays[name] for name in _ARRAYS}, groups=groups)


_ARRAYS = ("prediction_ids", "row_ids", "request_rows", "predicted_at", "decided", "probabilities", "values")


def extract_rows(
    window: CapturedWindow, chosen: Array, schema: TableSchema, groups: Sequence[str], notes: IntakeNotes
) -> SegmentRows:
    """Take what outcomes will be compared with from captured rows; rows without a usable answer are left out."""
    rows = np.flatnonzero(chosen)
    classes = schema.classes
    if classes:
        empty = np.full(len(window), np.nan)
        probabilities = np.stack([window.probabilities.get(name, empty)[rows] for name in classes], axis=1)
        index = {name: position for position, name in enumerate(classes)}
        labels = [decision if decision is not None else label for decision, label in _pairs(window, rows)]
        decided = np.array([index.get(label, -1) for label in labels], dtype=np.int64)
        usable = np.isfinite(probabilities).all(axis=1) & (decided >= 0)
        values = np.zeros(0)
    else:
        probabilities, decided = np.zeros((len(rows), 0)), np.zeros(0, dtype=np.int64)
        values = window.values[rows]
        usable = np.isfinite(values)
        values = values[usable]
    notes.unanswered += int(np.count_nonzero(~usable))
    rows = rows[usable]
    return SegmentRows(
        prediction_ids=window.prediction_ids[rows].astype(np.str_),
        row_ids=np.array([name or "" for name in window.row_ids[rows].tolist()], dtype=np.str_),
        request_rows=window.request_rows[rows],
        predicted_at=window.predicted_at[rows],
        decided=decided[usable] if classes else decided,
        probabilities=probabilities[usable].astype(np.float32),
        values=values,
        groups={name: _words(window.features[name][rows]) for name in groups if name in window.features},
    )


def _pairs(window: CapturedWindow, rows: Array) -> list[tuple[Any, Any]]:
    return list(zip(window.decisions[rows].tolist(), window.labels[rows].tolist(), strict=True))


def _words(values: Array) -> Array:
    return np.array(["missing" if value is None or value != value else str(value) for value in values.tolist()])  # noqa: PLR0124  # only NaN differs from itself


def store_segment(store: ObjectStore, model: str, name: str, rows: SegmentRows) -> Segment:
    """Store rows, and return the record of them."""
    key = monitoring_key(model, f"segments/{name}.npz")
    store.put(key, rows.to_bytes())
    moments = [_aware(rows.predicted_at.min()), _aware(rows.predicted_at.max())]
    requests = float(np.sum(1.0 / np.maximum(rows.request_rows, 1)))
    return Segment(key, moments[0], moments[1], len(rows), requests)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became true of a segment's rows, in arrays of shape (rows,).

    Parameters
    ----------
    values : float64 array
        Class index or number; NaN where nothing is known.
    observed_at, received_at : datetime64[us] array
        Of the report that holds.
    """

    values: Array
    observed_at: Array
    received_at: Array

    @classmethod
    def none(cls, rows: int) -> "Outcomes":
        """Return that nothing is known."""
        never = np.full(rows, np.datetime64("NaT", "us"))
        return cls(np.full(rows, np.nan), never, never.copy())

    @property
    def known(self) -> Array:
        """Where something is known."""
        return ~np.isnan(self.values)


def load_rows(store: ObjectStore, segment: Segment) -> SegmentRows | None:
    """Load a segment's rows; None when retention has taken them."""
    try:
        return SegmentRows.from_bytes(store.get(segment.key))
    except ArtifactNotFoundError:
        return None


def load_outcomes(store: ObjectStore, segment: Segment) -> Outcomes:
    """Load what is known of a segment's rows."""
    if not segment.outcomes_key:
        return Outcomes.none(segment.rows)
    try:
        arrays = _unpack(store.get(segment.outcomes_key))
    except ArtifactNotFoundError:
        return Outcomes.none(segment.rows)
    return Outcomes(arrays["values"], arrays["observed_at"], arrays["received_at"])


def settle(
    store: ObjectStore,
    segment: Segment,
    records: Sequence[FeedbackRecord],
    *,
    schema: TableSchema,
    token: str,
    notes: IntakeNotes,
) -> tuple[Segment, set[str]]:
    """Give a segment's rows the outcomes that were reported of them; the latest report of each holds.

    Returns
    -------
    tuple
        The segment's record, and the ids of the reports that met a row of it.
    """
    rows = load_rows(store, segment)
    if rows is None:
        return segment, set()
    met = _matching(rows, records)
    if not met:
        return segment, set()
    joined = join_feedback(_as_window(rows, segment), met)
    before = load_outcomes(store, segment)
    values = _as_numbers(joined.outcomes, schema, notes)
    # Observed later holds, of those what was received later; NaT compares as neither.
    newer = (joined.observed_at > before.observed_at) | (
        (joined.observed_at == before.observed_at) & (joined.received_at >= before.received_at)
    )
    taken = ~np.isnan(values) & (np.isnan(before.values) | newer)
    if not taken.any():
        return segment, {record.feedback_id for record in met}
    after = Outcomes(
        np.where(taken, values, before.values),
        np.where(taken, joined.observed_at, before.observed_at),
        np.where(taken, joined.received_at, before.received_at),
    )
    key = f"{segment.key.removesuffix('.npz')}.outcomes-{token}.npz"
    arrays = {"values": after.values, "observed_at": after.observed_at, "received_at": after.received_at}
    store.put(key, _pack(arrays))
    labelled = int(np.count_nonzero(after.known))
    return replace(segment, outcomes_key=key, labelled=labelled), {record.feedback_id for record in met}


def _matching(rows: SegmentRows, records: Sequence[FeedbackRecord]) -> list[FeedbackRecord]:
    ids, row_ids = set(rows.prediction_ids.tolist()), set(rows.row_ids.tolist()) - {""}
    return [
        record
        for record in records
        if (record.prediction_id in ids or f"{record.prediction_id}-0" in ids or record.row_id in row_ids)
    ]


def _as_window(rows: SegmentRows, segment: Segment) -> CapturedWindow:
    """Return rows as joining knows them; what it does not look at is left empty."""
    nothing = np.full(len(rows), None, dtype=object)
    row_ids = np.array([name or None for name in rows.row_ids.tolist()], dtype=object)
    return CapturedWindow(
        model="",
        start=segment.begin,
        end=segment.end,
        prediction_ids=rows.prediction_ids.astype(object),
        request_ids=nothing,
        request_rows=rows.request_rows,
        row_ids=row_ids,
        protocols=nothing,
        versions=np.zeros(len(rows), dtype=np.int64),
        predicted_at=rows.predicted_at,
        sampling_rates=np.ones(len(rows)),
        features={},
        unknown={},
        labels=nothing,
        decisions=nothing,
        probabilities={},
        values=np.zeros(len(rows)),
        report=ReadReport(),
    )


def _as_numbers(outcomes: Array, schema: TableSchema, notes: IntakeNotes) -> Array:
    numbers = np.full(len(outcomes), np.nan)
    index = {name: position for position, name in enumerate(schema.classes)}
    for row, outcome in enumerate(outcomes.tolist()):
        if outcome is None:
            continue
        number = _number(outcome, index)
        notes.unusable_feedback += number is None
        numbers[row] = np.nan if number is None else number
    return numbers


def _number(outcome: Any, index: Mapping[str, int]) -> float | None:
    if index:
        return index.get(str(outcome))
    return float(outcome) if isinstance(outcome, int | float) and np.isfinite(outcome) else None


def sketch_outcomes(
    rows: SegmentRows, outcomes: Outcomes, schema: TableSchema, origin: float
) -> OutcomeSketch | ErrorSketch:
    """Sketch the rows whose outcome is known."""
    known = outcomes.known
    if schema.classes:
        return OutcomeSketch.of(rows.answers().take(known), outcomes.values[known].astype(np.int64))
    chosen = np.flatnonzero(known).tolist()
    groups = {name: [values[row] for row in chosen] for name, values in rows.groups.items()}
    return ErrorSketch.of(rows.values[known], outcomes.values[known], groups, origin)


def _pack(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def _unpack(body: bytes) -> dict[str, Array]:
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _aware(moment: np.datetime64) -> datetime:
    return datetime.fromtimestamp(moment.astype("datetime64[us]").astype(np.int64) / 1e6, UTC)
