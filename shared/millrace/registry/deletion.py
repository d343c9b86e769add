"""Delete a model: it stops serving, no work begins in it any more, and its history stays.

It is marked first, in one transaction: no alias, no active run, no cause that starts one, the default spec. What
follows may be repeated, and deleting a deleted model again finishes what was left: pending approvals, versions,
schedules, incidents. Its active run and the causes that wait for it are ended by the consumer of ``ModelDeleted``
(:mod:`millrace.triggers.requests`). Somebody may recreate it at any time: the rest of the deletion leaves the new model
alone.

The counters stay, so that a model recreated under that name never reuses a number. Data stays too: versions' artifacts
are left to garbage collection, data to its buckets' lifecycle rules.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from millrace.entities import LedgerEntry, ModelState
from millrace.errors import ApprovalNotFoundError, ConflictError, ModelDeletedError, ServiceUnavailableError
from millrace.names import CHAMPION, make_cause_id, make_run_id
from millrace.ports import MonitoringPipeline, Schedules, TaskCallback
from millrace.registry.approvals import withdraw_approval
from millrace.registry.ledger import AuditContext
from millrace.registry.model_schedules import follow_spec
from millrace.registry.promotion import retire_version
from millrace.registry.release_changes import end_release
from millrace.registry.store import Registry
from millrace.registry.transactions import DeleteModel, MoveAlias, RegistryTransaction
from millrace.retry import retry

#: Versions that one request retires, at some 25 ms each: API Gateway gives 29 seconds.
_RETIRED_AT_ONCE = 400


@dataclass(frozen=True, slots=True)
class Deletion:
    """The result of a deletion; ``already``: it was deleted before, and the rest is done now.

    ``from_version`` was the champion, ``stopped_run`` the active run with ``waiting`` causes behind it; ``retired``
    and ``schedules`` are the versions retired and the schedules removed by this call.
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
    audit: AuditContext,
    *,
    registry: Registry,
    schedules: Schedules,
    callback: TaskCallback,
    monitoring: MonitoringPipeline,
) -> Deletion:
    """Delete a model; again is the same as once.

    Raises ``ModelNotFoundError`` when there never was one; ``ServiceUnavailableError`` when something could not be
    finished: delete it again.

    Parameters
    ----------
    monitoring : MonitoringPipeline
        Closes the open incidents, and notifies the people who were notified of them.
    """
    message = f"the aliases of {model!r} keep moving, or its runs do; it is not deleted"
    deletion = retry(lambda: _mark(model, audit, registry), message)
    cause = AuditContext(audit.actor, f"the model was deleted: {audit.reason}", audit.now)
    _withdraw_approvals(model, cause, registry, callback)
    removed = tuple(follow_spec(model, registry, schedules))
    # A repetition starts another monitoring run: the first may have failed.
    requested_at = audit.now if deletion.outcome == "already" else deletion.deleted_at
    monitoring.start(model, make_run_id(make_cause_id("deleted", model, requested_at.isoformat()), requested_at))
    retired = tuple(itertools.islice(_retire_versions(model, cause, registry), _RETIRED_AT_ONCE))
    if len(retired) == _RETIRED_AT_ONCE:
        raise ServiceUnavailableError(f"{model!r} is deleted and has more versions to retire: delete it again")
    return replace(deletion, retired=retired, schedules=removed)


def _mark(model: str, audit: AuditContext, registry: Registry) -> Deletion | None:
    """Mark the model as deleted; None when its aliases or runs changed meanwhile.

    The run to stop is the one that is active at that very time: another would go on in a model that is gone.
    """
    state = registry.get_state(model)
    if state.deleted_at is not None:
        return Deletion(model, "already", state.deleted_at)
    entry = _entry(state, audit, registry)
    moves = [MoveAlias(alias, version, None) for alias, version in sorted(state.aliases.items())]
    ends = end_release(state, None, replace(audit, reason="the model was deleted"), registry, entry.occurred_at)
    try:
        registry.commit(RegistryTransaction(entry, state.revision, (*moves, DeleteModel(state.work), *ends)))
    except (ConflictError, ModelDeletedError):
        return None
    return Deletion(
        model,
        "deleted",
        entry.occurred_at,
        from_version=state.aliases.get(CHAMPION),
        stopped_run=state.active_run_id,
        waiting=state.pending_causes,
    )


def _work_timestamps(state: ModelState, registry: Registry) -> Iterator[datetime]:
    """Yield the timestamps that the deletion has to be later than, whatever its clock shows: it ends that work.

    Versions come one after another, so the newest is enough.
    """
    if state.active_run_id is not None:
        yield registry.get_run(state.model, state.active_run_id).requested_at
    for version in registry.list_versions(state.model)[:1]:
        yield version.created_at
    for record in registry.list_pending_causes(state.model, limit=state.pending_causes):
        yield record.cause.occurred_at


def _entry(state: ModelState, audit: AuditContext, registry: Registry) -> LedgerEntry:
    details = {
        "from_version": state.aliases.get(CHAMPION),
        "latest_version": state.latest_version,
        "stopped_run": state.active_run_id,
        "waiting": state.pending_causes,
    }
    earlier = _work_timestamps(state, registry)
    return audit.entry(state, f"deleted-{state.revision + 1}", "model_deleted", details, *earlier)


def _withdraw_approvals(model: str, audit: AuditContext, registry: Registry, callback: TaskCallback) -> None:
    for version in registry.list_versions(model):
        if version.outcome != "awaiting_approval":
            continue
        try:
            withdraw_approval(model, version.run_id, audit, registry=registry, callback=callback)
        except ApprovalNotFoundError:
            # Its pipeline has not come so far, and is stopped before it does.
            continue


def _retire_versions(model: str, audit: AuditContext, registry: Registry) -> Iterator[int]:
    """Retire what is not retired, so that garbage collection takes it in its time."""
    state = registry.get_state(model)
    for version in sorted(registry.list_versions(model), key=lambda version: version.version):
        if version.status != "retired" and retire_version(version, state, audit, registry):
            yield version.version
