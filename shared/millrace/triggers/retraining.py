"""Retrain every model: in rounds, and so few runs at once that predictions keep executions.

The retraining pipeline calls :func:`request_retraining` round after round with the progress that the last one returned.
A round that is repeated requests the same again: the cause of a model is that of the schedule's slot, and exactly one
run follows a cause.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from millrace.contracts import RetrainingProgress, RunPointer
from millrace.entities import FINISHED_STATUSES
from millrace.errors import MillraceError
from millrace.observability import logger
from millrace.ports import PipelineStarter
from millrace.registry.store import Registry
from millrace.settings import CostSettings
from millrace.triggers.requests import TrainingRequestResult, request_training
from millrace.triggers.trigger_events import ScheduleTrigger

#: Models of a round: about a tenth of a second each, where they have nothing to train on.
_MODELS_A_ROUND = 200
#: A run that takes longer, or has lost its execution, no longer holds a place.
_HOLDS_ITS_PLACE = timedelta(hours=6)
#: More models whose requests fail are an outage: the round is repeated.
_MAX_FAILURES = 100
#: Executions of the account that one run at once needs beside the others.
_EXECUTIONS_A_RUN = 5
#: Pauses while every place is taken. Longer ones follow, because an execution has at most 25,000 events.
_PAUSE_SECONDS, _LONG_PAUSE_SECONDS, _SHORT_PAUSES = 60, 300, 1_000


def places(most: int, unreserved: int) -> int:
    """Return the number of runs at once: ``most``, or as many as leave predictions four of five executions."""
    return max(1, min(most, unreserved // _EXECUTIONS_A_RUN))


def request_retraining(
    trigger: ScheduleTrigger,
    progress: RetrainingProgress,
    *,
    at_once: int,
    registry: Registry,
    pipeline: PipelineStarter,
    now: datetime,
    costs: CostSettings,
) -> tuple[RetrainingProgress, list[TrainingRequestResult]]:
    """Request runs of the next models, until ``at_once`` runs are under way; return the progress and the results.

    Raises ``ServiceUnavailableError`` when the registry is unavailable, or too many requests failed; a repetition of
    the round finishes what was begun.
    """
    running, results = _still_running(progress.running, registry, now), list[TrainingRequestResult]()
    rounds = progress.rounds + 1
    if len(running) >= at_once:
        pause = _PAUSE_SECONDS if rounds < _SHORT_PAUSES else _LONG_PAUSE_SECONDS
        return progress.model_copy(update={"running": tuple(running), "rounds": rounds, "pause_seconds": pause}), []
    again, failed = list[str](), list(progress.failed)
    names = progress.again if progress.is_listed else registry.list_names(progress.after, _MODELS_A_ROUND)
    specs = registry.get_specs(names)
    n_requested = 0
    for name in names:
        if len(running) >= at_once:
            break
        n_requested += 1
        try:
            if specs[name].retraining.schedule is not None or registry.get_state(name).deleted_at is not None:
                continue  # a model with a schedule of its own follows that one
            request = trigger.for_model(name)
            result = request_training(
                request.cause, registry=registry, pipeline=pipeline, now=now, actor=request.actor, costs=costs
            )
        except MillraceError:
            logger.exception("retraining not requested", model=name)
            (failed if progress.is_listed else again).append(name)
            if len(progress.again) + len(again) > _MAX_FAILURES:
                raise
            continue
        results.append(result)
        if result.run_id:
            running += _still_running([RunPointer(model=name, run_id=result.run_id)], registry, now)
    left = names[n_requested:]
    after = progress.after if progress.is_listed or not n_requested else names[n_requested - 1]
    following = RetrainingProgress(
        after=after,
        is_listed=progress.is_listed or (not left and len(names) < _MODELS_A_ROUND),
        again=tuple(left) if progress.is_listed else (*progress.again, *again),
        failed=tuple(failed),
        running=tuple(running),
        rounds=rounds,
    )
    return following, results


def _still_running(runs: Sequence[RunPointer], registry: Registry, now: datetime) -> list[RunPointer]:
    """Return the runs that take executions: not those that have ended, or wait for a person."""
    found = registry.find_runs([(run.model, run.run_id) for run in runs])
    active = {
        run.run_id
        for run in found
        if run.status not in FINISHED_STATUSES
        and run.stage != "awaiting_approval"
        and now - run.requested_at < _HOLDS_ITS_PLACE
    }
    return [run for run in runs if run.run_id in active]
