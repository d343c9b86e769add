"""Reminder of releases: monitoring requests a tick once an hour, should the schedule of a release be lost."""

from datetime import UTC, datetime

from millrace.ports import Event, EventPublisher
from millrace.registry.ledger import EVENT_VERSION
from millrace.registry.store import Registry


def remind_of_release(model: str, registry: Registry, publisher: EventPublisher, now: datetime) -> bool:
    """Publish ``ReleaseDue`` for a model whose release is active, or has a version waiting for its end.

    Raises ``ServiceUnavailableError`` when the bus is busy.
    """
    state = registry.find_state(model)
    if state is None or state.deleted_at is not None or not (state.release_id or state.pending_candidate):
        return False
    event_id = f"{model}/release-due-{now.astimezone(UTC):%Y%m%dT%H}"
    detail = {"event_version": EVENT_VERSION, "event_id": event_id, "model": model, "release_id": state.release_id}
    publisher.publish([Event("ReleaseDue", detail, now)])
    return True
