"""Reading of captures and feedback since the last run: every object once, however late it is delivered.

Objects are identified by key and size, because rows are appended to the newest ones; rows that were read before are
known by their ids. Prefixes of the last hours are listed again, so that a late object is still found; the first run of
a day lists the whole day before once more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from millrace.captures.records import CapturedRow, FeedbackRecord
from millrace.captures.window import CapturedWindow, ReadReport, WindowBuilder, hash_id, hours, read_records
from millrace.layout import captures_prefix, feedback_prefix
from millrace.monitoring.context import MonitorContext
from millrace.ports import ListedObject, ObjectStore

#: Delay of an object that the next run still finds, and of one that the first run of a day finds.
_LATE, _LATE_ON_A_NEW_DAY = timedelta(hours=6), timedelta(hours=30)
#: Limit of the gap between two runs that is caught up.
_FARTHEST = timedelta(days=7)
#: Tolerance for fast clocks; objects of later hours are read once their hour comes.
_AHEAD = timedelta(hours=1)
#: Rows that are held in memory at once.
_BATCH_ROWS = 100_000


@dataclass(slots=True)
class IngestCounts:
    """Counts of a run's reading, for the report."""

    read: ReadReport = field(default_factory=ReadReport)
    from_the_future: int = 0  # Rows with a timestamp in the future; they count as of now
    other_versions: dict[int, int] = field(default_factory=dict)  # rows by version, of other known ones
    unknown_versions: dict[int, int] = field(default_factory=dict)  # rows by version, not in the registry
    monitored_rows: int = 0  # Rows of the monitored version
    unanswered: int = 0  # Rows without a valid prediction
    matched_feedback: int = 0  # outcomes with a captured row
    unmatched_feedback: int = 0  # outcomes without a captured row (yet)
    unusable_feedback: int = 0  # Outcomes that are no class of the model, or no number


class SeenObjects:
    """Hashes of the keys and sizes of objects that were read, by prefix."""

    def __init__(self, before: Mapping[str, list[str]]) -> None:
        self._before = {prefix: set(hashes) for prefix, hashes in before.items()}
        self._kept: dict[str, set[str]] = {}

    def list_new(self, prefix: str, store: ObjectStore) -> list[ListedObject]:
        """List the objects that were not read before, and mark them as read."""
        known, kept = self._before.get(prefix, set()), self._kept.setdefault(prefix, set())
        found: list[ListedObject] = []
        for listed in store.list(prefix):
            name = f"{hash_id(f'{listed.key} {listed.size}'):x}"
            if name not in known and name not in kept:
                found.append(listed)
            kept.add(name)
        return found

    def keep(self, prefix: str) -> None:
        """Keep the hashes of a prefix that is not listed this time."""
        if prefix in self._before:
            self._kept.setdefault(prefix, set()).update(self._before[prefix])

    def to_plain(self) -> dict[str, list[str]]:
        """Return the hashes by prefix, without empty prefixes."""
        return {prefix: sorted(names) for prefix, names in self._kept.items() if names}


def read_captures(
    context: MonitorContext, checked_at: datetime | None, seen: SeenObjects, counts: IngestCounts
) -> Iterator[CapturedWindow]:
    """Yield the rows that were captured since the last run, in batches, each id once."""
    model, now = context.model, context.now
    since = now - _LATE_ON_A_NEW_DAY
    if checked_at is not None:
        same_day = checked_at.astimezone(UTC).date() == now.astimezone(UTC).date()
        since = max(min(checked_at, now) - (_LATE if same_day else _LATE_ON_A_NEW_DAY), now - _FARTHEST)
    for hour in hours(now - _LATE_ON_A_NEW_DAY, since):
        seen.keep(captures_prefix(model, hour))
    found: list[ListedObject] = []
    for hour in hours(since, now + _AHEAD):
        found += seen.list_new(captures_prefix(model, hour), context.store)
    builder, ids = WindowBuilder(), set[int]()
    held = 0
    for listed in found:
        counts.read.objects += 1
        for row in read_records(context.store, listed.key, CapturedRow, counts.read):
            place = hash_id(row.prediction_id)
            if place in ids:
                counts.read.duplicates += 1
                continue
            ids.add(place)
            counts.from_the_future += row.predicted_at > now
            builder.add(row)
            held += 1
        if held >= _BATCH_ROWS:
            yield builder.build(model, since, now, counts.read)
            builder, held = WindowBuilder(), 0
    if held:
        yield builder.build(model, since, now, counts.read)


def read_feedback(
    context: MonitorContext, checked_at: datetime | None, seen: SeenObjects, counts: IngestCounts
) -> list[FeedbackRecord]:
    """Return the outcomes that were reported since the last run."""
    now = context.now
    day = max(min(checked_at or now, now) - _LATE_ON_A_NEW_DAY, now - _FARTHEST)
    day = day.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    records, read = list[FeedbackRecord](), ReadReport()
    while day <= now + _AHEAD:
        for listed in seen.list_new(feedback_prefix(context.model, day), context.store):
            records += read_records(context.store, listed.key, FeedbackRecord, read)
        day += timedelta(days=1)
    counts.read.malformed_rows += read.malformed_rows
    return records
