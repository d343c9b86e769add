"""Requests for batch jobs: files that arrive, schedules and people; exactly one job a cause.

A file directly below ``score/<model>/`` is a job as soon as it is uploaded. The files of a folder below it wait, for
``_SUCCESS`` or a manifest, for a schedule, or for a request that names the folder.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.api_requests import ApiRequest
from millrace.batch.job_ledger import end_job, request_entry
from millrace.batch.job_records import active_jobs, claim_job, get_job, run_again
from millrace.documents import parse_timestamp
from millrace.entities import BatchKind, BatchRecord, BatchStatus, LedgerEntry, Source, describe_deletion
from millrace.errors import (
    BatchNotFoundError,
    FieldError,
    InvalidInputError,
    MillraceError,
    ModelNotReadyError,
    UnfitVersionError,
    VersionNotFoundError,
)
from millrace.layout import SCORE_PREFIX, SCORED_PREFIX, folder_of_marker, folder_of_part, scored_prefix
from millrace.names import CHAMPION, make_cause_id, make_job_id, validate_job_id, validate_model_name
from millrace.ports import RegistryStore, ScoringPipeline
from millrace.registry.ledger import AuditContext
from millrace.registry.store import Registry
from millrace.spec import invalid_input
from millrace.spec.operations import FolderName
from millrace.triggers.requests import record_refusal
from millrace.triggers.trigger_events import (
    ModelEnded,
    Refusal,
    RefusedUpload,
    ScheduleTrigger,
    parse_event,
    read_upload_key,
)

_MAX_REASON = 1_000
_MAX_KEY = 900
#: Of a request; the others of :class:`BatchRequest` say what is scored.
_OPTIONS = ("format", "join", "interval", "explain", "capture", "max_refused_share", "destination")


@dataclass(frozen=True, slots=True)
class JobOrder:
    """Order of a job: files, version and caller; what it leaves out is the spec's ``scoring``."""

    model: str
    cause_id: str
    kind: BatchKind
    requested_at: datetime
    requested_by: str
    reason: str
    source: str | None = None  # key of a file, or of a folder with ``/`` at its end; None takes the spec's folder
    file: Source | None = None  # the object that arrived: the file, or what finished its folder
    version: int | None = None
    alias: str = CHAMPION  # unless it names a version
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExecutionEnded:
    """The end of an execution that may not have recorded it: it was stopped, or its last state failed."""

    model: str
    job_id: str
    execution: str
    reason: str


JobEvent = JobOrder | RefusedUpload | ExecutionEnded | ModelEnded


class BatchRequest(BaseModel):
    """Body of ``POST /models/{model}/batches``; what it leaves out is the spec's ``scoring``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    #: A file or folder below ``score/<model>/``, as its key or as ``s3://bucket/key``.
    source: str = Field(min_length=1, max_length=_MAX_KEY)
    version: int | None = Field(default=None, ge=1, le=999_999)
    alias: str | None = Field(default=None, min_length=1, max_length=63)
    destination: FolderName | None = None  # below ``scored/<model>/``
    format: Literal["parquet", "csv"] | None = None
    join: bool | None = None
    interval: float | None = Field(default=None, ge=0.5, le=0.99)
    explain: bool | None = None
    capture: Literal["none", "batch"] | None = None
    max_refused_share: float | None = Field(default=None, ge=0.0, le=1.0)
    reason: str = Field(default="", max_length=_MAX_REASON)
    #: The same id is the same request, also when it is sent again.
    request_id: str | None = Field(default=None, min_length=8, max_length=64)


class JobAction(BaseModel):
    """Body of ``POST /models/{model}/batches/{job}/cancel`` and ``…/retry``; may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(default="", max_length=_MAX_REASON)


