"""Delivery of captured lines from the log to the bucket, each prediction once, and the record of traffic by hour.

The log, the queue and Lambda deliver at least once, and cut repeated deliveries into batches in any way. Therefore the
objects where a row can lie follow from its line alone: one for every hour of a model, continued in further ones when
it is full. Lines are added by reading the hour's objects, skipping what they have, and writing the last one on
condition that it has not changed. Full objects never change, so no line can lie in two.

An hour's objects also hold a line for each request. The record of traffic is their sum, whoever adds it up.
"""

import base64
import binascii
import gzip
import hashlib
import itertools
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from millrace.captures.records import COUNTED_REQUEST, CountedRequest, expand_line, find_line, find_request
from millrace.captures.traffic import UNKNOWN_MODEL, TrafficHour, count_arms, count_requests, record_traffic
from millrace.captures.window import decompress
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, InvalidInputError, MillraceError
from millrace.layout import captures_key, malformed_captures_key
from millrace.ports import ObjectStore, RegistryStore
from millrace.retry import retry

#: An hour's object with so many bytes of lines is full; a megabyte or two once compressed. A release with a larger
#: number would add to objects that are full for this one, and miss what stands in those after them.
FULL_BYTES = 16_000_000
MAX_ATTEMPTS = 10
#: Hours of models that are written at once: most of the time is spent waiting for the bucket.
_WRITERS = 16


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event of a log stream; its id is the same in every delivery."""

    event_id: str
    message: str


@dataclass(frozen=True, slots=True)
class LogBatch:
    """Events of one log stream in one delivery, and the id of the queue's message that holds them, if one does."""

    stream: str
    events: tuple[LogEvent, ...]
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Result of delivering batches.

    ``delivered`` holds the rows written now by model, ``repeated`` those stored before; ``malformed`` lines were
    quarantined, ``ignored`` log events are no captured lines. ``failures`` holds, by id, why lines of a message could
    not be written: it has to be delivered again. ``models`` are those with requests that are written, now or before.
    """

    delivered: Mapping[str, int]
    repeated: int = 0
    malformed: int = 0
    ignored: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    models: Sequence[str] = ()


def read_batch(event: Mapping[str, Any]) -> LogBatch:
    """Read an event of a log subscription; its test message holds no events. Raises ``InvalidInputError``."""
    try:
        document = json.loads(decompress(base64.b64decode(event["awslogs"]["data"], validate=True)))
        events = document["logEvents"] if document["messageType"] == "DATA_MESSAGE" else []
        stream = f"{document.get('logGroup', '')}:{document.get('logStream', '')}"
        return LogBatch(stream, tuple(LogEvent(str(each["id"]), str(each["message"])) for each in events))
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error, RecursionError) as error:
        raise InvalidInputError("the event does not come from a log subscription") from error


@dataclass(slots=True)
class _Additions:
    """Lines for the objects of one hour, and the messages that they came in."""

    model: str
    hour: datetime
    seen: int = 0  # rows, with those that came twice
    rows: dict[str, str] = field(default_factory=dict)  # by prediction id
    requests: dict[str, CountedRequest] = field(default_factory=dict)  # by request
    messages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Reading:
    """Contents of the batches, by hour, with counts of what is none of ours."""

    additions: dict[tuple[str, datetime], _Additions] = field(default_factory=dict)
    malformed: int = 0
    ignored: int = 0

    def add(self, event: LogEvent, message_id: str) -> bool:
        """Add an event's lines; False if they are malformed."""
        try:
            line = find_line(event.message)
            rows = [] if line is None else expand_line(line)
            lines = {row.prediction_id: row.to_line() for row in rows}
            counted = None if line is None else find_request(line)
        except (ValueError, TypeError):
            self.malformed += 1
            return False
        self.ignored += line is None
        if rows:
            additions = self._of(rows[0].model, rows[0].predicted_at, message_id)
            additions.rows.update(lines)
            additions.seen += len(rows)
        if counted is not None:
            model, requested_at, request = counted
            self._of(model or UNKNOWN_MODEL, requested_at, message_id).requests[request.request] = request
        return True

    def _of(self, model: str, timestamp: datetime, message_id: str) -> _Additions:
        hour = timestamp.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        additions = self.additions.setdefault((model, hour), _Additions(model, hour))
        additions.messages.add(message_id)
        return additions


