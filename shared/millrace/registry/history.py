"""What served when: the history of an alias."""

from datetime import UTC, datetime
from typing import Any

from millrace.errors import FieldError, InvalidInputError
from millrace.names import CHAMPION
from millrace.ports import Registry
from millrace.registry.entities import AliasMove
from millrace.registry.presentation import to_json


def describe_moment(model: str, moment: datetime, registry: Registry, alias: str = CHAMPION) -> dict[str, Any]:
    """Tell what an alias pointed to at a moment, since when, who let it in and why.

    The answer is one query; the version that it names is read besides. ``version`` is null when there was none.

    Raises
    ------
    ModelNotFoundError
        When there is no such model.
    """
    registry.get_state(model)
    move = registry.alias_move_at(model, alias, moment)
    version = move.to_version if move else None
    return {
        "model": model,
        "alias": alias,
        "at": to_json(moment),
        "version": to_json(registry.get_version(model, version)) if version is not None else None,
        "move": _describe(move) if move else None,
    }


def describe_moves(model: str, registry: Registry, alias: str = CHAMPION) -> dict[str, Any]:
    """List the moves of an alias, newest first; raises ``ModelNotFoundError``."""
    registry.get_state(model)
    return {
        "model": model,
        "alias": alias,
        "moves": [_describe(move) for move in registry.list_alias_moves(model, alias)],
    }


def read_moment(text: str) -> datetime:
    """Read a moment as people write it: ISO 8601, UTC where no zone is given; a day is its first moment.

    Raises
    ------
    InvalidInputError
        When it is none.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        fault = FieldError("at", "write it as 2026-05-03 or 2026-05-03T14:15:00+02:00")
        raise InvalidInputError(f"{text[:40]!r} is no moment: {fault.message}", [fault]) from error


def _describe(move: AliasMove) -> dict[str, Any]:
    document: dict[str, Any] = to_json(move)
    return document
