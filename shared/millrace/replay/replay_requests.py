"""The request of a replay."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.documents import parse_timestamp
from millrace.errors import ConflictError, FieldError, InvalidInputError, ModelNotReadyError
from millrace.layout import replay_key
from millrace.names import CHAMPION
from millrace.ports import EventPublisher, ObjectStore
from millrace.registry.store import Registry
from millrace.releases.replay_events import publish_replay_due
from millrace.replay.replay_documents import REQUEST_NAME, ReplayRequest
from millrace.replay.replays import describe_replay

#: Longest span; captures are kept for 90 days by default.
MAX_SPAN = timedelta(days=90)
DEFAULT_SPAN = timedelta(days=7)
_LEAST_SPAN = timedelta(minutes=5)
_DURATION = re.compile(r"(\d{1,5})(m|h|d)\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def read_replay_begin(text: str | None, now: datetime) -> datetime:
    """Read the beginning of a span: a duration before now such as ``7d``, or a timestamp.

    Raises ``InvalidInputError``, also for one that is in the future or too long ago.
    """
    if text is None:
        return now - DEFAULT_SPAN
    match = _DURATION.match(text)
    try:
        since = now - timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else parse_timestamp(text)
    except (ValueError, OverflowError):
        raise _bad_since("expects a duration such as 24h or 7d, or a timestamp such as 2026-11-29T00:00:00Z") from None
    if since > now - _LEAST_SPAN:
        raise _bad_since("is not in the past: write a duration of 5m at least, such as 24h or 7d")
    if since < now - MAX_SPAN:
        raise _bad_since(f"is more than {MAX_SPAN.days} days ago: write {MAX_SPAN.days}d at most")
    return since.astimezone(UTC)


def _bad_since(message: str) -> InvalidInputError:
    return InvalidInputError(f"since {message}", [FieldError("since", message)])


def request_replay(
    model: str,
    version: int,
    since: str | None,
    *,
    replay_id: str,
    caller: str,
    registry: Registry,
    data_store: ObjectStore,
    publisher: EventPublisher,
    now: datetime,
) -> dict[str, Any]:
    """Request the replay of captured requests through a version, beside the champion; it needs no release.

    Raises
    ------
    ModelNotReadyError
        When the model has no champion to compare with.
    ConflictError
        When the version is the champion, or its artifacts were collected.
    InvalidInputError
        When ``since`` is no time in reach.
    VersionNotFoundError
        When there is no such version.
    """
    begin = read_replay_begin(since, now)
    state = registry.get_state(model)
    state.ensure_not_deleted()
    champion = state.aliases.get(CHAMPION)
    if champion is None:
        raise ModelNotReadyError(f"{model!r} has no champion to compare version {version} with: promote one first")
    found = registry.get_version(model, version)
    if champion == version:
        raise ConflictError(f"version {version} of {model!r} is the champion: name another version")
    if found.collected_at is not None:
        raise ConflictError(f"the artifacts of version {version} of {model!r} were collected: train it again")
    if state.begun_after is not None:
        begin = max(begin, state.begun_after)  # what is older was captured for a deleted model of the same name
    guard = registry.get_spec(model).release.guards.get("quality")
    request = ReplayRequest(
        model=model,
        replay_id=replay_id,
        baseline=champion,
        candidate=version,
        since=begin,
        until=now,
        requested_at=now,
        requested_by=caller,
        metric=guard.metric if guard else None,
        margin=guard.margin if guard else None,
    )
    data_store.put(replay_key(model, replay_id, REQUEST_NAME), request.write(), "application/json")
    publish_replay_due(model, replay_id, "0", publisher, now)
    return describe_replay(model, replay_id, data_store, now)
