"""One run per cause, one run at a time, and nothing that was asked for is lost.

A cause is claimed exactly once. While a run of its model is active it waits, and the causes that waited are
answered together by one follow-up run. Every step may be repeated: whoever takes it again, because somebody died
between two steps or an event came twice, finishes what was begun.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from millrace.entities import FINISHED_STATUSES, Cause, CauseKind, CauseRecord, LedgerEntry, ModelState, Run
from millrace.errors import CauseNotFoundError, ModelNotFoundError, RunNotFoundError, ServiceUnavailableError
from millrace.names import make_run_id
from millrace.ports import PipelineStarter, Registry
from millrace.registry.lifecycle import deleted, end_of, end_of_cause
from millrace.spec.lifecycle import RetrainingSpec
from millrace.triggers.events import ModelEnded


def skip_waiting(
    model: str, ended_at: datetime, reason: str, registry: Registry, now: datetime
) -> list[tuple[Cause, str]]:
    """Let nothing wait that is not later than the deletion of its model; again changes nothing.

    Returns
    -------
    list of (Cause, str)
        What is skipped, with its verdict in words.
    """
    skipped: list[tuple[Cause, str]] = []
    while ended := [
        record.cause for record in registry.list_pending_causes(model) if record.cause.occurred_at <= ended_at
    ]:
        for cause in ended:
            entry = _entry(cause, reason, now)
            if registry.skip_pending_cause(cause, entry):
                skipped.append((cause, entry.reason))
    return skipped


def _entry(cause: Cause, reason: str, now: datetime) -> LedgerEntry:
    return LedgerEntry(
        model=cause.model,
        entry_id=f"{cause.cause_id}-skipped",
        occurred_at=now,
        actor="millrace",
        action="trigger_skipped",
        reason=f"skipped: {reason} ({cause.reason})",
        details={"cause_id": cause.cause_id, "kind": cause.kind},
    )


_ALWAYS: frozenset[CauseKind] = frozenset({"upload", "manual"})
#: What monitoring finds: it shows in every window until a run has answered it.
_FINDINGS: frozenset[CauseKind] = frozenset({"drift", "quality", "staleness", "latency"})
_DAY = timedelta(days=1)


def refuse(cause: Cause, spec: RetrainingSpec, runs: Sequence[Run], now: datetime) -> str | None:
    """Return why a cause may start nothing, in words; None when it may.

    Parameters
    ----------
    runs : sequence of Run
        The model's newest, the newest first: at least ``spec.runs_per_day``.
    """
    if cause.kind in _ALWAYS:
        return None
    if cause.kind not in spec.causes:
        return f"the spec's retraining.causes leave out {cause.kind}"
    cooldown = timedelta(hours=spec.cooldown_hours)
    if cause.kind in _FINDINGS and runs and now - runs[0].requested_at < cooldown:
        since, until = runs[0].requested_at, runs[0].requested_at + cooldown
        return (
            f"run {runs[0].run_id} was asked for at {since:%Y-%m-%d %H:%M} UTC, and retraining.cooldown_hours last "
            f"until {until:%Y-%m-%d %H:%M}"
        )
    recent = sum(now - run.requested_at < _DAY for run in runs)
    if recent >= spec.runs_per_day:
        return f"{recent} runs were asked for in the last 24 hours, and retraining.runs_per_day is {spec.runs_per_day}"
    return None


def answered_by_runs_since(cause: Cause, spec: RetrainingSpec, now: datetime) -> datetime | None:
    """Return since when an active run must have been asked for to answer the cause too; None when none does.

    Two findings of one window arrive at the same moment, each before the other's run can be seen: the claim, which
    is atomic, decides between them by this.
    """
    if cause.kind not in _FINDINGS or not spec.cooldown_hours:
        return None
    return now - timedelta(hours=spec.cooldown_hours)


_MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class TrainingRequestResult:
    """What became of a cause, in words too."""

    model: str
    cause_id: str
    outcome: Literal["started", "duplicate", "deferred", "skipped"]
    run_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What the end of a run led to: whether it gave up its turn just now, and to which run."""

    model: str
    run_id: str
    released: bool
    follow_up_run_id: str | None


