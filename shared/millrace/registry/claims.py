"""One run per cause: the transactions that claim causes and pass on the turn of the active run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from millrace.entities import FINISHED_STATUSES, Cause, CauseRecord, LedgerEntry, ModelState, Run
from millrace.ports import Absent, Compare, Condition, Default, Exists, Key, Plus, Put, StoreChange, Update
from millrace.registry.items import ModelKeys, encode, encode_value
from millrace.registry.ledger import Append, run_requested, trigger_covered, trigger_deferred
from millrace.registry.migration import end_wait

Change = StoreChange | Append
#: Causes that one follow-up run takes: a transaction holds 100 changes, and each cause takes two.
MAX_FOLLOW_UP_CAUSES = 40
#: No event is delivered again after that; the ledger keeps the reason for good.
CAUSE_RETENTION = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Claim:
    """The result of claiming a cause.

    ``started``: this call created the run. ``duplicate``: the cause was claimed before (``run_id`` is the run that it
    started, if any). ``deferred``: a run is active; the cause waits for it. ``answered``: the active run covers the
    cause already. ``deleted``: the cause belongs to a deleted model (:mod:`millrace.registry.lifecycle`); nothing was
    recorded.
    """

    outcome: Literal["started", "duplicate", "deferred", "answered", "deleted"]
    run_id: str | None


def start_run(cause: Cause, run: Run, entry: LedgerEntry, state: ModelState | None) -> list[Change]:
    """Return the changes that make ``run`` the active one, creating the model when it is new or was deleted."""
    keys, began = ModelKeys(cause.model), encode_value(entry.occurred_at)
    # A model that was deleted and recreated since it was read looks alike, and the cause may be older than it.
    conditions = [
        Absent("active_run_id"),
        _equals("deleted_at", state.deleted_at if state else None),
        _equals("begun_after", state.begun_after if state else None),
    ]
    is_deleted = state is not None and state.deleted_at is not None
    update = Update(
        keys.state,
        {
            "active_run_id": run.run_id,
            "last_run_id": run.run_id,
            "model": cause.model,
            "created_at": began if is_deleted else Default(began),
            "aliases": Default({}),
            "revision": Default(0),
            "schema_version": Default(0),
        },
        ("deleted_at",) if is_deleted else (),
        tuple(conditions),
    )
    record = CauseRecord(cause, "started", run.run_id, cause.reason)
    changes: list[Change] = [_put_cause(record, entry), update, Put(keys.item("RUN", run.run_id), encode(run))]
    changes.append(Append(run_requested(entry, run.run_id)))
    if state is None:
        changes.append(Put(keys.index, {"model": cause.model}, replace=True))
    return changes


def defer_cause(cause: Cause, active_run_id: str, entry: LedgerEntry) -> list[Change]:
    """Return the changes that let a cause wait for the active run."""
    keys = ModelKeys(cause.model)
    active = Compare("active_run_id", "=", active_run_id)
    return [
        _put_cause(CauseRecord(cause, "pending", None, cause.reason), entry),
        Update(keys.state, {"pending_causes": Plus("pending_causes", 1)}, conditions=(active,)),
        Put(keys.item("PENDING", entry.occurred_at, cause.cause_id), {"cause_id": cause.cause_id}),
        Append(trigger_deferred(entry, active_run_id)),
    ]


def cover_cause(cause: Cause, active_run_id: str, entry: LedgerEntry) -> list[Change]:
    """Return the changes that record a cause as covered by the active run, whether or not that one has just ended."""
    return skip_cause(cause, trigger_covered(entry, cause, active_run_id), active_run_id)


def skip_cause(cause: Cause, entry: LedgerEntry, run_id: str | None = None) -> list[Change]:
    """Return the changes that record a cause which starts nothing."""
    record = CauseRecord(cause, "skipped", run_id, entry.reason, str(entry.details.get("refusal", "")))
    return [_put_cause(record, entry), Append(entry)]


def skip_pending_cause(cause: Cause, waiting: Key, entry: LedgerEntry) -> list[Change]:
    """Return the changes that end the wait of a cause, which starts nothing."""
    keys = ModelKeys(cause.model)
    outcome = {"status": "skipped", "reason": entry.reason, "refusal": str(entry.details.get("refusal", ""))}
    return [
        end_wait(waiting),
        Update(keys.item("CAUSE", cause.cause_id), outcome, conditions=(Compare("status", "=", "pending"),)),
        Update(keys.state, {"pending_causes": Plus("pending_causes", -1)}),
        Append(entry),
    ]


def end_turn(model: str, run_id: str) -> list[Change]:
    """Return the changes that end a run's turn: a cause that is deferred meanwhile makes them fail, and is not lost."""
    nobody_waits = Compare("pending_causes", "=", 0, or_absent=True)
    conditions = (Compare("active_run_id", "=", run_id), nobody_waits)
    return [Update(ModelKeys(model).state, {}, ("active_run_id",), conditions)]


