"""Ports: the protocols through which the stages reach the outside.

:mod:`millrace.aws` implements them on S3, DynamoDB, Step Functions, EventBridge and its Scheduler; ``tests/fakes`` in
memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from millrace.item_keys import Key as Key  # noqa: PLC0414 - part of this interface
from millrace.item_keys import Table as Table  # noqa: PLC0414 - as above


@dataclass(frozen=True, slots=True)
class Event:
    """An event for listeners outside; ``docs/events.md`` lists all of them."""

    detail_type: str  # its name, such as ``ModelPromoted``
    #: Plain JSON, no data of users. Has ``event_version`` (of its own form), ``event_id`` (an event that is published
    #: twice has the same one) and ``model``.
    detail: Mapping[str, Any]
    occurred_at: datetime


class EventPublisher(Protocol):
    """Publishes events, at least once."""

    def publish(self, events: Sequence[Event]) -> None:
        """Publish all of ``events``.

        Raises ``ServiceUnavailableError`` when some could not be published now. Others may have been: publish all of
        them again, listeners know an event that comes twice by its ``event_id``.
        """


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Size, version and metadata of a stored object."""

    size: int
    version_id: str | None
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    key: str
    size: int
    last_modified: datetime
    etag: str = ""


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, or its delete marker."""

    key: str
    version_id: str
    size: int
    last_modified: datetime
    is_deleted: bool = False


class ObjectStore(Protocol):
    """One bucket. Reading an object that does not exist raises ``ArtifactNotFoundError``."""

    def get(self, key: str, version_id: str | None = None) -> bytes:
        """Return an object's bytes."""

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and their ETag."""

    def get_range(self, key: str, start: int, end: int, *, etag: str = "", version_id: str | None = None) -> bytes:
        """Return an object's bytes from ``start`` to ``end``, which is not included; fewer where it ends before.

        With ``etag``, of that content alone: raises ``ConflictError`` when the object has been replaced.
        """

    def head(self, key: str, version_id: str | None = None) -> ObjectInfo:
        """Return an object's size and metadata."""

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Yield the objects whose keys begin with ``prefix``, by key."""

    def list_versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """Yield every version of the objects whose keys begin with ``prefix``; those of one key newest first."""

    def download(self, key: str, path: Path, version_id: str | None = None) -> None:
        """Write an object to a file, without holding it in memory."""

    def upload_file(self, path: Path, key: str, content_type: str = "application/octet-stream") -> None:
        """Write a file as an object, whole or not at all, without holding it in memory."""

    def find_version(self, key: str, etag: str) -> str:
        """Return the newest version of an object with that ETag."""

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object, whole or not at all."""

    def put_if_unchanged(
        self, key: str, body: bytes, etag: str | None, content_type: str = "application/octet-stream"
    ) -> bool:
        """Write an object only while it still has that ETag, or, with None, while there is none yet.

        Returns False, having written nothing, when somebody else was faster.
        """

    def sign_read(self, key: str) -> str:
        """Return the address at which anybody may read an object for an hour."""

    def sign_write(self, key: str) -> str:
        """Return the address at which anybody may write an object for an hour."""

    def copy(self, source_key: str, target_key: str, version_id: str | None = None) -> None:
        """Copy within the bucket."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects, also missing ones. A versioned bucket keeps them as old versions for a while.

        Raises ``ServiceUnavailableError`` when some are left: delete all of them again.
        """


class AccountConcurrency(Protocol):
    """Limit of the executions at once, which every function of the account shares."""

    def unreserved(self) -> int:
        """Return the executions at once that no function has reserved."""


class PipelineStarter(Protocol):
    """Starts and stops the executions of training runs, each under its run's id."""

    def start(self, model: str, run_id: str) -> bool:
        """Start the run's execution; starting it again changes nothing. Returns False when it has ended already."""

    def is_running(self, run_id: str) -> bool:
        """Return True while the run's execution goes on."""

    def stop(self, run_id: str, reason: str) -> None:
        """Stop the run's execution, unless it has ended or never began."""


class ScoringPipeline(Protocol):
    """Starts and stops the executions of batch jobs, each under a name of its own."""

    def start(self, model: str, job_id: str, execution: str) -> bool:
        """Start an execution; starting it again changes nothing. Returns False when it has ended already."""

    def stop(self, execution: str, reason: str) -> None:
        """Stop an execution, unless it has ended or never began."""


class MonitoringPipeline(Protocol):
    """Starts monitoring runs on request, beside their schedule."""

    def start(self, model: str, name: str) -> None:
        """Start a monitoring run under that name; starting it again changes nothing."""

    def start_batch(self, models: Sequence[str], name: str) -> None:
        """Start one execution that monitors several models; starting it again changes nothing."""

    def status(self, name: str) -> str:
        """Return ``running``, ``succeeded`` or ``failed``; raises ``RunNotFoundError`` for an unknown name."""