def request_training(
    cause: Cause,
    *,
    registry: Registry,
    pipeline: PipelineStarter,
    now: datetime,
    actor: str = "millrace",
    refusal: str | None = None,
) -> TrainingRequestResult:
    """Claim ``cause`` and start its run, unless it was claimed before, has to wait, or has nothing to train on.

    Parameters
    ----------
    refusal : str or None, default=None
        Why it starts none, where that is known already.

    Raises
    ------
    ServiceUnavailableError
        When the registry or the pipeline is; asking again finishes what was begun.
    """
    if refusal := refusal or _refusal(cause, registry, now):
        return _skip(cause, refusal, registry, now, actor)
    run = _make_run(cause.model, [CauseRecord(cause, "started")], now)
    answered_since = answered_by_runs_since(cause, registry.get_spec(cause.model).retraining, now)
    claim = registry.claim_cause(cause, run, _trigger_entry(cause, now, actor), answered_since)
    if claim.outcome == "started":
        pipeline.start(run.model, run.run_id)
        return _result(cause, "started", run.run_id, cause.reason)
    if claim.outcome == "answered":
        return _result(cause, "skipped", claim.run_id, registry.get_cause(cause.model, cause.cause_id).reason)
    if claim.outcome == "deleted":
        ended_at = registry.get_state(cause.model).begun_after or now
        return _skip(cause, _of_deleted(cause, ended_at), registry, now, actor)
    if claim.outcome == "duplicate":
        return _repeat(cause, registry, pipeline, now)
    return _wait(cause, registry, pipeline, now)


def finish_run(
    model: str, run_id: str, reason: str, *, registry: Registry, pipeline: PipelineStarter, now: datetime
) -> FinishedRun:
    """Give up a run's turn, and start the run that answers what waited meanwhile.

    A run that has not recorded how it ended is recorded as failed, with ``reason``. What waits for an earlier model of
    that name, which was deleted, starts nothing and is told so. Again is the same as once.

    Raises
    ------
    ServiceUnavailableError
        When causes keep arriving faster than they can be taken over; again may work.
    """
    try:
        end_run(registry.get_run(model, run_id), reason, registry, now)
    except RunNotFoundError:
        # An execution that somebody started by hand under a name of their own.
        return FinishedRun(model, run_id, released=False, follow_up_run_id=None)
    for _ in range(_MAX_ATTEMPTS):
        state = registry.get_state(model)
        if state.active_run_id != run_id:
            _start_if_queued(model, state.active_run_id, registry, pipeline)
            return FinishedRun(model, run_id, released=False, follow_up_run_id=None)
        if state.begun_after:
            skip_waiting(model, state.begun_after, f"the model {deleted(state.begun_after)}", registry, now)
        waiting = registry.list_pending_causes(model)
        follow_up = _make_run(model, waiting, now) if waiting else None
        entry = _follow_up_entry(follow_up, run_id, now) if follow_up else None
        if registry.release_run(model, run_id, follow_up, entry):
            if follow_up:
                pipeline.start(model, follow_up.run_id)
            return FinishedRun(model, run_id, released=True, follow_up_run_id=follow_up.run_id if follow_up else None)
    raise ServiceUnavailableError(f"triggers of {model!r} keep arriving; run {run_id} could not give up its turn yet")


def end_run(run: Run, reason: str, registry: Registry, now: datetime) -> None:
    """Record a run that has not said how it ended as failed, with the reason."""
    if run.status in FINISHED_STATUSES:
        return
    entry = LedgerEntry(
        run.model, f"{run.run_id}-failed", now, "pipeline", "run_failed", reason, {"run_id": run.run_id}
    )
    registry.append_ledger(entry)
    registry.update_run(
        run.model,
        run.run_id,
        status="failed",
        stage="finished",
        finished_at=now,
        reasons=(reason, *run.reasons),
    )


def _refusal(cause: Cause, registry: Registry, now: datetime) -> str | None:
    """Return why the cause starts nothing; None when it may, or was followed already."""
    state = _find_state(cause.model, registry)
    if state and (ended_at := end_of_cause(cause, state)):
        return _of_deleted(cause, ended_at)
    if cause.kind == "upload":
        return None
    first_schema = state.first_schema_version if state else 1
    if not any(dataset.schema_version >= first_schema for dataset in registry.list_datasets(cause.model)):
        return f"the model {cause.model} has no accepted dataset to train on"
    spec = registry.get_spec(cause.model).retraining
    newest = registry.list_runs(cause.model, limit=max(1, spec.runs_per_day))
    runs = [run for run in newest if state is None or not end_of(state, run.requested_at)]
    refusal = refuse(cause, spec, runs, now)
    return None if refusal and _is_known(cause, registry) else refusal


def _find_state(model: str, registry: Registry) -> ModelState | None:
    try:
        return registry.get_state(model)
    except ModelNotFoundError:
        return None


def _of_deleted(cause: Cause, ended_at: datetime) -> str:
    remedy = "; upload it again, for a new model of that name" if cause.kind == "upload" else ""
    return f"the model {cause.model} {deleted(ended_at)}{remedy}"


