"""The ledger's words: which entry a trigger leaves, whatever became of it."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from millrace.documents import to_plain
from millrace.entities import CauseKind, LedgerEntry
from millrace.errors import MillraceError
from millrace.names import make_cause_id
from millrace.ports import Event, EventPublisher, Registry

#: By the event that tells of it. Broken data (``DataQualityDegraded``) is none: a model would learn the fault.
CAUSE_OF_EVENT: Mapping[str, CauseKind] = {
    "DriftDetected": "drift",
    "QualityDegraded": "quality",
    "ModelStale": "staleness",
    "ServingDegraded": "latency",
}


#: Of what makes serving bad, that which a smaller model may mend.
_CURED = frozenset({"latency"})


def not_cured(event: str, subjects: Collection[str]) -> str | None:
    """Return why a new model would not mend what an event tells of, in words; None when it may.

    Parameters
    ----------
    subjects : collection of str
        What is out of order, as its findings name it; nothing when that is not known.
    """
    if event != "ServingDegraded" or not subjects or _CURED & set(subjects):
        return None
    return f"a new model mends late answers, and not {' or '.join(sorted(subjects))}"


def finding_cause_id(kind: CauseKind, model: str, incident_id: str, request: int) -> str:
    """Return the id of an incident's cause: one an incident, and one more each time that it asks again."""
    return make_cause_id("monitoring", kind, model, incident_id, str(request))


def run_requested(entry: LedgerEntry, run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which started ``run_id``."""
    return replace(entry, action="run_requested", details={**entry.details, "run_id": run_id})


def trigger_deferred(entry: LedgerEntry, active_run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which waits for ``active_run_id`` to finish."""
    return replace(entry, action="trigger_deferred", details={**entry.details, "waits_for": active_run_id})


def trigger_answered(entry: LedgerEntry, active_run_id: str) -> LedgerEntry:
    """Return ``entry`` as that of a cause which ``active_run_id``, asked for moments ago, answers already."""
    reason = f"skipped: run {active_run_id}, asked for just before, answers it ({entry.reason})"
    details = {**entry.details, "answered_by": active_run_id}
    return replace(entry, action="trigger_skipped", reason=reason, details=details)


#: The acts that listeners outside are told of, by the name of the event.
EVENT_NAMES = {
    "model_registered": "ModelRegistered",
    "model_promoted": "ModelPromoted",
    "model_rolled_back": "ModelRolledBack",
    "model_retired": "ModelRetired",
    "model_deleted": "ModelDeleted",
    "approval_requested": "ApprovalRequested",
    "approval_rejected": "ApprovalRejected",
    "approval_expired": "ApprovalExpired",
}


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
        **to_plain(entry.details),
        "event_version": EVENT_VERSION,
        "event_id": f"{entry.model}/{entry.entry_id}",
        "model": entry.model,
        "occurred_at": to_plain(entry.occurred_at),
        "actor": entry.actor,
        "reason": entry.reason,
    }
    return Event(EVENT_NAMES[entry.action], detail, entry.occurred_at)
