"""Joining captured predictions with ground truth.

Feedback names a prediction, or a row by the model's id column. By prediction id it counts for that prediction alone. By
row id it counts for every prediction of that row made before the observation, so that a window does not depend on
predictions outside of it. Of several reports about one prediction the one observed last counts, of those the one
received last, and of those in one request the last: that is how a report is corrected. Reports of excluded callers do
not count.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from millrace.captures.records import FeedbackRecord, format_timestamp
from millrace.captures.window import Array, CapturedWindow, ReadReport, hours, iterate_feedback, read_window
from millrace.errors import ArtifactNotFoundError, FieldError, InvalidInputError
from millrace.layout import captures_of_day_prefix, captures_prefix, feedback_prefix
from millrace.ports import ListedObject, ObjectStore

#: Largest difference between the clocks of callers and of the service.
CLOCK_TOLERANCE = timedelta(minutes=5)
DEFAULT_HOURS = 7 * 24
MAX_HOURS = 31 * 24
#: Objects that are read at once, while a caller waits: the time is spent waiting for the bucket.
READERS = 64
#: Compressed bytes, and objects, that are read. An hour of captures is one object, or a few. With the pages that are
#: listed, and the document of monitoring that is read beyond, no more than twenty calls follow each other.
MAX_BYTES = 16_000_000
MAX_OBJECTS = 14 * READERS
_MAX_LISTED = 3_999  # below one prefix: one more is the end of the fourth page
#: So many hours are listed one by one: the rest of a day may hold a hundred pages.
_LISTED_HOURS = 48
#: Rows to count; of more, a sample is counted.
MAX_COUNTED_ROWS = 100_000
#: Callers that a coverage lists, those with most reports first.
MAX_CALLERS = 50


class TooManyCapturesError(InvalidInputError):
    """More captures and feedback than can be read while a caller waits."""


@dataclass(slots=True)
class JoinReport:
    """Counts of feedback records.

    ``superseded`` counts matched records that a later or repeated report replaced, ``observed_before_prediction`` those
    matched by prediction id although observed before it: outcomes may be collected wrongly. ``excluded`` counts those
    of excluded callers, which are not among the ``records``; ``callers`` counts all by caller.
    """

    records: int = 0
    matched: int = 0
    superseded: int = 0
    unmatched: int = 0
    observed_before_prediction: int = 0
    excluded: int = 0
    callers: Counter[str] = field(default_factory=Counter)
    read: ReadReport = field(default_factory=ReadReport)


@dataclass(frozen=True, slots=True)
class JoinedWindow:
    """A window with ground truth, in arrays of shape (n_rows,).

    ``outcomes`` holds the class as the schema writes it, or a float; None where there is none. The timestamps are those
    of the report that counts; NaT where there is none.
    """

    window: CapturedWindow
    labelled: npt.NDArray[np.bool_]
    outcomes: Array
    observed_at: npt.NDArray[np.datetime64]
    received_at: npt.NDArray[np.datetime64]
    report: JoinReport

    @property
    def coverage(self) -> float:
        """Share of the predictions with an outcome; NaN without predictions."""
        return float(self.labelled.mean()) if len(self.labelled) else float("nan")


def join_window(
    store: ObjectStore, window: CapturedWindow, until: datetime, exclude_callers: Sequence[str] = ()
) -> JoinedWindow:
    """Join a window with all feedback received from its start up to ``until``, except that of some callers."""
    report = JoinReport()
    records = iterate_feedback(store, window.model, window.start - CLOCK_TOLERANCE, until, report.read)
    return join_feedback(window, records, report, exclude_callers)


def is_excluded(caller: str, exclude_callers: Sequence[str]) -> bool:
    """Return whether a caller is among some, in which ``*`` stands for any characters."""
    return any(fnmatchcase(caller, pattern) for pattern in exclude_callers)


def join_feedback(
    window: CapturedWindow,
    records: Iterable[FeedbackRecord],
    report: JoinReport | None = None,
    exclude_callers: Sequence[str] = (),
) -> JoinedWindow:
    """Join a window with feedback in any order; ``report`` holds the counts of reading ``records``."""
    report = report or JoinReport()
    index = _Index(window)
    latest: dict[int, FeedbackRecord] = {}
    for record in records:
        report.callers[record.caller] += 1
        if is_excluded(record.caller, exclude_callers):
            report.excluded += 1
            continue
        report.records += 1
        places = index.places(record, report)
        if not places:
            report.unmatched += 1
            continue
        report.matched += 1
        report.superseded += not latest.keys().isdisjoint(places)
        for place in places:
            if place not in latest or record.order > latest[place].order:
                latest[place] = record
    outcomes: Array = np.full(len(window), None, dtype=object)
    observed = np.full(len(window), np.datetime64("NaT", "us"))
    received = observed.copy()
    for place, record in latest.items():
        outcomes[place] = record.outcome
        observed[place] = _naive(record.observed_at)
        received[place] = _naive(record.received_at)
    return JoinedWindow(window, ~np.isnat(observed), outcomes, observed, received, report)


class _Index:
    """Finds the rows of a window that feedback is about."""

    def __init__(self, window: CapturedWindow) -> None:
        self._predicted_at = window.predicted_at
        self._by_prediction: dict[str, int] = {}
        self._by_row: dict[str | None, list[int]] = {}
        alone = (window.request_rows == 1).tolist()
        for place, identifier in enumerate(window.prediction_ids.tolist()):
            self._by_prediction[identifier] = place
            if alone[place]:
                self._by_prediction[identifier.removesuffix("-0")] = place
        for place, row_id in enumerate(window.row_ids.tolist()):
            if row_id is not None:
                self._by_row.setdefault(row_id, []).append(place)

    def places(self, record: FeedbackRecord, report: JoinReport) -> list[int]:
        """Return the places of the rows that a record is about."""
        observed_by = _naive(record.observed_at + CLOCK_TOLERANCE)
        if record.prediction_id is not None:
            place = self._by_prediction.get(record.prediction_id)
            if place is None:
                return []
            report.observed_before_prediction += bool(self._predicted_at[place] > observed_by)
            return [place]
        places = self._by_row.get(record.row_id, ())
        return [place for place in places if self._predicted_at[place] <= observed_by]


def _naive(timestamp: datetime) -> np.datetime64:
    return np.datetime64(timestamp.astimezone(UTC).replace(tzinfo=None), "us")


def read_hours(text: str | None) -> int:
    """Read the number of hours to count; raises ``InvalidInputError``."""
    if text is None:
        return DEFAULT_HOURS
    if not (re.fullmatch("[0-9]{1,9}", text) and 1 <= int(text) <= MAX_HOURS):
        message = f"expects a whole number from 1 to {MAX_HOURS}"
        raise InvalidInputError(f"hours {message}", [FieldError("hours", message)])
    return int(text)


def describe_coverage(
    model: str, n_hours: int, store: ObjectStore, now: datetime, exclude_callers: Sequence[str] = ()
) -> dict[str, Any]:
    """Count captured predictions of the last hours, and those with an outcome, in all, by day and by version.

    Counts are estimates where ``captures.kept_share`` is below 1. Raises ``TooManyCapturesError`` when there are too
    many captures to read while a caller waits; monitoring has kept counts then.
    """
    start = now - timedelta(hours=n_hours)
    fetched = _fetch(model, start, now, store)
    captured = read_window(fetched, model, start, now, max_rows=MAX_COUNTED_ROWS)
    joined = join_window(fetched, captured, now, exclude_callers)
    window, read = joined.window, joined.report.read
    counts = ("records", "matched", "superseded", "unmatched", "observed_before_prediction", "excluded")
    days = window.predicted_at.astype("datetime64[D]").astype(str)
    return {
        "model": model,
        "start": format_timestamp(start),
        "end": format_timestamp(now),
        "source": "captures",
        **_count(joined, np.ones(len(window), dtype=np.bool_)),
        "days": [{"day": str(day), **_count(joined, days == day)} for day in np.unique(days)],
        "versions": [
            {"version": int(version), **_count(joined, window.versions == version)}
            for version in np.unique(window.versions)
        ],
        "feedback": {name: getattr(joined.report, name) for name in counts} | {"malformed": read.malformed_rows},
        "callers": [
            {"caller": caller, "records": records, "excluded": is_excluded(caller, exclude_callers)}
            for caller, records in joined.report.callers.most_common(MAX_CALLERS)
        ],
        "captures": {
            "objects": window.report.objects,
            "unreadable_objects": len(window.report.unreadable_objects),
            "malformed": window.report.malformed_rows,
            "duplicates": window.report.duplicates,
            "kept_share": window.report.kept_share,
        },
    }


class _FetchedObjects:
    """Objects in memory, in the place of the bucket that they were read from."""

    def __init__(self, bodies: Mapping[ListedObject, bytes | None]) -> None:
        self._listed = sorted(bodies, key=lambda listed: listed.key)
        self._bodies = {listed.key: body for listed, body in bodies.items()}

    def list(self, prefix: str) -> Iterator[ListedObject]:
        return (listed for listed in self._listed if listed.key.startswith(prefix))

    def get(self, key: str) -> bytes:
        body = self._bodies[key]
        if body is None:
            raise ArtifactNotFoundError(f"{key} has expired")
        return body


def _fetch(model: str, start: datetime, end: datetime, store: ObjectStore) -> ObjectStore:
    """Read the captures and the feedback of a span, many objects at once; raises as :func:`describe_coverage` does."""
    days = list(dict.fromkeys(hour.replace(hour=0) for hour in hours(start - CLOCK_TOLERANCE, end)))
    of_hours = [captures_prefix(model, hour) for hour in hours(start, end)]
    of_feedback = [feedback_prefix(model, day) for day in days]
    by_hour = len(of_hours) <= _LISTED_HOURS
    prefixes = (of_hours if by_hour else [captures_of_day_prefix(model, day) for day in days]) + of_feedback
    wanted = tuple(of_hours + of_feedback)

    def list_objects(prefix: str) -> list[ListedObject]:
        listed = list(itertools.islice(store.list(prefix), _MAX_LISTED + 1))
        # Too many to be listed are too many to be read, whatever they are.
        return listed if len(listed) > _MAX_LISTED else [one for one in listed if one.key.startswith(wanted)]

    def get(listed: ListedObject) -> bytes | None:
        try:
            return store.get(listed.key)
        except ArtifactNotFoundError:
            return None

    with ThreadPoolExecutor(READERS) as pool:
        objects = list(itertools.chain.from_iterable(pool.map(list_objects, prefixes)))
        size = sum(listed.size for listed in objects)
        if size > MAX_BYTES or len(objects) > MAX_OBJECTS:
            raise TooManyCapturesError(
                f"captures and feedback of {(end - start) // timedelta(hours=1)} hours take {size} bytes in "
                f"{len(objects)} objects or more; one request may read {MAX_BYTES} in {MAX_OBJECTS}: "
                "request fewer hours",
                [FieldError("hours", "is too large")],
            )
        bodies = dict(zip(objects, pool.map(get, objects), strict=True))
    return cast("ObjectStore", _FetchedObjects(bodies))  # reading a window takes these two methods of it


def _count(joined: JoinedWindow, among: Any) -> dict[str, Any]:
    predictions, labelled = int(among.sum()), int((joined.labelled & among).sum())
    share = joined.window.report.kept_share
    coverage = labelled / predictions if predictions else None
    return {"predictions": round(predictions / share), "labelled": round(labelled / share), "coverage": coverage}
