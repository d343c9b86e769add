"""Whether something is of the model that is there now: made, deleted, and perhaps made again under its name.

One rule: what is not later than the last deletion belongs to a model that is gone. It can be told from moments alone,
because a deletion is recorded as later than everything that it ends (:mod:`millrace.registry.deletion`), and because
what is not later than it is claimed no more (``claim_cause`` of the registry).
"""

from datetime import datetime

from millrace.entities import Cause, ModelState
from millrace.errors import ModelDeletedError


def end_of(state: ModelState, since: datetime | None = None) -> datetime | None:
    """Return when the model was deleted that something of the moment ``since`` belongs to; None when it is there."""
    if state.deleted_at is not None:
        return state.deleted_at
    is_older = since is not None and state.begun_after is not None and since <= state.begun_after
    return state.begun_after if is_older else None


def end_of_cause(cause: Cause, state: ModelState) -> datetime | None:
    """Return when the model was deleted that a cause belongs to; None when there is one for it.

    An upload makes a deleted model again, unless it came before the model was deleted.
    """
    ended = end_of(state, cause.occurred_at)
    makes_anew = cause.kind == "upload" and ended is not None and cause.occurred_at > ended
    return None if makes_anew else ended


def insist_on_living(state: ModelState, since: datetime | None = None) -> None:
    """Raise ``ModelDeletedError`` when the model was deleted, or has been since then and was made again."""
    ended = end_of(state, since)
    if ended is not None:
        raise ModelDeletedError(f"the model {state.model!r} {deleted(ended)}")


def deleted(moment: datetime) -> str:
    """Return in words when a model was deleted."""
    return f"was deleted at {moment:%Y-%m-%d %H:%M} UTC"