def read_job_event(event: Mapping[str, Any], now: datetime) -> JobEvent | None:
    """Parse an event of S3, the Scheduler, Step Functions, or a deletion; None for a file that waits in its folder.

    Raises ``InvalidInputError`` when it is none of these.
    """
    kind = (event.get("source"), event.get("detail-type"))
    try:
        if kind == ("aws.s3", "Object Created"):
            return _read_file(event)
        if kind == ("aws.states", "Step Functions Execution Status Change"):
            return _read_execution(event["detail"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = FieldError("detail", "not readable")
        raise InvalidInputError(f"the event of {kind[0]} cannot be read", [fault]) from error
    trigger = parse_event(event, now)
    if isinstance(trigger, ModelEnded):
        return trigger
    if not isinstance(trigger, ScheduleTrigger):
        raise InvalidInputError("this event requests no batch job", [FieldError("detail-type", "not one of scoring")])
    model, slot = validate_model_name(trigger.model), trigger.slot
    cause_id = make_cause_id("score-schedule", trigger.schedule, slot.isoformat())
    return JobOrder(model, cause_id, "schedule", slot, "schedule", f"the schedule's {slot:%Y-%m-%d %H:%M} UTC")


def _read_file(event: Mapping[str, Any]) -> JobOrder | RefusedUpload | None:
    detail = event["detail"]
    bucket, key, version_id = detail["bucket"]["name"], detail["object"]["key"], detail["object"]["version-id"]
    file = Source(bucket, key, version_id, parse_timestamp(event["time"]).astimezone(UTC))
    cause_id, actor = make_cause_id("score", bucket, key, version_id), str(detail.get("requester") or "s3")
    folder = folder_of_marker(key)
    model = read_upload_key(key, SCORE_PREFIX)
    if isinstance(model, Refusal):
        return RefusedUpload(cause_id, file, model, actor)
    if folder is None and folder_of_part(key) is not None:
        return None
    reason = f"{key} was uploaded"
    return JobOrder(model, cause_id, "upload", file.uploaded_at, actor, reason, source=folder or key, file=file)


def _read_execution(detail: Mapping[str, Any]) -> ExecutionEnded:
    given = json.loads(detail["input"])
    # The error's name suffices; its cause may hold a stack trace, and with it data.
    error = detail.get("error")
    reason = f"the execution ended as {detail['status']}" + (f": {error}" if error else "")
    return ExecutionEnded(validate_model_name(given["model"]), validate_job_id(given["job_id"]), detail["name"], reason)


def read_batch_request(model: str, event: Mapping[str, Any], bucket: str, now: datetime) -> JobOrder:
    """Parse a request for a job.

    Raises ``InvalidInputError`` when the body does not match :class:`BatchRequest`, names both a version and an alias,
    or a source elsewhere than below ``score/<model>/`` of ``bucket``.
    """
    request = ApiRequest(event)
    try:
        body = BatchRequest.model_validate(request.body)
    except ValidationError as error:
        raise invalid_input("the request is not valid", error) from error
    if body.version is not None and body.alias is not None:
        fault = FieldError("alias", "name a version or an alias, not both")
        raise InvalidInputError(f"the request names both: {fault.message}", [fault])
    return JobOrder(
        model=model,
        cause_id=make_cause_id("score-request", model, body.request_id or request.request_id),
        kind="request",
        requested_at=now,
        requested_by=request.caller,
        reason=body.reason.strip() or "requested by hand",
        source=_check_source(model, body.source, bucket),
        version=body.version,
        alias=body.alias or CHAMPION,
        options=body.model_dump(include=set(_OPTIONS), exclude_none=True),
    )


def _check_source(model: str, source: str, bucket: str) -> str:
    """Return the key of a source; raises ``InvalidInputError`` when no job may read it."""
    own, where = f"s3://{bucket}/", f"{SCORE_PREFIX}{model}/"
    message = f"upload it to s3://{bucket}/{where}: `millrace score {model} FILE` does"
    if source.startswith("s3://") and not source.startswith(own):
        message = f"it lies in another bucket: `millrace score {model} {source[:200]}` copies it, with your rights"
    key = source.removeprefix(own)
    if key.startswith(SCORED_PREFIX):
        message = f"results lie below {SCORED_PREFIX}: copy what is to be scored again to {where}"
    if key == where:
        message = "the whole drop zone is no source: name a file or a folder in it"
    refused = key.removeprefix(where) == "" or not key.startswith(where)
    # A folder is what a file in it would be.
    path = read_upload_key(f"{key}x" if key.endswith("/") else key, SCORE_PREFIX)
    if not refused and isinstance(path, Refusal):
        refused, message = True, f"{path.reason}: {path.remedy}"
    if refused:
        raise InvalidInputError(f"{source[:200]!r} cannot be scored: {message}", [FieldError("source", message)])
    return key


@dataclass(frozen=True, slots=True)
class ScoringPorts:
    """Stores of jobs, the pipeline that runs them, and the time."""

    registry: Registry
    item_store: RegistryStore
    pipeline: ScoringPipeline
    now: datetime

    def end(self, record: BatchRecord, status: BatchStatus, reasons: Sequence[str], actor: str) -> BatchRecord:
        """End a job without results; return it as it ended."""
        ports: dict[str, Any] = {"registry": self.registry, "item_store": self.item_store, "now": self.now}
        return end_job(record, status, reasons, **ports, actor=actor)

    def cancel(self, record: BatchRecord, reason: str, actor: str) -> BatchRecord:
        """Cancel a job: that is recorded first, so that what its execution still does changes nothing."""
        ended = self.end(record, "cancelled", (reason,), actor)
        self.pipeline.stop(record.execution, reason)
        return ended

    def start(self, record: BatchRecord, requested_at: datetime) -> BatchRecord:
        """Write the ledger's entry of a request, and start the execution."""
        self.registry.append_ledger(request_entry(record, requested_at))
        self.pipeline.start(record.model, record.job_id, record.execution)
        return record


def request_job(order: JobOrder, ports: ScoringPorts) -> BatchRecord:
    """Record a job and start it; again is the same as once, and finishes what was begun.

    Raises
    ------
    ModelNotFoundError, ModelDeletedError, ModelNotReadyError, VersionNotFoundError
        When there is nothing to score with.
    UnfitVersionError
        When the version is retired.
    InvalidInputError
        When a schedule has lost its source.
    """
    record = claim_job(_make_record(order, ports.registry), ports.item_store)
    return record if record.is_finished else ports.start(record, record.requested_at)


def _make_record(order: JobOrder, registry: Registry) -> BatchRecord:
    state, spec = registry.get_state(order.model), registry.get_spec(order.model).scoring
    state.ensure_not_deleted(order.requested_at)
    alias = None if order.version is not None else order.alias
    version = order.version if alias is None else state.aliases.get(alias)
    if version is None and alias == CHAMPION:
        remedy = f"promote one, or name a version: millrace models {order.model}"
        raise ModelNotReadyError(f"the model {order.model!r} has no {CHAMPION} to score with yet: {remedy}")
    if version is None:
        raise VersionNotFoundError(f"the model {order.model!r} has no {alias}")
    if registry.get_version(order.model, version).status == "retired":
        raise UnfitVersionError(f"version {version} of {order.model!r} is retired, and scores nothing any more")
    options = spec.model_dump(include=set(_OPTIONS)) | dict(order.options)
    folder = options.pop("destination")
    source = order.source or (f"{SCORE_PREFIX}{order.model}/{spec.source}/" if spec.source else None)
    if source is None:
        fault = FieldError("scoring.source", "missing")
        raise InvalidInputError("the spec's scoring names no source any more", [fault])
    job_id = make_job_id(order.cause_id, order.requested_at)
    return BatchRecord(
        model=order.model,
        job_id=job_id,
        cause_id=order.cause_id,
        kind=order.kind,
        source=source,
        version=version,
        destination=scored_prefix(order.model, job_id, f"{folder}/" if folder else ""),
        requested_at=order.requested_at,
        requested_by=order.requested_by,
        reason=order.reason,
        alias=alias,
        source_version=order.file.version_id if order.file and not source.endswith("/") else None,
        **options,
    )


def handle_job_event(event: JobEvent, ports: ScoringPorts) -> list[BatchRecord]:
    """Do what an event requests, and return the jobs that it is about.

    What cannot become a job is recorded instead: an upload as refused, a schedule in the ledger of its model. Raises
    ``ServiceUnavailableError`` when a repetition may succeed.
    """
    match event:
        case RefusedUpload():
            record_refusal(event, ports.registry)
            return []
        case ModelEnded(model=model, deleted_at=deleted_at, actor=actor):
            reason = f"the model {describe_deletion(deleted_at)}"
            ending = [job for job in active_jobs(model, ports.item_store) if job.requested_at <= deleted_at]
            return [ports.cancel(job, reason, actor) for job in ending]
        case ExecutionEnded():
            return _record_end(event, ports)
        case JobOrder():
            try:
                return [request_job(event, ports)]
            except MillraceError as error:
                if error.retryable:
                    raise
                _refuse_order(event, error, ports.registry)
                return []


def _refuse_order(order: JobOrder, error: MillraceError, registry: Registry) -> None:
    if order.file is not None:
        refusal = Refusal(error.message, "after the remedy, upload the file again")
        record_refusal(RefusedUpload(order.cause_id, order.file, refusal, order.requested_by), registry)
        return
    entry_id, at = f"{order.cause_id}-refused", order.requested_at
    details = {"cause_id": order.cause_id, "kind": order.kind, "refusal": error.message}
    reason = f"{order.reason} started no batch job: {error.message}"
    registry.append_ledger(LedgerEntry(order.model, entry_id, at, order.requested_by, "batch_refused", reason, details))


def _record_end(ended: ExecutionEnded, ports: ScoringPorts) -> list[BatchRecord]:
    """Record the end of an execution, unless it is not the job's last, or did so itself."""
    try:
        record = get_job(ended.model, ended.job_id, ports.item_store)
    except BatchNotFoundError:
        return []  # an execution that somebody started by hand
    if record.execution != ended.execution:
        return []
    return [ports.end(record, "failed", (*record.reasons, ended.reason), "pipeline")]


def cancel_job(model: str, job_id: str, event: Mapping[str, Any], ports: ScoringPorts) -> BatchRecord:
    """Cancel a job at a person's request; one that has ended stays as it is. Raises ``BatchNotFoundError``."""
    record, audit = get_job(model, job_id, ports.item_store), _read_action(event, ports.now)
    return ports.cancel(record, f"cancelled: {audit.reason}", audit.actor)


def retry_job(model: str, job_id: str, event: Mapping[str, Any], ports: ScoringPorts) -> BatchRecord:
    """Run a job that failed or was cancelled again, for what is missing.

    Raises ``BatchNotFoundError``; ``ConflictError`` for a job that goes on or has every part; ``ModelDeletedError``
    when its model was deleted since.
    """
    record, _ = get_job(model, job_id, ports.item_store), _read_action(event, ports.now)
    ports.registry.get_state(model).ensure_not_deleted(record.requested_at)
    return ports.start(run_again(record, ports.item_store), ports.now)


def _read_action(event: Mapping[str, Any], now: datetime) -> AuditContext:
    request = ApiRequest(event)
    try:
        reason = JobAction.model_validate(request.body).reason.strip()
    except ValidationError as error:
        raise invalid_input("the request is not valid", error) from error
    return AuditContext(request.caller, reason or "by hand", now)
