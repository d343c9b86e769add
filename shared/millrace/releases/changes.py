"""Changes of a release, as the ledger has them: what, when, by whom and why."""

from datetime import datetime, timedelta
from typing import Any

from millrace.documents import to_plain
from millrace.entities import Release
from millrace.registry.queries import read_ledger
from millrace.registry.store import Registry

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
