"""Telling listeners of what was done: entries go from the outbox to the event bus, at least once.

An entry stands in the outbox from the moment it is written, because both are one transaction. Whoever acts empties
the outbox afterwards, of everything that is in it: what one could not publish, the next one does.
"""

from millrace.errors import MillraceError
from millrace.ports import Event, EventPublisher, Registry
from millrace.registry.entities import LedgerEntry
from millrace.registry.ledger import EVENT_NAMES
from millrace.registry.presentation import to_json

EVENT_VERSION = 1


def publish_waiting(registry: Registry, publisher: EventPublisher) -> int:
    """Publish what listeners were not told of yet; return how many entries that were.

    Raises
    ------
    ServiceUnavailableError
        When the bus or the registry is busy; what was not published stays in the outbox.
    """
    waiting = registry.list_unpublished()
    publisher.publish([to_event(entry) for entry in waiting])
    for entry in waiting:
        registry.mark_published(entry)
    return len(waiting)


def try_to_publish(registry: Registry, publisher: EventPublisher) -> MillraceError | None:
    """Publish what waits; return the fault, when it has to wait longer: what was done is done all the same."""
    try:
        publish_waiting(registry, publisher)
    except MillraceError as error:
        return error
    return None


def to_event(entry: LedgerEntry) -> Event:
    """Return what listeners are told of an entry; the same entry always has the same ``event_id``."""
    detail = {
        **to_json(entry.details),
        "event_version": EVENT_VERSION,
        "event_id": f"{entry.model}/{entry.entry_id}",
        "model": entry.model,
        "occurred_at": to_json(entry.occurred_at),
        "actor": entry.actor,
        "reason": entry.reason,
    }
    return Event(EVENT_NAMES[entry.action], detail, entry.occurred_at)
