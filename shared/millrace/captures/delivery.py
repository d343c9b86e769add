"""Delivering captured lines from the log to the bucket, each prediction once, however often its line arrives.

CloudWatch Logs delivers at least once, and promises nothing about how a repeated delivery is cut into batches. So
where a row goes follows from its line and its log stream alone: an object for every minute of a stream, and one for
every request of many rows. To add to an object is to read it, leave out what is there, and write it on the condition
that it has not changed. Whatever arrives again, alone or among others, finds itself there.
"""

import base64
import binascii
import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millrace.captures.records import CapturedRow, expand_line, find_line
from millrace.captures.window import unpack
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, InvalidInputError, ServiceUnavailableError
from millrace.layout import captures_key, malformed_captures_key
from millrace.ports import ObjectStore

#: Lines of at least so many rows get an object for their request: they are large enough for one.
ROWS_OF_THEIR_OWN = 100
MAX_ATTEMPTS = 10

_DATA = "DATA_MESSAGE"


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of a log stream; the same event has the same id whenever it is delivered."""

    event_id: str
    message: str


@dataclass(frozen=True, slots=True)
class LogBatch:
    """What one delivery holds: events of one log stream."""

    stream: str
    events: tuple[LogEvent, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a batch.

    Parameters
    ----------
    delivered : mapping of str to int
        Rows written now, by model.
    repeated : int
        Rows that were there already.
    malformed : int
        Lines that could not be read; they were put aside.
    ignored : int
        Log events that are no captured lines.
    """

    delivered: Mapping[str, int]
    repeated: int = 0
    malformed: int = 0
    ignored: int = 0


def read_batch(event: Mapping[str, Any]) -> LogBatch:
    """Read an event of a log subscription; a message to test the subscription holds no events.

    Raises
    ------
    InvalidInputError
        When it is none.
    """
    try:
        document = json.loads(unpack(base64.b64decode(event["awslogs"]["data"], validate=True)))
        events = document["logEvents"] if document["messageType"] == _DATA else []
        stream = f"{document.get('logGroup', '')}:{document.get('logStream', '')}"
        return LogBatch(stream, tuple(LogEvent(str(each["id"]), str(each["message"])) for each in events))
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error, RecursionError) as error:
        raise InvalidInputError("the event is no delivery of a log subscription") from error


def deliver(batch: LogBatch, store: ObjectStore, now: datetime, pause: Callable[[int], None]) -> Delivery:
    """Write the rows of a batch that are not there yet.

    Parameters
    ----------
    store : ObjectStore
        The data bucket.
    now : datetime
        For lines that cannot be read, and so do not say when they are from.
    pause : callable
        Waits before the attempt of that number (from 1), when somebody else wrote to the same object.

    Raises
    ------
    ServiceUnavailableError
        When the bucket does not answer, or an object keeps changing; everything can be delivered again.
    ArtifactIntegrityError
        When an object cannot be added to, because something else wrote it.
    """
    additions: dict[tuple[str, str], dict[str, str]] = {}
    malformed: list[LogEvent] = []
    ignored = seen = 0
    for event in batch.events:
        try:
            line = find_line(event.message)
            rows = [] if line is None else expand_line(line)
            lines = {row.prediction_id: row.to_line() for row in rows}
        except (ValueError, TypeError):
            malformed.append(event)
            continue
        ignored += line is None
        if rows:
            seen += len(rows)
            additions.setdefault((rows[0].model, _key(rows, batch.stream)), {}).update(lines)
    _put_aside(malformed, store, now)
    delivered: dict[str, int] = {}
    for (model, key), lines in additions.items():
        delivered[model] = delivered.get(model, 0) + _add(key, lines, store, pause)
    return Delivery(delivered, seen - sum(delivered.values()), len(malformed), ignored)


def _key(rows: Sequence[CapturedRow], stream: str) -> str:
    row = rows[0]
    source = hashlib.sha256(stream.encode()).hexdigest()[:16]
    name = f"{row.predicted_at:%M}-{source}"
    if len(rows) >= ROWS_OF_THEIR_OWN:
        name = f"{name}-{hashlib.sha256(row.prediction_id.rpartition('-')[0].encode()).hexdigest()[:16]}"
    return captures_key(row.model, row.predicted_at, name)


def _add(key: str, lines: Mapping[str, str], store: ObjectStore, pause: Callable[[int], None]) -> int:
    """Add the lines, by prediction id, that an object does not hold; return how many that were."""
    for attempt in range(1, MAX_ATTEMPTS + 1):
        present, known, etag = _read(key, store)
        new = [line for prediction_id, line in lines.items() if prediction_id not in known]
        if not new:
            return 0
        body = present + "".join(f"{line}\n" for line in new).encode()
        if store.put_if_unchanged(key, gzip.compress(body, mtime=0), etag, "application/gzip"):
            return len(new)
        pause(attempt)
    raise ServiceUnavailableError(f"{key} kept changing while rows were added")


def _read(key: str, store: ObjectStore) -> tuple[bytes, Set[str], str | None]:
    """Return an object's lines, the prediction ids in them, and its ETag."""
    try:
        body, etag = store.get_with_etag(key)
    except ArtifactNotFoundError:
        return b"", frozenset(), None
    try:
        lines = unpack(body)
        return lines, {json.loads(line)["prediction_id"] for line in lines.splitlines()}, etag
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactIntegrityError(f"{key} holds no captured rows; move it away, and deliver again") from error


def _put_aside(events: Sequence[LogEvent], store: ObjectStore, now: datetime) -> None:
    """Keep lines that cannot be read, once a batch; delivered again on the same day, they are the same object."""
    if not events:
        return
    name = hashlib.sha256("\n".join(event.event_id for event in events).encode()).hexdigest()[:32]
    lines = [json.dumps({"id": event.event_id, "message": event.message}) for event in events]
    store.put(
        malformed_captures_key(now, name), "".join(f"{line}\n" for line in lines).encode(), "application/x-ndjson"
    )
