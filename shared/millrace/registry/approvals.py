"""A person's yes or no before a version serves: asked for by the pipeline, answered over the API, or not in time.

The pipeline waits for a task token, which is kept in the registry and never shown. An answer does what it says first
(aliases, the version's outcome, the approval, the ledger entry: one transaction) and tells the pipeline then. Every
step may be repeated, and what somebody did not live to finish is finished by the same answer given again, or by the
pipeline when the time is up.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import quote, urlencode

from millrace.entities import (
    FINISHED_STATUSES,
    Act,
    Approval,
    LedgerEntry,
    ModelState,
    ModelVersion,
    Move,
    Run,
    Settlement,
    VersionOutcome,
)
from millrace.errors import ConflictError
from millrace.layout import version_key
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import Notifier, ObjectStore, Registry, TaskCallback
from millrace.registry.lifecycle import insist_on_living
from millrace.registry.promotion import Acting, champion_moves, find_fit_version, insist_on_champion, moment_of_act

#: Of a subject, on SNS.
_MAX_SUBJECT = 100
CARD = "card.html"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the model bucket is."""

    bucket: str
    region: str


def approval_subject(version: ModelVersion) -> str:
    """Return one line."""
    return f"Millrace: may {version.model} version {version.version} serve?"[:_MAX_SUBJECT]


def approval_message(version: ModelVersion, run: Run, approval: Approval, place: Place) -> str:
    """Return what is asked, on which grounds, and how to answer.

    The card is linked in S3's console, which asks readers who they are: a presigned link would be cut off with the
    function's own credentials, hours before the approval expires, and would let in whoever has the mail.
    """
    key = version_key(version.model, version.version, CARD)
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(version.metrics.items()))
    query = urlencode({"prefix": key, "region": place.region}, quote_via=quote)
    name = f"{version.model} version {version.version} ({version.semantic_version}, {version.candidate})"
    lines = [
        f"{name} passed the gate and waits for a person.",
        "",
        *(f"- {reason}" for reason in run.reasons),
        f"On the holdout: {metrics}" if metrics else "",
        "",
        f"Model card: https://{place.region}.console.aws.amazon.com/s3/object/{place.bucket}?{query}",
        f"            s3://{place.bucket}/{key}",
        "",
        "To answer:",
        f'    millrace approve {version.model} {run.run_id} --reason "..."',
        f'    millrace reject {version.model} {run.run_id} --reason "..."',
        "",
        f"Without an answer by {approval.expires_at:%Y-%m-%d %H:%M} UTC it is kept as challenger.",
    ]
    return "\n".join(lines)


ACTOR = "request_approval"
EXPIRED = "kept as challenger: approval expired"

Decision = Literal["approve", "reject"]


@dataclass(frozen=True, slots=True)
class ApprovalAnswer:
    """What became of an answer; ``already`` when the same one was given before, by ``decided_by``."""

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
    place: Place,
    now: datetime,
) -> Approval:
    """Record that a run waits for a person, and tell people.

    Asked again (the pipeline repeats a step with a new token) the new token counts and people are told again. An
    answer that was given before is passed on at once.

    Raises
    ------
    ModelDeletedError
        When the model was deleted since the run was asked for.
    """
    run = registry.get_run(model, run_id)
    version = registry.get_version(model, run.version or 0)
    state = registry.get_state(model)
    insist_on_living(state, run.requested_at)
    asked = Approval(model, run_id, version.version, now, now + timedelta(seconds=seconds), task_token)
    entry = LedgerEntry(
        model=model,
        entry_id=f"{run_id}-approval-requested",
        occurred_at=moment_of_act(state, now),
        actor=ACTOR,
        action="approval_requested",
        reason=f"version {version.version} passed the gate, and the spec asks for a person",
        details={"run_id": run_id, "version": version.version, "expires_at": asked.expires_at.isoformat()},
    )
    approval = registry.put_approval(asked, entry)
    if approval.status != "pending":
        callback.answer(task_token, approval.status)
        return approval
    notifier.notify(approval_subject(version), approval_message(version, run, approval, place))
    return approval


def answer_approval(
    model: str,
    run_id: str,
    decision: Decision,
    acting: Acting,
    *,
    registry: Registry,
    model_store: ObjectStore,
    callback: TaskCallback,
    expected_champion: int | None = None,
) -> ApprovalAnswer:
    """Let a waiting version serve, or not.

    Raises
    ------
    ApprovalNotFoundError, ModelNotFoundError
        When nobody was asked.
    ConflictError
        When the time is up, the other answer was given already, or the champion is not the one that the caller saw
        or, where the caller names none, the one that the gate compared with.
    UnfitVersionError
        When the version is not stored as it was registered.
    """
    approval = registry.get_approval(model, run_id)
    wanted: Literal["approved", "rejected"] = "approved" if decision == "approve" else "rejected"
    if approval.status == "pending" and acting.now >= approval.expires_at:
        approval = expire_approval(model, run_id, registry=registry, now=acting.now)
        callback.answer(approval.task_token, approval.status)
    if approval.status == "pending":
        answered = replace(
            approval, status=wanted, decided_by=acting.actor, decided_at=acting.now, reason=acting.reason
        )
        if wanted == "approved":
            find_fit_version(model, approval.version, registry, model_store)
        _record(answered, acting, expected_champion, registry)
        outcome: Literal["approved", "rejected", "already"] = wanted
    elif approval.status == wanted:
        answered, outcome = approval, "already"
    else:
        by = f" by {approval.decided_by}" if approval.decided_by else ""
        raise ConflictError(f"run {run_id} of {model!r} was answered before: {approval.status}{by}")
    _end_run(answered, registry, acting.now)
    callback.answer(answered.task_token, answered.status)
    return ApprovalAnswer(
        model,
        run_id,
        answered.version,
        outcome,
        answered.decided_by or "",
        answered.decided_at or acting.now,
    )


