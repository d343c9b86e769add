"""One run per cause, one run at a time, and no request is lost.

A cause is claimed exactly once. While a run of its model is active it waits, and one follow-up run takes the causes
that waited together. Every step may be repeated: a repetition, because a function died between two steps or an event
came twice, finishes what was begun.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from millrace.causes import CAUSES
from millrace.cost.statement import find_budget_refusal
from millrace.entities import FINISHED_STATUSES, Cause, CauseRecord, LedgerEntry, ModelState, Run, describe_deletion
from millrace.errors import WorkerCrashedError
from millrace.layout import INCOMING_PREFIX, SUCCESS_MARKER
from millrace.names import make_cause_id, make_run_id
from millrace.ports import PipelineStarter
from millrace.registry.ledger import of_incidents, trigger_skipped
from millrace.registry.store import Registry
from millrace.retry import retry
from millrace.settings import CostSettings
from millrace.spec.operations import RetrainingSpec
from millrace.triggers.trigger_events import (
    IncidentEnded,
    ModelEnded,
    RefusedUpload,
    RunEnded,
    ScheduleTrigger,
    Trigger,
    WaitingFile,
)

#: The ledger of uploads that belong to no model; no model can have that name.
REFUSED_UPLOADS = "_refused"
_DAY = timedelta(days=1)
#: Runs of a cause, counting only those that end in a fault.
MAX_ATTEMPTS = 2
_STAGES: Mapping[str, str] = {
    "queued": "the start",
    "validating": "validation",
    "evaluating": "evaluation",
    "registering": "registration",
    "awaiting_approval": "the request for approval",
}
#: Names of errors that Step Functions and Lambda report for workers that end before they return.
_TIMEOUTS = frozenset({"States.Timeout", "States.HeartbeatTimeout", "Sandbox.Timedout", "TIMED_OUT"})
_CRASHES = frozenset(
    {"Lambda.Unknown", "Runtime.ExitError", "Runtime.HandlerError", "Runtime.OutOfMemory", WorkerCrashedError.__name__}
)
_NAMED_FILES = 5
#: Runs among which the last one of a finding is looked for.
_RUNS_OF_A_COOLDOWN = 50
#: As many times more runs are read where some of them are those of proposed models.
_PROPOSALS = 10
_DEFAULT_COSTS = CostSettings()
RequestOutcome = Literal["started", "duplicate", "deferred", "skipped"]


@dataclass(frozen=True, slots=True)
class TrainingRequestResult:
    """The outcome of a cause, and a sentence about it."""

    model: str
    cause_id: str
    outcome: RequestOutcome
    run_id: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The end of a run: ``released`` when it gave up its turn just now, and the run that took it."""

    model: str
    run_id: str
    released: bool
    follow_up_run_id: str | None


def handle_trigger(
    trigger: Trigger,
    *,
    registry: Registry,
    pipeline: PipelineStarter,
    now: datetime,
    costs: CostSettings = _DEFAULT_COSTS,
) -> list[TrainingRequestResult | FinishedRun]:
    """Do what a trigger requests; a refused upload, a file that waits and the end of an incident have no result.

    A schedule for every model is that of :func:`millrace.triggers.retraining.request_retraining`.
    """
    match trigger:
        case RefusedUpload():
            record_refusal(trigger, registry)
            return []
        case WaitingFile():
            _record_waiting(trigger, registry)
            return []
        case IncidentEnded():
            registry.append_ledger(_incident_entry(trigger))
            return []
        case ModelEnded():
            return [*_end_model(trigger, registry=registry, pipeline=pipeline, now=now)]
        case RunEnded(model, run_id, reason, fault):
            return [finish_run(model, run_id, reason, registry=registry, pipeline=pipeline, now=now, fault=fault)]
        case ScheduleTrigger(model=model):
            trigger = trigger.for_model(model)
    result = request_training(
        trigger.cause,
        registry=registry,
        pipeline=pipeline,
        now=now,
        actor=trigger.actor,
        refusal=trigger.refusal,
        costs=costs,
    )
    return [result]


