"""Descriptions of batch jobs for the API."""

from typing import Any

from millrace.batch.job_records import list_jobs
from millrace.documents import to_plain
from millrace.entities import BatchRecord
from millrace.layout import receipts_prefix
from millrace.ports import ObjectStore, RegistryStore


def describe_job(record: BatchRecord, data_store: ObjectStore) -> dict[str, Any]:
    """Return a job as plain JSON, with the number of parts that have a receipt."""
    document: dict[str, Any] = to_plain(record)
    scored = sum(1 for _ in data_store.list(receipts_prefix(record.job_id))) if record.parts else 0
    return {**document, "scored_parts": min(scored, record.parts or 0), "is_finished": record.is_finished}


def describe_jobs(model: str, item_store: RegistryStore, limit: int) -> dict[str, Any]:
    """Return the newest jobs of a model as plain JSON."""
    return {"model": model, "batches": [to_plain(record) for record in list_jobs(model, item_store, limit)]}