def deliver(
    batches: Sequence[LogBatch],
    store: ObjectStore,
    item_store: RegistryStore,
    now: datetime,
    sleep: Callable[[float], None] | None = None,
) -> Delivery:
    """Write the rows of batches that are not stored yet, and the traffic of their hours.

    ``item_store`` holds the record of traffic; ``now`` is the timestamp of malformed lines. An hour that cannot be
    written, because its object keeps changing or is damaged or the bucket does not respond, fails the messages that
    have lines of it, and no others.
    """
    reading, failures = _Reading(), dict[str, str]()
    for batch in batches:
        malformed = [event for event in batch.events if not reading.add(event, batch.message_id)]
        try:
            _quarantine(malformed, store, now)
        except MillraceError as error:
            failures[batch.message_id] = str(error)

    def write(additions: _Additions) -> int | str:
        try:
            return _write(additions, store, item_store, sleep)
        except MillraceError as error:
            return str(error)

    delivered: Counter[str] = Counter()
    repeated, everything = 0, list(reading.additions.values())
    with ThreadPoolExecutor(_WRITERS) as pool:
        for additions, written in zip(everything, pool.map(write, everything), strict=True):
            if isinstance(written, str):
                failures |= dict.fromkeys(additions.messages, written)
            elif additions.rows:
                delivered[additions.model] += written
                repeated += additions.seen - written
    models = tuple(sorted({one.model for one in everything if one.messages - failures.keys()} - {UNKNOWN_MODEL}))
    return Delivery(dict(delivered), repeated, reading.malformed, reading.ignored, failures, models)


def _write(
    additions: _Additions, store: ObjectStore, item_store: RegistryStore, sleep: Callable[[float], None] | None
) -> int:
    """Add the lines that are not stored yet, record the hour's traffic, and return the number of new rows."""

    def attempt() -> tuple[int, list[CountedRequest]] | None:
        new_rows, new_requests = dict(additions.rows), dict(additions.requests)
        requests: list[CountedRequest] = []
        for number in itertools.count():
            key = captures_key(additions.model, additions.hour, f"{number:04}")
            present, etag = _read(key, store)
            for row, request in _identify(present, key):
                if request is None:
                    new_rows.pop(row, None)
                else:
                    new_requests.pop(request.request, None)
                    requests.append(request)
            if len(present) < FULL_BYTES:
                break
        lines = [*new_rows.values(), *(request.to_line() for request in new_requests.values())]
        body = present + "".join(f"{line}\n" for line in lines).encode()
        if lines and not store.put_if_unchanged(key, gzip.compress(body, 6, mtime=0), etag, "application/gzip"):
            return None
        return len(new_rows), [*requests, *new_requests.values()]

    what = f"captures of {additions.model!r} kept changing while rows were added"
    rows, requests = retry(attempt, what, attempts=MAX_ATTEMPTS, sleep=sleep)
    if requests:
        versions, arms = count_requests(requests), count_arms(requests)
        hour = TrafficHour(model=additions.model, hour=additions.hour, versions=versions, arms=arms)
        record_traffic(item_store, hour)
    return rows


def _read(key: str, store: ObjectStore) -> tuple[bytes, str | None]:
    """Return an object's lines and its ETag."""
    try:
        body, etag = store.get_with_etag(key)
        return decompress(body), etag
    except ArtifactNotFoundError:
        return b"", None
    except ValueError as error:
        raise _damaged(key) from error


def _identify(lines: bytes, key: str) -> Iterator[tuple[str, CountedRequest | None]]:
    """Yield each line's prediction id, or the request that it counts."""
    try:
        for line in lines.splitlines():
            if line.startswith(COUNTED_REQUEST):
                yield "", _decode_request(line)
            else:
                yield orjson.loads(line)["prediction_id"], None
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(key) from error


_decode_request = msgspec.json.Decoder(CountedRequest).decode


def _damaged(key: str) -> ArtifactIntegrityError:
    return ArtifactIntegrityError(f"{key} holds no captured rows; move it away, and deliver again")


def _quarantine(events: Sequence[LogEvent], store: ObjectStore, now: datetime) -> None:
    """Store lines that cannot be read, an object per batch; delivered again on the same day, it is the same object."""
    if not events:
        return
    name = hashlib.sha256("\n".join(event.event_id for event in events).encode()).hexdigest()[:32]
    lines = [json.dumps({"id": event.event_id, "message": event.message}) for event in events]
    body = "".join(f"{line}\n" for line in lines).encode()
    store.put(malformed_captures_key(now, name), body, "application/x-ndjson")
