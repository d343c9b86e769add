"""The request of a replay."""

from datetime import datetime, timedelta
from typing import Any

from millrace.errors import ConflictError, ModelNotReadyError
from millrace.layout import replay_key
from millrace.names import CHAMPION
from millrace.ports import EventPublisher, ObjectStore
from millrace.registry.queries import read_begin
from millrace.registry.store import Registry
from millrace.releases.replay_events import publish_replay_due
from millrace.replay.replay_documents import REQUEST_NAME, ReplayRequest
from millrace.replay.replays import describe_replay

#: Longest span; captures are kept for 90 days by default.
MAX_SPAN = timedelta(days=90)
DEFAULT_SPAN = timedelta(days=7)


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
    begin = read_begin(since, now, default=DEFAULT_SPAN, longest=MAX_SPAN)
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
