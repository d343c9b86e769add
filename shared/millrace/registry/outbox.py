"""Publish the ledger's entries as events, at least once."""

from millrace.documents import to_plain
from millrace.entities import LedgerEntry
from millrace.errors import MillraceError
from millrace.ports import Event, EventPublisher
from millrace.registry.ledger import EVENT_NAMES
from millrace.registry.store import Registry

EVENT_VERSION = 1


def publish_waiting(registry: Registry, publisher: EventPublisher) -> int:
    """Publish the outbox; return the number of entries.

    Raises ``ServiceUnavailableError`` when the bus or the registry is busy; entries that were not published stay in the
    outbox.
    """
    waiting = registry.list_unpublished()
    publisher.publish([to_event(entry) for entry in waiting])
    for entry in waiting:
        registry.mark_published(entry)
    return len(waiting)


def try_to_publish(registry: Registry, publisher: EventPublisher) -> MillraceError | None:
    """Publish the outbox; return the error when that has to wait: the change itself is made all the same."""
    try:
        publish_waiting(registry, publisher)
    except MillraceError as error:
        return error
    return None


def to_event(entry: LedgerEntry) -> Event:
    """Return the event of an entry; the same entry always has the same ``event_id``."""
    detail = {
        **to_plain(entry.details),
        "event_version": EVENT_VERSION,
        "event_id": f"{entry.model}/{entry.entry_id}",
        "model": entry.model,
        "occurred_at": to_plain(entry.occurred_at),
        "actor": entry.actor,
        "reason": entry.reason,
    }
    return Event(EVENT_NAMES[entry.action], detail, entry.occurred_at)