def pass_turn(model: str, run_id: str, follow_up: Run, waiting: Mapping[str, Key]) -> list[Change]:
    """Return the changes that make ``follow_up`` the active run, and its causes started by it.

    Parameters
    ----------
    waiting : mapping of str to Key
        The item that marks each cause as waiting.
    """
    keys = ModelKeys(model)
    changes: list[Change] = [
        Update(
            keys.state,
            {
                "active_run_id": follow_up.run_id,
                "last_run_id": follow_up.run_id,
                "pending_causes": Plus("pending_causes", -len(follow_up.cause_ids)),
            },
            conditions=(Compare("active_run_id", "=", run_id),),
        ),
        Put(keys.item("RUN", follow_up.run_id), encode(follow_up)),
    ]
    started = {"status": "started", "run_id": follow_up.run_id}
    for cause_id in follow_up.cause_ids:
        changes.append(end_wait(waiting[cause_id]))
        changes.append(Update(keys.item("CAUSE", cause_id), started, conditions=(Compare("status", "=", "pending"),)))
    return changes


def fail_run(run: Run, reasons: Sequence[str], returned: Sequence[str], entry: LedgerEntry) -> list[Change]:
    """Return the changes that end a run as failed, and let the causes ``returned`` wait again."""
    keys = ModelKeys(run.model)
    failed = {"status": "failed", "stage": "finished", "finished_at": entry.occurred_at, "reasons": tuple(reasons)}
    unfinished: list[Condition] = [Exists()]
    unfinished += [Compare("status", "<>", status) for status in sorted(FINISHED_STATUSES)]
    ended = {name: encode_value(value) for name, value in failed.items()}
    changes: list[Change] = [Update(keys.item("RUN", run.run_id), ended, conditions=tuple(unfinished))]
    if returned:
        waiting = {"pending_causes": Plus("pending_causes", len(returned))}
        changes.append(Update(keys.state, waiting, conditions=(Compare("active_run_id", "=", run.run_id),)))
    again = {"status": "pending", "faults": Plus("faults", 1)}
    for cause_id in returned:
        of_this_run = (Compare("status", "=", "started"), Compare("run_id", "=", run.run_id))
        changes.append(Update(keys.item("CAUSE", cause_id), again, ("run_id",), of_this_run))
        changes.append(Put(keys.item("PENDING", entry.occurred_at, cause_id), {"cause_id": cause_id}))
    return [*changes, Append(entry)]


def _put_cause(record: CauseRecord, entry: LedgerEntry) -> Put:
    cause = record.cause
    expires_at = int((entry.occurred_at + CAUSE_RETENTION).timestamp())
    attributes: dict[str, Any] = {**encode(record), "expires_at": expires_at}
    return Put(ModelKeys(cause.model).item("CAUSE", cause.cause_id), attributes)


def _equals(attribute: str, value: datetime | None) -> Absent | Compare:
    return Absent(attribute) if value is None else Compare(attribute, "=", encode_value(value))
