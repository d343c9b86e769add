"""The ledger's words: which entry a trigger leaves, whatever became of it."""

from dataclasses import replace

from millrace.registry.entities import LedgerEntry


def run_requested(entry: LedgerEntry, run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which started ``run_id``."""
    return replace(entry, action="run_requested", details={**entry.details, "run_id": run_id})


def trigger_deferred(entry: LedgerEntry, active_run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which waits for ``active_run_id`` to finish."""
    return replace(entry, action="trigger_deferred", details={**entry.details, "waits_for": active_run_id})


def trigger_answered(entry: LedgerEntry, active_run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which ``active_run_id``, asked for moments ago, answers already."""
    reason = f"skipped: run {active_run_id}, asked for just before, answers it ({entry.reason})"
    details = {**entry.details, "answered_by": active_run_id}
    return replace(entry, action="trigger_skipped", reason=reason, details=details)


#: The acts that listeners outside are told of, by the name of the event.
EVENT_NAMES = {
    "model_registered": "ModelRegistered",
    "model_promoted": "ModelPromoted",
    "model_rolled_back": "ModelRolledBack",
    "model_retired": "ModelRetired",
    "model_deleted": "ModelDeleted",
    "approval_requested": "ApprovalRequested",
    "approval_rejected": "ApprovalRejected",
    "approval_expired": "ApprovalExpired",
}