class TaskCallback(Protocol):
    """Completes the wait of a pipeline."""

    def complete(self, task_token: str, outcome: str) -> bool:
        """End the wait that ``task_token`` stands for; False when nothing waits with it (any more)."""


class Notifier(Protocol):
    """Notifies people."""

    def notify(self, subject: str, message: str) -> None:
        """Send a message; a subject is one line of at most 100 ASCII characters."""


Purpose = Literal["retraining", "monitoring", "scoring", "release"]
#: Those of a spec; the schedule of a release follows the release.
PURPOSES: tuple[Purpose, ...] = ("retraining", "monitoring", "scoring")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule of one model."""

    model: str
    purpose: Purpose
    expression: str  # ``rate(...)``, ``cron(...)`` or ``at(...)``
    time_zone: str = "UTC"  # a name of the IANA time zone database


class Schedules(Protocol):
    """Schedules of models; at most one a model and purpose."""

    def get(self, model: str, purpose: Purpose) -> Schedule | None:
        """Return a model's schedule for that purpose, if it has one."""

    def put(self, schedule: Schedule) -> None:
        """Create a schedule, or replace the model's for that purpose.

        Raises ``InvalidInputError`` when the expression is refused.
        """

    def delete(self, model: str, purpose: Purpose) -> None:
        """Remove a model's schedule for that purpose, if it has one."""


# -- the registry's store: items by key, with conditions and changes as data. :mod:`millrace.registry` decides what is
# -- written under which conditions; a store only checks them and writes. Values are strings, whole numbers, bytes and,
# -- for a model's aliases, a mapping of numbers.
Item = Mapping[str, Any]
#: An attribute, or one entry of an attribute that is a mapping.
AttributePath = str | tuple[str, str]
#: New values by path; a mapping is invariant in the type of its keys.
Assignments = Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Exists:
    """An attribute exists; by default, the item does."""

    attribute: str = "pk"


@dataclass(frozen=True, slots=True)
class Absent:
    """An attribute does not exist; by default, the item does not."""

    attribute: str = "pk"


@dataclass(frozen=True, slots=True)
class Compare:
    """An attribute compares with a value, or does not exist where ``or_absent`` allows it."""

    attribute: str
    operator: Literal["=", "<>", "<"]
    value: str | int
    or_absent: bool = False


Condition = Exists | Absent | Compare


@dataclass(frozen=True, slots=True)
class Plus:
    """The new value is that of a counter, 0 where it is absent, plus a number."""

    counter: str
    number: int


@dataclass(frozen=True, slots=True)
class Default:
    """The new value is the present one, or this one where the attribute is absent."""

    value: str | int | Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Put:
    """Write an item that does not exist yet, or with ``replace`` whatever exists."""

    key: Key
    item: Item
    replace: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """Set and remove attributes of an item; without conditions it is created where it does not exist."""

    key: Key
    set: Assignments
    remove: tuple[AttributePath, ...] = ()
    conditions: tuple[Condition, ...] = (Exists(),)


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an item."""

    key: Key
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """Change nothing; the transaction needs the conditions to hold."""

    key: Key
    conditions: tuple[Condition, ...] = (Exists(),)


StoreChange = Put | Update | Delete | Check


class RegistryStore(Protocol):
    """Tables of items. Reads are consistent: decisions are made on them."""

    def get(self, key: Key) -> Item | None:
        """Return an item, or None."""

    def get_many(self, keys: Sequence[Key]) -> list[Item | None]:
        """Return the items of keys, in their order, a hundred a call; None for those that do not exist."""

    def query(
        self,
        partition: str,
        prefix: str = "",
        *,
        up_to: str | None = None,
        after: str | None = None,
        newest_first: bool = False,
        limit: int | None = None,
        table: Table = "registry",
    ) -> Iterator[Item]:
        """Yield the items of a partition whose sort keys start with ``prefix``, in their order, or the reverse.

        With ``up_to``, those whose sort keys are from ``prefix`` to ``up_to``, both included. ``after`` is the sort
        key, which need not exist, that comes just before the first item.
        """

    def write(self, change: Put | Update | Delete) -> Item | None:
        """Make one change; return the attributes that an update set, or None, unless its conditions held."""

    def transact(self, changes: Sequence[StoreChange]) -> list[int]:
        """Make all of ``changes``, no two on one item, or none.

        Returns
        -------
        list of int
            The positions of the changes whose conditions failed; empty when all were made.

        Raises
        ------
        ServiceUnavailableError
            When other transactions kept getting in the way.
        """