def _is_known(cause: Cause, registry: Registry) -> bool:
    try:
        registry.get_cause(cause.model, cause.cause_id)
    except CauseNotFoundError:
        return False
    return True


def _skip(cause: Cause, refusal: str, registry: Registry, now: datetime, actor: str) -> TrainingRequestResult:
    reason = f"skipped: {refusal} ({cause.reason})"
    entry = LedgerEntry(
        cause.model,
        cause.cause_id,
        now,
        actor,
        "trigger_skipped",
        reason,
        {"cause_id": cause.cause_id, "kind": cause.kind},
    )
    if registry.skip_cause(cause, entry):
        return _result(cause, "skipped", None, reason)
    record = registry.get_cause(cause.model, cause.cause_id)
    return _result(cause, "duplicate", record.run_id, record.reason)


def _repeat(cause: Cause, registry: Registry, pipeline: PipelineStarter, now: datetime) -> TrainingRequestResult:
    """Finish what the first caller may have left undone."""
    record = registry.get_cause(cause.model, cause.cause_id)
    if record.status == "pending":
        _relieve_dead_run(cause.model, registry, pipeline, now)
        record = registry.get_cause(cause.model, cause.cause_id)
    else:
        _start_if_queued(cause.model, record.run_id, registry, pipeline)
    return _result(cause, "duplicate", record.run_id, f"seen before ({record.status}): {record.reason}")


def _wait(cause: Cause, registry: Registry, pipeline: PipelineStarter, now: datetime) -> TrainingRequestResult:
    """Leave the cause waiting, unless nobody is going to come and take it."""
    _relieve_dead_run(cause.model, registry, pipeline, now)
    record = registry.get_cause(cause.model, cause.cause_id)
    if record.run_id:
        return _result(cause, "started", record.run_id, cause.reason)
    return _result(cause, "deferred", None, f"waits for the run that is training now: {cause.reason}")


def _relieve_dead_run(model: str, registry: Registry, pipeline: PipelineStarter, now: datetime) -> None:
    """When the active run's execution is not going, end the run in its stead."""
    run_id = registry.get_state(model).active_run_id
    if run_id is None:
        return
    run = registry.get_run(model, run_id)
    # Starting a queued run is right whether or not somebody did before; only the answer tells if it has ended.
    alive = pipeline.start(model, run_id) if run.status == "queued" else pipeline.is_running(run_id)
    if not alive:
        finish_run(
            model,
            run_id,
            "the pipeline's execution ended without a word",
            registry=registry,
            pipeline=pipeline,
            now=now,
        )


def _start_if_queued(model: str, run_id: str | None, registry: Registry, pipeline: PipelineStarter) -> None:
    """Start a run that its maker may not have lived to start."""
    if run_id and registry.get_run(model, run_id).status == "queued":
        pipeline.start(model, run_id)


def _make_run(model: str, records: list[CauseRecord], now: datetime) -> Run:
    """Return the run that answers these causes; the oldest of them names it.

    It is asked for when they are there, whatever the clock says: a run from before a deletion is of the deleted model.
    """
    causes = [record.cause for record in records]
    sources = tuple(cause.source for cause in causes if cause.source)
    return Run(
        model=model,
        run_id=make_run_id(causes[0].cause_id, causes[0].occurred_at),
        cause_ids=tuple(cause.cause_id for cause in causes),
        kind="upload" if sources else causes[0].kind,
        requested_at=max([now, *(cause.occurred_at for cause in causes)]),
        sources=sources,
    )


def _trigger_entry(cause: Cause, now: datetime, actor: str) -> LedgerEntry:
    details = {"cause_id": cause.cause_id, "kind": cause.kind}
    return LedgerEntry(cause.model, cause.cause_id, now, actor, "run_requested", cause.reason, details)


def _follow_up_entry(follow_up: Run, after: str, now: datetime) -> LedgerEntry:
    return LedgerEntry(
        model=follow_up.model,
        entry_id=follow_up.run_id,
        occurred_at=now,
        actor="millrace",
        action="run_requested",
        reason=f"{len(follow_up.cause_ids)} trigger(s) waited for run {after} to finish",
        details={"run_id": follow_up.run_id, "cause_ids": list(follow_up.cause_ids)},
    )


def _result(
    cause: Cause, outcome: Literal["started", "duplicate", "deferred", "skipped"], run_id: str | None, reason: str
) -> TrainingRequestResult:
    return TrainingRequestResult(cause.model, cause.cause_id, outcome, run_id, reason)


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
