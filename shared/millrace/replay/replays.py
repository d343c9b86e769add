"""Replays of a model, as the API describes them."""

from datetime import datetime
from typing import Any

from millrace.documents import to_plain
from millrace.errors import ArtifactNotFoundError, ReplayNotFoundError
from millrace.layout import replay_key, replays_prefix
from millrace.ports import ObjectStore
from millrace.replay.replay_documents import PAGE_NAME, REPORT_NAME, REQUEST_NAME, ReplayReport, ReplayRequest

#: Replays that a list holds.
MAX_LISTED = 50


def describe_replay(model: str, replay_id: str, data_store: ObjectStore, now: datetime) -> dict[str, Any]:
    """Return a replay's report, and the key of its page; raises ``ReplayNotFoundError``."""
    try:
        report = ReplayReport.read(data_store.get(replay_key(model, replay_id, REPORT_NAME)))
    except ArtifactNotFoundError:
        report = _find_requested(model, replay_id, data_store, now)
    return {"model": model, "replay": to_plain(report), "page": replay_key(model, replay_id, PAGE_NAME)}


def _find_requested(model: str, replay_id: str, data_store: ObjectStore, now: datetime) -> ReplayReport:
    try:
        request = ReplayRequest.read(data_store.get(replay_key(model, replay_id, REQUEST_NAME)))
    except ArtifactNotFoundError:
        raise ReplayNotFoundError(
            f"the model {model!r} has no replay {replay_id!r}; list them: GET /models/{model}/replays"
        ) from None
    return ReplayReport.of(request, now)


def list_replays(model: str, data_store: ObjectStore, now: datetime) -> dict[str, Any]:
    """Return the newest replays of a model: ids, versions, status, agreement."""
    prefix = replays_prefix(model)
    ids = {listed.key.removeprefix(prefix).partition("/")[0] for listed in data_store.list(prefix)}
    found = []
    for replay_id in sorted(ids, key=lambda name: name.removeprefix("r-"), reverse=True)[:MAX_LISTED]:
        try:
            one = describe_replay(model, replay_id, data_store, now)["replay"]
        except ReplayNotFoundError:
            continue
        found.append({name: one[name] for name in _LISTED} | {"rows": one["counts"]["replayed"]})
    return {"model": model, "replays": found}


_LISTED = ("replay_id", "baseline", "candidate", "since", "until", "requested_at", "status", "reason", "agreement")
