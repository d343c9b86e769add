"""What a model's deletion means for its runs: the one that goes on is stopped, and what waits for it starts nothing."""

from datetime import datetime

from millrace.errors import ModelNotFoundError, RunNotFoundError
from millrace.ports import PipelineStarter, Registry
from millrace.registry.entities import FINISHED_STATUSES, Cause, LedgerEntry, Run
from millrace.registry.living import deleted
from millrace.triggers.parse import ModelEnded
from millrace.triggers.requests import TrainingRequestResult, end_run


def end_model(
    ended: ModelEnded, *, registry: Registry, pipeline: PipelineStarter, now: datetime
) -> list[TrainingRequestResult]:
    """Stop the run of a model that was deleted, and give every cause that waited its verdict; again changes nothing.

    A deletion that this registry knows nothing of is that of another stack in the account.

    Raises
    ------
    ServiceUnavailableError
        When the registry or the pipeline is; asking again finishes what was begun.
    """
    try:
        if registry.get_state(ended.model).begun_after != ended.deleted_at:
            return []
    except ModelNotFoundError:
        return []
    reason = f"the model {deleted(ended.deleted_at)} by {ended.actor}: {ended.reason}"
    run = _find_run(ended, registry)
    if run is not None and run.status not in FINISHED_STATUSES:
        pipeline.stop(run.run_id, reason)
        end_run(run, f"stopped: {reason}", registry, now)
    results: list[TrainingRequestResult] = []
    while waiting := _older(ended, registry):
        results += [_skip(cause, reason, registry, now) for cause in waiting]
    return results


def _find_run(ended: ModelEnded, registry: Registry) -> Run | None:
    try:
        return registry.get_run(ended.model, ended.stopped_run) if ended.stopped_run else None
    except RunNotFoundError:
        return None


def _older(ended: ModelEnded, registry: Registry) -> list[Cause]:
    """Return causes of before the deletion; a model that was made again may have others, which its own run answers."""
    waiting = [record.cause for record in registry.list_pending_causes(ended.model)]
    return [cause for cause in waiting if cause.occurred_at <= ended.deleted_at]


def _skip(cause: Cause, reason: str, registry: Registry, now: datetime) -> TrainingRequestResult:
    words = f"skipped: {reason} ({cause.reason})"
    details = {"cause_id": cause.cause_id, "kind": cause.kind}
    entry = LedgerEntry(cause.model, f"{cause.cause_id}-skipped", now, "millrace", "trigger_skipped", words, details)
    registry.skip_pending_cause(cause, entry)
    return TrainingRequestResult(cause.model, cause.cause_id, "skipped", None, words)
