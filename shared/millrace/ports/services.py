"""Buckets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for listeners outside; ``docs/events.md`` lists all of them.

    Parameters
    ----------
    detail_type : str
        What happened, such as ``ModelPromoted``.
    detail : mapping
        Plain JSON, no data of users. Has ``event_version`` (of its own form), ``event_id`` (an event that is
        published twice has the same one) and ``model``.
    """

    detail_type: str
    detail: Mapping[str, Any]
    occurred_at: datetime


class EventPublisher(Protocol):
    """Publishes events, at least once."""

    def publish(self, events: Sequence[Event]) -> None:
        """Publish all of ``events``; none of them is no work.

        Raises
        ------
        ServiceUnavailableError
            When some could not be published now. Others may have been: publish all of them again, listeners know
            an event that comes twice by its ``event_id``.
        """
        ...


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known about a stored object without reading it."""

    size: int
    version_id: str | None
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    key: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, or the mark that it was deleted then."""

    key: str
    version_id: str
    size: int
    last_modified: datetime
    is_deleted: bool = False


class ObjectStore(Protocol):
    """One bucket."""

    def get(self, key: str, version_id: str | None = None) -> bytes:
        """Return an object's bytes; raises ``ArtifactNotFoundError`` when there is none."""
        ...

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and the ETag they have now; raises ``ArtifactNotFoundError``."""
        ...

    def head(self, key: str, version_id: str | None = None) -> ObjectInfo:
        """Return an object's size and metadata; raises ``ArtifactNotFoundError`` when there is none."""
        ...

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Yield the objects whose keys begin with ``prefix``, by key."""
        ...

    def list_versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """Yield every version of the objects whose keys begin with ``prefix``; those of one key newest first."""
        ...

    def download(self, key: str, path: Path, version_id: str | None = None) -> None:
        """Write an object to a file, without holding it in memory; raises ``ArtifactNotFoundError``."""
        ...

    def upload_file(self, path: Path, key: str, content_type: str = "application/octet-stream") -> None:
        """Write a file as an object, whole or not at all, without holding it in memory."""
        ...

    def find_version(self, key: str, etag: str) -> str:
        """Return the newest version of an object with that ETag; raises ``ArtifactNotFoundError``."""
        ...

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object, whole or not at all."""
        ...

    def put_if_unchanged(
        self, key: str, body: bytes, etag: str | None, content_type: str = "application/octet-stream"
    ) -> bool:
        """Write an object only while it still has that ETag, or, with None, while there is none yet.

        Returns False, having written nothing, when somebody else was faster.
        """
        ...

    def copy(self, source_key: str, target_key: str, version_id: str | None = None) -> None:
        """Copy within the bucket; raises ``ArtifactNotFoundError`` when there is no source."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no fault. A versioned bucket keeps them as old versions for a while.

        Raises
        ------
        ServiceUnavailableError
            When some are left; deleting all of them again is right.
        """
        ...


class PipelineStarter(Protocol):
    """Starts training runs, and knows whether one is going."""

    def start(self, model: str, run_id: str) -> bool:
        """Start the run's execution under the run's id; starting it again changes nothing.

        Returns whether it is going: False when an execution of that run has ended already.
        """
        ...

    def is_running(self, run_id: str) -> bool:
        """Tell whether the run's execution is still going."""
        ...

    def stop(self, run_id: str, reason: str) -> None:
        """Stop the run's execution; one that has ended, or never began, is none to stop."""
        ...


class MonitoringPipeline(Protocol):
    """Looks at models when somebody asks for it, beside its schedule."""

    def start(self, model: str, name: str) -> None:
        """Start looking at a model, under that name; starting it again changes nothing."""
        ...

    def status(self, name: str) -> str:
        """Return ``running``, ``succeeded`` or ``failed``; raises ``RunNotFoundError`` when there is no such look."""
        ...


class TaskCallback(Protocol):
    """Completes the wait of a pipeline."""

    def complete(self, task_token: str, outcome: str) -> bool:
        """End the wait that ``task_token`` stands for; False when nobody waits with it (any more)."""
        ...


class Notifier(Protocol):
    """Tells people."""

    def notify(self, subject: str, message: str) -> None:
        """Send a message; a subject is one line of at most 100 ASCII characters."""
        ...


Purpose = Literal["retraining", "monitoring"]
PURPOSES: tuple[Purpose, ...] = ("retraining", "monitoring")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is done for one model.

    Parameters
    ----------
    expression : str
        ``rate(...)``, ``cron(...)`` or ``at(...)``.
    time_zone : str
        A name of the IANA time zone database.
    """

    model: str
    purpose: Purpose
    expression: str
    time_zone: str = "UTC"


class Schedules(Protocol):
    """Fires what it is told to, when it is told to; at most one schedule a model and purpose."""

    def get(self, model: str, purpose: Purpose) -> Schedule | None:
        """Return a model's schedule for that purpose, if it has one."""
        ...

    def put(self, schedule: Schedule) -> None:
        """Create a schedule, or replace the one its model has for that purpose.

        Raises
        ------
        InvalidInputError
            When the expression is refused.
        """
        ...

    def delete(self, model: str, purpose: Purpose) -> None:
        """Remove a model's schedule for that purpose; none is no error."""
        ...


@dataclass(frozen=True, slots=True)
class ServingCounts:
    """How a window's requests were served.

    Parameters
    ----------
    requests : int
        All of them.
    errors, cold_starts : int or None, default=None
        That ended in an error of ours (5xx), whichever version it was, or waited for a new execution environment; None
        where nobody counts them by model.
    rows, refused_rows : int, default=0
        That were asked about, and those of them that were refused for what was in them.
    latency_ms : float or None, default=None
        That nineteen of twenty were served within.
    """

    requests: int
    errors: int | None = None
    cold_starts: int | None = None
    rows: int = 0
    refused_rows: int = 0
    latency_ms: float | None = None


class ServingMetrics(Protocol):
    """Knows how requests were served."""

    def read(self, model: str, version: int, start: datetime, end: datetime) -> ServingCounts | None:
        """Return how a version's requests were served in a span of time; None when nothing was counted."""
        ...
