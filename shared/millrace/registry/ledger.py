"""Ledger entries: the changes that write them, what causes leave there, and the events that publish them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from millrace.documents import to_plain
from millrace.entities import Cause, LedgerEntry, ModelState
from millrace.ports import Event, Put
from millrace.registry.items import ModelKeys, encode, outbox_key

EVENT_VERSION = 1
#: Two moves of an alias are at least this far apart.
_TICK = timedelta(microseconds=1)
#: The actions that are published, by the name of the event.
EVENT_NAMES: Mapping[str, str] = {
    "model_registered": "ModelRegistered",
    "model_promoted": "ModelPromoted",
    "model_rolled_back": "ModelRolledBack",
    "model_retired": "ModelRetired",
    "model_deleted": "ModelDeleted",
    "approval_requested": "ApprovalRequested",
    "approval_rejected": "ApprovalRejected",
    "approval_expired": "ApprovalExpired",
}


@dataclass(frozen=True, slots=True)
class AuditContext:
    """The actor of a change, the reason for the ledger, and the time."""

    actor: str  # the caller's ARN, or the name of the function
    reason: str
    now: datetime

    def entry(
        self, state: ModelState, entry_id: str, action: str, details: Mapping[str, Any], *earlier: datetime
    ) -> LedgerEntry:
        """Return the ledger entry of a change, later than the last alias move and than ``earlier``."""
        occurred_at = timestamp_after(state, self.now, *earlier)
        return LedgerEntry(state.model, entry_id, occurred_at, self.actor, action, self.reason, details)


def timestamp_after(state: ModelState, now: datetime, *earlier: datetime) -> datetime:
    """Return the timestamp of a change: now, but later than the last alias move and than ``earlier``.

    Clocks differ; the history must be in the order of the revisions.
    """
    known = [*earlier, *([state.aliases_moved_at] if state.aliases_moved_at else [])]
    return max([now, *(timestamp + _TICK for timestamp in known)])


def ledger_changes(entry: LedgerEntry) -> list[Put]:
    """Return the changes that write an entry, and put it into the outbox when it is to be published."""
    changes = [Put(ModelKeys(entry.model).item("LEDGER", entry.occurred_at, entry.entry_id), encode(entry))]
    if entry.action in EVENT_NAMES:
        waiting = outbox_key(entry.model, entry.occurred_at, entry.entry_id)
        changes.append(Put(waiting, encode(entry), replace=True))
    return changes


def run_requested(entry: LedgerEntry, run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which started ``run_id``."""
    return replace(entry, action="run_requested", details={**entry.details, "run_id": run_id})


def trigger_deferred(entry: LedgerEntry, active_run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which waits for ``active_run_id`` to finish."""
    return replace(entry, action="trigger_deferred", details={**entry.details, "waits_for": active_run_id})


def trigger_skipped(entry: LedgerEntry, cause: Cause, refusal: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which starts nothing, with the refusal and the cause's reason as fields."""
    details = {**entry.details, "refusal": refusal, "cause_reason": cause.reason}
    reason = f"skipped: {refusal} ({cause.reason})"
    return replace(entry, action="trigger_skipped", reason=reason, details=details)


def trigger_covered(entry: LedgerEntry, cause: Cause, active_run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which ``active_run_id``, requested shortly before, covers already."""
    skipped = trigger_skipped(entry, cause, f"run {active_run_id}, requested shortly before, covers it")
    return replace(skipped, details={**skipped.details, "answered_by": active_run_id})


def to_event(entry: LedgerEntry) -> Event:
    """Return the event of an entry; the same entry always has the same ``event_id``."""
    detail = {
        **to_plain(entry.details),
        "event_version": EVENT_VERSION,
        "event_id": f"{entry.model}/{entry.entry_id}",
        "model": entry.model,
        "occurred_at": to_plain(entry.occurred_at),
        "actor": entry.actor,
        "reason": entry.reason,
    }
    return Event(EVENT_NAMES[entry.action], detail, entry.occurred_at)
