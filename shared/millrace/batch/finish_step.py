"""Last step of a batch job's execution: the receipts decide how it ended."""

from datetime import datetime

from millrace.batch.finishing import finish_job
from millrace.batch.job import BatchJob, JobManifest
from millrace.batch.job_ledger import end_job
from millrace.batch.job_records import get_job
from millrace.captures.activity import mark_activity
from millrace.contracts import FinishRequest, ScoringResult
from millrace.documents import to_plain
from millrace.errors import ArtifactNotFoundError
from millrace.layout import job_key
from millrace.ports import ObjectStore, RegistryStore
from millrace.registry.store import Registry

ACTOR = "finish_scoring"
_FAULT = "the files could not be read: out of memory or time, or a crash; see the log of plan_scoring"
#: Of a manifest, in the job's record: what the list of jobs and the ledger show.
_SUMMARY = (
    "outcome",
    "parts",
    "rows",
    "refused",
    "refused_by_reason",
    "predictions",
    "seconds",
    "cost",
    "captured",
    "warnings",
)


def finish_recorded_job(
    request: FinishRequest,
    *,
    registry: Registry,
    item_store: RegistryStore,
    data_store: ObjectStore,
    memory_mb: int,
    now: datetime,
) -> ScoringResult:
    """End a job by its receipts, with its manifest, its entry in the ledger and its event; again is the same as once.

    A job that was cancelled meanwhile stays so, and its results get no ``_SUCCESS``.
    """
    record = get_job(request.model, request.job_id, item_store)
    if request.execution not in ("", record.execution):
        return ScoringResult(outcome="failed")
    manifest = None
    if not record.is_finished and record.parts is not None:
        manifest = _finish(record.job_id, data_store, memory_mb, now)
    succeeded = manifest is not None and manifest.outcome == "complete"
    reasons = [*record.reasons, *(manifest.reasons if manifest else ())]
    if not succeeded and not reasons:
        reasons = [_FAULT if request.error is None else f"{_FAULT} ({request.error})"]
    plain = to_plain(manifest) if manifest else {}
    if manifest is not None and manifest.captured:
        # The window is stored. A repetition after the job's end would not come here, and monitoring miss the window.
        mark_activity(item_store, [request.model], "jobs", now, {})
    ended = end_job(
        record,
        "succeeded" if succeeded else "failed",
        () if succeeded else reasons,
        registry=registry,
        item_store=item_store,
        now=now,
        actor=ACTOR,
        summary={name: plain[name] for name in _SUMMARY if name in plain},
    )
    return ScoringResult(outcome="succeeded" if ended.status == "succeeded" else "failed")


def _finish(job_id: str, data_store: ObjectStore, memory_mb: int, now: datetime) -> JobManifest | None:
    try:
        job = BatchJob.read(data_store.get(job_key(job_id, "job.json")))
    except ArtifactNotFoundError:
        return None
    return finish_job(job, data_store, now=now, memory_mb=memory_mb)