def _incident_entry(ended: IncidentEnded) -> LedgerEntry:
    details = {
        "incident": ended.event,
        "version": ended.version,
        "since": ended.since.isoformat(),
        "opened_at": ended.opened_at.isoformat(),
        "resolved_at": ended.resolved_at.isoformat(),
        **of_incidents([ended.incident_id]),
    }
    return LedgerEntry(
        ended.model, ended.event_id, ended.resolved_at, "monitoring", "incident_resolved", ended.reason, details
    )


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


def _record_waiting(file: WaitingFile, registry: Registry) -> None:
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


def refuse(cause: Cause, spec: RetrainingSpec, runs: Sequence[Run], now: datetime) -> str | None:
    """Return the reason why a cause may start nothing; None when it may.

    A finding waits for ``cooldown_hours`` after the last run that a finding started; a run that an upload or a person
    started does not delay it.

    Parameters
    ----------
    runs : sequence of Run
        The model's newest, the newest first: at least ``spec.runs_per_day``, and those within the cooldown.
    """
    kind = CAUSES[cause.kind]
    if kind.is_always_followed:
        return None
    if cause.kind not in spec.causes:
        return f"the spec's retraining.causes leave out {cause.kind}"
    cooldown = timedelta(hours=spec.cooldown_hours)
    last = next((run for run in runs if run.kind in CAUSES and CAUSES[run.kind].is_finding), None)
    if kind.is_finding and last and now - last.requested_at < cooldown:
        since, until = last.requested_at, last.requested_at + cooldown
        return (
            f"a finding started run {last.run_id} at {since:%Y-%m-%d %H:%M} UTC, and retraining.cooldown_hours last "
            f"until {until:%Y-%m-%d %H:%M}"
        )
    # The run of a proposed model trains nothing.
    recent = sum(now - run.requested_at < _DAY for run in runs if run.logged_model is None)
    if recent >= spec.runs_per_day:
        return f"{recent} runs were requested in the last 24 hours, and retraining.runs_per_day is {spec.runs_per_day}"
    return None


def covered_by_runs_since(cause: Cause, spec: RetrainingSpec, now: datetime) -> datetime | None:
    """Return the time since when an active run must have been requested to cover the cause too; None when none does.

    Two findings of one window arrive together, each before the other's run can be seen: the claim, which is atomic,
    decides between them by this.
    """
    if not CAUSES[cause.kind].is_finding or not spec.cooldown_hours:
        return None
    return now - timedelta(hours=spec.cooldown_hours)


def request_training(
    cause: Cause,
    *,
    registry: Registry,
    pipeline: PipelineStarter,
    now: datetime,
    actor: str = "millrace",
    refusal: str | None = None,
    costs: CostSettings = _DEFAULT_COSTS,
) -> TrainingRequestResult:
    """Claim ``cause`` and start its run, unless it was claimed before, has to wait, or has nothing to train on.

    Raises ``ServiceUnavailableError`` when the registry or the pipeline is unavailable; a repetition finishes what was
    begun.

    Parameters
    ----------
    refusal : str or None, default=None
        The reason why it starts none, where that is known already.
    costs : CostSettings, optional
        Settings that a model's budget is compared by.
    """
    if refusal := refusal or find_refusal(cause, registry, now, costs):
        return _skip(cause, refusal, registry, now, actor)
    run = _make_run(cause.model, [CauseRecord(cause, "started")], now)
    covered_since = covered_by_runs_since(cause, registry.get_spec(cause.model).retraining, now)
    entry = _cause_entry(cause, cause.cause_id, now, actor)
    claim = registry.claim_cause(cause, run, entry, covered_since)
    match claim.outcome:
        case "started":
            pipeline.start(run.model, run.run_id)
            return _result(cause, "started", run.run_id, cause.reason)
        case "answered":
            return _result(cause, "skipped", claim.run_id, registry.get_cause(cause.model, cause.cause_id).reason)
        case "deleted":
            deleted_at = registry.get_state(cause.model).begun_after or now
            return _skip(cause, _refuse_deleted(cause, deleted_at), registry, now, actor)
        case "duplicate":
            return _repeat(cause, registry, pipeline, now)
        case "deferred":
            return _wait(cause, registry, pipeline, now)


