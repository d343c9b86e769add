"""Reading of captures and feedback since the last run: every object once, however late it is delivered.

Objects are identified by key and size, because rows are appended to the newest ones; rows that were read before are
known by their ids. Prefixes of the last hours are listed again, so that a late object is still found; the first run of
a day lists the whole day before once more. A run that stops between two batches leaves its progress to the next one.
"""

from bisect import insort
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Generic

from millrace.captures.records import CapturedRow
from millrace.captures.window import (
    CapturedWindow,
    ReadReport,
    RecordT,
    WindowBuilder,
    hash_id,
    hours,
    parse_lines,
    read_lines,
)
from millrace.documents import Record
from millrace.layout import captures_prefix, feedback_prefix
from millrace.monitoring.context import MonitorContext
from millrace.ports import ObjectStore

#: Delay of an object that the next run still finds, and of one that the first run of a day finds.
_LATE, _LATE_ON_A_NEW_DAY = timedelta(hours=6), timedelta(hours=30)
#: Limit of the gap between two runs that is caught up.
_FARTHEST = timedelta(days=7)
#: Tolerance for fast clocks; objects of later hours are read once their hour comes.
_AHEAD = timedelta(hours=1)
#: Rows that are held in memory at once, also of one object.
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


class ReadProgress(Record, frozen=True, kw_only=True):
    """Progress of a monitoring run that stopped before it had read everything; the next run goes on from there."""

    began_at: datetime
    counts: IngestCounts = IngestCounts()
    partial: str = ""  # Hash of the object that was read in part
    lines: int = 0  # Lines of it that were read
    retried: bool = False  # True once feedback that waited was tried again


@dataclass(frozen=True, slots=True)
class NewPrefixes:
    """Prefixes that may hold objects which no run has read, and seen objects of those that a later run may list."""

    since: datetime
    captures: Sequence[str]
    feedback: Sequence[str]
    kept: SeenObjects


def find_prefixes(
    context: MonitorContext, checked_at: datetime | None, began_at: datetime, seen: SeenObjects
) -> NewPrefixes:
    """Return the prefixes to list for what was delivered since the last run; ``began_at`` is when reading began."""
    model, now = context.model, context.now
    since = began_at - _LATE_ON_A_NEW_DAY
    if checked_at is not None:
        same_day = checked_at.astimezone(UTC).date() == began_at.astimezone(UTC).date()
        since = min(checked_at, began_at) - (_LATE if same_day else _LATE_ON_A_NEW_DAY)
    since = max(since, now - _FARTHEST)
    day = max(min(checked_at or began_at, began_at) - _LATE_ON_A_NEW_DAY, now - _FARTHEST).astimezone(UTC)
    days = dict.fromkeys(hour.replace(hour=0) for hour in hours(day, now + _AHEAD))
    not_listed = (captures_prefix(model, hour) for hour in hours(now - _LATE_ON_A_NEW_DAY, since))
    return NewPrefixes(
        since,
        [captures_prefix(model, hour) for hour in hours(since, now + _AHEAD)],
        [feedback_prefix(model, day) for day in days],
        {prefix: seen[prefix] for prefix in not_listed if prefix in seen},
    )


class NewRecords(Generic[RecordT]):
    """Reads the records of objects that no run has read, some lines at a time, and keeps how far it got.

    Attributes
    ----------
    seen : dict
        Hashes of the objects that were read, by prefix, of the prefixes that were listed so far.
    partial, lines : str, int
        The object that was read in part, by this run or the one before, and its lines that were.
    report : ReadReport
        Counts of the last :meth:`take`.
    """

    def __init__(
        self,
        store: ObjectStore,
        record_class: type[RecordT],
        prefixes: Sequence[str],
        seen: SeenObjects,
        progress: ReadProgress,
    ) -> None:
        self.seen: dict[str, list[str]] = {}
        self.partial, self.lines = progress.partial, progress.lines
        self.report = ReadReport()
        self.is_finished = False
        self._record_class: type[RecordT] = record_class
        self._new_lines = self._read_objects(store, prefixes, seen, progress)

    def take(self, n_lines: int) -> Iterator[RecordT]:
        """Yield the records of the next lines; fewer, when there are no more."""
        self.report = ReadReport()
        return parse_lines(islice(self._new_lines, n_lines), self._record_class, self.report)

    def _read_objects(
        self, store: ObjectStore, prefixes: Sequence[str], seen: SeenObjects, progress: ReadProgress
    ) -> Iterator[bytes]:
        is_compressed, waiting = self._record_class is CapturedRow, (progress.partial, progress.lines)
        for prefix in prefixes:
            objects = {f"{hash_id(f'{one.key} {one.size}'):x}": one for one in store.list(prefix)}
            known = objects.keys() & set(seen.get(prefix, ()))
            if objects:
                self.seen[prefix] = sorted(known)
            for name, one in objects.items():
                if name in known:
                    continue
                begun, waiting = (waiting[1], ("", 0)) if name == waiting[0] else (0, waiting)
                self.partial, self.lines = name, begun
                lines = read_lines(store, one.key, is_compressed=is_compressed, report=self.report)
                for line in islice(lines, begun, None):
                    self.lines += 1
                    yield line
                self.report.objects += 1
                insort(self.seen[prefix], name)
                self.partial, self.lines = waiting
        self.is_finished = True


def read_captures(context: MonitorContext, since: datetime, rows: NewRecords[CapturedRow]) -> Iterator[CapturedWindow]:
    """Yield captured rows in batches, each id once a batch, with the counts of each batch's reading.

    Batches end at the same lines wherever a run stops between them, so that cutting a run changes nothing.
    """
    while not rows.is_finished:
        builder, ids, duplicates = WindowBuilder(), set[int](), 0
        for row in rows.take(_BATCH_ROWS):
            row_id = hash_id(row.prediction_id)
            if row_id in ids:
                duplicates += 1
                continue
            ids.add(row_id)
            builder.add(row)
        rows.report.duplicates += duplicates
        yield builder.build(context.model, since, context.now, rows.report)