def expire_approval(model: str, run_id: str, *, registry: Registry, now: datetime) -> Approval:
    """End a wait in which nobody answered; an answer that came in the last moment stands."""
    approval = registry.get_approval(model, run_id)
    if approval.status == "pending":
        expired = replace(approval, status="expired", decided_at=now, reason=EXPIRED)
        try:
            _record(expired, Acting(ACTOR, EXPIRED, now), None, registry)
            approval = expired
        except ConflictError:
            approval = registry.get_approval(model, run_id)
            if approval.status == "pending":
                raise
    _end_run(approval, registry, now)
    return approval


def withdraw_approval(
    model: str, run_id: str, acting: Acting, *, registry: Registry, callback: TaskCallback
) -> Approval:
    """Say no to whatever a run waits for, because its model is being deleted; one that was answered stays as it is.

    The run is ended last: whoever finds one that goes on stops its execution.

    Raises
    ------
    ApprovalNotFoundError
        When nobody was asked.
    """
    approval = registry.get_approval(model, run_id)
    if approval.status == "pending":
        approval = replace(
            approval, status="rejected", decided_by=acting.actor, decided_at=acting.now, reason=acting.reason
        )
        _record(approval, acting, None, registry)
    callback.answer(approval.task_token, approval.status)
    _end_run(approval, registry, acting.now)
    return approval


_OUTCOMES: dict[str, VersionOutcome] = {"approved": "promoted", "rejected": "rejected", "expired": "kept"}
_ACTIONS = {"approved": "model_promoted", "rejected": "approval_rejected", "expired": "approval_expired"}
_MAX_ATTEMPTS = 5


def _record(answer: Approval, acting: Acting, expected_champion: int | None, registry: Registry) -> None:
    """Do what an answer says, in one transaction; other aliases than the champion may move meanwhile."""
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        state = registry.get_state(answer.model)
        if answer.status == "approved":
            insist_on_champion(state, expected_champion if expected_champion else _compared_with(answer, registry))
        settles = Settlement(answer.version, "awaiting_approval", _OUTCOMES[answer.status])
        act = Act(_entry(answer, state, acting), state.revision, _moves(answer, state), settles, answers=answer)
        try:
            registry.perform(act)
        except ConflictError:
            if attempt == _MAX_ATTEMPTS or registry.get_approval(answer.model, answer.run_id).status != "pending":
                raise
        else:
            return


def _compared_with(answer: Approval, registry: Registry) -> int | None:
    """Return the champion that the gate compared with: the one at the moment when the version became challenger."""
    for move in registry.list_alias_moves(answer.model, CHALLENGER):
        if move.to_version == answer.version:
            champion = registry.alias_move_at(answer.model, CHAMPION, move.occurred_at)
            return champion.to_version if champion else None
    return None


def _moves(answer: Approval, state: ModelState) -> tuple[Move, ...]:
    if answer.status == "approved":
        return champion_moves(state, answer.version)
    if answer.status == "rejected" and state.aliases.get(CHALLENGER) == answer.version:
        return (Move(CHALLENGER, answer.version, None),)
    return ()


def _entry(answer: Approval, state: ModelState, acting: Acting) -> LedgerEntry:
    details: dict[str, str | int | None] = {"run_id": answer.run_id, "version": answer.version}
    if answer.status == "approved":
        champion = state.aliases.get(CHAMPION)
        details |= {"alias": CHAMPION, "from_version": champion, "to_version": answer.version}
    return LedgerEntry(
        model=answer.model,
        entry_id=f"{answer.run_id}-{answer.status}",
        occurred_at=moment_of_act(state, acting.now),
        actor=acting.actor,
        action=_ACTIONS[answer.status],
        reason=acting.reason,
        details=details,
    )


def _end_run(answer: Approval, registry: Registry, now: datetime) -> None:
    """Say on the run how it ended, unless it says so already."""
    run = registry.get_run(answer.model, answer.run_id)
    if run.status in FINISHED_STATUSES:
        return
    who = answer.decided_by or ACTOR
    words = {"approved": f"promoted: approved by {who}: {answer.reason}", "expired": EXPIRED}.get(
        answer.status, f"rejected by {who}: {answer.reason}"
    )
    registry.update_run(
        run.model,
        run.run_id,
        status="rejected" if answer.status == "rejected" else "succeeded",
        stage="finished",
        finished_at=now,
        reasons=(words, *run.reasons),
        summary={
            **run.summary,
            "outcome": words,
            "promoted": answer.status == "approved",
            "alias": {"approved": CHAMPION, "expired": CHALLENGER}.get(answer.status),
        },
    )