def finish_run(
    model: str,
    run_id: str,
    reason: str,
    *,
    registry: Registry,
    pipeline: PipelineStarter,
    now: datetime,
    fault: str | None = None,
) -> FinishedRun:
    """Give up a run's turn, and start the run that follows the causes which waited.

    A run that has not recorded how it ended is recorded as failed, with ``reason``. After a ``fault``, which is no
    verdict on what was uploaded, its causes wait again for a run each, until :data:`MAX_ATTEMPTS`. Causes that wait for
    an earlier model of that name, which was deleted, are skipped. Again is the same as once.

    Raises ``ServiceUnavailableError`` when causes keep arriving faster than they can be taken over; a repetition may
    succeed.
    """
    run = registry.find_run(model, run_id)
    if run is None:
        # An execution that somebody started by hand under a name of their own.
        return FinishedRun(model, run_id, released=False, follow_up_run_id=None)
    registry.file_notes(model)
    _end_run(run, reason, registry, now, fault)

    def attempt() -> FinishedRun | None:
        state = registry.get_state(model)
        if state.active_run_id != run_id:
            _start_if_queued(model, state.active_run_id, registry, pipeline)
            return FinishedRun(model, run_id, released=False, follow_up_run_id=None)
        if state.begun_after:
            refusal = f"the model {describe_deletion(state.begun_after)}"
            _skip_waiting(model, state.begun_after, refusal, registry, now)
        waiting = registry.list_pending_causes(model)
        # A cause whose run ended in a fault may be its reason: it shares its next run with no other. A model that a
        # user logged is evaluated alone.
        together = [record for record in waiting if not record.faults and not record.cause.logged_model] or waiting[:1]
        follow_up = _make_run(model, together, now) if together else None
        entry = _follow_up_entry(follow_up, run_id, now) if follow_up else None
        if not registry.release_run(model, run_id, follow_up, entry):
            return None
        if follow_up:
            pipeline.start(model, follow_up.run_id)
        return FinishedRun(model, run_id, released=True, follow_up_run_id=follow_up.run_id if follow_up else None)

    return retry(attempt, f"triggers of {model!r} keep arriving; run {run_id} could not give up its turn yet")


def _end_run(run: Run, reason: str, registry: Registry, now: datetime, fault: str | None = None) -> None:
    """Record a run that has not recorded how it ended as failed; after a fault, its causes wait again."""

    def attempt() -> bool | None:
        present = registry.get_run(run.model, run.run_id)
        if present.status in FINISHED_STATUSES:
            return False
        returned = _causes_to_try_again(present, registry) if fault else []
        why = reason
        if fault and (deleted_at := registry.get_state(run.model).deletion_of(run.requested_at)):
            why = f"stopped: the model {describe_deletion(deleted_at)}"
        elif fault:
            why = _describe_fault(present, fault, len(returned))
        details = {"run_id": run.run_id, **({"tried_again": returned} if returned else {})}
        details |= of_incidents(run.incident_ids)
        entry = LedgerEntry(run.model, f"{run.run_id}-failed", now, "pipeline", "run_failed", why, details)
        return registry.fail_run(present, (why, *present.reasons), returned, entry) or None

    retry(attempt, f"run {run.run_id} of {run.model!r} keeps being changed; its end is not recorded yet")


def _causes_to_try_again(run: Run, registry: Registry) -> list[str]:
    """Return the causes of a run that ended in a fault which may have another one."""
    if registry.get_state(run.model).active_run_id != run.run_id or run.stage == "awaiting_approval":
        return []
    return [
        record.cause.cause_id
        for record in registry.find_causes(run.model, run.cause_ids)
        if (record.status, record.run_id) == ("started", run.run_id) and record.faults + 1 < MAX_ATTEMPTS
    ]


def _describe_fault(run: Run, fault: str, returned: int) -> str:
    """Return the reason of a run that ended in a fault: stage, file, error, and what follows or is to be done."""
    keys = [run.validating] if run.validating else [source.key for source in run.sources]
    names = [key.removeprefix(f"{INCOMING_PREFIX}{run.model}/") for key in keys]
    files = ", ".join(names[:_NAMED_FILES]) + (f" and {len(names) - _NAMED_FILES} more" if names[_NAMED_FILES:] else "")
    stage = _STAGES.get(run.stage, run.stage) + (f" of {files}" if files else "")
    why = "out of time" if fault in _TIMEOUTS else "out of memory or time, or a crash" if fault in _CRASHES else ""
    ended = f"{stage} ended without a result ({fault}{': ' if why else ''}{why})"
    if returned:
        return f"{ended}; {'it is' if returned == 1 else f'its {returned} causes are, one by one,'} tried once more"
    remedy = (
        "upload it again" if len(run.sources) == 1 else "upload them again" if run.sources else "request a run again"
    )
    memory = ", in smaller files or with a larger TrainingMemorySize" if why else ""
    return f"{ended}; {remedy}{memory}, or see the log of that stage's function"


