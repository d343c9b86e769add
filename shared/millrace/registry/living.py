"""Whether a model is there: made, deleted, and perhaps made again under its name."""

from datetime import datetime

from millrace.errors import ModelDeletedError
from millrace.registry.entities import Cause, ModelState


def makes_anew(cause: Cause, state: ModelState) -> bool:
    """Tell whether a cause makes a deleted model again: an upload does, unless it came before the model was deleted."""
    return cause.kind == "upload" and state.deleted_at is not None and cause.occurred_at > state.deleted_at


def insist_on_living(state: ModelState, since: datetime | None = None) -> None:
    """Raise ``ModelDeletedError`` when the model was deleted, or has been since then and was made again."""
    ended = state.deleted_at
    if ended is None and since is not None and state.begun_after is not None and since <= state.begun_after:
        ended = state.begun_after
    if ended is not None:
        raise ModelDeletedError(f"the model {state.model!r} {deleted(ended)}")


def deleted(moment: datetime) -> str:
    """Return in words when a model was deleted."""
    return f"was deleted at {moment:%Y-%m-%d %H:%M} UTC"
