"""The event that lets ``replay_captures`` work on a replay."""

from datetime import UTC, datetime

from millrace.entities import Release
from millrace.ports import Event, EventPublisher
from millrace.registry.ledger import EVENT_VERSION
from millrace.releases.replay_evidence import ReplayEvidence


def request_replay_of_release(
    release: Release, evidence: ReplayEvidence | None, publisher: EventPublisher, now: datetime
) -> bool:
    """Request the replay of a release's traffic, once an hour at most: False when this hour's is there.

    Raises ``ServiceUnavailableError`` when the bus is busy.
    """
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    if evidence is not None and evidence.checked_at >= hour:
        return False
    publish_replay_due(release.model, release.release_id, f"{hour:%Y%m%dT%H}", publisher, now)
    return True


def publish_replay_due(model: str, replay_id: str, mark: str, publisher: EventPublisher, now: datetime) -> None:
    """Publish ``ReplayDue``, which starts ``replay_captures`` or lets it go on."""
    event_id = f"{model}/replay-{replay_id}-{mark}"
    detail = {"event_version": EVENT_VERSION, "event_id": event_id, "model": model, "replay_id": replay_id}
    publisher.publish([Event("ReplayDue", detail, now)])