def _end_model(
    ended: ModelEnded, *, registry: Registry, pipeline: PipelineStarter, now: datetime
) -> list[TrainingRequestResult]:
    """Stop the run of a deleted model, and skip every cause that waited; again changes nothing.

    The model may have been recreated since, and deleted again: anything later than this deletion is left to the next.
    A deletion later than any that this registry knows of is that of another stack in the account.

    Raises ``ServiceUnavailableError`` when the registry or the pipeline is unavailable; a repetition finishes what was
    begun.
    """
    state = registry.find_state(ended.model)
    if state is None or state.begun_after is None or state.begun_after < ended.deleted_at:
        return []
    reason = f"the model {describe_deletion(ended.deleted_at)} by {ended.actor}: {ended.reason}"
    run = _find_run(ended, state, registry)
    if run is not None and run.status not in FINISHED_STATUSES:
        pipeline.stop(run.run_id, reason)
        _end_run(run, f"stopped: {reason}", registry, now)
    skipped = _skip_waiting(ended.model, ended.deleted_at, reason, registry, now)
    return [_result(cause, "skipped", None, message) for cause, message in skipped]


def _find_run(ended: ModelEnded, state: ModelState, registry: Registry) -> Run | None:
    """Return the run to stop, unless it is one of the present model: another stack's may have its name."""
    run = registry.find_run(ended.model, ended.stopped_run) if ended.stopped_run else None
    return run if run and state.deletion_of(run.requested_at) else None


def _skip_waiting(
    model: str, deleted_at: datetime, refusal: str, registry: Registry, now: datetime
) -> list[tuple[Cause, str]]:
    """Skip the waiting causes that are not later than the deletion of their model; return each with its message."""
    skipped: list[tuple[Cause, str]] = []
    while ended := [
        record.cause for record in registry.list_pending_causes(model) if record.cause.occurred_at <= deleted_at
    ]:
        for cause in ended:
            entry = trigger_skipped(_cause_entry(cause, f"{cause.cause_id}-skipped", now, "millrace"), cause, refusal)
            if registry.skip_pending_cause(cause, entry):
                skipped.append((cause, entry.reason))
    return skipped


def find_refusal(cause: Cause, registry: Registry, now: datetime, costs: CostSettings = _DEFAULT_COSTS) -> str | None:
    """Return the reason why the cause starts nothing; None when it may, or was followed already."""
    state = registry.find_state(cause.model)
    if state and (deleted_at := state.deletion_of_cause(cause)):
        return _refuse_deleted(cause, deleted_at)
    if cause.kind == "upload":
        return None
    first_schema = state.first_schema_version if state else 1
    if not any(dataset.schema_version >= first_schema for dataset in registry.list_datasets(cause.model)):
        return f"the model {cause.model} has no accepted dataset to train on"
    whole = registry.get_spec(cause.model)
    spec = whole.retraining
    most = max(_RUNS_OF_A_COOLDOWN, spec.runs_per_day)
    newest = registry.list_runs(cause.model, limit=most)
    if any(run.logged_model for run in newest):
        # Runs of proposed models do not count, and there may be many of them.
        newest = registry.list_runs(cause.model, limit=_PROPOSALS * most)
    own = [run for run in newest if state is None or not state.deletion_of(run.requested_at)]
    refusal = refuse(cause, spec, _under_findings(cause.model, own, registry), now)
    if refusal is None and not CAUSES[cause.kind].is_always_followed:
        refusal = find_budget_refusal(cause.model, whole.budget, now, registry, costs)
    return None if refusal and registry.find_cause(cause.model, cause.cause_id) else refusal


