"""What is done about each kind of trigger."""

from datetime import datetime

from millrace.ports import PipelineStarter, Registry
from millrace.registry.entities import LedgerEntry
from millrace.triggers.parse import EVERY_MODEL, RefusedUpload, RunEnded, ScheduleTrigger, TrainingTrigger, Trigger
from millrace.triggers.requests import FinishedRun, TrainingRequestResult, finish_run, request_training

#: No model can be called that; the ledger of uploads that belong to none.
REFUSED_UPLOADS = "_refused"


def handle_trigger(
    trigger: Trigger, *, registry: Registry, pipeline: PipelineStarter, now: datetime
) -> list[TrainingRequestResult | FinishedRun]:
    """Do what a trigger asks for; nothing comes back of an upload that was refused."""
    if isinstance(trigger, RefusedUpload):
        record_refusal(trigger, registry)
        return []
    if isinstance(trigger, RunEnded):
        ended = (trigger.model, trigger.run_id, trigger.reason)
        return [finish_run(*ended, registry=registry, pipeline=pipeline, now=now)]
    return [
        request_training(asked.cause, registry=registry, pipeline=pipeline, now=now, actor=asked.actor)
        for asked in _expand(trigger, registry)
    ]


def record_refusal(upload: RefusedUpload, registry: Registry) -> None:
    """Keep the verdict on an upload that no model can learn from; the same event again changes nothing."""
    source, refusal = upload.source, upload.refusal
    registry.append_ledger(
        LedgerEntry(
            model=REFUSED_UPLOADS,
            entry_id=upload.refusal_id,
            occurred_at=source.uploaded_at,
            actor=upload.actor,
            action="upload_refused",
            reason=refusal.reason,
            details={
                "bucket": source.bucket,
                "key": source.key,
                "version_id": source.version_id,
                "remedy": refusal.remedy,
            },
        )
    )


def _expand(trigger: TrainingTrigger | ScheduleTrigger, registry: Registry) -> list[TrainingTrigger]:
    if isinstance(trigger, TrainingTrigger):
        return [trigger]
    if trigger.model != EVERY_MODEL:
        return [trigger.for_model(trigger.model)]
    models = [state.model for state in registry.list_models()]
    # A model that has a schedule of its own goes by that one.
    return [trigger.for_model(model) for model in models if registry.get_spec(model).retraining.schedule is None]
