"""Approvals: a version that passed the gate waits until a person approves or rejects it, or the time is up.

The pipeline waits for a task token, which is kept in the registry and never shown. A decision changes the registry
first (aliases, the version's outcome, the approval, the ledger entry: one transaction) and is reported to the pipeline
then. Every step may be repeated; a decision that was only half carried out is finished by the same decision made again,
or by the pipeline when the time is up.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote, urlencode

from millrace.entities import FINISHED_STATUSES, Approval, ModelState, ModelVersion, Run, VersionOutcome
from millrace.errors import ConflictError
from millrace.layout import version_key
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import Notifier, ObjectStore, TaskCallback
from millrace.quantities import format_number
from millrace.registry.ledger import AuditContext, of_incidents
from millrace.registry.promotion import find_servable_version
from millrace.registry.release_changes import Introduction, introduce
from millrace.registry.store import Registry
from millrace.registry.transactions import (
    AssignOutcome,
    DecideApproval,
    MoveAlias,
    RegistryTransaction,
    ensure_champion,
)
from millrace.retry import retry

ACTOR = "request_approval"
EXPIRED = "kept as challenger: approval expired"
CARD = "card.html"
#: The longest subject that SNS takes.
_MAX_SUBJECT = 100

Decision = Literal["approve", "reject"]


@dataclass(frozen=True, slots=True)
class ModelBucket:
    """The bucket of models and its region."""

    name: str
    region: str


def approval_subject(version: ModelVersion) -> str:
    """Return the subject of the message that requests an approval."""
    return f"Millrace: approve {version.model} version {version.version}?"[:_MAX_SUBJECT]


def approval_message(version: ModelVersion, run: Run, approval: Approval, bucket: ModelBucket) -> str:
    """Return the message that requests an approval, with the gate's reasons and the commands that decide.

    The card is linked in S3's console, which makes readers sign in: a presigned link would be cut off with the
    function's own credentials, hours before the approval expires, and would admit whoever has the mail.
    """
    key = version_key(version.model, version.version, CARD)
    metrics = ", ".join(f"{name} {format_number(value)}" for name, value in sorted(version.metrics.items()))
    query = urlencode({"prefix": key, "region": bucket.region}, quote_via=quote)
    name = f"{version.model} version {version.version} ({version.semantic_version}, {version.candidate})"
    lines = [
        f"{name} passed the gate and waits for approval.",
        "",
        *(f"- {reason}" for reason in run.reasons),
        f"On the holdout: {metrics}" if metrics else "",
        "",
        f"Model card: https://{bucket.region}.console.aws.amazon.com/s3/object/{bucket.name}?{query}",
        f"            s3://{bucket.name}/{key}",
        "",
        "To decide:",
        f'    millrace approve {version.model} {run.run_id} --reason "..."',
        f'    millrace reject {version.model} {run.run_id} --reason "..."',
        "",
        f"Without a decision by {approval.expires_at:%Y-%m-%d %H:%M} UTC it is kept as challenger.",
    ]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class DecidedApproval:
    """The result of a decision; ``already`` when the same one was made before, by ``decided_by``."""

    model: str
    run_id: str
    version: int
    outcome: Literal["approved", "rejected", "already"]
    decided_by: str
    decided_at: datetime


def request_approval(
    model: str,
    run_id: str,
    task_token: str,
    seconds: int,
    *,
    registry: Registry,
    callback: TaskCallback,
    notifier: Notifier,
    bucket: ModelBucket,
    now: datetime,
) -> Approval:
    """Record that a run waits for approval, and notify people.

    Requested again (the pipeline repeats a step with a new token) the new token counts and people are notified again.
    A decision that was made before is reported at once.

    Raises ``ModelDeletedError`` when the model was deleted since the run was requested.
    """
    run = registry.get_run(model, run_id)
    version = registry.get_version(model, run.version or 0)
    state = registry.get_state(model)
    state.ensure_not_deleted(run.requested_at)
    requested = Approval(model, run_id, version.version, now, now + timedelta(seconds=seconds), task_token)
    audit = AuditContext(ACTOR, f"version {version.version} passed the gate, and the spec requires approval", now)
    details = {
        "run_id": run_id,
        "version": version.version,
        "expires_at": requested.expires_at.isoformat(),
        **of_incidents(run.incident_ids),
    }
    entry = audit.entry(state, f"{run_id}-approval-requested", "approval_requested", details)
    approval = registry.put_approval(requested, entry)
    if approval.status != "pending":
        callback.complete(task_token, approval.status)
        return approval
    notifier.notify(approval_subject(version), approval_message(version, run, approval, bucket))
    return approval


def decide_approval(
    model: str,
    run_id: str,
    decision: Decision,
    audit: AuditContext,
    *,
    registry: Registry,
    model_store: ObjectStore,
    callback: TaskCallback,
    expected_champion: int | None = None,
) -> DecidedApproval:
    """Approve or reject a version that waits.

    Raises
    ------
    ApprovalNotFoundError, ModelNotFoundError
        When no approval was requested.
    ConflictError
        When the time is up, the other decision was made already, or the champion is not the expected one or, without
        an expectation, the one that the gate compared with.
    UnfitVersionError
        When the version is not stored as it was registered.
    """
    approval = registry.get_approval(model, run_id)
    wanted: Literal["approved", "rejected"] = "approved" if decision == "approve" else "rejected"
    if approval.status == "pending" and audit.now >= approval.expires_at:
        approval = expire_approval(model, run_id, registry=registry, now=audit.now)
        callback.complete(approval.task_token, approval.status)
    outcome: Literal["approved", "rejected", "already"] = wanted
    if approval.status == "pending":
        approval = _decided(approval, wanted, audit)
        if wanted == "approved":
            find_servable_version(model, approval.version, registry, model_store)
        _record(approval, audit, expected_champion, registry)
    elif approval.status == wanted:
        outcome = "already"
    else:
        by = f" by {approval.decided_by}" if approval.decided_by else ""
        raise ConflictError(f"run {run_id} of {model!r} was decided before: {approval.status}{by}")
    _end_run(approval, registry, audit.now)
    callback.complete(approval.task_token, approval.status)
    decided_by, decided_at = approval.decided_by or "", approval.decided_at or audit.now
    return DecidedApproval(model, run_id, approval.version, outcome, decided_by, decided_at)


def expire_approval(model: str, run_id: str, *, registry: Registry, now: datetime) -> Approval:
    """End a wait that nobody decided; a decision that was made at the last second stands."""
    approval = registry.get_approval(model, run_id)
    if approval.status == "pending":
        expired = replace(approval, status="expired", decided_at=now, reason=EXPIRED)
        try:
            _record(expired, AuditContext(ACTOR, EXPIRED, now), None, registry)
            approval = expired
        except ConflictError:
            approval = registry.get_approval(model, run_id)
            if approval.status == "pending":
                raise
    _end_run(approval, registry, now)
    return approval


def withdraw_approval(
    model: str, run_id: str, audit: AuditContext, *, registry: Registry, callback: TaskCallback
) -> Approval:
    """Reject a version whose model is being deleted; a decision that was made stays.

    The run is ended last: a repetition that finds one that goes on stops its execution.

    Raises ``ApprovalNotFoundError`` when no approval was requested.
    """
    approval = registry.get_approval(model, run_id)
    if approval.status == "pending":
        approval = _decided(approval, "rejected", audit)
        _record(approval, audit, None, registry)
    callback.complete(approval.task_token, approval.status)
    _end_run(approval, registry, audit.now)
    return approval


def _decided(approval: Approval, status: Literal["approved", "rejected"], audit: AuditContext) -> Approval:
    return replace(approval, status=status, decided_by=audit.actor, decided_at=audit.now, reason=audit.reason)


def _record(decided: Approval, audit: AuditContext, expected_champion: int | None, registry: Registry) -> None:
    """Carry out a decision in one transaction; other aliases than the champion may move meanwhile."""
    incidents = of_incidents(registry.get_run(decided.model, decided.run_id).incident_ids)

    def attempt() -> bool | None:
        state = registry.get_state(decided.model)
        if decided.status == "approved":
            ensure_champion(state, expected_champion if expected_champion else _compared_with(decided, registry))
        introduced = _introduce(decided, state, audit, registry)
        outcome = AssignOutcome(decided.version, "awaiting_approval", introduced.outcome)
        changes = (*introduced.changes, outcome, DecideApproval(decided))
        entry_id = f"{decided.run_id}-{decided.status}"
        entry = audit.entry(state, entry_id, introduced.action, {**introduced.details, **incidents})
        try:
            registry.commit(RegistryTransaction(entry, state.revision, changes))
        except ConflictError:
            if registry.get_approval(decided.model, decided.run_id).status != "pending":
                raise
            return None
        return True

    retry(attempt, f"the aliases of {decided.model!r} keep moving; run {decided.run_id} still waits for approval")


def _compared_with(decided: Approval, registry: Registry) -> int | None:
    """Return the champion that the gate compared with: the one at the time when the version became challenger."""
    for move in registry.list_alias_moves(decided.model, CHALLENGER):
        if move.to_version == decided.version:
            champion = registry.alias_move_at(decided.model, CHAMPION, move.occurred_at)
            return champion.to_version if champion else None
    return None


def _introduce(decided: Approval, state: ModelState, audit: AuditContext, registry: Registry) -> Introduction:
    """Return the changes of a decision: an approved version comes into service as one without an approval does."""
    details: dict[str, object] = {"run_id": decided.run_id, "version": decided.version}
    if decided.status == "approved":
        spec = registry.get_spec(decided.model).release
        introduced = introduce(state, decided.version, spec, audit, decided.run_id)
        return replace(introduced, details=details | introduced.details)
    leaves = decided.status == "rejected" and state.aliases.get(CHALLENGER) == decided.version
    moves = (MoveAlias(CHALLENGER, decided.version, None),) if leaves else ()
    outcome: VersionOutcome = "rejected" if decided.status == "rejected" else "kept"
    return Introduction(outcome, f"approval_{decided.status}", "", moves, details)


def _end_run(decided: Approval, registry: Registry, now: datetime) -> None:
    """Record on the run how it ended, unless that is recorded."""
    run = registry.get_run(decided.model, decided.run_id)
    if run.status in FINISHED_STATUSES:
        return
    by = decided.decided_by or ACTOR
    promoted = decided.status == "approved" and _is_promoted(decided, registry)
    served = "promoted" if promoted else "kept as challenger for a release"
    outcomes = {"approved": f"{served}: approved by {by}: {decided.reason}", "expired": EXPIRED}
    outcome = outcomes.get(decided.status, f"rejected by {by}: {decided.reason}")
    registry.update_run(
        run.model,
        run.run_id,
        status="rejected" if decided.status == "rejected" else "succeeded",
        stage="finished",
        finished_at=now,
        reasons=(outcome, *run.reasons),
        summary={
            **run.summary,
            "outcome": outcome,
            "promoted": promoted,
            "alias": None if decided.status == "rejected" else CHAMPION if promoted else CHALLENGER,
        },
    )


def _is_promoted(decided: Approval, registry: Registry) -> bool:
    return registry.get_version(decided.model, decided.version).outcome == "promoted"