def _under_findings(model: str, runs: Sequence[Run], registry: Registry) -> list[Run]:
    """Return runs, those that follow several causes under the kind of a finding, if one is among them."""
    together = [cause_id for run in runs if len(run.cause_ids) > 1 for cause_id in run.cause_ids]
    kinds = {record.cause.cause_id: record.cause.kind for record in registry.find_causes(model, together)}
    findings = {cause_id: kind for cause_id, kind in kinds.items() if CAUSES[kind].is_finding}
    return [
        replace(run, kind=next((findings[one] for one in run.cause_ids if one in findings), run.kind)) for run in runs
    ]


def _refuse_deleted(cause: Cause, deleted_at: datetime) -> str:
    remedy = "; upload it again, for a new model of that name" if cause.kind == "upload" else ""
    return f"the model {cause.model} {describe_deletion(deleted_at)}{remedy}"


def _skip(cause: Cause, refusal: str, registry: Registry, now: datetime, actor: str) -> TrainingRequestResult:
    entry = trigger_skipped(_cause_entry(cause, cause.cause_id, now, actor), cause, refusal)
    if registry.skip_cause(cause, entry):
        return _result(cause, "skipped", None, entry.reason)
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
    return _result(cause, "deferred", None, f"waits for the active run: {cause.reason}")


def _relieve_dead_run(model: str, registry: Registry, pipeline: PipelineStarter, now: datetime) -> None:
    """End the active run in its stead when its execution has ended."""
    run_id = registry.get_state(model).active_run_id
    if run_id is None:
        return
    run = registry.get_run(model, run_id)
    # Starting a queued run again changes nothing, and returns False only when it has ended.
    alive = pipeline.start(model, run_id) if run.status == "queued" else pipeline.is_running(run_id)
    if not alive:
        reason = "the pipeline's execution ended without a report"
        finish_run(
            model,
            run_id,
            reason,
            registry=registry,
            pipeline=pipeline,
            now=now,
            fault="the execution ended without a report",
        )


def _start_if_queued(model: str, run_id: str | None, registry: Registry, pipeline: PipelineStarter) -> None:
    """Start a run whose maker may have died before starting it."""
    if run_id and registry.get_run(model, run_id).status == "queued":
        pipeline.start(model, run_id)


def _make_run(model: str, records: list[CauseRecord], now: datetime) -> Run:
    """Return the run that follows these causes; the oldest of them names it.

    It is requested no earlier than they occurred, whatever the clock shows: a run from before a deletion is of the
    deleted model.
    """
    causes = [record.cause for record in records]
    sources = tuple(cause.source for cause in causes if cause.source)
    first, faults = causes[0], records[0].faults
    again = make_cause_id("again", first.cause_id, str(faults))
    return Run(
        model=model,
        run_id=make_run_id(again, now) if faults else make_run_id(first.cause_id, first.occurred_at),
        cause_ids=tuple(cause.cause_id for cause in causes),
        kind="upload" if sources else causes[0].kind,
        requested_at=max([now, *(cause.occurred_at for cause in causes)]),
        sources=sources,
        incident_ids=tuple(dict.fromkeys(cause.incident_id for cause in causes if cause.incident_id)),
        logged_model=first.logged_model,
        version=first.logged_model.version if first.logged_model else None,
    )


def _cause_entry(cause: Cause, entry_id: str, now: datetime, actor: str) -> LedgerEntry:
    details = {"cause_id": cause.cause_id, "kind": cause.kind, **of_incidents([cause.incident_id])}
    return LedgerEntry(cause.model, entry_id, now, actor, "run_requested", cause.reason, details)


def _follow_up_entry(follow_up: Run, after: str, now: datetime) -> LedgerEntry:
    return LedgerEntry(
        model=follow_up.model,
        entry_id=follow_up.run_id,
        occurred_at=now,
        actor="millrace",
        action="run_requested",
        reason=f"{len(follow_up.cause_ids)} trigger(s) waited for run {after} to finish",
        details={
            "run_id": follow_up.run_id,
            "cause_ids": list(follow_up.cause_ids),
            **of_incidents(follow_up.incident_ids),
        },
    )


def _result(cause: Cause, outcome: RequestOutcome, run_id: str | None, reason: str) -> TrainingRequestResult:
    return TrainingRequestResult(cause.model, cause.cause_id, outcome, run_id, reason)
