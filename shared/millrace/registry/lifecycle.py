"""Soft-delete checks: whether an entity belongs to the current incarnation of its model.

An entity that is not later than the last deletion belongs to a deleted model. Timestamps decide it alone, because a
deletion is recorded as later than everything that it ends (:mod:`millrace.registry.deletion`), and a cause that is not
later than it is claimed no more (:mod:`millrace.registry.claims`).
"""

from datetime import datetime

from millrace.entities import Cause, ModelState
from millrace.errors import ModelDeletedError


def deletion_of(state: ModelState, since: datetime | None = None) -> datetime | None:
    """Return when the model was deleted that an entity of the timestamp ``since`` belongs to; None for the current."""
    if state.deleted_at is not None:
        return state.deleted_at
    is_older = since is not None and state.begun_after is not None and since <= state.begun_after
    return state.begun_after if is_older else None


def deletion_of_cause(cause: Cause, state: ModelState) -> datetime | None:
    """Return when the model was deleted that a cause belongs to; None when it may start a run.

    An upload recreates a deleted model, unless it came before the deletion.
    """
    deleted_at = deletion_of(state, cause.occurred_at)
    recreates = cause.kind == "upload" and deleted_at is not None and cause.occurred_at > deleted_at
    return None if recreates else deleted_at


def ensure_not_deleted(state: ModelState, since: datetime | None = None) -> None:
    """Raise ``ModelDeletedError`` when the model was deleted, or was since then and has been recreated."""
    deleted_at = deletion_of(state, since)
    if deleted_at is not None:
        raise ModelDeletedError(f"the model {state.model!r} {describe_deletion(deleted_at)}")


def describe_deletion(deleted_at: datetime) -> str:
    """Return the predicate of a sentence about a deleted model."""
    return f"was deleted at {deleted_at:%Y-%m-%d %H:%M} UTC"
