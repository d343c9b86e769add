"""Activity: the models that had requests or ground truth lately, so that monitoring starts work for those alone.

Each model has one item (partition ``MONITORING`` of the table of runs). Whoever stores requests or ground truth marks
the hour in it; the monitor notes there when the model was monitored and when it is due again.
"""

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from millrace.documents import parse_timestamp
from millrace.layout import MONITORING_PARTITION, monitoring_item
from millrace.ports import Compare, Item, RegistryStore, Update

ActivityKind = Literal["traffic", "feedback", "jobs"]
_HOUR_FORMAT = "%Y-%m-%dT%H"
#: The clocks of two functions may differ by so much.
_CLOCK_SKEW = timedelta(minutes=1)
#: The last hour that this execution environment marked, by model and kind.
_marked_hours: dict[tuple[str, str], str] = {}


@dataclass(frozen=True, slots=True)
class ModelActivity:
    """Activity and next check of one model."""

    model: str
    traffic_until: datetime | None = None  # end of the last hour with requests, or with ground truth
    feedback_until: datetime | None = None
    jobs_until: datetime | None = None  # end of the last hour in which a captured batch job ended
    monitored_at: datetime | None = None  # begin of the last monitoring run that finished
    due_at: datetime | None = None  # when something may change without new rows
    own_schedule: bool = False  # the hourly check leaves it to the schedule of its spec
    idle: str = ""  # the reason why it is not monitored at all
    open_incidents: int | None = None  # after the last monitoring run; None before the first

    @classmethod
    def from_item(cls, item: Item) -> "ModelActivity":
        """Read a stored item; attributes that it lacks have their defaults."""
        times = {name: parse_timestamp(item[name]) if name in item else None for name in ("monitored_at", "due_at")}
        ends = {f"{kind}_until": _end_of_hour(item.get(kind)) for kind in ("traffic", "feedback", "jobs")}
        return cls(
            item["sk"].removeprefix("MODEL#"),
            **ends,
            **times,
            own_schedule=bool(item.get("own_schedule")),
            idle=item.get("idle", ""),
            open_incidents=int(item["open_incidents"]) if "open_incidents" in item else None,
        )

    def is_active(self, since: datetime) -> bool:
        """Return True when requests or ground truth may have come after ``since``."""
        return any(_is_after(end, since) for end in (self.traffic_until, self.feedback_until))

    def has_new_jobs(self, since: datetime) -> bool:
        """Return True when a captured batch job may have ended after ``since``."""
        return _is_after(self.jobs_until, since)


def _is_after(end: datetime | None, since: datetime) -> bool:
    return end is not None and end + _CLOCK_SKEW > since


def _end_of_hour(hour: str | None) -> datetime | None:
    if hour is None:
        return None
    return datetime.strptime(hour, _HOUR_FORMAT).replace(tzinfo=UTC) + timedelta(hours=1)


def mark_activity(
    item_store: RegistryStore,
    models: Iterable[str],
    kind: ActivityKind,
    now: datetime,
    marked: MutableMapping[tuple[str, str], str] | None = None,
) -> int:
    """Mark the hour of ``now`` in the items of models; return the number of writes.

    Call it after the rows are stored, also for rows that a repeated delivery finds stored: a run that begins in
    between would miss them. ``marked`` remembers what this process wrote, so that it writes once an hour.

    Raises ``ServiceUnavailableError`` when the table is busy; marking again is the same as once.
    """
    known = _marked_hours if marked is None else marked
    hour = f"{now.astimezone(UTC):{_HOUR_FORMAT}}"
    new = [model for model in dict.fromkeys(models) if known.get((model, kind), "") < hour]
    for model in new:
        # Another environment may be in the next hour already.
        later = (Compare(kind, "<", hour, or_absent=True),)
        item_store.write(Update(monitoring_item(model), {kind: hour}, conditions=later))
        known[model, kind] = hour
    return len(new)


def list_activity(item_store: RegistryStore) -> Iterator[ModelActivity]:
    """Yield the activity of every model that has an item, by name."""
    return map(ModelActivity.from_item, item_store.query(MONITORING_PARTITION, "MODEL#", table="runs"))
