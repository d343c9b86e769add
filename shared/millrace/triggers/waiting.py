"""Causes that wait although their model is gone: each gets its verdict, and starts nothing."""

from datetime import datetime

from millrace.ports import Registry
from millrace.registry.entities import Cause, LedgerEntry


def skip_waiting(
    model: str, ended_at: datetime, reason: str, registry: Registry, now: datetime
) -> list[tuple[Cause, str]]:
    """Let nothing wait that is not later than the deletion of its model; again changes nothing.

    Returns
    -------
    list of (Cause, str)
        What is skipped, with its verdict in words.
    """
    skipped: list[tuple[Cause, str]] = []
    while ended := [
        record.cause for record in registry.list_pending_causes(model) if record.cause.occurred_at <= ended_at
    ]:
        for cause in ended:
            entry = _entry(cause, reason, now)
            if registry.skip_pending_cause(cause, entry):
                skipped.append((cause, entry.reason))
    return skipped


def _entry(cause: Cause, reason: str, now: datetime) -> LedgerEntry:
    return LedgerEntry(
        model=cause.model,
        entry_id=f"{cause.cause_id}-skipped",
        occurred_at=now,
        actor="millrace",
        action="trigger_skipped",
        reason=f"skipped: {reason} ({cause.reason})",
        details={"cause_id": cause.cause_id, "kind": cause.kind},
    )
