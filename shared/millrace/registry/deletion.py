"""Deleting a model: it stops serving, nothing of it begins any more, and its story stays.

It is marked first, in one transaction: no alias points anywhere, no run has its turn, no cause starts one, the spec is
the default one. What follows may be repeated, and asking again for a model that is deleted takes up what somebody did
not live to finish: answers that are waited for, versions, schedules, incidents. Its active run and the causes that
wait for it are ended by who listens to ``ModelDeleted`` (:mod:`millrace.triggers.requests`). Somebody may make it again
at any moment: what is still left to do then leaves the new one alone.

The counters stay, so that a model made again under that name never uses a number of this one. Data stays too: what
the versions' artifacts become is garbage collection's, what the data becomes its buckets' lifecycle rules'.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from millrace.entities import Act, LedgerEntry, ModelState, Move
from millrace.errors import (
    ApprovalNotFoundError,
    ConflictError,
    ModelDeletedError,
    ServiceUnavailableError,
    UnfitVersionError,
)
from millrace.names import CHAMPION, make_cause_id, make_run_id
from millrace.ports import MonitoringPipeline, Registry, Schedules, TaskCallback
from millrace.registry.approvals import withdraw_approval
from millrace.registry.promotion import Acting, moment_of_act
from millrace.registry.schedules import follow_spec

_MAX_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Deletion:
    """What became of a model.

    Parameters
    ----------
    outcome : {'deleted', 'already'}
        ``already``: it was deleted before; what was left undone is done now.
    from_version : int or None
        The champion until then.
    stopped_run : str or None
        The run that was going, and is stopped.
    waiting : int
        Causes that waited for it, and start nothing.
    retired : tuple of int
        Versions that were retired by this call.
    schedules : tuple of str
        What was removed by this call, in words.
    """

    model: str
    outcome: Literal["deleted", "already"]
    deleted_at: datetime
    from_version: int | None = None
    stopped_run: str | None = None
    waiting: int = 0
    retired: tuple[int, ...] = ()
    schedules: tuple[str, ...] = ()


def delete_model(
    model: str,
    acting: Acting,
    *,
    registry: Registry,
    schedules: Schedules,
    callback: TaskCallback,
    monitoring: MonitoringPipeline,
) -> Deletion:
    """Delete a model; again is the same as once.

    Parameters
    ----------
    monitoring : MonitoringPipeline
        Closes the incidents that are open, and tells who was told of them.

    Raises
    ------
    ModelNotFoundError
        When there never was one.
    ServiceUnavailableError
        When something could not be finished: ask again.
    """
    deletion = _mark(model, acting, registry)
    reason = Acting(acting.actor, f"the model was deleted: {acting.reason}", acting.now)
    _withdraw_approvals(model, reason, registry, callback)
    retired = tuple(_retire_versions(model, reason, registry))
    removed = tuple(follow_spec(model, registry, schedules))
    # Asked again, monitoring looks again: the first look may have ended badly.
    asked_at = acting.now if deletion.outcome == "already" else deletion.deleted_at
    look = make_run_id(make_cause_id("deleted", model, asked_at.isoformat()), asked_at)
    monitoring.start(model, look)
    return replace(deletion, retired=retired, schedules=removed)


def _mark(model: str, acting: Acting, registry: Registry) -> Deletion:
    """Delete the model in the registry, whatever its aliases and runs do at the same time.

    The run to stop is the one that is active at that very moment: another would go on in a model that is gone.
    """
    for _ in range(_MAX_ATTEMPTS):
        state = registry.get_state(model)
        if state.deleted_at is not None:
            return Deletion(model, "already", state.deleted_at)
        entry = _entry(state, acting, _moments_of_work(state, registry))
        moves = tuple(Move(alias, version, None) for alias, version in sorted(state.aliases.items()))
        try:
            registry.perform(Act(entry, state.revision, moves, deletes=True, ends=state.work))
        except (ConflictError, ModelDeletedError):
            continue
        return Deletion(
            model,
            "deleted",
            entry.occurred_at,
            from_version=state.aliases.get(CHAMPION),
            stopped_run=state.active_run_id,
            waiting=state.pending_causes,
        )
    raise ServiceUnavailableError(f"the aliases of {model!r} keep moving, or its runs do; it is not deleted")


def _moments_of_work(state: ModelState, registry: Registry) -> Iterator[datetime]:
    """Yield what the deletion has to be later than, whatever its clock says: that is how what it ends is known.

    Versions come one after another, so the newest is enough.
    """
    if state.active_run_id is not None:
        yield registry.get_run(state.model, state.active_run_id).requested_at
    for version in registry.list_versions(state.model)[:1]:
        yield version.created_at
    for record in registry.list_pending_causes(state.model, limit=state.pending_causes):
        yield record.cause.occurred_at


def _entry(state: ModelState, acting: Acting, work: Iterable[datetime]) -> LedgerEntry:
    return LedgerEntry(
        model=state.model,
        entry_id=f"deleted-{state.revision + 1}",
        occurred_at=moment_of_act(state, acting.now, *work),
        actor=acting.actor,
        action="model_deleted",
        reason=acting.reason,
        details={
            "from_version": state.aliases.get(CHAMPION),
            "latest_version": state.latest_version,
            "stopped_run": state.active_run_id,
            "waiting": state.pending_causes,
        },
    )


def _withdraw_approvals(model: str, acting: Acting, registry: Registry, callback: TaskCallback) -> None:
    for version in registry.list_versions(model):
        if version.outcome != "awaiting_approval":
            continue
        try:
            withdraw_approval(model, version.run_id, acting, registry=registry, callback=callback)
        except ApprovalNotFoundError:
            # Its pipeline has not come so far, and is stopped before it does.
            continue


def _retire_versions(model: str, acting: Acting, registry: Registry) -> Iterator[int]:
    """Retire what is not retired, so that garbage collection takes it in its time."""
    state = registry.get_state(model)
    for version in sorted(registry.list_versions(model), key=lambda version: version.version):
        if version.status == "retired":
            continue
        entry = LedgerEntry(
            model=model,
            entry_id=f"version-{version.version}-retired",
            occurred_at=moment_of_act(state, acting.now),
            actor=acting.actor,
            action="model_retired",
            reason=acting.reason,
            details={"version": version.version, "semantic_version": version.semantic_version},
        )
        try:
            registry.perform(Act(entry, state.revision, retires=version.version))
        except UnfitVersionError:
            # Somebody who deletes it at the same time was faster.
            continue
        yield version.version
