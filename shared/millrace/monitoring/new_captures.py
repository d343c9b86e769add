"""Reading of captures and feedback since the last run: every object once, however late it is delivered.

Objects are identified by key and size, because rows are appended to the newest ones; rows that were read before are
known by their ids. Prefixes of the last hours are listed again, so that a late object is still found; the first run of
a day lists the whole day before once more.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.captures.records import CapturedRow, FeedbackRecord
from millrace.captures.window import CapturedWindow, ReadReport, WindowBuilder, hash_id, hours, read_records
from millrace.documents import Record
from millrace.layout import captures_prefix, feedback_prefix
from millrace.monitoring.context import MonitorContext
from millrace.ports import ListedObject

#: Delay of an object that the next run still finds, and of one that the first run of a day finds.
_LATE, _LATE_ON_A_NEW_DAY = timedelta(hours=6), timedelta(hours=30)
#: Limit of the gap between two runs that is caught up.
_FARTHEST = timedelta(days=7)
#: Tolerance for fast clocks; objects of later hours are read once their hour comes.
_AHEAD = timedelta(hours=1)
#: Rows that are held in memory at once.
_BATCH_ROWS = 100_000
#: Unreadable objects that a report names.
_MAX_NAMED = 20

#: Hashes of the keys and sizes of objects that were read, by prefix.
SeenObjects = Mapping[str, list[str]]


class IngestCounts(Record, frozen=True, kw_only=True):
    """Counts of a run's reading, for the report; counts add up."""

    objects: int = 0
    rows: int = 0
    duplicates: int = 0
    malformed_rows: int = 0
    unreadable_objects: tuple[str, ...] = ()  # keys with reasons
    from_the_future: int = 0  # Rows with a timestamp in the future; they count as of now
    other_versions: dict[str, int] = {}  # noqa: RUF012  # msgspec copies the default; rows by version, of known ones
    unknown_versions: dict[str, int] = {}  # noqa: RUF012  # as above; rows by version, not in the registry
    monitored_rows: int = 0  # Rows of the monitored version
    unanswered: int = 0  # Rows without a valid prediction
    matched_feedback: int = 0  # outcomes with a captured row
    unmatched_feedback: int = 0  # outcomes without a captured row (yet)
    unusable_feedback: int = 0  # Outcomes that are no class of the model, or no number

    def __add__(self, other: "IngestCounts") -> "IngestCounts":
        """Return the counts of both."""
        names = self.__struct_fields__
        return IngestCounts(**{name: _add(getattr(self, name), getattr(other, name)) for name in names})

    @classmethod
    def of_reading(cls, report: ReadReport) -> "IngestCounts":
        """Return the counts of objects and lines."""
        return cls(
            objects=report.objects,
            rows=report.rows,
            duplicates=report.duplicates,
            malformed_rows=report.malformed_rows,
            unreadable_objects=tuple(report.unreadable_objects[:_MAX_NAMED]),
        )


def _add(first: Any, second: Any) -> Any:
    return dict(Counter(first) + Counter(second)) if isinstance(first, dict) else first + second


@dataclass(frozen=True, slots=True)
class NewObjects:
    """Objects that no run has read, and the hashes of all that a later run may list again."""

    since: datetime
    captures: Sequence[ListedObject]
    feedback: Sequence[ListedObject]
    seen: dict[str, list[str]]


def list_new_objects(context: MonitorContext, checked_at: datetime | None, seen: SeenObjects) -> NewObjects:
    """List the objects that were delivered since the last run."""
    model, now = context.model, context.now
    since = now - _LATE_ON_A_NEW_DAY
    if checked_at is not None:
        same_day = checked_at.astimezone(UTC).date() == now.astimezone(UTC).date()
        since = max(min(checked_at, now) - (_LATE if same_day else _LATE_ON_A_NEW_DAY), now - _FARTHEST)
    day = max(min(checked_at or now, now) - _LATE_ON_A_NEW_DAY, now - _FARTHEST).astimezone(UTC)
    days = dict.fromkeys(hour.replace(hour=0) for hour in hours(day, now + _AHEAD))
    not_listed = (captures_prefix(model, hour) for hour in hours(now - _LATE_ON_A_NEW_DAY, since))
    kept = {prefix: seen[prefix] for prefix in not_listed if prefix in seen}
    captures, seen_captures = _find_new(
        context, [captures_prefix(model, hour) for hour in hours(since, now + _AHEAD)], seen
    )
    feedback, seen_feedback = _find_new(context, [feedback_prefix(model, day) for day in days], seen)
    return NewObjects(since, captures, feedback, kept | seen_captures | seen_feedback)


def _find_new(
    context: MonitorContext, prefixes: Sequence[str], seen: SeenObjects
) -> tuple[list[ListedObject], dict[str, list[str]]]:
    new: list[ListedObject] = []
    hashes: dict[str, list[str]] = {}
    for prefix in prefixes:
        objects = {f"{hash_id(f'{one.key} {one.size}'):x}": one for one in context.store.list(prefix)}
        known = set(seen.get(prefix, ()))
        new += [one for name, one in objects.items() if name not in known]
        hashes |= {prefix: sorted(objects)} if objects else {}
    return new, hashes


def read_captures(context: MonitorContext, objects: NewObjects) -> Iterator[CapturedWindow]:
    """Yield the captured rows in batches, each id once, with the counts of each batch's reading."""
    ids: set[int] = set()
    builder, report, held = WindowBuilder(), ReadReport(), 0
    for listed in objects.captures:
        report.objects += 1
        for row in read_records(context.store, listed.key, CapturedRow, report):
            row_id = hash_id(row.prediction_id)
            if row_id in ids:
                report.duplicates += 1
                continue
            ids.add(row_id)
            builder.add(row)
            held += 1
        if held >= _BATCH_ROWS:
            yield builder.build(context.model, objects.since, context.now, report)
            builder, report, held = WindowBuilder(), ReadReport(), 0
    if report.objects:
        yield builder.build(context.model, objects.since, context.now, report)


def read_new_feedback(context: MonitorContext, objects: NewObjects) -> tuple[list[FeedbackRecord], IngestCounts]:
    """Return the outcomes that were reported since the last run, and the number of malformed ones."""
    report = ReadReport()
    keys = (listed.key for listed in objects.feedback)
    records = [record for key in keys for record in read_records(context.store, key, FeedbackRecord, report)]
    return records, IngestCounts(malformed_rows=report.malformed_rows)
