"""Records of batch jobs: one a cause, in the table of runs.

The function that plans a job reads files of users, so it changes the record and nothing else (decision 0038). Every
change names the attempt that it is about, and a job that ended is changed by :func:`run_again` alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from millrace.entities import FINISHED_BATCHES, BatchRecord
from millrace.errors import BatchNotFoundError, ConflictError
from millrace.ports import Compare, Condition, Exists, Put, RegistryStore, Update
from millrace.registry.claims import CAUSE_RETENTION
from millrace.registry.items import ModelKeys, decode, encode, encode_value
from millrace.retry import retry

#: Jobs among which those that go on are searched; an execution ends within a day.
_RECENT_JOBS = 200


def claim_job(record: BatchRecord, item_store: RegistryStore) -> BatchRecord:
    """Record a job, unless its cause has one already; return the job that the cause has."""
    keys = ModelKeys(record.model)
    index, job = keys.item("BATCHOF", record.cause_id), keys.item("BATCH", record.job_id)
    expires_at = int((record.requested_at + CAUSE_RETENTION).timestamp())

    def attempt() -> BatchRecord | None:
        changes = [Put(index, {"job_id": record.job_id, "expires_at": expires_at}), Put(job, encode(record))]
        if not item_store.transact(changes):
            return record
        known = item_store.get(index)
        return get_job(record.model, str(known["job_id"]), item_store) if known else None

    return retry(attempt, f"the batch jobs of {record.model!r} keep being changed; this one was not recorded")


def get_job(model: str, job_id: str, item_store: RegistryStore) -> BatchRecord:
    """Return a job; raises ``BatchNotFoundError``."""
    item = item_store.get(ModelKeys(model).item("BATCH", job_id))
    if item is None:
        raise BatchNotFoundError(f"the model {model!r} has no batch job {job_id!r}")
    return decode(BatchRecord, item)


def list_jobs(model: str, item_store: RegistryStore, limit: int = _RECENT_JOBS) -> list[BatchRecord]:
    """Return the newest jobs first."""
    partition = ModelKeys(model).partition
    found = item_store.query(partition, "BATCH#", newest_first=True, limit=limit, table="runs")
    return [decode(BatchRecord, item) for item in found]


def change_job(record: BatchRecord, item_store: RegistryStore, **changes: Any) -> bool:
    """Change fields of a job; False when it has ended, or was run again since it was read."""
    conditions: list[Condition] = [Exists(), Compare("attempt", "=", record.attempt)]
    conditions += [Compare("status", "<>", status) for status in sorted(FINISHED_BATCHES)]
    values = {name: encode_value(value) for name, value in changes.items()}
    key = ModelKeys(record.model).item("BATCH", record.job_id)
    return item_store.write(Update(key, values, conditions=tuple(conditions))) is not None


def run_again(record: BatchRecord, item_store: RegistryStore) -> BatchRecord:
    """Queue a job that failed or was cancelled once more; its next attempt scores what is missing.

    Raises ``ConflictError`` for one that goes on or succeeded, or that somebody else ran again meanwhile.
    """
    if record.status not in ("failed", "cancelled"):
        state = "has scored every part" if record.status == "succeeded" else f"is still {record.status}"
        raise ConflictError(f"batch job {record.job_id} {state}: there is nothing to run again")
    queued = replace(
        record, status="queued", attempt=record.attempt + 1, started_at=None, finished_at=None, reasons=(), ended_by=""
    )
    values = encode(queued)
    key = ModelKeys(record.model).item("BATCH", record.job_id)
    unchanged = (Compare("status", "=", record.status), Compare("attempt", "=", record.attempt))
    reset = {name: values[name] for name in _RESET}
    if item_store.write(Update(key, reset, _REMOVED, (Exists(), *unchanged))) is None:
        raise ConflictError(f"batch job {record.job_id} was changed meanwhile: look at it again")
    return queued


_RESET, _REMOVED = ("status", "attempt", "reasons", "ended_by"), ("started_at", "finished_at")


def active_jobs(model: str, item_store: RegistryStore) -> Iterator[BatchRecord]:
    """Yield the jobs that go on."""
    yield from (record for record in list_jobs(model, item_store) if not record.is_finished)
