"""Handle each kind of trigger."""

from datetime import datetime

from millrace.entities import Cause, LedgerEntry
from millrace.layout import SUCCESS_MARKER
from millrace.ports import PipelineStarter
from millrace.registry.store import Registry
from millrace.triggers.events import (
    EVERY_MODEL,
    ModelEnded,
    RefusedUpload,
    RunEnded,
    ScheduleTrigger,
    TrainingTrigger,
    Trigger,
    WaitingFile,
)
from millrace.triggers.requests import FinishedRun, TrainingRequestResult, end_model, finish_run, request_training

#: The ledger of uploads that belong to no model; no model can have that name.
REFUSED_UPLOADS = "_refused"


def handle_trigger(
    trigger: Trigger, *, registry: Registry, pipeline: PipelineStarter, now: datetime
) -> list[TrainingRequestResult | FinishedRun]:
    """Do what a trigger requests; a refused upload and a file that waits have no result."""
    match trigger:
        case RefusedUpload():
            record_refusal(trigger, registry)
            return []
        case WaitingFile():
            record_waiting(trigger, registry)
            return []
        case ModelEnded():
            return [*end_model(trigger, registry=registry, pipeline=pipeline, now=now)]
        case RunEnded(model, run_id, reason):
            return [finish_run(model, run_id, reason, registry=registry, pipeline=pipeline, now=now)]
    return [
        request_training(
            request.cause, registry=registry, pipeline=pipeline, now=now, actor=request.actor, refusal=request.refusal
        )
        for request in _expand(trigger, registry)
    ]


def record_refusal(upload: RefusedUpload, registry: Registry) -> None:
    """Record an upload that no model can learn from; the same event again changes nothing."""
    source, refusal = upload.source, upload.refusal
    details = {"bucket": source.bucket, "key": source.key, "version_id": source.version_id, "remedy": refusal.remedy}
    entry = LedgerEntry(
        model=REFUSED_UPLOADS,
        entry_id=upload.refusal_id,
        occurred_at=source.uploaded_at,
        actor=upload.actor,
        action="upload_refused",
        reason=refusal.reason,
        details=details,
    )
    registry.append_ledger(entry)


def record_waiting(file: WaitingFile, registry: Registry) -> None:
    """Record once a day and folder that its files wait; without a model, in the ledger of refused uploads."""
    source = file.source
    owner = file.model if registry.find_state(file.model) else REFUSED_UPLOADS
    reason = (
        f"{source.key} is one of a folder's files: nothing happens until {file.folder}{SUCCESS_MARKER} or "
        f"{file.folder}manifest.json is uploaded, and then all of them are one dataset"
    )
    cause = Cause(file.waiting_id, owner, "upload", source.uploaded_at, source, reason)
    details = {"bucket": source.bucket, "key": source.key, "version_id": source.version_id, "folder": file.folder}
    entry = LedgerEntry(owner, file.waiting_id, source.uploaded_at, file.actor, "upload_waiting", reason, details)
    registry.skip_cause(cause, entry)


def _expand(trigger: TrainingTrigger | ScheduleTrigger, registry: Registry) -> list[TrainingTrigger]:
    if isinstance(trigger, TrainingTrigger):
        return [trigger]
    if trigger.model != EVERY_MODEL:
        return [trigger.for_model(trigger.model)]
    models = [state.model for state in registry.list_models()]
    # A model with a schedule of its own follows that one.
    return [trigger.for_model(model) for model in models if registry.get_spec(model).retraining.schedule is None]
