"""First step of a batch job's execution: from its record to a plan, or to the reason why there is none."""

from collections.abc import Callable
from datetime import datetime

from millrace.batch.job import BatchJob, SourceObject
from millrace.batch.job_planning import plan_job
from millrace.batch.job_records import change_job, get_job
from millrace.batch.text_cuts import UnfinishedCutsError
from millrace.contracts import JobPointer, ScoringPlan
from millrace.entities import BatchRecord
from millrace.errors import (
    ArtifactNotFoundError,
    InvalidInputError,
    MillraceError,
    PayloadTooLargeError,
    VersionNotFoundError,
)
from millrace.layout import job_key
from millrace.ports import ObjectStore, RegistryStore
from millrace.registry.store import Registry
from millrace.serving.model import ModelSource, load_version

#: A job takes this share of the account's executions at most: predictions need the others.
_EXECUTIONS_A_PART = 2
#: Time that a call keeps for one more range, the plan and the other files.
_RESERVED_SECONDS = 240.0


def count_lanes(most: int, unreserved: int) -> int:
    """Return the parts at once: ``most``, or half of the executions that no function has reserved."""
    return max(1, min(most, unreserved // _EXECUTIONS_A_PART))


def plan_recorded_job(
    pointer: JobPointer,
    *,
    registry: Registry,
    item_store: RegistryStore,
    data_store: ObjectStore,
    source: ModelSource,
    bucket: str,
    lanes: int,
    now: datetime,
    remaining_seconds: Callable[[], float],
) -> ScoringPlan:
    """Plan a job; ``refused`` when its files cannot be scored, with the reason in its record.

    ``planning`` when the call has no time left to cut further text: the next call goes on. A job that has ended
    meanwhile is planned no more. Again is the same as once.
    """
    found = get_job(pointer.model, pointer.job_id, item_store)
    if pointer.execution not in ("", found.execution):
        return ScoringPlan(outcome="ended")
    record = change_job(found, item_store, status="planning", started_at=found.started_at or now)
    if record is None:
        return ScoringPlan(outcome="ended")
    try:
        job = _make_job(record, data_store)
        data_store.put(job_key(job.job_id, "job.json"), job.write(), "application/json")
        loaded = load_version(source, job.model, job.version)
        plan = plan_job(
            job,
            loaded,
            registry.get_spec(job.model).read,
            data_store,
            lanes=lanes,
            is_late=lambda: remaining_seconds() < _RESERVED_SECONDS,
        )
    except UnfinishedCutsError as unfinished:
        change_job(record, item_store, rows=unfinished.rows)
        return ScoringPlan(outcome="planning")
    except (InvalidInputError, PayloadTooLargeError, ArtifactNotFoundError, VersionNotFoundError) as error:
        change_job(record, item_store, reasons=_explain(record, error))
        return ScoringPlan(outcome="refused")
    change_job(record, item_store, status="scoring", parts=plan.parts, rows=plan.rows, size=plan.size)
    return ScoringPlan(outcome="planned", bucket=bucket, key=job_key(job.job_id, "lanes.json"))


def _make_job(record: BatchRecord, data_store: ObjectStore) -> BatchJob:
    """Return the job of a record, its file pinned to one version; a folder is listed by the planner."""
    is_folder = record.source.endswith("/")
    sources: tuple[SourceObject, ...] = ()
    if not is_folder:
        found = data_store.head(record.source, record.source_version)
        version_id = record.source_version
        sources = (SourceObject(key=record.source, size=found.size, etag=found.etag, version_id=version_id),)
    return BatchJob(
        job_id=record.job_id,
        model=record.model,
        version=record.version,
        alias=record.alias,
        sources=sources,
        folder=record.source if is_folder else None,
        destination=record.destination,
        format=record.format,
        join=record.join,
        interval=record.interval,
        explain=record.explain,
        capture=record.capture,
        max_refused_share=record.max_refused_share,
        created_at=record.requested_at,
        created_by=record.requested_by,
        cause_id=record.cause_id,
    )


def _explain(record: BatchRecord, error: MillraceError) -> tuple[str, ...]:
    if isinstance(error, ArtifactNotFoundError) and record.source in error.message:
        return (f"{record.source} is not there (any more): upload it to that key, then request the job again",)
    return (error.message,)
