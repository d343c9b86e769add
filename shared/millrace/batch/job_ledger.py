"""The ledger's entries on batch jobs, and the end of a job with its entry.

Only functions that read no files of users write them (decision 0038).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from millrace.batch.job_records import change_job, get_job
from millrace.entities import BatchRecord, BatchStatus, LedgerEntry
from millrace.ports import RegistryStore
from millrace.registry.store import Registry

_ACTIONS: Mapping[BatchStatus, str] = {
    "succeeded": "batch_scored",
    "failed": "batch_failed",
    "cancelled": "batch_cancelled",
}


def end_job(
    record: BatchRecord,
    status: BatchStatus,
    reasons: Sequence[str],
    *,
    registry: Registry,
    item_store: RegistryStore,
    now: datetime,
    actor: str,
    summary: Mapping[str, Any] | None = None,
) -> BatchRecord:
    """End a job, with its entry in the ledger; return it as it ended.

    One that has ended is left as it is, and its entry is written if it is missing.
    """
    change_job(
        record,
        item_store,
        status=status,
        finished_at=now,
        reasons=tuple(reasons),
        ended_by=actor,
        summary=dict(summary or {}),
    )
    ended = get_job(record.model, record.job_id, item_store)
    if ended.is_finished:
        registry.append_ledger(_end_entry(ended))
    return ended


def request_entry(record: BatchRecord, now: datetime) -> LedgerEntry:
    """Return the entry of a job's request, or of its next attempt."""
    details = {**_facts(record), "source": record.source, "destination": record.destination, "kind": record.kind}
    entry_id = f"{record.execution}-requested"
    return LedgerEntry(record.model, entry_id, now, record.requested_by, "batch_requested", record.reason, details)


def _end_entry(record: BatchRecord) -> LedgerEntry:
    facts = {name: record.summary[name] for name in ("rows", "refused", "usd") if name in record.summary}
    details = {**_facts(record), "destination": record.destination, **facts}
    reason = "; ".join(record.reasons) or f"{record.source} is scored"
    entry_id, at = f"{record.execution}-{record.status}", record.finished_at or record.requested_at
    return LedgerEntry(record.model, entry_id, at, record.ended_by, _ACTIONS[record.status], reason, details)


def _facts(record: BatchRecord) -> dict[str, Any]:
    return {"job_id": record.job_id, "version": record.version, "alias": record.alias, "attempt": record.attempt}
