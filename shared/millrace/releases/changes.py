"""Changes of a release, as the ledger has them, and the service of a version: what, when, by whom and why."""

from datetime import datetime, timedelta
from typing import Any

from millrace.documents import to_plain
from millrace.entities import AliasMove, Release
from millrace.names import CHAMPION
from millrace.registry.queries import find_move_entry, read_ledger
from millrace.registry.release_changes import list_releases
from millrace.registry.store import Registry
from millrace.releases.control import describe_release

#: Entries of the model that are read for one release.
_MAX_ENTRIES = 1_000
#: Entries are later than the alias moves before them, whatever a clock shows.
_CLOCK_SKEW = timedelta(minutes=5)


def describe_changes(release: Release, registry: Registry, now: datetime) -> dict[str, Any]:
    """Return the ledger entries of a release as ``changes``, oldest first, and whether they are all of them."""
    until = (release.ended_at or now) + _CLOCK_SKEW
    pages = read_ledger(release.model, registry, since=release.started_at, until=until, most=_MAX_ENTRIES)
    own = [entry for entry in pages.entries if entry.details.get("release_id") == release.release_id]
    changes = [
        {
            "action": entry.action,
            "at": to_plain(entry.occurred_at),
            "actor": entry.actor,
            "reason": entry.reason,
            "weight": entry.details.get("weight"),
        }
        for entry in reversed(own)
    ]
    return {"changes": changes, "changes_complete": pages.is_complete}


def describe_service(model: str, version: int, registry: Registry) -> dict[str, Any]:
    """Return how a version came into service: its ``periods`` as the champion, newest first, and its ``releases``.

    Of the newest hundred moves of the champion, and the newest twenty releases of the model.
    """
    moves = registry.list_alias_moves(model, CHAMPION)
    releases = [release for release in list_releases(model, registry) if release.candidate == version]
    own = {release.release_id for release in releases}
    periods = [
        _describe_period(move, moves[place - 1] if place else None, own, registry)
        for place, move in enumerate(moves)
        if move.to_version == version
    ]
    return {"periods": periods, "releases": [describe_release(release) for release in releases]}


def _describe_period(move: AliasMove, following: AliasMove | None, own: set[str], registry: Registry) -> dict[str, Any]:
    entry = find_move_entry(move, registry)
    named = entry.details.get("release_id") if entry else None
    return {
        "since": to_plain(move.occurred_at),
        "action": move.action,
        "actor": move.actor,
        "reason": move.reason,
        # A promotion of another version names the release that it ends, too.
        "release_id": named if named in own else None,
        "until": to_plain(following.occurred_at) if following else None,
        "ended_by": f"{following.action} by {following.actor}: {following.reason}" if following else None,
    }
