"""What every act on a model's versions has in common: when it counts as done, and what others did meanwhile."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from millrace.errors import ConflictError
from millrace.names import CHAMPION
from millrace.registry.entities import ModelState

#: Two moves of an alias are at least this far apart.
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts, when, and why.

    Parameters
    ----------
    actor : str
        The caller's ARN, or the function that acts by itself.
    reason : str
        In words, for the ledger.
    """

    actor: str
    reason: str
    now: datetime


def moment_of_act(state: ModelState, now: datetime, *after: datetime) -> datetime:
    """Return when an act counts as done: now, but after every alias move that it was decided on, and ``after``.

    Clocks differ, and the order of the moves is that of their revisions: the history must be in the same order.
    """
    earlier = [*after, *([state.aliases_moved_at] if state.aliases_moved_at else [])]
    return max([now, *(moment + _TICK for moment in earlier)])


def insist_on_champion(state: ModelState, expected: int | None) -> None:
    """Raise ``ConflictError``, which says what the champion is now, unless it is the expected one (None: none)."""
    present = state.aliases.get(CHAMPION)
    if present != expected:
        raise ConflictError(
            f"the champion of {state.model!r} is {name_version(present)} now, not {name_version(expected)}: "
            "look, and decide again"
        )


def name_version(version: int | None) -> str:
    """Return a version in words."""
    return "no version" if version is None else f"version {version}"
