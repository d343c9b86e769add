"""What a model's deletion means for its runs: the one that goes on is stopped, and what waits for it starts nothing."""

from datetime import datetime

from millrace.errors import ModelNotFoundError, RunNotFoundError
from millrace.ports import PipelineStarter, Registry
from millrace.registry.entities import FINISHED_STATUSES, ModelState, Run
from millrace.registry.living import deleted, end_of
from millrace.triggers.parse import ModelEnded
from millrace.triggers.requests import TrainingRequestResult, end_run
from millrace.triggers.waiting import skip_waiting


def end_model(
    ended: ModelEnded, *, registry: Registry, pipeline: PipelineStarter, now: datetime
) -> list[TrainingRequestResult]:
    """Stop the run of a model that was deleted, and give every cause that waited its verdict; again changes nothing.

    The model may have been made again since, and deleted again: what is later than this deletion is left to the next.
    A deletion later than any that this registry knows of is that of another stack in the account.

    Raises
    ------
    ServiceUnavailableError
        When the registry or the pipeline is; asking again finishes what was begun.
    """
    try:
        state = registry.get_state(ended.model)
    except ModelNotFoundError:
        return []
    if state.begun_after is None or state.begun_after < ended.deleted_at:
        return []
    reason = f"the model {deleted(ended.deleted_at)} by {ended.actor}: {ended.reason}"
    run = _find_run(ended, state, registry)
    if run is not None and run.status not in FINISHED_STATUSES:
        pipeline.stop(run.run_id, reason)
        end_run(run, f"stopped: {reason}", registry, now)
    skipped = skip_waiting(ended.model, ended.deleted_at, reason, registry, now)
    return [TrainingRequestResult(cause.model, cause.cause_id, "skipped", None, words) for cause, words in skipped]


def _find_run(ended: ModelEnded, state: ModelState, registry: Registry) -> Run | None:
    """Return the run to stop, unless it is one of the model that is there now: another stack's may have its name."""
    try:
        run = registry.get_run(ended.model, ended.stopped_run) if ended.stopped_run else None
    except RunNotFoundError:
        return None
    return run if run and end_of(state, run.requested_at) else None
