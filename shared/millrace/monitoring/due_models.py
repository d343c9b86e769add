"""Due models: those that an hourly check of the whole stack monitors, found by one query for all of them.

A model is due when it had requests or ground truth since its last monitoring run, when time alone may have changed a
verdict (:mod:`millrace.monitoring.next_check`), when its champion or spec changed, or when it has no item, as those of
an earlier release. A monitoring run that ends without a result leaves its model due.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from millrace.captures.activity import ModelActivity, list_activity
from millrace.layout import MODELS_PARTITION, monitoring_item
from millrace.ports import Compare, MonitoringPipeline, RegistryStore, Update

#: Models of one execution. Its history holds 25,000 events; a model takes nine, or sixty when it takes eight rounds.
MODELS_OF_AN_EXECUTION = 250
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DueModels:
    """Models to monitor, longest ago first, the number of all, and of those without an item (never monitored)."""

    names: tuple[str, ...]
    known: int
    new: int = 0


def find_due_models(item_store: RegistryStore, now: datetime) -> DueModels:
    """Return the models of the registry that are due; two queries, one page each for some thousands of models."""
    known = [item["model"] for item in item_store.query(MODELS_PARTITION, "MODEL#")]
    activities = {activity.model: activity for activity in list_activity(item_store)}
    found = [activities.get(model, ModelActivity(model)) for model in known]
    due = sorted((one for one in found if _is_due(one, now)), key=lambda one: one.monitored_at or _NEVER)
    return DueModels(tuple(one.model for one in due), len(known), len(set(known) - activities.keys()))


def _is_due(activity: ModelActivity, now: datetime) -> bool:
    if activity.own_schedule:
        return False
    has_new_jobs = activity.has_new_jobs(activity.monitored_at or _NEVER)
    if activity.idle:
        # Jobs may be of a version that is no champion.
        return has_new_jobs
    if activity.monitored_at is None or activity.due_at is None:
        return True
    return has_new_jobs or activity.due_at <= now or activity.is_active(activity.monitored_at)


def start_monitoring(models: Sequence[str], pipeline: MonitoringPipeline, scheduled_at: datetime) -> int:
    """Start executions for due models, under names that follow from the schedule's time; return their number.

    Started again at the same time, they are the same: what the first attempt left out stays due.
    """
    batches = [
        models[begin : begin + MODELS_OF_AN_EXECUTION] for begin in range(0, len(models), MODELS_OF_AN_EXECUTION)
    ]
    for number, batch in enumerate(batches):
        pipeline.start_batch(batch, f"due-{scheduled_at.astimezone(UTC):%Y%m%dT%H%M%S}-{number:03d}")
    return len(batches)


class BegunCheck(NamedTuple):
    """A monitoring run that has begun."""

    mark: str
    is_active: bool  # requests or ground truth came since the last one
    has_jobs: bool  # a batch job was captured, at any time


def begin_check(item_store: RegistryStore, model: str, now: datetime) -> BegunCheck:
    """Make a model due for the time of its monitoring run, so that one that dies is repeated."""
    item = item_store.get(monitoring_item(model))
    activity = ModelActivity.from_item(item) if item else ModelActivity(model)
    mark = now.astimezone(UTC).isoformat()
    item_store.write(Update(monitoring_item(model), {"due_at": mark}, conditions=()))
    is_active = activity.monitored_at is None or activity.is_active(activity.monitored_at)
    return BegunCheck(mark, is_active, activity.jobs_until is not None)


def finish_check(
    item_store: RegistryStore,
    model: str,
    mark: str,
    next_at: datetime | None,
    *,
    idle: str = "",
    own_schedule: bool,
    open_incidents: int = 0,
) -> bool:
    """Record a finished run and the time of the next; False when the model became due again meanwhile.

    ``next_at`` None needs a reason in ``idle``: then nothing monitors the model until its champion or spec changes.
    """
    values: dict[str, str | int] = {"monitored_at": mark, "open_incidents": open_incidents}
    values |= {"due_at": next_at.astimezone(UTC).isoformat()} if next_at else {"idle": idle}
    values |= {"own_schedule": 1} if own_schedule else {}
    removed = [name for name in ("due_at", "idle", "own_schedule") if name not in values]
    unchanged = (Compare("due_at", "=", mark),)
    return item_store.write(Update(monitoring_item(model), values, tuple(removed), unchanged)) is not None
