"""Records of batch jobs: one a cause, in the table of runs.

The function that plans a job reads files of users, so it changes the record and nothing else (decision 0038). Every
change names the attempt that it is about, and a job that ended is changed by :func:`run_again` alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson

from millrace.documents import dump, from_plain
from millrace.entities import FINISHED_BATCHES, BatchRecord
from millrace.errors import BatchNotFoundError, ConflictError
from millrace.layout import batch_item, batch_of_cause_item
from millrace.ports import Compare, Condition, Exists, Item, Put, RegistryStore, Update
from millrace.retry import retry

#: Jobs among which those that go on are searched; an execution ends within a day.
_RECENT_JOBS = 200
#: The ledger keeps what a record says of a job's end.
_KEPT = timedelta(days=400)


def _read(item: Item) -> BatchRecord:
    return from_plain(BatchRecord, orjson.loads(item["document"]))


def _write(record: BatchRecord) -> dict[str, str | int]:
    """Return the attributes of a record: the whole, what conditions name, and what others read of it."""
    values = {"status": record.status, "attempt": record.attempt, "version": record.version}
    cost = {"cost": dump(record.summary["cost"]).decode()} if "cost" in record.summary else {}
    return {"document": dump(record).decode(), **values, **cost}


def claim_job(record: BatchRecord, item_store: RegistryStore) -> BatchRecord:
    """Record a job, unless its cause has one already; return the job that the cause has."""
    index, job = batch_of_cause_item(record.model, record.cause_id), batch_item(record.model, record.job_id)
    expires = {"expires_at": int((record.requested_at + _KEPT).timestamp())}

    def attempt() -> BatchRecord | None:
        changes = [Put(index, {"job_id": record.job_id, **expires}), Put(job, _write(record) | expires)]
        if not item_store.transact(changes):
            return record
        known = item_store.get(index)
        return get_job(record.model, str(known["job_id"]), item_store) if known else None

    return retry(attempt, f"the batch jobs of {record.model!r} keep being changed; this one was not recorded")


def get_job(model: str, job_id: str, item_store: RegistryStore) -> BatchRecord:
    """Return a job; raises ``BatchNotFoundError``."""
    item = item_store.get(batch_item(model, job_id))
    if item is None:
        raise BatchNotFoundError(
            f"the model {model!r} has no batch job {job_id!r}; list them: millrace batches {model}"
        )
    return _read(item)


def list_jobs(model: str, item_store: RegistryStore, limit: int = _RECENT_JOBS) -> list[BatchRecord]:
    """Return the newest jobs first."""
    first = batch_item(model, "")
    found = item_store.query(first.partition, first.sort, newest_first=True, limit=limit, table=first.table)
    return [_read(item) for item in found]


def change_job(record: BatchRecord, item_store: RegistryStore, **changes: Any) -> BatchRecord | None:
    """Change fields of a job, and return it; None when it has ended, or was run again since it was read."""
    conditions: list[Condition] = [Exists(), Compare("attempt", "=", record.attempt)]
    conditions += [Compare("status", "<>", status) for status in sorted(FINISHED_BATCHES)]
    after, key = replace(record, **changes), batch_item(record.model, record.job_id)
    written = item_store.write(Update(key, _write(after), conditions=tuple(conditions)))
    return None if written is None else after


def run_again(record: BatchRecord, item_store: RegistryStore) -> BatchRecord:
    """Queue a job that failed or was cancelled once more; its next attempt scores what is missing.

    Raises ``ConflictError`` for one that goes on or succeeded, or that somebody else ran again meanwhile.
    """
    if record.status not in ("failed", "cancelled"):
        state = "has scored every part" if record.status == "succeeded" else f"is still {record.status}"
        raise ConflictError(f"batch job {record.job_id} {state}: there is nothing to run again")
    reset: dict[str, Any] = {"started_at": None, "finished_at": None, "reasons": (), "ended_by": "", "summary": {}}
    queued = replace(record, status="queued", attempt=record.attempt + 1, **reset)
    unchanged = (Exists(), Compare("status", "=", record.status), Compare("attempt", "=", record.attempt))
    key = batch_item(record.model, record.job_id)
    if item_store.write(Update(key, _write(queued), conditions=unchanged)) is None:
        raise ConflictError(f"batch job {record.job_id} was changed meanwhile: show it again")
    return queued


def active_jobs(model: str, item_store: RegistryStore) -> Iterator[BatchRecord]:
    """Yield the jobs that go on."""
    yield from (record for record in list_jobs(model, item_store) if not record.is_finished)
