"""What was captured and reported since the last look: every object once, however late it came.

Objects are told apart by key and size, for rows are added to the newest ones; rows that were read before are known by
their ids. Those of the last hours are remembered, so that one that is delivered late is still found; the whole day
before is looked at once more on every first run of a day.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from millrace.captures.records import CapturedRow, FeedbackRecord
from millrace.captures.window import CapturedWindow, ReadReport, WindowBuilder, decompress, hash_id, hours
from millrace.errors import ArtifactNotFoundError
from millrace.layout import captures_prefix, feedback_prefix
from millrace.ports import ListedObject, ObjectStore

#: How late an object may be delivered and still be found by the next run, and by the first of a day.
LATE = timedelta(hours=6)
_LATE_ON_A_NEW_DAY = timedelta(hours=30)
#: A gap between two runs is caught up on as far as this.
_FARTHEST = timedelta(days=7)
#: Clocks may go ahead by as much; objects of later hours are read once their hour comes.
_AHEAD = timedelta(hours=1)
#: Rows that are held in memory at once.
BATCH_ROWS = 100_000


@dataclass(slots=True)
class IntakeNotes:
    """What was met on the way, for the report.

    Parameters
    ----------
    read : ReadReport
        Objects and rows read, and what could not be.
    from_the_future : int
        Rows predicted later than now, by a clock that goes wrong; they count as of now.
    other_versions : dict of int to int
        Rows that another known version answered.
    unknown_versions : dict of int to int
        Rows of versions that the registry does not know.
    unanswered : int
        Rows without an answer that is a number.
    unmatched_feedback : int
        Outcomes of predictions that were never seen, or not yet.
    unusable_feedback : int
        Outcomes that are no class of the model, or no number.
    """

    read: ReadReport = field(default_factory=ReadReport)
    from_the_future: int = 0
    other_versions: dict[int, int] = field(default_factory=dict)
    unknown_versions: dict[int, int] = field(default_factory=dict)
    unanswered: int = 0
    unmatched_feedback: int = 0
    unusable_feedback: int = 0


class Seen:
    """Which objects were read, by the prefix they lie under.

    Parameters
    ----------
    known : mapping of str to list of str
        Hashes of their keys and sizes, by prefix.
    """

    def __init__(self, known: Mapping[str, list[str]]) -> None:
        self._before = {prefix: set(hashes) for prefix, hashes in known.items()}
        self._kept: dict[str, set[str]] = {}

    def new(self, prefix: str, store: ObjectStore) -> list[ListedObject]:
        """Return the objects under a prefix that were not read before, and remember them as read."""
        known = self._before.get(prefix, set())
        kept = self._kept.setdefault(prefix, set())
        found: list[ListedObject] = []
        for listed in store.list(prefix):
            name = f"{hash_id(f'{listed.key} {listed.size}'):x}"
            if name not in known and name not in kept:
                found.append(listed)
            kept.add(name)
        return found

    def keep(self, prefix: str) -> None:
        """Go on remembering a prefix that was not looked at this time."""
        if prefix in self._before:
            self._kept.setdefault(prefix, set()).update(self._before[prefix])

    def to_dict(self) -> dict[str, list[str]]:
        """Return what to remember; prefixes that hold nothing are left out."""
        return {prefix: sorted(names) for prefix, names in self._kept.items() if names}


def look_back(checked_at: datetime | None, now: datetime) -> datetime:
    """Return from when on captured objects are looked for."""
    if checked_at is None:
        return now - _LATE_ON_A_NEW_DAY
    late = _LATE_ON_A_NEW_DAY if checked_at.astimezone(UTC).date() != now.astimezone(UTC).date() else LATE
    return max(min(checked_at, now) - late, now - _FARTHEST)


def read_batches(
    store: ObjectStore, model: str, *, checked_at: datetime | None, now: datetime, seen: Seen, notes: IntakeNotes
) -> Iterator[CapturedWindow]:
    """Yield the rows that were captured since the last look, about :data:`BATCH_ROWS` at a time, each id once."""
    since = look_back(checked_at, now)
    for hour in hours(now - _LATE_ON_A_NEW_DAY, since):
        seen.keep(captures_prefix(model, hour))
    found: list[ListedObject] = []
    for hour in hours(since, now + _AHEAD):
        found += seen.new(captures_prefix(model, hour), store)
    builder, ids = WindowBuilder(), set[int]()
    held = 0
    for listed in found:
        notes.read.objects += 1
        for row in _read_rows(store, listed.key, notes.read):
            place = hash_id(row.prediction_id)
            if place in ids:
                notes.read.duplicates += 1
                continue
            ids.add(place)
            notes.from_the_future += row.predicted_at > now
            builder.add(row)
            held += 1
        if held >= BATCH_ROWS:
            yield builder.build(model, since, now, notes.read)
            builder, held = WindowBuilder(), 0
    if held:
        yield builder.build(model, since, now, notes.read)


def _read_rows(store: ObjectStore, key: str, report: ReadReport) -> Iterator[CapturedRow]:
    try:
        lines = decompress(store.get(key)).splitlines()
    except ArtifactNotFoundError:
        return  # retention has taken it since it was listed
    except ValueError as error:
        report.unreadable_objects.append(f"{key}: {error}")
        return
    for line in lines:
        report.rows += 1
        try:
            yield CapturedRow.from_line(line)
        except (ValueError, RecursionError):
            report.malformed_rows += 1


def read_feedback(
    store: ObjectStore, model: str, *, checked_at: datetime | None, now: datetime, seen: Seen, notes: IntakeNotes
) -> list[FeedbackRecord]:
    """Return the outcomes that were reported since the last look."""
    day = (min(checked_at or now, now) - _LATE_ON_A_NEW_DAY).astimezone(UTC)
    day = max(day, (now - _FARTHEST).astimezone(UTC)).replace(hour=0, minute=0, second=0, microsecond=0)
    records: list[FeedbackRecord] = []
    while day <= now + _AHEAD:
        for listed in seen.new(feedback_prefix(model, day), store):
            records += _read_records(store, listed.key, notes.read)
        day += timedelta(days=1)
    return records


def _read_records(store: ObjectStore, key: str, report: ReadReport) -> Iterator[FeedbackRecord]:
    try:
        lines = store.get(key).splitlines()
    except ArtifactNotFoundError:
        return
    for line in lines:
        try:
            yield FeedbackRecord.from_line(line)
        except (ValueError, RecursionError):
            report.malformed_rows += 1
