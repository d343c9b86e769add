"""Delivery of captured lines from the log to the bucket, each prediction once.

CloudWatch Logs delivers at least once, and cuts repeated deliveries into batches in any way. Therefore the object of a
row follows from its line and its log stream alone: one for every minute of a stream, and for every request of many
rows. Rows are added by reading an object, skipping those it has, and writing it on condition that it has not changed.
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
from millrace.captures.window import decompress
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, InvalidInputError
from millrace.layout import captures_key, malformed_captures_key
from millrace.ports import ObjectStore
from millrace.retry import retry

#: Lines of at least so many rows get an object of their own.
MIN_ROWS_OF_OBJECT = 100
MAX_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of a log stream; its id is the same in every delivery."""

    event_id: str
    message: str


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Events of one log stream in one delivery."""

    stream: str
    events: tuple[LogEvent, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Result of delivering a batch.

    ``delivered`` holds the rows written now by model, ``repeated`` those stored before; ``malformed`` lines were
    quarantined, ``ignored`` log events are no captured lines.
    """

    delivered: Mapping[str, int]
    repeated: int = 0
    malformed: int = 0
    ignored: int = 0


def read_batch(event: Mapping[str, Any]) -> LogBatch:
    """Read an event of a log subscription; its test message holds no events. Raises ``InvalidInputError``."""
    try:
        document = json.loads(decompress(base64.b64decode(event["awslogs"]["data"], validate=True)))
        events = document["logEvents"] if document["messageType"] == "DATA_MESSAGE" else []
        stream = f"{document.get('logGroup', '')}:{document.get('logStream', '')}"
        return LogBatch(stream, tuple(LogEvent(str(each["id"]), str(each["message"])) for each in events))
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error, RecursionError) as error:
        raise InvalidInputError("the event does not come from a log subscription") from error


def deliver(
    batch: LogBatch, store: ObjectStore, now: datetime, sleep: Callable[[float], None] | None = None
) -> Delivery:
    """Write the rows of a batch that are not stored yet; ``now`` is the timestamp of malformed lines.

    Raises ``ServiceUnavailableError`` when an object keeps changing or the bucket does not respond; then the batch can
    be delivered again. Raises ``ArtifactIntegrityError`` for an object without captured rows.
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
    _quarantine(malformed, store, now)
    delivered: dict[str, int] = {}
    for (model, key), lines in additions.items():
        delivered[model] = delivered.get(model, 0) + _add(key, lines, store, sleep)
    return Delivery(delivered, seen - sum(delivered.values()), len(malformed), ignored)


def _key(rows: Sequence[CapturedRow], stream: str) -> str:
    row = rows[0]
    source = hashlib.sha256(stream.encode()).hexdigest()[:16]
    name = f"{row.predicted_at:%M}-{source}"
    if len(rows) >= MIN_ROWS_OF_OBJECT:
        name = f"{name}-{hashlib.sha256(row.prediction_id.rpartition('-')[0].encode()).hexdigest()[:16]}"
    return captures_key(row.model, row.predicted_at, name)


def _add(key: str, lines: Mapping[str, str], store: ObjectStore, sleep: Callable[[float], None] | None) -> int:
    """Add the lines, by prediction id, that an object does not hold; return their number."""

    def attempt() -> int | None:
        present, known, etag = _read(key, store)
        new = [line for prediction_id, line in lines.items() if prediction_id not in known]
        body = present + "".join(f"{line}\n" for line in new).encode()
        if new and not store.put_if_unchanged(key, gzip.compress(body, mtime=0), etag, "application/gzip"):
            return None
        return len(new)

    return retry(attempt, f"{key} kept changing while rows were added", attempts=MAX_ATTEMPTS, sleep=sleep)


def _read(key: str, store: ObjectStore) -> tuple[bytes, Set[str], str | None]:
    """Return an object's lines, the prediction ids in them, and its ETag."""
    try:
        body, etag = store.get_with_etag(key)
    except ArtifactNotFoundError:
        return b"", frozenset(), None
    try:
        lines = decompress(body)
        return lines, {json.loads(line)["prediction_id"] for line in lines.splitlines()}, etag
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactIntegrityError(f"{key} holds no captured rows; move it away, and deliver again") from error


def _quarantine(events: Sequence[LogEvent], store: ObjectStore, now: datetime) -> None:
    """Store lines that cannot be read, an object per batch; delivered again on the same day, it is the same object."""
    if not events:
        return
    name = hashlib.sha256("\n".join(event.event_id for event in events).encode()).hexdigest()[:32]
    lines = [json.dumps({"id": event.event_id, "message": event.message}) for event in events]
    body = "".join(f"{line}\n" for line in lines).encode()
    store.put(malformed_captures_key(now, name), body, "application/x-ndjson")
